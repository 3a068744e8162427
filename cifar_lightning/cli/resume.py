"""What a command that starts from a checkpoint runs with: the command line wins over the
checkpoint, the checkpoint over configs and defaults, and nothing changes without a word."""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from cifar_lightning.errors import UsageError
from cifar_lightning.schedules import spans_run

log = logging.getLogger(__name__)

# Changed half-way, these would make a run that never was: neither the old experiment nor a new
# one. Where the same images lie (root, mirrors) may change.
_PAST = (
    "seed_everything",
    "data",
    "model.net",
    "model.optimizer.class_path",
    "model.lr_scheduler",
    "model.lr_scheduler_interval",
    "model.warmup",
    "model.label_smoothing",
    "model.initialisation",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
)
_MAY_MOVE = ("data.source.init_args.root", "data.source.init_args.mirrors")
# A schedule over the whole run would keep its old length.
_LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches")
# These say how one command runs, not what the experiment is.
_OF_THE_COMMAND = ("ckpt_path", "config", "verbose", "weights_only", "return_predictions")


class Arguments:
    """The program's arguments, taken apart by who wins over whom.

    Args:
        argv: the arguments; the first word among them that is a command is the command.
        commands: the names of the commands.
    """

    def __init__(self, argv: list[str], commands: Iterable[str]) -> None:
        self.argv = argv
        self.command = next((word for word in argv if word in set(commands)), None)
        start = argv.index(self.command) + 1 if self.command else len(argv)
        self._head = argv[:start]
        self._configs: list[str] = []
        self._flags: list[str] = []
        rest = iter(argv[start:])
        for word in rest:
            if word in ("--config", "-c"):
                self._configs += [word, *_one(rest)]
            elif word.startswith("--config="):
                self._configs.append(word)
            else:
                self._flags.append(word)

    @property
    def config_files(self) -> list[str]:
        """The values of the ``--config`` options."""
        words = [word.removeprefix("--config=") for word in self._configs]
        return [word for word in words if word not in ("--config", "-c")]

    @property
    def configs_alone(self) -> list[str]:
        """The command with its ``--config`` options and no other flags."""
        return [*self._head, *self._configs]

    @property
    def about_the_checkpoint(self) -> list[str]:
        """Configs, and of the flags those that say which checkpoint: the others may make sense
        only together with what the checkpoint says."""
        kept = []
        rest = iter(self._flags)
        for word in rest:
            if word in ("--ckpt_path", "--trainer.default_root_dir"):
                kept += [word, *_one(rest)]
            elif word.startswith(("--ckpt_path=", "--trainer.default_root_dir=")):
                kept.append(word)
        return [*self.configs_alone, *kept]

    def with_checkpoint(self, config: dict[str, Any]) -> list[str]:
        """The arguments with a checkpoint's configuration between configs and flags.

        Args:
            config: the configuration of the run, as ``fit`` had it. Commands that do not train
                take the data and the network from it.
        """
        if self.command == "fit":
            inherited = {k: v for k, v in config.items() if k not in _OF_THE_COMMAND}
        else:
            inherited = {k: config[k] for k in ("seed_everything", "data", "model") if k in config}
        return [*self.configs_alone, "--config", json.dumps(inherited), *self._flags]


def _one(rest: Iterator[str]) -> list[str]:
    word = next(rest, None)
    return [] if word is None else [word]


def against_the_past(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare a run's configuration with what it is to go on with, and say each difference.

    Returns:
        what it was and what it becomes, by name.

    Raises:
        UsageError: something is asked for that would change what was already trained.
    """
    old, new = dict(_flat(before)), dict(_flat(now))
    changes = {}
    for name in sorted(old.keys() | new.keys()):
        if _is_in(name, _OF_THE_COMMAND) or old.get(name) == new.get(name):
            continue
        if _is_in(name, _PAST) and not _is_in(name, _MAY_MOVE):
            raise UsageError(
                f"{_flag(name)} {new.get(name)} would change what this run has already trained "
                f"with ({old.get(name)}): leave it out to go on, or start a new run."
            )
        if name in _LENGTH and _schedule_spans_run(now["model"]):
            raise UsageError(
                f"{_flag(name)} {new.get(name)}: the learning-rate schedule spans the whole run, "
                f"whose length ({old.get(name)}) cannot change any more; start a new run."
            )
        log.info("%s: %s, was %s", _flag(name), new.get(name), old.get(name))
        changes[name] = (old.get(name), new.get(name))
    return changes


def _schedule_spans_run(model: dict[str, Any]) -> bool:
    schedule = (model.get("lr_scheduler") or {}).get("init_args") or {}
    return bool(model.get("warmup")) or spans_run(schedule)


def say_what_configs_lost(
    asked: dict[str, Any], defaults: dict[str, Any], past: dict[str, Any], now: dict[str, Any]
) -> None:
    """Say where a ``--config`` asked for something and the checkpoint won."""
    default, kept, new = (dict(_flat(config)) for config in (defaults, past, now))
    for name, value in _flat(asked):
        if (
            value != default.get(name)
            and value != new.get(name)
            and new.get(name) == kept.get(name)
        ):
            log.info("%s: %s as in the checkpoint, not %s", _flag(name), new.get(name), value)


class OptimizerChanges(Callback):
    """Sets what the command line changed of the optimizer, after its state has been restored:
    the restored state holds the old settings. A schedule goes on in proportion.

    Args:
        changes: what each argument of the optimizer was and becomes.
    """

    def __init__(self, changes: dict[str, tuple[Any, Any]]) -> None:
        self._changes = changes

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


def _flag(name: str) -> str:
    return f"--{name.replace('.init_args', '').replace('.class_path', '')}"


def _is_in(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
