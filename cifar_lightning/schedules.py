"""Learning-rate schedules that know how long the run is."""

from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from cifar_lightning.optimizers.parameters import Factory

_LENGTHS = ("T_max", "total_iters", "total_steps")


def spans_run(arguments: dict[str, Any], warmup: float) -> bool:
    """Whether a schedule needs to know how many steps the run has.

    Args:
        arguments: of the scheduler; -1 for a length stands for the steps of the run.
        warmup: share of the steps in which the learning rate first rises.
    """
    return bool(warmup) or any(arguments.get(name) == -1 for name in _LENGTHS)


def make_schedule(make: Any, optimizer: Optimizer, steps: float, warmup: float) -> Any:
    """A scheduler, after a warm-up if one is asked for.

    Args:
        make: makes the scheduler from the optimizer. A ``functools.partial``, as the command line
            gives it, may say -1 for T_max, total_iters or total_steps.
        optimizer: at the learning rate with which the schedule begins after its warm-up.
        steps: optimizer steps of the run, infinite if it has no end.
        warmup: share of the steps, from 0 to below 1, in which the learning rate rises linearly
            from nearly 0.

    Raises:
        ValueError: a schedule over the whole run is asked for and the run has no end; or a
            scheduler that warms up by itself is to be warmed up.
    """
    arguments = dict(make.keywords) if isinstance(make, partial) else {}
    if not spans_run(arguments, warmup):
        return make(optimizer)
    if steps == float("inf"):
        raise ValueError("a schedule over the whole run needs --trainer.max_epochs or max_steps")
    warm = round(warmup * steps)
    whole = {name: int(steps) - warm for name in _LENGTHS if arguments.get(name) == -1}
    schedule: LRScheduler = make(optimizer, **whole)
    if not warm:
        return schedule
    if isinstance(schedule, OneCycleLR) or not isinstance(schedule, LRScheduler):
        raise ValueError(
            f"--model.warmup does not go with {type(schedule).__name__} "
            "(OneCycleLR has pct_start for it)"
        )
    rise = LinearLR(optimizer, start_factor=1 / warm, total_iters=warm)
    return SequentialLR(optimizer, [rise, schedule], milestones=[warm])


class Schedule:
    """How the learning rate changes: a scheduler that can be made, when it steps, and a warm-up.

    Args:
        make: makes the scheduler from the optimizer; None for none.
        interval: whether the scheduler steps after each ``epoch`` or each ``step``.
        warmup: as ``make_schedule`` takes it.

    Raises:
        ValueError: they do not go together.
    """

    def __init__(self, make: Any, interval: str, warmup: float) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"model.warmup {warmup} must be at least 0 and below 1")
        if warmup and not (make is not None and interval == "step"):
            raise ValueError(
                "model.warmup needs a model.lr_scheduler and model.lr_scheduler_interval step"
            )
        arguments = make.keywords if isinstance(make, partial) else {}
        if spans_run(arguments, warmup) and interval != "step":
            raise ValueError(
                "a length of -1, the run's steps, needs model.lr_scheduler_interval step"
            )
        self._make = make and Factory(make)
        self._interval, self._warmup = interval, warmup

    def __bool__(self) -> bool:
        return self._make is not None

    def of(self, optimizer: Optimizer, steps: float) -> Any:
        """An optimizer with its schedule, as Lightning takes them; steps as ``make_schedule`` takes
        them. Raises ValueError as that does."""
        if self._make is None:
            return optimizer
        scheduler = make_schedule(self._make, optimizer, steps, self._warmup)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": self._interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            config["monitor"] = getattr(scheduler, "monitor", "val/loss")
        return {"optimizer": optimizer, "lr_scheduler": config}
