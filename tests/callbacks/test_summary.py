"""``summary.json``: what ended a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import RUN, TINY, signal_at, stop_at
from program import Command

STOPPER = (
    "--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/acc",
    "--trainer.callbacks.mode", "max", "--trainer.callbacks.patience", "1000000",
    "--trainer.callbacks.stopping_threshold",
)  # fmt: skip
AT_ONCE, NEVER = (*STOPPER, "-1"), (*STOPPER, "2")
PAUSE = stop_at("on_validation_end", 0)


def summary(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


@pytest.mark.parametrize(
    ("flags", "status", "ended_by", "epochs"),
    [
        ((), 0, "epochs", 3),
        (("--trainer.max_steps", "24"), 0, "epochs", 3),
        (("--trainer.max_steps", "11"), 0, "steps", 1),
        (("--trainer.max_steps", "16"), 0, "steps", 2),
        (AT_ONCE, 0, "early stopping", 1),
        ((*AT_ONCE, "--trainer.val_check_interval", "3"), 0, "early stopping", 0),
        ((*AT_ONCE, "--trainer.max_epochs", "1"), 0, "epochs", 1),
        ((*NEVER, "--trainer.max_time", "00:00:00:01", "--trainer.max_epochs", "-1"), 0, "time", 0),
        (PAUSE, 0, "pause", 1),
        (signal_at("on_train_batch_start", "SIGTERM", 11), 143, "signal", 1),
        (signal_at("on_train_batch_end", "SIGINT", 11), 130, "signal", 1),
        (signal_at("on_train_batch_end", "SIGINT", 23), 130, "epochs", 3),
    ],
)
def test_what_ended_a_run(
    flags: tuple[str, ...], status: int, ended_by: str, epochs: int, command: Command,
    tmp_path: Path,
) -> None:  # fmt: skip
    ended = command("fit", *TINY, *flags)
    assert ended.status == status, ended
    found = summary(tmp_path / RUN)
    assert found["ended_by"] == ended_by
    assert found["epochs"] == epochs or ended_by == "time"
    assert (f"ended by       {ended_by}\n" in ended.stdout) is (ended_by != "signal")


@pytest.mark.parametrize("earlier_version", [True, False])
def test_an_end_is_not_taken_for_that_of_a_run_that_went_on(
    earlier_version: bool, command: Command, run: Path
) -> None:
    if earlier_version:
        old = summary(run)
        del old["ended_by"]
        (run / "summary.json").write_text(json.dumps(old))
        assert command("compare").stdout.splitlines()[1].startswith("version_0  ")
    on = ("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert command(*on, *signal_at("on_train_batch_end", "SIGKILL", 2)).status == -9
    assert summary(run)["ended_by"] is None
    assert "version_0 (interrupted)" in command("compare").stdout
    assert command(*on, "--trainer.callbacks", "null").status == 0
    assert summary(run)["ended_by"] == "epochs"
    # the callback that killed it was an option of the run for a while
    assert "version_0 (options changed half-way)" in command("compare").stdout


def test_an_early_stop_is_not_taken_for_a_later_pause(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, *AT_ONCE).status == 0
    more = ("--trainer.callbacks+", *PAUSE[1:])
    assert command("fit", "--ckpt_path", "last", *NEVER, *more).status == 0
    assert summary(tmp_path / RUN)["ended_by"] == "pause"
    assert summary(tmp_path / RUN)["epochs"] == 2
