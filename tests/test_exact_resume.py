"""Promise: a run killed at any moment and resumed ends with the bits of one that was not."""

import csv
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command, _child
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lightning.runs.checkpoint_io import read_checkpoint

EPOCHS, STEPS = 3, 8  # of a TINY run
SCHEDULED = (
    "--dashboard.pictures_every_n_epochs", "5",
    "--model.lr_scheduler", "torch.optim.lr_scheduler.LinearLR",
    "--model.lr_scheduler.start_factor", "1", "--model.lr_scheduler.end_factor", "0",
    "--model.lr_scheduler.total_iters", "-1", "--model.lr_scheduler_interval", "step",
    "--model.warmup", "0.3", "--model.label_smoothing", "0.1", "--model.initialisation", "kaiming",
    "--model.optimizer", "SGD", "--model.optimizer.weight_decay", "0.001",
    "--data.flip", "true", "--data.translate", "3", "--data.cutout", "8",
)  # fmt: skip

DECAYING = (
    "--dashboard.pictures_every_n_epochs", "5",
    "--model.lr_scheduler", "StepLR", "--model.lr_scheduler.step_size", "5",
    "--model.lr_scheduler.gamma", "0.7", "--model.lr_scheduler_interval", "step",
)  # fmt: skip


def outcome(run: Path) -> dict[str, Any]:
    """Everything that must be equal, to the bit, but for clock times."""
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    best = sorted(run.glob("checkpoints/epoch=*"))
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    with (run / "metrics.csv").open() as file:
        rows = [{k: v for k, v in r.items() if "speed" not in k} for r in csv.DictReader(file)]
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step", "loops")
    return {
        **{key: last[key] for key in kept},
        "best": [(path.name, torch.load(path, weights_only=True)["state_dict"]) for path in best],
        "rows": rows,
        "scalars": {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags},
    }


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), f"{where}: {a} {b}"
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, f"{where}: {a} {b}"


TWICE = ("--trainer.val_check_interval", "4")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, fork_server: Any) -> dict[str, Any]:
    return _fit(fork_server, tmp_path_factory.mktemp("uninterrupted"), SCHEDULED)


@pytest.fixture(scope="module")
def validated_twice(tmp_path_factory: pytest.TempPathFactory, fork_server: Any) -> dict[str, Any]:
    """A run with a validation in the middle of each epoch."""
    return _fit(fork_server, tmp_path_factory.mktemp("twice"), (*DECAYING, *TWICE))


def _fit(fork_server: Any, folder: Path, flags: tuple[str, ...]) -> dict[str, Any]:
    argv = ["fit", *TINY, *flags]
    process = fork_server.Process(target=_child, args=(argv, str(folder), f"{folder}/.out", {}))
    process.start()
    process.join(120)
    return outcome(folder / "lightning_logs/version_0")


SAVE_OFTEN = ("--checkpoints.every_seconds", "0")


def stop_at(hook: str, call: int) -> tuple[str, ...]:
    argument = "--trainer.callbacks"
    return (argument, "stand_ins.StopAt", f"{argument}.hook", hook, f"{argument}.call", str(call))


def signal_at(hook: str, signal_name: str, call: int) -> tuple[str, ...]:
    arguments = {"hook": hook, "signal_name": signal_name, "call": str(call)}
    flags = [word for k, v in arguments.items() for word in (f"--trainer.callbacks.{k}", v)]
    return ("--trainer.callbacks", "stand_ins.SignalAt", *flags)


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
    (run,) = [path.parent for path in folder.glob("lightning_logs/*/checkpoints")]
    return outcome(run)


BOUNDARIES = [
    ("on_train_batch_start", 0),
    ("on_train_batch_end", 3),
    ("on_before_optimizer_step", 4),
    ("on_train_batch_end", STEPS - 1),
    ("on_train_batch_start", STEPS - 1),
    ("on_validation_start", 1),
    ("on_validation_batch_end", 3),
    ("on_validation_end", 0),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_start", 1),
    ("on_train_batch_start", STEPS),
    ("on_validation_end", EPOCHS - 1),
    ("on_train_end", 0),
]


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
    "seed", [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, KILLS // 3))]
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


@pytest.mark.parametrize("what", ["position", "metric sums", "optimizer", "scheduler", "logs"])
def test_each_ingredient_is_needed(
    what: str, command: Command, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    at = signal_at("on_train_batch_end", "SIGKILL", 12)
    assert command("fit", *TINY, *SCHEDULED, *at, *SAVE_OFTEN).status == -9
    forget = ("--trainer.callbacks", "stand_ins.Forget", "--trainer.callbacks.what", what)
    assert command("fit", "--ckpt_path", "last", *forget).status == 0
    with pytest.raises(AssertionError):
        assert_equal(outcome(tmp_path / "lightning_logs/version_0"), uninterrupted)


def test_more_epochs_are_what_they_would_have_been(command: Command, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert command("fit", *TINY, *DECAYING, folder=whole).status == 0
    assert command("fit", *TINY, *DECAYING, "--trainer.max_epochs", "1", folder=parts).status == 0
    flags = ("--ckpt_path", "last", "--trainer.max_epochs", str(EPOCHS))
    assert command("fit", *flags, folder=parts).status == 0
    ends = [outcome(folder / "lightning_logs/version_0") for folder in (whole, parts)]
    assert_equal(ends[0], ends[1])


LIMITS = [
    (("--trainer.max_steps", "3"), "0 epochs and a part, 3 steps"),
    (("--trainer.max_steps", str(STEPS)), f"1 epochs, {STEPS} steps"),
    (("--trainer.max_steps", str(2 * STEPS - 1)), f"1 epochs and a part, {2 * STEPS - 1} steps"),
    (stop_at("on_train_batch_end", 4), "0 epochs and a part, 5 steps"),
    (stop_at("on_validation_end", 2), f"1 epochs and a part, {STEPS + 4} steps"),
    (stop_at("on_validation_end", 3), f"2 epochs, {2 * STEPS} steps"),
    (
        (*stop_at("on_validation_end", 0), "--trainer.max_steps", "4"),
        "0 epochs and a part, 4 steps",
    ),
]


@pytest.mark.parametrize(("limit", "trained"), LIMITS)
def test_an_epoch_that_was_cut_goes_on(
    limit: tuple[str, ...], trained: str, command: Command, tmp_path: Path, validated_twice: Any
) -> None:
    ended = command("fit", *TINY, *DECAYING, *TWICE, *limit)
    assert ended.status == 0
    assert f"trained        {trained}\n" in ended.stdout
    back = ("--trainer.callbacks", "null", "--trainer.max_steps", "-1")
    assert command("fit", "--ckpt_path", "last", *back).status == 0
    assert_equal(outcome(tmp_path / "lightning_logs/version_0"), validated_twice)


def test_enough_steps(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, "--trainer.max_steps", "5")
    assert "--trainer.max_steps N" in ended.stdout
    before = outcome(tmp_path / "lightning_logs/version_0")
    ended = command("fit", "--ckpt_path", "last")
    assert (ended.status, ended.stdout) == (0, "")
    assert "give a larger --trainer.max_steps" in ended.stderr
    assert_equal(outcome(tmp_path / "lightning_logs/version_0"), before)


def test_enough_time(command: Command, tmp_path: Path) -> None:
    no_time = ("--trainer.max_time", "00:00:00:00")
    ended = command("fit", *TINY, *no_time)
    assert (ended.status, "go on" in ended.stdout) == (0, False)  # there is nothing to go on from
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", *no_time)
    assert (ended.status, "--trainer.max_time DD:HH:MM:SS" in ended.stdout) == (0, True)


def test_second_signal_stops_at_once(command: Command, tmp_path: Path) -> None:
    at = (*signal_at("on_train_batch_start", "SIGINT", 5), "--trainer.callbacks.times", "2")
    ended = command("fit", *TINY, *at, *SAVE_OFTEN)
    assert ended.status == 130
    assert "Traceback" not in ended.stderr
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    assert read_checkpoint(last)["global_step"] == 4


def test_slurm_requeue(command: Command, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    job = {
        "SLURM_JOB_ID": "71", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_PROCID": "0",
        "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train",
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    at = signal_at("on_train_batch_end", "SIGUSR1", 10)
    ended = command("fit", *TINY, *SCHEDULED, *at, **job)
    assert ended.status == 128 + signal.SIGUSR1, ended.stderr
    assert (tmp_path / "asked").read_text() == "requeue 71\n"
    # SLURM starts the same script again; only its environment tells that it is not the first time
    ended = command(
        "fit", *TINY, *SCHEDULED, "--trainer.callbacks", "null", **job, SLURM_RESTART_COUNT="1"
    )
    assert ended.status == 0, ended.stderr
    assert_equal(outcome(tmp_path / "lightning_logs/version_0"), uninterrupted)


WRITES = [f"{share / 100:.2f}" for share in range(96)]
STAGES = ["before fsync", "after fsync", "before rename", "after rename"]


@pytest.mark.parametrize(
    "when",
    ["0.50", *STAGES, *(pytest.param(w, marks=pytest.mark.slow) for w in WRITES if w != "0.50")],
)
def test_killed_while_saving(when: str, command: Command, tmp_path: Path) -> None:
    """With a share of the checkpoint's bytes written, or around a system call."""
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    killer = ("--trainer.callbacks", "stand_ins.KillWhileSaving", "--trainer.callbacks.when", when)
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "3", *SAVE_OFTEN)
    assert command("fit", *more, *killer).status == -9
    # of two saves the second was cut: the state of the first or, after the rename, of the second
    assert read_checkpoint(last)["global_step"] == STEPS + (when == "after rename")
    assert command("fit", *more, "--trainer.callbacks", "null").status == 0
