"""Promise: the number of processes changes the speed, never the result."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    BOUNDARIES,
    LONG,
    RUN,
    SAVE_OFTEN,
    SCHEDULED,
    TINY,
    assert_alike,
    assert_equal,
    one_sentence,
    only_run,
    outcome,
    signal_at,
    stop_at,
    succeeded,
)
from program import PROJECT, Command, Several

TWO = pytest.param(2, id="two")
MORE = [pytest.param(n, marks=pytest.mark.slow) for n in (3, 4)]


@pytest.mark.parametrize("count", [TWO, *MORE])
def test_same_run(count: int, several: Several, tmp_path: Path, alone: Path) -> None:
    ended = several(count, "fit", *LONG)
    assert succeeded(ended)
    assert_alike(tmp_path / RUN, alone)
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
        many, one = (tmp_path / name / RUN for name in ("many", "one"))
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
        "--config", str(PROJECT / f"configs/{config}.yaml"), "--data.source", "Shapes",
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


KILLS = [
    ("on_before_optimizer_step", 13, "SIGKILL", 0),
    ("on_train_batch_end", 11, "SIGTERM", 1),
]

ALL_KILLS = [
    ("on_train_batch_end", 4, "SIGKILL", 1),
    ("on_validation_batch_end", 2, "SIGKILL", 1),
    ("on_validation_end", 1, "SIGINT", 0),
    *(
        (hook, call, name, rank)
        for hook, call in BOUNDARIES
        for name in ("SIGKILL", "SIGTERM")
        for rank in (0, 1)
    ),
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
        assert "has ended before its time" in one_sentence(ended[1 - rank])
        assert said.count("has ended before its time") == 1
    else:
        status = 128 + getattr(signal, signal_name)
        assert [one.status for one in ended] == [status, status], ended
        assert said.count("Stopped by") == 1
    begun = list(tmp_path.glob("lightning_logs/*/checkpoints/last.ckpt"))
    flags = ("--ckpt_path", "last") if begun else (*TINY, *SCHEDULED)
    assert succeeded(several(2, "fit", *flags, "--trainer.callbacks", "null"))
    assert_equal(outcome(only_run(tmp_path)), two_uninterrupted)


def test_an_epoch_that_was_cut_goes_on(
    several: Several, tmp_path: Path, two_uninterrupted: dict[str, Any]
) -> None:
    cut = stop_at("on_train_batch_end", 10)
    assert succeeded(several(2, "fit", *TINY, *SCHEDULED, *cut))
    assert succeeded(several(2, "fit", "--ckpt_path", "last", "--trainer.callbacks", "null"))
    assert_equal(outcome(tmp_path / RUN), two_uninterrupted)


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 2), *(pytest.param(*n, marks=pytest.mark.slow) for n in ((2, 1), (4, 2), (1, 4), (3, 2)))],
)
def test_goes_on_with_another_number(
    before: int, after: int, several: Several, tmp_path: Path, alone: Path
) -> None:
    at = signal_at("on_train_batch_end", "SIGTERM", 43)
    ended = several(before, "fit", *LONG, *at)
    assert [one.status for one in ended] == [143] * before, ended
    flags = ("--ckpt_path", "last", "--trainer.callbacks", "null")
    assert succeeded(several(after, "fit", *flags, "--trainer.devices", str(after)))
    assert_alike(tmp_path / RUN, alone)
