"""The end of a run: ``summary.json`` for scripts, a few lines for people."""

import logging
from pathlib import Path
from shlex import quote
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, Timer

from cifar_lightning.errors import UserError, counted
from cifar_lightning.processes.signals import Interrupted
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.ending import EndedBy
from cifar_lightning.runs.files import write_json

log = logging.getLogger(__name__)

_TO_GO_ON: dict[EndedBy, str] = {
    "epochs": " --trainer.max_epochs N",
    "steps": " --trainer.max_steps N",
    "time": " --trainer.max_time DD:HH:MM:SS",
}
"""The option to raise for a run to go on, by what ended it."""


class RunSummary(Callback):
    """Writes ``summary.json`` into the run's folder and prints the gist of it.

    ``ended_by`` is an ``EndedBy``; a run that goes on has null there until it ends again.
    ``epochs`` (whole ones) and ``global_step`` count what was trained. ``validated_on`` names the
    images behind ``val/…``, null without validation. ``best`` is the epoch (from 0, as in the logs)
    with the best monitored metric, with its score and its checkpoint's path within the run.
    ``metrics`` holds the last values of all logged metrics.
    """

    def __init__(self) -> None:
        self._said: dict[EarlyStopping, str | None] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._said = {stop: stop.stopping_reason_message for stop in _early_stoppings(trainer)}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.fast_dev_run:
            return
        if not trainer.is_global_zero:
            return
        run, part = checkpoints.run_folder(trainer), checkpoints.in_mid_epoch
        epochs = trainer.current_epoch - part
        summary = _summary(trainer, checkpoints, epochs, self._ended_by(trainer, epochs))
        write_json(run / "summary.json", summary)
        fresh = getattr(pl_module, "validated_at", None) == trainer.global_step
        from_command = checkpoints.config is not None
        print(_text(run, summary, part, fresh, from_command))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        checkpoints = trainer.checkpoint_callback
        if not (isinstance(exception, Interrupted) and exception.between_batches):
            return
        if not isinstance(checkpoints, Checkpoints):
            return
        # of all processes: what is logged as a mean over them is computed when it is asked for
        summary = _summary(trainer, checkpoints, trainer.current_epoch, "signal")
        if trainer.is_global_zero and not trainer.fast_dev_run:
            try:
                write_json(checkpoints.run_folder(trainer) / "summary.json", summary)
            except UserError as error:  # the signal is what ends the program
                log.warning("%s", error)

    def _ended_by(self, trainer: Trainer, epochs: int) -> EndedBy:
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
            return "epochs"
        if 0 <= trainer.max_steps <= trainer.global_step:
            return "steps"
        # a new message, be it in the same words: its other state may be of before the run went on
        stops = _early_stoppings(trainer)
        if any(stop.stopping_reason_message is not self._said.get(stop) for stop in stops):
            return "early stopping"
        timers = [c for c in trainer.callbacks if isinstance(c, Timer)]
        left = [timer.time_remaining() for timer in timers]
        return "time" if any(seconds is not None and seconds <= 0 for seconds in left) else "pause"


def _early_stoppings(trainer: Trainer) -> list[EarlyStopping]:
    return [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]


def _summary(
    trainer: Trainer, checkpoints: Checkpoints, epochs: int, ended_by: EndedBy
) -> dict[str, Any]:
    best = None
    if checkpoints.best.epoch is not None:
        score, epoch, name = checkpoints.best.epoch
        best = {
            "epoch": epoch,
            "monitor": checkpoints.best.monitor,
            "score": score,
            "checkpoint": f"checkpoints/{name}",
        }
    return {
        "ended_by": ended_by,
        "epochs": epochs,
        "global_step": trainer.global_step,
        "validated_on": getattr(trainer.datamodule, "validated_on", None),
        "best": best,
        "metrics": {name: value.item() for name, value in trainer.callback_metrics.items()},
    }


def _text(
    run: Path, summary: dict[str, Any], in_mid_epoch: bool, fresh: bool, from_command: bool
) -> str:
    """The commands know nothing of the network of a run from Python, and are left out there."""
    metrics, ended_by = summary["metrics"], summary["ended_by"]
    part = " and a part" if in_mid_epoch else ""
    from_here = run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
    lines = [
        f"run            {from_here}",
        f"trained        {counted(summary['epochs'], 'epoch')}{part}, "
        f"{counted(summary['global_step'], 'step')}",
        f"ended by       {ended_by}",
    ]
    if "train/loss_epoch" in metrics:
        lines.append(
            f"training       loss {metrics['train/loss_epoch']:.4f}"
            f"  acc {metrics['train/acc_epoch']:.2%}  (last epoch)"
        )
    if "val/loss" in metrics:
        lines.append(
            f"validation     loss {metrics['val/loss']:.4f}  acc {metrics['val/acc']:.2%}"
            f"  ({'last epoch' if fresh else 'earlier'}, {summary['validated_on']})"
        )
    elif summary["validated_on"] is None:
        lines.append("validation     none")
    newest = from_here / "checkpoints" / "last.ckpt"
    if best := summary["best"]:
        path = from_here / best["checkpoint"]
        score = f"epoch {best['epoch'] + 1}, {best['monitor']} {best['score']:.4f}"
        if path.exists():
            lines.append(f"best           {score}")
        else:  # the run was resumed from a checkpoint that was copied elsewhere alone
            lines.append(f"best           {score}; its checkpoint is not in this run")
            path = newest
        lines.append(
            f"test it        python -m cifar_lightning test --ckpt_path {quote(str(path))}"
            if from_command
            else f"its checkpoint {path}"
        )
    elif summary["validated_on"] is None and newest.exists():
        path = quote(str(newest))
        lines.append(f"test it        python -m cifar_lightning test --ckpt_path {path}")
    lines.append(f"look at it     tensorboard --logdir {quote(str(from_here.parent))}")
    if from_command and newest.exists():
        option = _TO_GO_ON.get(ended_by, "")
        path = quote(str(newest))
        lines.append(f"go on          python -m cifar_lightning fit --ckpt_path {path}{option}")
    return "\n".join(lines)
