"""The same bits on an NVIDIA GPU, pretended: asked for by default, and what stands against it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import RUN, TINY, one_sentence
from program import TESTS, Command, Finished

CUDA = (*TINY, "--trainer.accelerator", "cuda", "--trainer.max_epochs", "1")
WATCH = ("--trainer.callbacks", "stand_ins.OnCUDA")


@pytest.fixture
def gpu(command: Command, tmp_path: Path) -> Any:
    """Fit on a pretended GPU."""

    def run(*argv: str, **environ: str) -> Finished:
        about = {"PRETENDED": "cuda", "REPORT": str(tmp_path / "operations.json"), **environ}
        return command("fit", *CUDA, *argv, script=str(TESTS / "pretended_program.py"), **about)

    return run


def test_deterministic_unless_asked_otherwise(gpu: Any, tmp_path: Path) -> None:
    ended = gpu(*WATCH, "--model.compile", "reduce-overhead")
    assert ended.status == 0, ended
    assert ended.stderr.count("upsample_cuda has no deterministic implementation") == 1
    assert "Warning" not in ended.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    # a CUDA graph that validation records in inference mode cannot be used by training
    # (https://github.com/pytorch/pytorch/issues/135892): Lightning uses none within fit
    assert seen == {
        "deterministic": True, "fills": False, "cublas": ":4096:8", "inference_mode": False,
    }  # fmt: skip
    numerics = json.loads((tmp_path / RUN / "card.json").read_text())["numerics"]
    assert {"cuda", "cudnn"} < numerics.keys()
    assert numerics["deterministic"]
    assert numerics["tf32_convolutions"]
    assert not numerics["tf32_matrix_products"]

    ended = gpu(*WATCH, "--trainer.deterministic", "false", "--trainer.benchmark", "true")
    assert ended.status == 0, ended
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert not seen["deterministic"]
    run = tmp_path / RUN.with_name("version_1")
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["deterministic"] is False
    assert not json.loads((run / "card.json").read_text())["numerics"]["deterministic"]


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "benchmark": (("--trainer.benchmark", "true"), {}, "chooses algorithms by timing"),
    "max-autotune": (("--model.compile", "max-autotune"), {}, "chooses algorithms by timing"),
    "gradients": (
        ("--model.compile", "reduce-overhead", "--trainer.accumulate_grad_batches", "2"), {},
        "CUDA graphs, which cannot add up gradients",
    ),
    "no compiler": (("--model.compile", "default"), {"PATH": "", "CC": "cc"}, "gcc"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, gpu: Any, tmp_path: Path) -> None:
    flags, environ, part = REFUSED[name]
    ended = gpu(*flags, **environ)
    assert ended.status == 2
    assert part in one_sentence(ended)
    assert not (tmp_path / "lightning_logs").exists()
