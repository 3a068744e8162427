"""Promise: a run killed at any moment and resumed ends with the bits of one that was not."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    BOUNDARIES,
    EPOCHS,
    RUN,
    SAVE_OFTEN,
    SCHEDULED,
    STEPS,
    TINY,
    assert_equal,
    net_weights,
    only_run,
    outcome,
    signal_at,
    stop_at,
)
from program import Command, ReferenceRun

from cifar_lightning.runs.checkpoint_io import read_checkpoint

DECAYING = (
    "--dashboard.pictures_every_n_epochs", "5",
    "--model.lr_scheduler", "StepLR", "--model.lr_scheduler.step_size", "5",
    "--model.lr_scheduler.gamma", "0.7", "--model.lr_scheduler_interval", "step",
)  # fmt: skip

TWICE = ("--trainer.val_check_interval", "4")


@pytest.fixture(scope="module")
def validated_twice(reference_run: ReferenceRun) -> dict[str, Any]:
    """A run with a validation in the middle of each epoch."""
    return outcome(reference_run(*TINY, *DECAYING, *TWICE))


def interrupt_and_finish(
    command: Command, folder: Path, kills: list[tuple[str, str, int]]
) -> dict[str, Any]:
    """Fit with a signal at each of the given points, one process after the other, to the end."""
    resume: tuple[str, ...] = (*TINY, *SCHEDULED)
    for hook, signal_name, call in kills:
        at = signal_at(hook, signal_name, call)
        ended = command("fit", *resume, *at, *SAVE_OFTEN, folder=folder)
        expected = {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}[signal_name]
        assert ended.status == expected, ended  # 0: the signal was never sent
        if list(folder.glob("lightning_logs/*/checkpoints/last.ckpt")):
            resume = ("--ckpt_path", "last")
    ended = command("fit", *resume, "--trainer.callbacks", "null", folder=folder)
    assert ended.status == 0, ended
    return outcome(only_run(folder))


SIGNALS = ["SIGKILL", "SIGTERM", "SIGINT"]
EACH_ONCE = [(hook, call, SIGNALS[i % 3]) for i, (hook, call) in enumerate(BOUNDARIES)]
THE_REST = [
    (*boundary, signal_name)
    for boundary in BOUNDARIES
    for signal_name in SIGNALS
    if (*boundary, signal_name) not in EACH_ONCE
]


@pytest.mark.parametrize(
    ("hook", "call", "signal_name"),
    [*EACH_ONCE, *(pytest.param(*point, marks=pytest.mark.slow) for point in THE_REST)],
)
def test_every_boundary(
    hook: str,
    call: int,
    signal_name: str,
    command: Command,
    tmp_path: Path,
    uninterrupted: dict[str, Any],
) -> None:
    kills = [(hook, signal_name, call)]
    assert_equal(interrupt_and_finish(command, tmp_path, kills), uninterrupted)


# Hooks, and how many of their calls there are in any eight steps: three kills fit into a run.
HOOKS = [
    ("on_train_batch_start", STEPS - 1),
    ("on_before_optimizer_step", STEPS - 1),
    ("on_train_batch_end", STEPS - 1),
    ("on_validation_batch_end", 2),
]


# CIFAR_LIGHTNING_KILLS=300 python -m pytest -m slow -k at_random
KILLS = int(os.environ.get("CIFAR_LIGHTNING_KILLS", "100"))


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, KILLS // 3))]
)
def test_three_kills_at_random(
    seed: int, command: Command, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    numbers = random.Random(seed)
    kills = []
    for _ in range(3):
        hook, calls = numbers.choice(HOOKS)
        kills.append((hook, numbers.choice(SIGNALS), numbers.randrange(calls)))
    assert_equal(interrupt_and_finish(command, tmp_path, kills), uninterrupted)


def test_each_ingredient_is_needed(
    command: Command, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    at = signal_at("on_train_batch_end", "SIGKILL", 12)
    assert command("fit", *TINY, *SCHEDULED, *at, *SAVE_OFTEN).status == -9
    for what in ("position", "metric sums", "optimizer", "scheduler", "logs"):
        folder = tmp_path / what
        shutil.copytree(tmp_path / "lightning_logs", folder / "lightning_logs")
        forget = ("--trainer.callbacks", "stand_ins.Forget", "--trainer.callbacks.what", what)
        assert command("fit", "--ckpt_path", "last", *forget, folder=folder).status == 0, what
        with pytest.raises(AssertionError):
            assert_equal(outcome(folder / RUN), uninterrupted)


def test_more_epochs_are_what_they_would_have_been(command: Command, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert command("fit", *TINY, *DECAYING, folder=whole).status == 0
    assert command("fit", *TINY, *DECAYING, "--trainer.max_epochs", "1", folder=parts).status == 0
    flags = ("--ckpt_path", "last", "--trainer.max_epochs", str(EPOCHS))
    assert command("fit", *flags, folder=parts).status == 0
    ends = [outcome(folder / RUN) for folder in (whole, parts)]
    assert_equal(ends[0], ends[1])


LIMITS = [
    (("--trainer.max_steps", "3"), "0 epochs and a part, 3 steps"),
    (("--trainer.max_steps", str(STEPS)), f"1 epoch, {STEPS} steps"),
    (("--trainer.max_steps", str(2 * STEPS - 1)), f"1 epoch and a part, {2 * STEPS - 1} steps"),
    (stop_at("on_train_batch_end", 4), "0 epochs and a part, 5 steps"),
    (stop_at("on_validation_end", 2), f"1 epoch and a part, {STEPS + 4} steps"),
    (stop_at("on_validation_end", 3), f"2 epochs, {2 * STEPS} steps"),
    (
        (*stop_at("on_validation_end", 0), "--trainer.max_steps", "4"),
        "0 epochs and a part, 4 steps",
    ),
]


@pytest.mark.parametrize(
    ("limit", "trained"),
    [
        limit if number % 3 == 0 else pytest.param(*limit, marks=pytest.mark.slow)
        for number, limit in enumerate(LIMITS)
    ],
)
def test_an_epoch_that_was_cut_goes_on(
    limit: tuple[str, ...], trained: str, command: Command, tmp_path: Path, validated_twice: Any
) -> None:
    ended = command("fit", *TINY, *DECAYING, *TWICE, *limit)
    assert ended.status == 0
    assert f"trained        {trained}\n" in ended.stdout
    back = ("--trainer.callbacks", "null", "--trainer.max_steps", "-1")
    assert command("fit", "--ckpt_path", "last", *back).status == 0
    assert_equal(outcome(tmp_path / RUN), validated_twice)


def test_enough_steps(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, "--trainer.max_steps", "5")
    assert (ended.status, "--trainer.max_steps N" in ended.stdout) == (0, True)
    before = outcome(tmp_path / RUN)
    ended = command("fit", "--ckpt_path", "last")
    assert (ended.status, ended.stdout) == (0, "")
    assert "give a larger --trainer.max_steps" in ended.stderr
    assert_equal(outcome(tmp_path / RUN), before)


def test_enough_time(command: Command, tmp_path: Path) -> None:
    timer = "--trainer.callbacks"
    little = (timer, "Timer", f"{timer}.duration", '{"milliseconds": 1}')
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", *little)
    assert (ended.status, "--trainer.max_time DD:HH:MM:SS" in ended.stdout) == (0, True), ended


def test_second_signal_stops_at_once(command: Command, tmp_path: Path) -> None:
    at = (*signal_at("on_train_batch_start", "SIGINT", 5), "--trainer.callbacks.times", "2")
    ended = command("fit", *TINY, *at, *SAVE_OFTEN)
    assert ended.status == 130
    assert "Traceback" not in ended.stderr
    last = tmp_path / RUN / "checkpoints/last.ckpt"
    # the checkpoint of the batch at hand was taken before the callback that sends the signals
    assert read_checkpoint(last)["global_step"] == 5


WRITES = [f"{share / 100:.2f}" for share in range(96)]
STAGES = ["before fsync", "after fsync", "before rename", "after rename"]


@pytest.mark.parametrize(
    "when",
    [
        when if when in ("0.50", "after fsync") else pytest.param(when, marks=pytest.mark.slow)
        for when in (*WRITES, *STAGES)
    ],
)
def test_killed_while_saving(when: str, command: Command, tmp_path: Path) -> None:
    """With a share of the checkpoint's bytes written, or around a system call."""
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    last = tmp_path / RUN / "checkpoints/last.ckpt"
    killer = ("--trainer.callbacks", "stand_ins.KillWhileSaving", "--trainer.callbacks.when", when)
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "3", *SAVE_OFTEN)
    assert command("fit", *more, *killer).status == -9
    # of two saves the second was cut: the state of the first or, after the rename, of the second
    assert read_checkpoint(last)["global_step"] == STEPS + (when == "after rename")
    assert command("fit", *more, "--trainer.callbacks", "null").status == 0


def test_same_seed_same_run(command: Command, tmp_path: Path) -> None:
    def weights(*arguments: str) -> dict[str, torch.Tensor]:
        assert command("fit", *TINY, "--trainer.max_epochs", "1", *arguments).status == 0
        return net_weights(max(tmp_path.glob("lightning_logs/version_*")))

    first, second, other = weights(), weights(), weights("--seed_everything", "1")
    name = "layers.2.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name])
