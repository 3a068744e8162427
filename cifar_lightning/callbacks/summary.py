"""The end of a run: ``summary.json`` for scripts, a few lines for people."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer

from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.files import write_json


class RunSummary(Callback):
    """Writes ``summary.json`` into the run's folder and prints the gist of it.

    ``epochs`` (whole ones) and ``global_step`` count what was trained. ``validated_on`` names the
    images behind ``val/…``. ``best`` is the epoch (from 0, as in the logs) with the best monitored
    metric, with its score and its checkpoint's path within the run. ``metrics`` holds the last
    values of all logged metrics.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.fast_dev_run:
            return
        if not trainer.is_global_zero:
            return
        run, best = checkpoints.run_folder(trainer), None
        if checkpoints.best.epoch is not None:
            score, epoch, name = checkpoints.best.epoch
            best = {
                "epoch": epoch,
                "monitor": checkpoints.best.monitor,
                "score": score,
                "checkpoint": f"checkpoints/{name}",
            }
        summary = {
            "epochs": trainer.current_epoch - checkpoints.in_mid_epoch,
            "global_step": trainer.global_step,
            "validated_on": getattr(trainer.datamodule, "validated_on", None),
            "best": best,
            "metrics": {name: value.item() for name, value in trainer.callback_metrics.items()},
        }
        write_json(run / "summary.json", summary)
        fresh = getattr(pl_module, "validated_at", None) == trainer.global_step
        print(_text(run, summary, checkpoints.in_mid_epoch, _limit(trainer), fresh))


def _limit(trainer: Trainer) -> str:
    """The option to raise for the run to go on."""
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "--trainer.max_time DD:HH:MM:SS"
    enough_steps = 0 <= trainer.max_steps <= trainer.global_step
    return "--trainer.max_steps N" if enough_steps else "--trainer.max_epochs N"


def _text(run: Path, summary: dict[str, Any], in_mid_epoch: bool, limit: str, fresh: bool) -> str:
    metrics = summary["metrics"]
    part = " and a part" if in_mid_epoch else ""
    from_here = run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
    lines = [
        f"run            {from_here}",
        f"trained        {summary['epochs']} epochs{part}, {summary['global_step']:,} steps",
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
    newest = from_here / "checkpoints" / "last.ckpt"
    if best := summary["best"]:
        lines += [
            f"best           epoch {best['epoch'] + 1}, {best['monitor']} {best['score']:.4f}",
            f"test it        python -m cifar_lightning test --ckpt_path"
            f" {from_here / best['checkpoint']}",
        ]
    lines.append(f"look at it     tensorboard --logdir {from_here.parent}")
    if newest.exists():
        lines.append(f"go on          python -m cifar_lightning fit --ckpt_path {newest} {limit}")
    return "\n".join(lines)
