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

_LENGTHS = ("T_max", "total_iters", "total_steps")


def spans_run(arguments: dict[str, Any], warmup: float) -> bool:
    """Whether a schedule needs to know how many steps the run has.

    Args:
        arguments: of the scheduler; -1 for a length stands for the steps of the run.
        warmup: share of the steps in which the learning rate first rises.
    """
    return bool(warmup) or any(arguments.get(name) == -1 for name in _LENGTHS)


def check_schedule(given: bool, arguments: dict[str, Any], interval: str, warmup: float) -> None:
    """Whether a scheduler, its arguments, its interval and a warm-up go together.

    Raises:
        ValueError: they do not.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"model.warmup {warmup} must be at least 0 and below 1")
    if warmup and not (given and interval == "step"):
        raise ValueError(
            "model.warmup needs a model.lr_scheduler and model.lr_scheduler_interval step"
        )
    if spans_run(arguments, warmup) and interval != "step":
        raise ValueError("a length of -1, the run's steps, needs model.lr_scheduler_interval step")


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


def with_schedule(
    optimizer: Optimizer, make: Any, interval: str, steps: float, warmup: float
) -> Any:
    """An optimizer and its schedule, as Lightning takes them.

    Args:
        optimizer: the optimizer.
        make: makes the schedule from it; None for none.
        interval: whether the schedule steps after each ``epoch`` or each ``step``.
        steps: as ``make_schedule`` takes them.
        warmup: likewise.

    Raises:
        ValueError: as of ``make_schedule``.
    """
    if make is None:
        return optimizer
    scheduler = make_schedule(make, optimizer, steps, warmup)
    config: dict[str, Any] = {"scheduler": scheduler, "interval": interval}
    if isinstance(scheduler, ReduceLROnPlateau):
        config["monitor"] = getattr(scheduler, "monitor", "val/loss")
    return {"optimizer": optimizer, "lr_scheduler": config}
