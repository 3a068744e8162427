"""No option passes without effect and without a word."""

import inspect
import logging
from collections.abc import Iterator
from typing import Any

from pytorch_lightning import Trainer

from cifar_lightning.callbacks import Dashboard
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.hidden import REFUSED, WITHOUT_EFFECT
from cifar_lightning.cli.ranges import check_numbers
from cifar_lightning.cli.repeats import overridden, short
from cifar_lightning.cli.resume import check_limit
from cifar_lightning.commands.names import check_target
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import UsageError, local_path
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.config import flat, is_in
from cifar_lightning.runs.folders import LoadedCheckpoint

_IN_TENSORBOARD = tuple(
    f"dashboard.{part}"
    for part in ("layout", "pictures_every_n_epochs", "hparams", "graph", "histograms")
)


_GROUPS = {
    "data": CIFAR10DataModule, "model": ImageClassifier, "trainer": Trainer,
    "checkpoints": Checkpoints, "dashboard": Dashboard,
}  # fmt: skip

log = logging.getLogger(__name__)


def check_options(
    config: dict[str, Any], arguments: Arguments, found: LoadedCheckpoint | None
) -> None:
    """Refuse what can be refused by the options alone, and say which of them do nothing.

    Args:
        config: of the command, plain values.
        arguments: of the program.
        found: the checkpoint that a run goes on from.

    Raises:
        UsageError: an option is out of its range, contradicts another or is not for this command.
    """
    _refuse_what_is_decided_here(config, arguments)
    _refuse_nulls(config)
    if arguments.command == "fit":
        if config["model"]["flip_averaging"]:
            raise UsageError(
                "--model.flip_averaging is for validate, test and predict: checkpoints are chosen "
                "by what the network says of an image itself."
            )
        name = config["run_name"]
        if name is not None and not (name.strip() and name.isprintable()):
            raise UsageError(f"--run_name {name!r}: it must be a name, in one line.")
        check_numbers(config, arguments.asks_for if found else lambda name: True)
        if found is not None:
            check_limit(found, config, arguments)
    elif arguments.command is not None:
        limit = f"limit_{arguments.command.removesuffix('idate')}_batches"
        if config["trainer"][limit] == 0:
            raise UsageError(f"--trainer.{limit} 0: {arguments.command} would be of no image.")
    if config.get("to") is not None:
        check_target(local_path(config["to"], "--to"), (".csv", ".json"))
    for line in _without_effect(config, arguments):
        log.info(line)


def _refuse_what_is_decided_here(config: dict[str, Any], arguments: Arguments) -> None:
    # a configuration may hold Lightning's default
    for name, why in REFUSED.items():
        value = config["trainer"][name.removeprefix("trainer.")]
        default = inspect.signature(Trainer).parameters[name.removeprefix("trainer.")].default
        flag = any(s.file is None and s.name == name for s in arguments.settings)
        if flag or (value != default and arguments.asks_for(name)):
            shown = str(value).lower() if isinstance(value, bool) else value
            raise UsageError(f"--{name} {shown}: {why}; leave it out.")


def _refuse_nulls(config: dict[str, Any]) -> None:
    """null in a config file unsets an option; the parser lets it through for those that must be
    something."""
    for group, of in _GROUPS.items():
        for name, parameter in inspect.signature(of).parameters.items():
            kind = parameter.annotation
            if kind in (int, float, bool, str) and (config.get(group) or {}).get(name, 0) is None:
                raise UsageError(f"--{group}.{name} null: must be {kind.__name__}.")


def _without_effect(config: dict[str, Any], arguments: Arguments) -> Iterator[str]:
    yield from overridden(arguments.settings, {short(name) for name, _ in flat(config)})
    flags = dict.fromkeys(s.option for s in arguments.settings if s.file is None)
    for name in flags:
        if is_in(name, WITHOUT_EFFECT[str(arguments.command)]):
            yield f"--{name} changes nothing in {arguments.command}."
    if arguments.command == "fit" and config["trainer"]["logger"] is False:
        for name in _IN_TENSORBOARD:
            if config["dashboard"][name.removeprefix("dashboard.")] and arguments.asks_for(name):
                yield f"--{name} is for TensorBoard, which --trainer.logger leaves out."
