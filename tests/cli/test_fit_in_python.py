"""The whole of ``fit`` from a script: what it gives back, and what it leaves as it was."""

import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from helpers import RUN, TINY, signal_at

import cifar_lightning
from cifar_lightning.__main__ import main
from cifar_lightning.errors import UsageError, UserError
from cifar_lightning.runs.record import read_run

SHORT = (*TINY, "--trainer.max_epochs", 1)


def state() -> dict[str, Any]:
    """What of a process a call must not change for good."""
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "handlers": list(logging.getLogger().handlers),
        "arguments": list(sys.argv),
        "path": list(sys.path),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "hooks": (threading.excepthook, warnings.showwarning),
    }


def test_twice_in_a_process_and_as_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    before = state()
    first = cifar_lightning.fit(*SHORT)
    assert state() == before
    assert first is not None
    assert first.path.resolve() == elsewhere / RUN
    assert first.best is not None
    assert first.best["val/acc"] == first.epochs[-1]["val/acc"]
    assert first.best_checkpoint is not None
    assert first.best_checkpoint.exists()
    assert "fit --model.net" in first.card["command"]
    further = cifar_lightning.fit("--ckpt_path", "last", "--trainer.max_epochs", 3)
    assert further is not None
    assert further.path == first.path
    alike = [[epoch["val/loss"] for epoch in r.epochs] for r in (further, read_run(run))]
    assert alike[0] == alike[1]
    assert state() == before
    finished = cifar_lightning.fit("--ckpt_path", "last")  # there is nothing left to do
    assert finished is not None
    assert finished.path.resolve() == first.path.resolve()
    assert cifar_lightning.fit(*SHORT, "--trainer.fast_dev_run", "true") is None


@pytest.mark.parametrize(
    "wrong",
    [
        ("--data.batchsize", 3), ("--data.batch_size", "many"), ("--model.net", "NoNet"),
        ("--config", "nothing"), ("--ckpt_path", "last"), ("--data.val_size", 300), ("oops",),
    ],
)  # fmt: skip
def test_what_is_wrong_is_raised(
    wrong: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state()
    with pytest.raises(UserError):
        cifar_lightning.fit(*TINY, *wrong)
    assert state() == before
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = state()
    with pytest.raises(KeyboardInterrupt):
        cifar_lightning.fit(*TINY, *signal_at("on_train_batch_end", "SIGINT", 3))
    assert (tmp_path / RUN / "checkpoints" / "last.ckpt").exists()
    assert state() == before


def test_main_takes_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # main installs its own for good
    main(["--help"])
    assert "usage: python -m cifar_lightning" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--data.batchsize", "3"])
    assert ended.value.code == UsageError.exit_status
    assert "there is no option --data.batchsize" in capsys.readouterr().err
