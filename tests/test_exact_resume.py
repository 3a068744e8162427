"""Promise: a run killed at any moment and resumed ends with the bits of one that was not."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EPOCHS, STEPS = 3, 8  # of a TINY run
SCHEDULED = (
    "--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR",
    "--model.lr_scheduler.step_size", "5", "--model.lr_scheduler.gamma", "0.7",
    "--model.lr_scheduler_interval", "step",
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


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, fork_server: Any) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = fork_server.Process(target=_fit, args=(str(folder),))
    process.start()
    process.join(120)
    return outcome(folder / "lightning_logs/version_0")


def _fit(folder: str) -> None:
    from conftest import _child

    _child(["fit", *TINY, *SCHEDULED], folder, f"{folder}/.out", {})


def interrupt_and_finish(
    command: Command, folder: Path, kills: list[tuple[str, str, int]]
) -> dict[str, Any]:
    """Fit with a signal at each of the given points, one process after the other, to the end."""
    resume: tuple[str, ...] = (*TINY, *SCHEDULED)
    for hook, signal_name, call in kills:
        at = [
            "--trainer.callbacks", "stand_ins.SignalAt",
            "--trainer.callbacks.hook", hook,
            "--trainer.callbacks.signal_name", signal_name,
            "--trainer.callbacks.call", str(call),
        ]  # fmt: skip
        ended = command("fit", *resume, *at, "--checkpoints.every_seconds", "0", folder=folder)
        expected = {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}[signal_name]
        assert ended.status in (expected, 0), ended
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


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.parametrize(("hook", "call"), BOUNDARIES)
def test_every_boundary(
    hook: str, call: int, signal_name: str, command: Command, tmp_path: Path,
    uninterrupted: dict[str, Any],
) -> None:  # fmt: skip
    kills = [(hook, signal_name, call)]
    assert_equal(interrupt_and_finish(command, tmp_path, kills), uninterrupted)
