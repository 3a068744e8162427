"""What ended a run, as its ``summary.json`` says.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import json
from pathlib import Path
from typing import Any, Literal

from cifar_lightning.runs.files import write_json

EndedBy = Literal["epochs", "steps", "early stopping", "time", "pause", "signal"]
"""``max_epochs``, ``max_steps``, an EarlyStopping, ``max_time``, whatever else asked the trainer to
stop (the run can go on), or Ctrl-C, SIGTERM and their like."""

COMPLETE = ("epochs", "steps", "early stopping")
"""Ends that its options alone decide: another seed's run that ended so is comparable."""

_FINISHED = (*COMPLETE, "time")


def read_summary(run: Path) -> dict[str, Any]:
    """What ``summary.json`` holds; nothing if there is none. Raises ValueError: it is damaged."""
    path = run / "summary.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no object")
    return content


def reopen(run: Path) -> None:
    """Note in a run's summary, if it has one, that the run goes on: however that ends, the end
    before is not taken for it.

    Raises:
        UserError: the disk refuses.
    """
    path = run / "summary.json"
    if not path.exists():
        return
    try:
        summary = read_summary(run)
    except ValueError:  # the end that is to come writes a new one
        summary = {}
    write_json(path, {**summary, "ended_by": None})


def is_finished(summary: dict[str, Any]) -> bool | None:
    """Whether a run has nothing more to do; None if its summary does not say what ended it, as
    those of earlier versions, or there is none."""
    return summary["ended_by"] in _FINISHED if "ended_by" in summary else None
