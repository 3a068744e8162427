"""The numbers among the options: what they may be, and which of them go together.

What would let something never happen is refused where nobody can have meant it, else said.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer

from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import UsageError, counted
from cifar_lightning.runs.config import flat, is_in

log = logging.getLogger(__name__)

# Of Lightning's arguments those that it takes below this, to train nothing or to stumble later;
# −1 stands for "no end" where it may.
_AT_LEAST = {
    "max_epochs": 1,
    "max_steps": 1,
    "min_epochs": 0,
    "min_steps": 0,
    "log_every_n_steps": 1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": -1,
    "gradient_clip_val": 0,
    "limit_val_batches": 0,
}
_ABOVE_ZERO = ("limit_train_batches", "val_check_interval")
_ENDLESS = ("max_epochs", "max_steps")

_LOG_EVERY = 50  # steps, in an epoch that has so many

# The numbers of classes that are not ours may be anything, those of an optimizer not NaN.
_OF_OTHERS = ("model.net", "model.loss", "model.metrics", "trainer", "data.source")
_MAY_BE_INFINITE = ("checkpoints.every_seconds", "model.optimizer", "model.lr_scheduler")


def check_numbers(config: dict[str, Any], asks_for: Callable[[str], bool]) -> None:
    """Whether the options of ``fit`` make sense by themselves and with each other.

    Args:
        config: of the command, plain values.
        asks_for: whether this command line asks for an option by its dotted name: a run that goes
            on is not refused for what it was begun with.

    Raises:
        UsageError: they do not.
    """
    asked = config["trainer"]
    for name, value in _numbers(config):
        if asks_for(name):
            _check_finite(name, value)
    for name, value in asked.items():
        if value is None or isinstance(value, str) or not asks_for(f"trainer.{name}"):
            continue
        if name in _AT_LEAST and value < (least := _AT_LEAST[name]):
            if value == -1 and name in _ENDLESS:
                continue
            endless = ", or -1 for no end" if name in _ENDLESS else ""
            raise UsageError(f"--trainer.{name} {value} must be at least {least}{endless}.")
        if name in _ABOVE_ZERO and isinstance(value, int | float) and value <= 0:
            raise UsageError(f"--trainer.{name} {value} must be above 0.")
    for names, contradiction in _contradictions(config):
        if any(map(asks_for, names)):
            raise UsageError(contradiction)


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in flat(config):
        ours = name.startswith("trainer.") and not isinstance(value, list)
        if ours or not is_in(name, _OF_OTHERS):
            for number in value if isinstance(value, list | tuple) else [value]:
                yield name, number


def _check_finite(name: str, value: Any) -> None:
    if not isinstance(value, float) or math.isfinite(value):
        return
    if math.isnan(value) or not is_in(name, _MAY_BE_INFINITE):
        typed = name.replace(".init_args", "")
        raise UsageError(f"--{typed} {value} must be a finite number.")


def _contradictions(config: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The options that contradict each other, and a sentence."""
    asked, model = config["trainer"], config["model"]
    for what in ("epochs", "steps"):
        least, most = asked[f"min_{what}"], asked[f"max_{what}"]
        if least is not None and most is not None and -1 != most < least:
            yield (
                (f"trainer.min_{what}", f"trainer.max_{what}"),
                f"--trainer.min_{what} {least} is more than --trainer.max_{what} {most}.",
            )
    for name in ("limit_train_batches", "limit_val_batches"):
        if asked["overfit_batches"] and asked[name] is not None:
            yield (
                (f"trainer.{name}", "trainer.overfit_batches"),
                f"--trainer.{name} {asked[name]}: --trainer.overfit_batches "
                f"{asked['overfit_batches']} says how many there are; leave one of them out.",
            )
    every, epochs = asked["check_val_every_n_epoch"], asked["max_epochs"]
    validates = asked["limit_val_batches"] != 0 and not asked["fast_dev_run"]
    if validates and every is not None and epochs is not None and -1 != epochs < every:
        yield (
            ("trainer.check_val_every_n_epoch", "trainer.max_epochs"),
            f"--trainer.check_val_every_n_epoch {every} with --trainer.max_epochs {epochs} would "
            "never validate; if that is meant, say --trainer.limit_val_batches 0.",
        )
    if asked["gradient_clip_algorithm"] is not None and not asked["gradient_clip_val"]:
        yield (
            ("trainer.gradient_clip_algorithm", "trainer.gradient_clip_val"),
            f"--trainer.gradient_clip_algorithm {asked['gradient_clip_algorithm']} clips nothing "
            "without --trainer.gradient_clip_val.",
        )
    if model["lr_scheduler_interval"] != "epoch" and model["lr_scheduler"] is None:
        yield (
            ("model.lr_scheduler_interval", "model.lr_scheduler"),
            f"--model.lr_scheduler_interval {model['lr_scheduler_interval']} needs a "
            "--model.lr_scheduler.",
        )


def check_time(trainer: Trainer) -> None:
    """Whether a run has any time. Raises UsageError."""
    for timer in (c for c in trainer.callbacks if isinstance(c, Timer)):
        if (left := timer.time_remaining()) is not None and left <= 0:
            raise UsageError("--trainer.max_time must be above 0; without it there is no limit.")


def check_batches(trainer: Trainer, data: CIFAR10DataModule, log_every: int | None) -> None:
    """Whether the options that count batches, steps or epochs go with the data that were read; say
    which of them are never reached.

    Args:
        trainer: logs as often as there is something to see, unless that is asked for.
        data: the data.
        log_every: what is asked for, in steps.

    Raises:
        UsageError: nothing would be trained, or validated, by them.
    """
    if trainer.fast_dev_run or trainer.overfit_batches:
        return
    training = -(-len(data.splits.training.indices) // data.batch_size)
    batches = _limited("limit_train_batches", trainer.limit_train_batches, training)
    validated = 0
    if data.val_size is not None:
        validation = -(-len(data.splits.validation.indices) // data.batch_size)
        validated = _limited("limit_val_batches", trainer.limit_val_batches, validation)
    every = trainer.accumulate_grad_batches
    if every > batches:
        log.info(
            "--trainer.accumulate_grad_batches %d: an epoch has but %s, all in one step.",
            every,
            counted(batches, "batch"),
        )
    steps = -(-batches // every)
    if log_every is None:  # of the epoch alone: more epochs or steps shall not change the curve
        trainer.log_every_n_steps = min(_LOG_EVERY, steps)
    limit = trainer.max_epochs
    epochs = math.inf if limit is None or limit == -1 else limit
    if trainer.max_steps > epochs * steps:
        log.info(
            "--trainer.max_steps %d is not reached: --trainer.max_epochs %d ends the run after %s.",
            trainer.max_steps,
            epochs,
            counted(int(epochs * steps), "step"),
        )
    ends = min(epochs * steps, math.inf if trainer.max_steps == -1 else trainer.max_steps)
    if log_every is not None and log_every > ends:
        log.info(
            "--trainer.log_every_n_steps %d is not reached: the run has %d steps, and is logged at "
            "the end of epochs alone.",
            log_every,
            ends,
        )
    if validated:
        _check_validation(trainer, batches, steps, epochs)


def _limited(name: str, limit: float, there: int) -> int:
    """How many batches a limit leaves of those that there are."""
    if isinstance(limit, float):
        if limit > 0 and int(limit * there) == 0:
            raise UsageError(
                f"--trainer.{name} {limit:g} is less than one batch: there are {there} in all."
            )
        return int(limit * there)
    if limit > there:
        there_are = f"there {'is' if there == 1 else 'are'} but {counted(there, 'batch')}"
        log.info("--trainer.%s %d: %s; all are taken.", name, limit, there_are)
    return min(limit, there)


def _check_validation(trainer: Trainer, batches: int, steps: int, epochs: float) -> None:
    interval, of_epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if isinstance(interval, int):
        most = batches if of_epochs is not None else batches * epochs
        if interval > most:
            where = "an epoch" if of_epochs is not None else "the run"
            raise UsageError(
                f"--trainer.val_check_interval {interval} is more than the "
                f"{counted(int(most), 'batch')} of {where}: nothing would be validated."
            )
        return
    first = steps * (of_epochs or 1)
    if 0 < trainer.max_steps < first and interval == 1.0:
        log.info(
            "--trainer.max_steps %d ends the run before its first validation, after %s: "
            "there will be no best checkpoint.",
            trainer.max_steps,
            counted(first, "step"),
        )
