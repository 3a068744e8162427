"""Metrics that callbacks and schedules watch."""

import difflib
from collections.abc import Collection
from typing import Any

from pytorch_lightning import Trainer

from cifar_lightning.errors import UsageError


def check_monitors(
    trainer: Trainer, schedule: dict[str, Any] | None, logged: Collection[str]
) -> None:
    """Whether what a callback or the schedule watches is among the metrics that are logged; not
    known where a callback of somebody else may log more.

    Args:
        trainer: with its callbacks.
        schedule: the entry ``lr_scheduler`` of what configures optimizers; None for none.
        logged: names of metrics.

    Raises:
        UsageError: it is not; names what there is.
    """
    watching = [
        (f"--trainer.callbacks {type(callback).__name__}", monitor)
        for callback in trainer.callbacks
        if isinstance(monitor := getattr(callback, "monitor", None), str)
    ]
    if schedule is not None and "monitor" in schedule:
        name, monitor = type(schedule["scheduler"]).__name__, schedule["monitor"]
        watching.append((f"--model.lr_scheduler {name}", monitor))
        at_each_step = monitor.startswith("train/") and trainer.log_every_n_steps == 1
        if schedule["interval"] == "step" and not at_each_step:
            raise UsageError(
                f"--model.lr_scheduler {name} follows {monitor}, which is not there at each step: "
                "leave out --model.lr_scheduler_interval step."
            )
    others = [
        callback
        for callback in trainer.callbacks
        if not type(callback).__module__.startswith("cifar_lightning.")
        and not hasattr(callback, "monitor")
    ]
    for option, monitor in watching:
        if monitor not in logged and not others:
            alike = [name for name in logged if name.replace("/", "_") == monitor]
            alike += difflib.get_close_matches(monitor, logged, 1)
            meant = f" (did you mean {alike[0]}?)" if alike else ""
            raise UsageError(
                f"{option} monitors {monitor}, which is not logged{meant}: there are "
                f"{', '.join(sorted(n for n in logged if not n.startswith('val_acc/')))}."
            )
