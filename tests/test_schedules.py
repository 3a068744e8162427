"""Learning rates, step by step."""

from pathlib import Path

import pytest
from helpers import EVERY_STEP, RUN, TINY, logged
from program import Command

COSINE = ("CosineAnnealingLR", "--model.lr_scheduler.T_max", "-1")
ONE_CYCLE = (
    "OneCycleLR", "--model.lr_scheduler.max_lr", "0.5", "--model.lr_scheduler.total_steps", "-1",
    "--model.lr_scheduler.pct_start", "0.25", "--model.lr_scheduler.anneal_strategy", "linear",
)  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "warmup", "peak", "first", "highest"),
    [(COSINE, "0.25", 6, 0.01 / 6, 0.01), (COSINE, "0", 0, 0.01, 0.01),
     (ONE_CYCLE, "0", 5, 0.02, 0.5)],
)  # fmt: skip
def test_schedules(
    schedule: tuple[str, ...], warmup: str, peak: int, first: float, highest: float,
    command: Command, tmp_path: Path,
) -> None:  # fmt: skip
    asked = ("--model.lr_scheduler", *schedule, "--model.lr_scheduler_interval", "step")
    ended = command("fit", *TINY, *asked, "--model.warmup", warmup, *EVERY_STEP)
    assert ended.status == 0, ended.stderr
    rates = logged(tmp_path / RUN, "lr-SGD")
    assert len(rates) == 24
    assert rates[0] == pytest.approx(first, rel=1e-4)
    assert max(rates) == rates[peak] == pytest.approx(highest, rel=1e-4)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < highest / 50
