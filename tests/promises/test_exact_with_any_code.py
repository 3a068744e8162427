"""Promise: exact also with code that draws random numbers: network, loss, transforms, callbacks."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    BOUNDARIES,
    EPOCHS,
    SAVE_OFTEN,
    STEPS,
    TINY,
    assert_equal,
    only_run,
    outcome,
    signal_at,
)
from program import PYTHONPATH, Command, ReferenceRun

DRAWING = (
    "--model.net", "stand_ins.Dropping", "--model.loss", "stand_ins.DrawingLoss",
    "--data.flip", "true",
)  # fmt: skip
HOOKS = ("--trainer.callbacks", "stand_ins.DrawsAtHooks")
ACCUMULATING = ("--trainer.accumulate_grad_batches", "2")
NO_SIGNAL = ("--trainer.callbacks", "null")
ONE = ("--trainer.devices", "1")
TWICE = ("--trainer.val_check_interval", "4")
SIGNALS = ["SIGKILL", "SIGTERM", "SIGINT"]
STATUS = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
# CIFAR_LIGHTNING_KILLS=60 python -m pytest -m slow tests/promises/test_exact_with_any_code.py
KILLS = int(os.environ.get("CIFAR_LIGHTNING_KILLS", "60"))


def killed(hook: str, call: int, signal_name: str, *more: str) -> tuple[str, ...]:
    """Flags for the drawing callback and, after it, ``stand_ins.SignalAt``."""
    at = {"hook": hook, "call": str(call), "signal_name": signal_name}
    flags = [word for k, v in at.items() for word in (f"--trainer.callbacks.{k}", v)]
    return (*HOOKS, "--trainer.callbacks+", "stand_ins.SignalAt", *flags, *more)


@pytest.fixture(scope="module")
def ends(reference_run: ReferenceRun) -> dict[str, dict[str, Any]]:
    """What runs of each kind end with when nothing happens to them."""
    kinds = {"plain": (), "accumulating": ACCUMULATING, "twice": TWICE}
    runs = {k: reference_run(*TINY, *DRAWING, *HOOKS, *flags) for k, flags in kinds.items()}
    return {kind: outcome(run) for kind, run in runs.items()}


def finish(
    command: Command, folder: Path, kills: list[tuple[str, int, str]], *flags: str
) -> dict[str, Any]:
    """Interrupt a run at each point, one process after the other, and let it end."""
    start: tuple[str, ...] = (*TINY, *DRAWING, *flags)
    for hook, call, signal_name in kills:
        ended = command("fit", *start, *killed(hook, call, signal_name), *SAVE_OFTEN)
        assert ended.status == STATUS[signal_name], ended
        if list(folder.glob("lightning_logs/*/checkpoints/last.ckpt")):
            start = ("--ckpt_path", "last")
    ended = command("fit", *start, *HOOKS)
    assert ended.status == 0, ended.stderr
    return outcome(only_run(folder))


@pytest.mark.parametrize(
    ("hook", "call"),
    [
        point if i % 4 == 0 else pytest.param(*point, marks=pytest.mark.slow)
        for i, point in enumerate(BOUNDARIES)
    ],
)
def test_every_boundary(hook: str, call: int, command: Command, tmp_path: Path, ends: Any) -> None:
    signal_name = SIGNALS[call % 3]
    assert_equal(finish(command, tmp_path, [(hook, call, signal_name)]), ends["plain"])


@pytest.mark.parametrize(("kind", "flags"), [("accumulating", ACCUMULATING), ("twice", TWICE)])
def test_accumulated_gradients_and_validation_in_mid_epoch(
    kind: str, flags: tuple[str, ...], command: Command, tmp_path: Path, ends: Any
) -> None:
    kills = [("on_train_batch_end", 4, "SIGTERM"), ("on_train_batch_start", 3, "SIGKILL")]
    assert_equal(finish(command, tmp_path, kills, *flags), ends[kind])


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=pytest.mark.slow) for s in range(KILLS // 3)]
)
def test_three_kills_at_random(seed: int, command: Command, tmp_path: Path, ends: Any) -> None:
    numbers = random.Random(seed)
    hooks = ["on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end"]
    kills = [
        (numbers.choice(hooks), numbers.randrange(STEPS - 1), numbers.choice(SIGNALS))
        for _ in range(3)
    ]
    assert_equal(finish(command, tmp_path, kills), ends["plain"])


def test_more_epochs_are_what_they_would_have_been(
    command: Command, tmp_path: Path, ends: Any
) -> None:
    ended = command("fit", *TINY, *DRAWING, *HOOKS, "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", str(EPOCHS))
    assert ended.status == 0, ended.stderr
    assert_equal(outcome(only_run(tmp_path)), ends["plain"])


@pytest.mark.slow
def test_two_processes(command: Command, tmp_path: Path) -> None:
    """Each draws numbers of its own; the same number of processes gives the same bits."""
    ends = {}
    for name in ("whole", "parts"):
        folder = tmp_path / name
        folder.mkdir()
        start: tuple[str, ...] = (*TINY, *DRAWING, "--trainer.devices", "2")
        if name == "parts":
            at = signal_at("on_train_batch_end", "SIGTERM", 11)
            ended = command("fit", *start, *at, folder=folder, PYTHONPATH=PYTHONPATH)
            assert ended.status == 143, ended
            start = ("--ckpt_path", "last")
        ended = command("fit", *start, *NO_SIGNAL, folder=folder, PYTHONPATH=PYTHONPATH)
        assert ended.status == 0, ended.stderr
        ends[name] = outcome(only_run(folder))
    assert_equal(ends["parts"], ends["whole"])
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "4", *ONE)
    ended = command("fit", *more, folder=tmp_path / "whole")
    assert ended.status == 0, ended.stderr
    assert "in 1 instead of 2 it goes on as another experiment" in ended.stderr


@pytest.mark.slow
def test_nothing_is_said_where_nothing_is_drawn(command: Command, tmp_path: Path) -> None:
    short = ("--trainer.max_epochs", "1", "--trainer.devices", "2")
    assert command("fit", *TINY, *short, PYTHONPATH=PYTHONPATH).status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", *ONE)
    assert ended.status == 0, ended.stderr
    assert "another experiment" not in ended.stderr
