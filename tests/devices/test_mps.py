"""Apple's GPUs, pretended: no number of 64 bits, no operation that they lack, the same results."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgen
from helpers import RUN, TINY, assert_alike, events, one_sentence, rows
from pretended import PretendedGPU
from program import TESTS, Command

from cifar_lightning.data.generators import generators_put_back

PROGRAM = str(TESTS / "pretended_program.py")
ON_MAC = ("--trainer.accelerator", "mps")
EVERYTHING = (
    *TINY, "--checkpoints.every_seconds", "0.1", "--trainer.max_epochs", "1",
    "--model.net", "stand_ins.Convolution", "--model.label_smoothing", "0.1",
    "--data.flip", "true", "--data.translate", "3", "--data.cutout", "8",
    "--dashboard.pictures_every_n_epochs", "1", "--dashboard.histograms", "true",
    "--model.metrics", "torchmetrics.classification.MulticlassF1Score",
    "--trainer.callbacks", "AveragedWeights", "--trainer.gradient_clip_val", "1",
)  # fmt: skip


@pytest.fixture
def mac(command: Command, tmp_path: Path) -> Any:
    """Run a command on a pretended Mac; gives the operations that ran on its GPU."""

    def run(*argv: str, **how: Any) -> list[str]:
        report = tmp_path / "operations.json"
        about = {"PRETENDED": "mps", "REPORT": str(report)}
        ended = command(*argv, script=PROGRAM, **about, **how)
        assert ended.status == 0, ended.stderr[:3000]
        operations: list[str] = json.loads(report.read_text())
        return operations

    return run


def test_a_run(mac: Any, tmp_path: Path) -> None:
    short = (
        "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3",
        "--checkpoints.every_seconds", "0.001", "--dashboard.pictures_every_n_epochs", "1",
    )  # fmt: skip
    used = set(mac("fit", *TINY, *short, *ON_MAC))
    run = tmp_path / RUN
    assert (run / "checkpoints/last.ckpt").exists()
    (row,) = [row for row in rows(run / "metrics.csv") if row.get("val/loss")]
    assert float(row["val/loss"]) > 0
    assert {"pictures/confusion matrix", "pictures/calibration"} <= {*events(run).Tags()["images"]}
    assert "aten::_log_softmax" in used
    assert without_metal(used) == set()


def test_the_generator_is_put_back_after_a_trial() -> None:
    with PretendedGPU("mps") as gpu:
        gpu.generator.manual_seed(3)
        before = gpu.generator.get_state().tolist()
        with generators_put_back(torch.device("mps")):
            gpu.generator.manual_seed(5)
        assert gpu.generator.get_state().tolist() == before


@pytest.mark.slow
def test_a_run_and_what_follows(mac: Any, command: Command, tmp_path: Path) -> None:
    cpu = tmp_path / "cpu"
    cpu.mkdir()
    assert command("fit", *EVERYTHING, folder=cpu).status == 0
    used = set(mac("fit", *EVERYTHING, *ON_MAC))
    assert_alike(tmp_path / RUN, cpu / RUN)
    assert json.loads((tmp_path / RUN / "card.json").read_text())["device"].startswith("mps")
    shown = events(tmp_path / RUN)
    assert {"pictures/confusion matrix", "pictures/calibration"} <= {*shown.Tags()["images"]}
    assert "gradients/net.layers.0.weight" in shown.Tags()["histograms"]
    used |= set(mac("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"))
    assert len(rows(tmp_path / RUN / "metrics.csv")) > len(rows(cpu / RUN / "metrics.csv"))
    used |= set(mac("test", *ON_MAC))
    assert (tmp_path / RUN / "test_report.json").exists()
    assert {"aten::convolution", "aten::index_select", "aten::_foreach_lerp_.Scalar"} <= used
    assert without_metal(used) == set()


def test_what_is_refused_there(command: Command, tmp_path: Path) -> None:
    about = {"PRETENDED": "mps", "REPORT": str(tmp_path / "operations.json")}
    flags = (*TINY, *ON_MAC, "--trainer.precision", "64-true")
    ended = command("fit", *flags, script=PROGRAM, **about)
    assert "Apple's GPUs have no float64" in one_sentence(ended)


def test_the_pretence_finds_what_a_mac_refuses() -> None:
    with PretendedGPU("mps") as gpu:
        ones = torch.ones(3, device="mps")
        doubles: list[Callable[[], Any]] = [
            lambda: ones.double(),
            lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
            lambda: torch.ones(2, dtype=torch.float64).to("mps:0"),
            lambda: ones.new_tensor(1.0, dtype=torch.float64),
            lambda: ones.sum(dtype=torch.float64),
        ]
        for wide in doubles:
            with pytest.raises(TypeError, match=r"MPS has no torch\.float64"):
                wide()
        assert ones.cpu().double().dtype is torch.float64
        with pytest.raises(RuntimeError, match="same device"):
            ones + torch.ones(3)
        torch.linalg.eig(torch.eye(2, device="mps"))
    assert without_metal({str(op._schema).split("(")[0] for op in gpu.operations})


def without_metal(operations: set[str]) -> set[str]:
    """Those that have no kernel for Apple's GPUs, by the list that torch is generated from."""
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    known = {}
    for block in re.split(r"(?m)^- func: ", path.read_text())[1:]:
        known[re.split(r"[(]", block)[0]] = block

    def runs(name: str) -> bool:
        block = known.get(name, "")
        if of := re.search(r"structured_delegate: (\S+)", block):
            return runs(of[1])
        dispatch = re.search(r"(?m)^  dispatch:\n((?:    .*\n)+)", block)
        return bool(block) and (
            dispatch is None or re.search(r"\bMPS\b|Composite", dispatch[1]) is not None
        )

    return {op for op in operations if not runs(op.removeprefix("aten::"))}
