"""What ``validate``, ``test`` and ``predict`` may do otherwise than the run of their checkpoint.

A checkpoint is measured as it was trained: the held-out images are a function of seed and
``val_size``, what the network says is one of its arguments and of the normalisation, and a figure
under the same name shall be of the same thing.
"""

import logging
from typing import Any

from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.repeats import short
from cifar_lightning.errors import UsageError
from cifar_lightning.runs.config import PLACE, class_name, flat, is_in
from cifar_lightning.runs.folders import LoadedCheckpoint

log = logging.getLogger(__name__)

# of the options that a command inherits from the run; its trainer is its own
_INHERITED = ("seed_everything", "data", "model", "checkpoints")
# How fast, where from, what else; flip averaging has names of its own.
_FREE = ("data.batch_size", *PLACE, "model.compile", "model.memory_format",
         "model.flip_averaging", "model.metrics")  # fmt: skip
_USUAL_PRECISION = "32-true"


def check_as_trained(
    found: LoadedCheckpoint, now: dict[str, Any], arguments: Arguments, pictures: bool
) -> None:
    """Whether a checkpoint is measured as it was trained; what may differ and does is said.

    ``test`` may be of other images, and says so in its report. For others these are told by their
    fingerprint, where the checkpoint has one.

    Args:
        found: the checkpoint; of one that a script has written nothing is known.
        now: the configuration of the command, plain values.
        arguments: what was asked for.
        pictures: whether it is about pictures of the user's own.

    Raises:
        UsageError: something is asked for that would measure something else.
    """
    before = found.ours.get("config")
    if before is None:
        return
    known = arguments.command == "test" or found.ours.get("data") is not None
    free = (*_FREE, "data.source") if known and not pictures else _FREE
    old, new = dict(flat(before)), dict(flat(now))
    for name in sorted(old.keys() | new.keys()):
        if not is_in(name, _INHERITED) or old.get(name) == new.get(name):
            continue
        if not arguments.give(name) and (name not in old or _one_class(name, old, new)):
            continue  # what the version of then did not have, at its default, or called otherwise
        if not is_in(name, free):
            file = arguments.origin(name)
            asked = f"{new.get(name)} from {file}" if file else f"{new.get(name)}"
            raise UsageError(
                f"--{short(name)} {asked} is not what {found.path} was trained with "
                f"({old.get(name)}), and {arguments.command} takes a checkpoint as it was trained: "
                "leave it out."
            )
        log.info("--%s: %s, was %s", short(name), new.get(name), old.get(name))
    was, asked = (_precision(config) for config in (before, now))
    if was != asked:
        log.info("--trainer.precision: %s, was %s", asked, was)


def _one_class(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    names = class_name(old.get(name)), class_name(new.get(name))
    return name.endswith(".class_path") and names[0] == names[1]


def _precision(config: dict[str, Any]) -> str:
    asked = str((config.get("trainer") or {}).get("precision") or _USUAL_PRECISION)
    return asked if "-" in asked else f"{asked}-true" if asked in ("32", "64") else f"{asked}-mixed"
