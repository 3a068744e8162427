"""Promise: the number of processes changes the speed, never the result."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import TESTS, TINY, Command, Finished, _child
from fake_cifar10 import delivers, environment, make_archive, mirrors
from test_exact_resume import (
    BOUNDARIES,
    SAVE_OFTEN,
    SCHEDULED,
    assert_equal,
    outcome,
    signal_at,
    stop_at,
)

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import Shapes
from cifar_lightning.processes.collectives import shard
from cifar_lightning.runs.checkpoint_io import read_checkpoint

TWO = pytest.param(2, id="two")
MORE = [pytest.param(n, marks=pytest.mark.slow) for n in (3, 4)]
LONG = (*TINY, *SCHEDULED, "--trainer.max_epochs", "13")  # 104 steps
Several = Callable[..., list[Finished]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def several(fork_server: Any, tmp_path: Path) -> Several:
    """Run ``cifar_lightning`` in several processes that torchrun (or SLURM) might have started,
    wait for their end, and give each one's."""

    def run(
        count: int,
        *argv: str,
        folder: Path = tmp_path,
        patience: float = 100,
        by: str = "torchrun",
        **environ: str,
    ) -> list[Finished]:
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **environ}
        if by == "torchrun":
            common |= {
                "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_WORLD_SIZE": "1",
                "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
            }  # fmt: skip
        else:
            common |= {
                "SLURM_NTASKS": str(count), "SLURM_NTASKS_PER_NODE": str(count),
                "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_ID": "72",
                "SLURM_JOB_NAME": "train",
            }  # fmt: skip
        numbers = {"torchrun": ("RANK", "LOCAL_RANK"), "slurm": ("SLURM_PROCID", "SLURM_LOCALID")}
        processes = []
        for rank in range(count):
            out = str(tmp_path / f".out{rank}")
            own = common | dict.fromkeys(numbers[by], str(rank))
            process = fork_server.Process(target=_child, args=(list(argv), str(folder), out, own))
            process.start()
            processes.append((process, out))
        deadline = time.monotonic() + patience
        for process, _ in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        hanging = [process for process, _ in processes if process.exitcode is None]
        for process in hanging:
            process.kill()
        # torch 2.9's gloo reports its connections on standard output, and no setting stops it
        printed = [
            (
                re.sub(r"(?m)^\[Gloo\].*\n", "", Path(f"{out}.stdout").read_text()),
                Path(f"{out}.stderr").read_text(),
            )
            for _, out in processes
        ]
        assert not hanging, f"still running: {argv} {printed}"
        return [
            Finished(process.exitcode, *texts)
            for (process, _), texts in zip(processes, printed, strict=True)
        ]

    return run


def succeeded(ended: list[Finished]) -> bool:
    assert [one.status for one in ended] == [0] * len(ended), ended
    return True


@pytest.mark.parametrize("size", [0, 1, 2, 3, 16, 63, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_image_of_a_batch_has_one_process(size: int, count: int) -> None:
    shares = [list(range(size))[shard(size, rank, count)] for rank in range(count)]
    assert [image for mine in shares for image in mine] == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [2, 3, 4])
def test_batches_are_those_of_one_process(count: int) -> None:
    data = CIFAR10DataModule(Shapes(300), 83, val_size=50, flip=True, translate=3, cutout=8)
    data.setup("fit")
    position = lambda: (2, 1)  # noqa: E731
    alone = list(data.training_batches(position))
    everyone = []
    for rank in range(count):
        data.trainer = Mock(global_rank=rank, world_size=count)
        everyone.append(list(data.training_batches(position)))
    for whole, parts in zip(alone, zip(*everyone, strict=True), strict=True):
        assert {part[3] for part in parts} == {len(whole[0])}
        for i in range(3):  # images, labels, draws
            assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    assert {len(part[0]) for part in [b[-1] for b in everyone]} == {0, 1}  # the last batch has one


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [
            {k: float(v) for k, v in row.items() if v and "speed" not in k}
            for row in csv.DictReader(file)
        ]


def assert_alike(run: Path, other: Path, names: str = "", weights: float = 1e-4) -> None:
    """Metrics within 1e-5, those that count validation images equal; all weights together within
    a share of their norm."""
    ours, theirs = rows(run), rows(other)
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in (name for name in a if re.search(names, name)):
            exact = name.startswith(("val/acc", "val_acc", "epoch", "step", "lr"))
            assert a[name] == pytest.approx(b[name], abs=0 if exact else 1e-5), (name, a["step"])
    one, two = (json.loads((r / "summary.json").read_text())["best"] for r in (run, other))
    assert one == two
    one, two = (read_checkpoint(r / "checkpoints/last.ckpt")["state_dict"] for r in (run, other))
    first, second = (
        torch.cat([v.flatten() for k, v in s.items() if "net." in k]) for s in (one, two)
    )
    assert (first - second).norm() / first.norm() < weights


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, fork_server: Any) -> Path:
    """The folder of a run of 104 steps in one process."""
    folder = tmp_path_factory.mktemp("alone")
    argv = ["fit", *LONG]
    process = fork_server.Process(target=_child, args=(argv, str(folder), f"{folder}/.out", {}))
    process.start()
    process.join(120)
    return folder / "lightning_logs/version_0"


@pytest.mark.parametrize("count", [TWO, *MORE])
def test_same_run(count: int, several: Several, tmp_path: Path, alone: Path) -> None:
    ended = several(count, "fit", *LONG)
    assert succeeded(ended)
    assert_alike(tmp_path / "lightning_logs/version_0", alone)
    assert [bool(one.stdout) for one in ended] == [True] + [False] * (count - 1)
    assert not any(one.stderr for one in ended[1:])
    assert len(list(tmp_path.glob("lightning_logs/*/events*"))) == 1


Runs = Callable[..., tuple[Path, Path]]


@pytest.fixture
def many_and_one(command: Command, several: Several, tmp_path: Path) -> Runs:
    """Fit with the same arguments in several processes and in one, and give both runs' folders."""

    def run(count: int, *flags: str) -> tuple[Path, Path]:
        for folder in (tmp_path / "many", tmp_path / "one"):
            folder.mkdir()
        assert succeeded(several(count, "fit", *flags, folder=tmp_path / "many", patience=500))
        assert command("fit", *flags, folder=tmp_path / "one").status == 0
        many, one = (tmp_path / name / "lightning_logs/version_0" for name in ("many", "one"))
        return many, one

    return run


@pytest.mark.parametrize(
    "flags",
    [
        ("--data.batch_size", "83", "--data.flip", "true"),  # 83, 83, 83 and 1 image
        ("--trainer.accumulate_grad_batches", "3"),
    ],
    ids=["fewer images than processes", "gradients added up over batches"],
)
def test_same_short_run(flags: tuple[str, ...], many_and_one: Runs) -> None:
    assert_alike(*many_and_one(2, *TINY, *flags))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("config", ["article", "fast"])
def test_alexnet(config: str, count: int, many_and_one: Runs) -> None:
    flags: tuple[str, ...] = (
        "--config", str(TESTS.parent / f"configs/{config}.yaml"), "--data.source", "Shapes",
        "--data.source.size", "700", "--data.val_size", "100", "--trainer.accelerator", "cpu",
        "--trainer.max_epochs", "10", "--trainer.log_every_n_steps", "1",
    )  # fmt: skip
    if config == "fast":
        # Its first steps are so steep that float32's rounding alone grows to another run within 20
        # steps, also when one process computes with one thread and with two.
        flags += ("--trainer.precision", "64-true")
    many, one = many_and_one(count, *flags)
    if config == "fast":
        assert_alike(many, one, weights=1e-12)
    else:  # logits that are nearly equal are ranked by their rounding
        assert_alike(many, one, names="loss")


@pytest.mark.parametrize("count", [TWO, *MORE])
def test_same_evaluation(
    count: int, command: Command, several: Several, tmp_path: Path, alone: Path
) -> None:
    best = str(next(alone.glob("checkpoints/epoch*")))
    for what in ("test", "predict"):
        assert command(what, "--ckpt_path", best).status == 0
    test, predictions = alone / "test_report.json", alone / "predictions.csv"
    expected, rows_expected = json.loads(test.read_text()), predictions.read_text().split()
    test.unlink()
    predictions.unlink()
    for what in ("test", "predict"):
        ended = several(count, what, "--ckpt_path", best, "--data.batch_size", "7")
        assert succeeded(ended)
        assert not any(one.stdout for one in ended[1:])
    report = json.loads(test.read_text())
    assert report["confusion_matrix"] == expected["confusion_matrix"]
    assert report["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    for a, b in zip(predictions.read_text().split()[1:], rows_expected[1:], strict=True):
        ours, theirs = a.split(","), b.split(",")
        assert ours[:3] == theirs[:3]
        assert list(map(float, ours[3:])) == pytest.approx(list(map(float, theirs[3:])), abs=2e-6)


# --- exact resume ---


@pytest.fixture(scope="module")
def two_uninterrupted(tmp_path_factory: pytest.TempPathFactory, fork_server: Any) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    run = several.__wrapped__(fork_server, folder)
    assert succeeded(run(2, "fit", *TINY, *SCHEDULED))
    return outcome(folder / "lightning_logs/version_0")


KILLS = [
    ("on_train_batch_end", 4, "SIGKILL", 1),
    ("on_before_optimizer_step", 13, "SIGKILL", 0),
    ("on_validation_batch_end", 2, "SIGKILL", 1),
    ("on_train_batch_end", 11, "SIGTERM", 1),
    ("on_validation_end", 1, "SIGINT", 0),
]
ALL_KILLS = [
    (hook, call, name, rank)
    for hook, call in BOUNDARIES
    for name in ("SIGKILL", "SIGTERM")
    for rank in (0, 1)
]


@pytest.mark.parametrize(
    ("hook", "call", "signal_name", "rank"),
    [*KILLS, *(pytest.param(*kill, marks=pytest.mark.slow) for kill in ALL_KILLS)],
)
def test_resumed_to_the_bit(
    hook: str,
    call: int,
    signal_name: str,
    rank: int,
    several: Several,
    tmp_path: Path,
    two_uninterrupted: dict[str, Any],
) -> None:
    at = (*signal_at(hook, signal_name, call), "--trainer.callbacks.rank", str(rank))
    ended = several(2, "fit", *TINY, *SCHEDULED, *at, *SAVE_OFTEN, patience=60)
    said = "".join(one.stderr for one in ended)
    assert "Traceback" not in said
    if signal_name == "SIGKILL":
        assert ended[rank].status == -9
        assert ended[1 - rank].status == 1
        assert said.count("has ended before its time") == 1
    else:
        status = 128 + getattr(signal, signal_name)
        assert [one.status for one in ended] == [status, status], ended
        assert said.count("Stopped by") == 1
    begun = list(tmp_path.glob("lightning_logs/*/checkpoints/last.ckpt"))
    flags = ("--ckpt_path", "last") if begun else (*TINY, *SCHEDULED)
    assert succeeded(several(2, "fit", *flags, "--trainer.callbacks", "null"))
    (run,) = [path.parent for path in tmp_path.glob("lightning_logs/*/checkpoints")]
    assert_equal(outcome(run), two_uninterrupted)


def test_an_epoch_that_was_cut_goes_on(
    several: Several, tmp_path: Path, two_uninterrupted: dict[str, Any]
) -> None:
    cut = stop_at("on_train_batch_end", 10)
    assert succeeded(several(2, "fit", *TINY, *SCHEDULED, *cut))
    assert succeeded(several(2, "fit", "--ckpt_path", "last", "--trainer.callbacks", "null"))
    assert_equal(outcome(tmp_path / "lightning_logs/version_0"), two_uninterrupted)


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 1), (1, 2), *(pytest.param(*n, marks=pytest.mark.slow) for n in ((4, 2), (1, 4), (3, 2)))],
)
def test_goes_on_with_another_number(
    before: int, after: int, several: Several, tmp_path: Path, alone: Path
) -> None:
    at = signal_at("on_train_batch_end", "SIGTERM", 43)
    ended = several(before, "fit", *LONG, *at)
    assert [one.status for one in ended] == [143] * before, ended
    flags = ("--ckpt_path", "last", "--trainer.callbacks", "null")
    assert succeeded(several(after, "fit", *flags, "--trainer.devices", str(after)))
    assert_alike(tmp_path / "lightning_logs/version_0", alone)


# --- data ---


def test_one_of_them_downloads(several: Several, tmp_path: Path) -> None:
    archive, beliefs = make_archive()
    with mirrors(tmp_path, {"/good": delivers(archive)}) as (url, ca, asked):
        environ = environment(beliefs, [f"{url}/good"], ca)
        flags = (
            "--model.net", "stand_ins.Tiny", "--data.val_size", "50", "--trainer.max_epochs", "1",
            "--trainer.accelerator", "cpu",
        )  # fmt: skip
        assert succeeded(several(2, "fit", *flags, **environ))
    assert asked == ["/good"]


# --- what goes wrong ---


@pytest.mark.parametrize("kind", ["UserError", "KeyError"])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_is_shown_once(rank: int, kind: str, several: Several, tmp_path: Path) -> None:
    fails = ("--trainer.callbacks", "stand_ins.Fails", "--trainer.callbacks.rank", str(rank))
    ended = several(2, "fit", *TINY, *fails, "--trainer.callbacks.kind", kind, patience=60)
    assert [one.status for one in ended] == [1, 1]
    assert ended[1 - rank].stderr.count("\n") == (1 if rank else 0), ended  # the run's first line
    said = ended[rank].stderr
    if kind == "UserError":
        assert "Traceback" not in said
        assert said.count("the disk of this machine is on fire") == 1
        assert ("cifar_lightning: process 1: the disk" in said) == (rank == 1)
    else:
        assert f"process {rank} of 2 failed:\n" in said
        assert said.count("\nKeyError: 'the disk") == 1


def test_an_error_of_all_is_shown_once(several: Several, tmp_path: Path) -> None:
    flags = ("--model.optimizer", "SGD", "--model.optimizer.lr", "1e38")
    ended = several(2, "fit", *TINY, *flags, patience=60)
    assert [one.status for one in ended] == [1, 1]
    assert "".join(one.stderr for one in ended).count("no longer finite") == 1
    ended = several(2, "fit", *TINY, "--data.val_size", "300", patience=60)
    assert [one.status for one in ended] == [2, 2]
    assert "".join(one.stderr for one in ended).count("--data.val_size") == 1


def test_disk_full(several: Several, tmp_path: Path) -> None:
    flags = ("--trainer.callbacks", "stand_ins.DiskFull", "--trainer.callbacks.first", "4")
    until = ("--trainer.callbacks.last", "12")
    ended = several(2, "fit", *TINY, *flags, *until, *SAVE_OFTEN)
    assert succeeded(ended)
    assert "could not be written" in ended[0].stderr
    last = read_checkpoint(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")
    assert last["global_step"] == 24


# --- starting ---


@pytest.mark.parametrize("end", ["finished", "SIGTERM", "one killed"])
def test_started_by_the_command(end: str, command: Command, tmp_path: Path) -> None:
    flags: tuple[str, ...] = (*TINY, "--trainer.devices", "2")
    if end == "SIGTERM":
        flags += (*signal_at("on_train_batch_end", "SIGTERM", 9),)
    elif end == "one killed":
        flags += (*signal_at("on_train_batch_end", "SIGKILL", 9), "--trainer.callbacks.rank", "1")
    ended = command("fit", *flags, PYTHONPATH=str(TESTS))
    assert ended.status == {"finished": 0, "SIGTERM": 143, "one killed": 1}[end], ended
    assert ended.stderr.count("on cpu: Shapes") == 1
    assert "Traceback" not in ended.stderr
    if end == "one killed":
        assert "process 1 (SIGKILL) has ended before its time" in ended.stderr
    else:
        assert ended.stdout.count("epoch   1/3") == 1
    card = json.loads((tmp_path / "lightning_logs/version_0/card.json").read_text())
    assert card["device"].startswith("2 × cpu")


def test_torchrun(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    options = ["--master_port", str(free_port()), "-m", "cifar_lightning"]
    environ = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}

    def torchrun(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options, *argv], cwd=tmp_path, env=environ, capture_output=True, text=True
        )

    ended = torchrun("fit", *TINY, "--trainer.max_epochs", "1")
    assert ended.returncode == 0, ended
    assert ended.stdout.count("epoch   1/1") == 1
    ended = torchrun("fit", "--trainer.max_epochs", "0")
    assert ended.stderr.count("--trainer.max_epochs 0 must be at least 1") == 1


def test_slurm(several: Several, tmp_path: Path, two_uninterrupted: dict[str, Any]) -> None:
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    path = f"{scontrol.parent}:{os.environ['PATH']}"
    flags = (*TINY, *SCHEDULED, "--trainer.devices", "2")
    at = (*signal_at("on_train_batch_end", "SIGUSR1", 10), "--trainer.callbacks.rank", "1")
    ended = several(2, "fit", *flags, *at, by="slurm", PATH=path)
    assert [one.status for one in ended] == [128 + signal.SIGUSR1] * 2, ended
    assert (tmp_path / "asked").read_text() == "requeue 72\n"
    again = (*flags, "--trainer.callbacks", "null")
    assert succeeded(several(2, "fit", *again, by="slurm", SLURM_RESTART_COUNT="1"))
    assert_equal(outcome(tmp_path / "lightning_logs/version_0"), two_uninterrupted)


def test_number_of_processes_must_be_known(several: Several, tmp_path: Path) -> None:
    ended = several(2, "fit", *TINY, "--trainer.devices", "1")
    assert [one.status for one in ended] == [2, 2]
    assert "2 processes were started, but the trainer was told of 1" in ended[0].stderr
    assert not (tmp_path / "lightning_logs").exists()
