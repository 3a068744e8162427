"""What a run ends with: ``summary.json`` for scripts, a few lines for people."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer

from cifar_lightning.runs.checkpoints import Checkpoints


class RunSummary(Callback):
    """Writes ``summary.json`` into the run's folder and prints its essence.

    ``epochs`` (whole ones) and ``global_step`` count what was trained; ``validated_on`` says which
    images ``val/…`` is about, ``best`` is the epoch (from 0, as in the logs) with the best
    monitored metric, its score and its checkpoint's path within the run; ``metrics`` are the last
    values of all logged metrics.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.fast_dev_run:
            return
        if not trainer.is_global_zero:
            return
        run = checkpoints.run_folder(trainer)
        summary = {
            "epochs": trainer.current_epoch - checkpoints.in_mid_epoch,
            "global_step": trainer.global_step,
            "validated_on": getattr(trainer.datamodule, "validated_on", None),
            "best": _best(checkpoints),
            "metrics": {name: value.item() for name, value in trainer.callback_metrics.items()},
        }
        (run / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        fresh = getattr(pl_module, "validated_at", None) == trainer.global_step
        print(_text(run, checkpoints, summary, _limit(trainer), fresh))


def _limit(trainer: Trainer) -> str:
    """What has to be larger for the run to go on."""
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "--trainer.max_time DD:HH:MM:SS"
    enough_steps = 0 <= trainer.max_steps <= trainer.global_step
    return "--trainer.max_steps N" if enough_steps else "--trainer.max_epochs N"


def _best(checkpoints: Checkpoints) -> dict[str, Any] | None:
    if checkpoints.best_score is None:
        return None
    return {
        "epoch": checkpoints.best_epoch,
        "monitor": checkpoints.monitor,
        "score": checkpoints.best_score,
        "checkpoint": f"checkpoints/{checkpoints.best_name}",
    }


def _text(
    run: Path, checkpoints: Checkpoints, summary: dict[str, Any], limit: str, fresh: bool
) -> str:
    metrics = summary["metrics"]
    part = " and a part" if checkpoints.in_mid_epoch else ""
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
    if checkpoints.best_score is not None and checkpoints.best_epoch is not None:
        newest_or_best = from_here / "checkpoints" / str(checkpoints.best_name)
        lines += [
            f"best           epoch {checkpoints.best_epoch + 1},"
            f" {checkpoints.monitor} {checkpoints.best_score:.4f}",
            f"test it        python -m cifar_lightning test --ckpt_path {newest_or_best}",
        ]
    lines.append(f"look at it     tensorboard --logdir {from_here.parent}")
    if newest.exists():
        lines.append(f"go on          python -m cifar_lightning fit --ckpt_path {newest} {limit}")
    return "\n".join(lines)
