"""What a run that goes on may change. No difference passes without a word."""

import logging
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.checks import schedule_spans_run
from cifar_lightning.cli.repeats import short
from cifar_lightning.errors import UsageError, counted
from cifar_lightning.optimizers.parameters import change_lr
from cifar_lightning.runs.config import OF_THE_COMMAND, PLACE, flat, is_in
from cifar_lightning.runs.folders import (
    LoadedCheckpoint,
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
        if name not in old and not arguments.give(name):
            continue  # what the version of then did not have, at its default
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


def is_finished(found: LoadedCheckpoint, trainer: Trainer) -> bool:
    """Whether there is no more to train; if so it is said, with the option that ends the run."""
    max_epochs, max_steps = trainer.max_epochs, trainer.max_steps
    epochs, steps = _trained(found)
    by_epochs = max_epochs is not None and 0 <= max_epochs <= epochs
    if by_epochs or 0 <= max_steps <= steps:
        limit = "max_epochs" if by_epochs else "max_steps"
        said = "%s: this run is finished; give a larger --trainer.%s to go on with it."
        log.info(said, found.path, limit)
        return True
    return False


def check_limit(found: LoadedCheckpoint, now: dict[str, Any], arguments: Arguments) -> None:
    """Whether a run is asked to end before where it stands. Raises UsageError."""
    before = (found.ours.get("config") or {}).get("trainer", {})
    for unit, trained in zip(("epoch", "step"), _trained(found), strict=True):
        name, limit = f"max_{unit}s", now["trainer"][f"max_{unit}s"]
        if not arguments.asks_for(f"trainer.{name}") or limit == before.get(name):
            continue
        if limit is not None and 0 <= limit <= trained:
            raise UsageError(
                f"--trainer.{name} {limit}: {found.path} has trained "
                f"{counted(trained, unit)} already; give more to go on with it."
            )


def _trained(found: LoadedCheckpoint) -> tuple[int, int]:
    """Whole epochs, and steps."""
    progress = found.content["loops"]["fit_loop"]["epoch_progress"]["current"]
    return progress["processed"], found.content["global_step"]


def of_optimizer(changes: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Of what ``differences`` gives, the arguments of the optimizer, by their own names."""
    prefix = "model.optimizer.init_args."
    return {n.removeprefix(prefix): c for n, c in changes.items() if n.startswith(prefix)}


def check_changes(changes: dict[str, tuple[Any, Any]], optimizer: Optimizer) -> None:
    """Whether an optimizer can take over what the command line changed of it. Raises UsageError."""
    for name, (_, new) in of_optimizer(changes).items():
        if not any(name in group for group in optimizer.param_groups):
            kind = type(optimizer).__name__
            raise UsageError(
                f"--model.optimizer.{name} {new}: {kind} asks for it when it is made, and cannot "
                "change it in a run that goes on: leave it out, or start a new run."
            )


class OptimizerChanges(Callback):
    """Sets what the command line changed of the optimizer, after its state has been restored:
    the restored state holds the old settings. A schedule goes on in proportion.

    Args:
        changes: what each option of the command line was and becomes.
    """

    def __init__(self, changes: dict[str, tuple[Any, Any]]) -> None:
        self._changes = of_optimizer(changes)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, (old, new) in self._changes.items():
            for optimizer in trainer.optimizers:
                if name == "lr":
                    change_lr(optimizer, old, new)
                else:
                    _change(optimizer, name, new)
            if name == "lr":
                for config in trainer.lr_scheduler_configs:
                    # one after a warm-up is a sequence of two
                    parts = getattr(config.scheduler, "_schedulers", [config.scheduler])
                    for part in parts:
                        base_lrs = getattr(part, "base_lrs", [])
                        part.base_lrs = [lr * new / old for lr in base_lrs]


def _change(optimizer: Optimizer, name: str, new: Any) -> None:
    for group in optimizer.param_groups:
        if name == "weight_decay" and all(p.ndim <= 1 for p in group["params"]):
            continue  # biases, which do not decay
        if name in group:
            group[name] = new
