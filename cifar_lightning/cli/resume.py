"""What ``--ckpt_path`` means: who wins over whom, and what a run that goes on may change.

The command line wins over the checkpoint, the checkpoint over the defaults. Flags and ``--config``
files count in the order in which they stand. No difference passes without a word.
"""

import json
import logging
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from cifar_lightning.cli.checks import schedule_spans_run
from cifar_lightning.cli.config_file import check_config, find_config
from cifar_lightning.cli.repeats import Setting, add_up, short
from cifar_lightning.errors import UsageError, UserError
from cifar_lightning.runs.checkpoints import RESUMABLE
from cifar_lightning.runs.config import OF_THE_COMMAND, PLACE, flat, is_in
from cifar_lightning.runs.folders import (
    LoadedCheckpoint,
    checkpoint_of_job,
    find_checkpoint,
    logs_folder,
)

log = logging.getLogger(__name__)

# Changed half-way, these would make a run that never was: neither the old experiment nor a new
# one. Where the same images lie (root, mirrors) may change.
_PAST = (
    "seed_everything",
    "data",
    "model.net",
    "model.loss",
    "model.weights",
    "model.optimizer.class_path",
    "model.lr_scheduler",
    "model.lr_scheduler_interval",
    "model.warmup",
    "model.label_smoothing",
    "model.initialisation",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
)
# A schedule over the whole run would keep its old length.
_LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches")


class Arguments:
    """The program's arguments, looked through before they are parsed.

    Args:
        argv: the arguments; the first word among them that is a command is the command.
        commands: the names of the commands.

    Raises:
        UsageError: a config file among them does not say what it seems to say.
    """

    def __init__(self, argv: list[str], commands: Iterable[str]) -> None:
        self.command = next((word for word in argv if word in set(commands)), None)
        self._start = argv.index(self.command) + 1 if self.command else len(argv)
        typed = add_up(argv[self._start :])
        words = list(typed)
        self.settings: list[Setting] = []
        """What flags and config files say, in their order."""
        for place, (word, following) in enumerate(zip_longest(typed, typed[1:])):
            name, equals, value = word.partition("=")
            given = value if equals else following
            if name in ("--config", "-c"):
                path = find_config(str(given or ""))
                check_config(path)
                self.settings += [Setting(*s, str(given)) for s in flat(_read(path))]
                if given and path != given:
                    words[place + (not equals)] = f"{name}={path}" if equals else path
            elif name.startswith("--"):
                self.settings.append(Setting(name.removeprefix("--"), given, None))
        self.argv = [*argv[: self._start], *words]

    def value_of(self, name: str) -> str | None:
        """What the arguments say of an option; null in a file says nothing."""
        for setting in reversed(self.settings):
            if setting.name == name and not (setting.file and setting.value is None):
                return None if setting.value in (None, "null") else str(setting.value)
        return None

    def asks_for(self, name: str) -> bool:
        """Whether the arguments say anything of an option, whatever the checkpoint says of it."""
        return any(is_in(short(name), (s.option.removesuffix("+"),)) for s in self.settings)

    def origin(self, name: str) -> str | None:
        """The config file by which an option has its value; None for a flag."""
        asked = short(name)
        files: list[str | None] = [
            setting.file
            for setting in self.settings
            if is_in(asked, (short(setting.name),)) or is_in(short(setting.name), (asked,))
        ]
        return files[-1] if files else None

    def give(self, name: str) -> bool:
        """Whether the arguments set an option themselves, or something below it."""
        return any(is_in(short(setting.name), (short(name),)) for setting in self.settings)

    def find_checkpoint(self) -> LoadedCheckpoint | None:
        """The checkpoint that the command starts from: the one that is asked for, the newest of a
        SLURM job that was queued again, or for commands that do not train the best.

        Raises:
            UserError: there is none, or it cannot be used; says which.
        """
        if self.command is None or self._asks_for_text:
            return None
        logs = logs_folder(self.value_of("trainer.default_root_dir"))
        name = self.value_of("ckpt_path")
        if self.command != "fit":
            self._check_trained()
            return find_checkpoint(name or "best", logs)
        wanted = name or checkpoint_of_job(logs)
        if wanted is None:
            return None
        found = find_checkpoint(str(wanted), logs, of_run="last")
        if found.ours.get("format") not in RESUMABLE:
            raise UserError(
                f"{found.path} was not written by this version of cifar_lightning: it can be "
                "tested, but does not hold what is needed to go on with its run."
            )
        return found

    def after_checkpoint(self, found: LoadedCheckpoint | None) -> list[str]:
        """The arguments with the configuration of a checkpoint's run in front of them. Commands
        that do not train take the data, the network and what is the best from it."""
        config = (found and found.ours.get("config")) or {}
        if self.command == "fit":
            inherited = {k: v for k, v in config.items() if k not in OF_THE_COMMAND}
        else:
            names = ("seed_everything", "data", "model", "checkpoints")
            inherited = {name: config[name] for name in names if name in config}
        in_front = ["--config", json.dumps(inherited)] if inherited else []
        return [*self.argv[: self._start], *in_front, *self.argv[self._start :]]

    def _check_trained(self) -> None:
        asked = [setting for setting in self.settings if setting.name == "ckpt_path"]
        if asked and asked[-1].file is None and asked[-1].value == "null":
            raise UsageError(
                f"--ckpt_path null: {self.command} takes a trained network; give best, last, the "
                "folder of a run or the path of a checkpoint."
            )

    @property
    def _asks_for_text(self) -> bool:
        return any(w in ("-h", "--help") or w.startswith("--print_config") for w in self.argv)


def _read(config: str) -> dict[str, Any]:
    """A config file, or its text; nothing of one that the parser is going to complain of."""
    try:
        path = Path(config)
        content = yaml.safe_load(path.read_text(encoding="utf-8") if path.is_file() else config)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def differences(
    found: LoadedCheckpoint, now: dict[str, Any], arguments: Arguments
) -> dict[str, tuple[Any, Any]]:
    """Compare a run's configuration with what it is to go on with, and say each difference.

    Returns:
        what it was and what it becomes, by name.

    Raises:
        UsageError: something is asked for that would change what was already trained.
    """
    before = found.ours.get("config")
    if before is None:  # of a run made from Python
        return {}
    old, new = dict(flat(before)), dict(flat(now))
    changes = {}
    for name in sorted(old.keys() | new.keys()):
        if is_in(name, OF_THE_COMMAND) or old.get(name) == new.get(name):
            continue
        file = arguments.origin(name)
        asked = f"{new.get(name)} from {file}" if file else f"{new.get(name)}"
        if is_in(name, _PAST) and not is_in(name, PLACE):
            raise UsageError(
                f"--{short(name)} {asked} would change what this run has already trained with "
                f"({old.get(name)}): leave it out to go on, or start a new run."
            )
        if name == "checkpoints.monitor":
            raise UsageError(
                f"--{name} {asked}: the run has kept its best epoch by {old.get(name)}, and no "
                "other is there any more: leave it out to go on, or start a new run."
            )
        if name in _LENGTH and schedule_spans_run(now["model"]):
            raise UsageError(
                f"--{short(name)} {asked}: the learning-rate schedule spans the whole run, whose "
                f"length ({old.get(name)}) cannot change any more; start a new run."
            )
        log.info("--%s: %s, was %s", short(name), asked, old.get(name))
        changes[name] = (old.get(name), new.get(name))
    return changes


def limit_reached(found: LoadedCheckpoint, max_epochs: int | None, max_steps: int) -> str | None:
    """The option by which a run is finished; None if there is more to train."""
    epochs, steps = _trained(found)
    if max_epochs is not None and 0 <= max_epochs <= epochs:
        return "max_epochs"
    return "max_steps" if 0 <= max_steps <= steps else None


def check_limit(found: LoadedCheckpoint, now: dict[str, Any], arguments: Arguments) -> None:
    """Whether a run is asked to end before where it stands. Raises UsageError."""
    before = (found.ours.get("config") or {}).get("trainer", {})
    for unit, trained in zip(("epochs", "steps"), _trained(found), strict=True):
        name, limit = f"max_{unit}", now["trainer"][f"max_{unit}"]
        if not arguments.asks_for(f"trainer.{name}") or limit == before.get(name):
            continue
        if limit is not None and 0 <= limit <= trained:
            raise UsageError(
                f"--trainer.{name} {limit}: {found.path} has trained {trained} {unit} already; "
                "give more to go on with it."
            )


def _trained(found: LoadedCheckpoint) -> tuple[int, int]:
    """Whole epochs, and steps."""
    progress = found.content["loops"]["fit_loop"]["epoch_progress"]["current"]
    return progress["processed"], found.content["global_step"]


class OptimizerChanges(Callback):
    """Sets what the command line changed of the optimizer, after its state has been restored:
    the restored state holds the old settings. A schedule goes on in proportion.

    Args:
        changes: what each option of the command line was and becomes.
    """

    def __init__(self, changes: dict[str, tuple[Any, Any]]) -> None:
        prefix = "model.optimizer.init_args."
        self._changes = {
            name.removeprefix(prefix): change
            for name, change in changes.items()
            if name.startswith(prefix)
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, (old, new) in self._changes.items():
            for group in (group for o in trainer.optimizers for group in o.param_groups):
                scheduled = name == "lr" and trainer.lr_scheduler_configs
                if name == "weight_decay" and all(p.ndim <= 1 for p in group["params"]):
                    continue  # biases, which do not decay
                group[name] = group[name] * new / old if scheduled else new
            if name == "lr":
                for config in trainer.lr_scheduler_configs:
                    # one after a warm-up is a sequence of two
                    parts = getattr(config.scheduler, "_schedulers", [config.scheduler])
                    for part in parts:
                        base_lrs = getattr(part, "base_lrs", [])
                        part.base_lrs = [lr * new / old for lr in base_lrs]
