"""How each callback of Lightning and torch is treated: exact on resume, or refused."""

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import (
    EVERY_STEP,
    SAVE_OFTEN,
    TINY,
    assert_equal,
    one_sentence,
    only_run,
    outcome,
    signal_at,
)
from program import Command

from cifar_lightning.cli.callbacks import REFUSED

# --- which there are ---

EXACT = {"EarlyStopping", "GradientAccumulationScheduler", "Timer", "BaseFinetuning"}
"""Their state travels in the checkpoints; it is the clock's with Timer."""
STATELESS = {
    "LambdaCallback", "LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor",
    "ModelSummary", "RichModelSummary", "BasePredictionWriter",
    "ProgressBar", "TQDMProgressBar", "RichProgressBar",
}  # fmt: skip
"""They show and log, and nothing that they keep comes into a run."""
DERIVED = {
    "ModelCheckpoint": "Checkpoint", "OnExceptionCheckpoint": "Checkpoint",
    "EMAWeightAveraging": "WeightAveraging",
}  # fmt: skip
"""Refused for what they are derived from."""


def callbacks_of(package: str) -> set[str]:
    """The public classes of a package that are derived from Callback, by their source."""
    bases: dict[str, list[str]] = {}
    for path in Path(str(find_spec(package).origin)).parent.rglob("*.py"):  # type: ignore[union-attr]
        text = path.read_text(errors="ignore")
        if "pytorch_lightning" in text and "allback" in text:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef):
                    bases.setdefault(node.name, []).extend(
                        ast.unparse(b).rpartition(".")[2] for b in node.bases
                    )
    found = {"Callback"}
    while more := {n for n, of in bases.items() if found & set(of)} - found:
        found |= more
    return {name for name in found - {"Callback"} if not name.startswith("_")}


def test_every_callback_is_treated() -> None:
    there = callbacks_of("pytorch_lightning") | callbacks_of("torch")
    assert len(there) == 29
    assert there == EXACT | STATELESS | REFUSED.keys() | DERIVED.keys()
    assert set(DERIVED.values()) <= REFUSED.keys()


# --- those that are exact ---


def of(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": arguments}


STOPS = of("EarlyStopping", monitor="val/loss", patience=1, min_delta=10.0, verbose=True)
CHOSEN: dict[str, list[dict[str, Any]]] = {
    "EarlyStopping": [STOPS],
    "GradientAccumulationScheduler": [
        of("GradientAccumulationScheduler", scheduling={0: 1, 1: 2, 2: 3})
    ],
    "BaseFinetuning": [of("stand_ins.Thaw")],
    "the others": [
        of("LambdaCallback", on_train_epoch_start="stand_ins.say"),
        of("LearningRateMonitor", log_momentum=True),
        of("ThroughputMonitor", batch_size_fn="stand_ins.images_in"),
        of("ModelSummary"),
        of("Timer"),
        of("stand_ins.CopiesTheModule"),
    ],
}
CLOCKS = (
    "train/time",
    "train/batches",
    "train/samples",
    "train/device",
    "validate/",
)  # names of ThroughputMonitor


def ended(run: Path) -> dict[str, Any]:
    """The outcome of a run without what a clock has measured."""
    end = outcome(run)
    end["rows"] = [{k: v for k, v in r.items() if not k.startswith(CLOCKS)} for r in end["rows"]]
    end["scalars"] = {k: v for k, v in end["scalars"].items() if not k.startswith(CLOCKS)}
    end["callbacks"].pop("Timer", None)
    return end


@pytest.mark.parametrize("which", CHOSEN)
def test_exact_on_resume(which: str, command: Command, tmp_path: Path) -> None:
    flags: tuple[str, ...] = (*TINY, "--model.net", "stand_ins.Dropping", *EVERY_STEP)
    chosen = ("--config", str(tmp_path / "callbacks.yaml"))
    (tmp_path / "callbacks.yaml").write_text(
        yaml.safe_dump({"trainer": {"callbacks": CHOSEN[which]}})
    )
    ends = []
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        folder.mkdir()
        if folder.name == "parts":
            append, *at = signal_at("on_before_optimizer_step", "SIGKILL", 10)
            killed = command("fit", *flags, *chosen, f"{append}+", *at, *SAVE_OFTEN, folder=folder)
            assert killed.status == -9, killed
            flags = ("--ckpt_path", "last")
        finished = command("fit", *flags, *chosen, folder=folder)
        assert finished.status == 0, finished
        ends.append(ended(only_run(folder)))
    assert_equal(ends[1], ends[0])
    expected = {"EarlyStopping": 2 * 8, "GradientAccumulationScheduler": 8 + 4 + 3}
    assert ends[0]["global_step"] == expected.get(which, 3 * 8)


def test_what_callbacks_say_is_heard(command: Command, tmp_path: Path) -> None:
    (tmp_path / "callbacks.yaml").write_text(
        yaml.safe_dump({"trainer": {"callbacks": [STOPS, of("ModelSummary")]}})
    )
    first = command("fit", *TINY, "--config", "callbacks.yaml", "--trainer.max_epochs", "6")
    assert first.status == 0, first
    assert "Total params" in first.stderr
    assert "val/loss did not improve" in first.stderr
    # the patience of the command line wins over the checkpoint's: two more validations
    stopping = ("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss")
    more = ("--trainer.callbacks.min_delta", "10", "--trainer.callbacks.patience", "3")
    again = command("fit", "--ckpt_path", "last", *stopping, *more)
    assert again.status == 0, again
    assert "trained        4 epochs" in again.stdout


# --- those that are refused ---

FLAG = "--trainer.callbacks"
EMA = "AveragedWeights"
REFUSALS: list[tuple[tuple[str, ...], str]] = [
    ((FLAG, "WeightAveraging"), "use AveragedWeights"),
    ((FLAG, "EMAWeightAveraging"), "EMAWeightAveraging (a WeightAveraging)"),
    ((FLAG, "stand_ins.MyAverage"), "MyAverage (a WeightAveraging)"),
    ((FLAG, "StochasticWeightAveraging", f"{FLAG}.swa_lrs", "0.1"), "use AveragedWeights"),
    ((FLAG, "ModelPruning", f"{FLAG}.pruning_fn", "l1_unstructured"), "torch.nn.utils.prune"),
    ((FLAG, "ModelCheckpoint"), "--checkpoints.every_seconds"),
    ((FLAG, "OnExceptionCheckpoint", f"{FLAG}.dirpath", "."), "--checkpoints.every_seconds"),
    ((FLAG, "BatchSizeFinder"), "--data.batch_size"),
    ((FLAG, "LearningRateFinder"), "--model.optimizer.lr"),
    ((FLAG, "BackboneFinetuning"), "BaseFinetuning"),
    ((FLAG, "BaseFinetuning"), "derive one of your own"),
    ((FLAG, "SpikeDetection"), "cannot load what it saves"),
    ((FLAG, "Timer", "--trainer.max_time", "00:01:00:00"), "--trainer.max_time"),
    ((FLAG, "RichProgressBar", FLAG, "TQDMProgressBar"), "one alone"),
    (
        (FLAG, "RichProgressBar", "--trainer.enable_progress_bar", "false"),
        "--trainer.enable_progress_bar false",
    ),
    ((FLAG, "cifar_lightning.callbacks.Speed"), "at work without being named"),
    ((FLAG, "cifar_lightning.callbacks.Checkpoints"), "--checkpoints.every_seconds"),
    ((FLAG, EMA, f"{FLAG}+", EMA), "one alone"),
    ((FLAG, "Timer", f"{FLAG}+", "Timer"), "cannot be told from another"),
    (
        (FLAG, "GradientAccumulationScheduler", f"{FLAG}.scheduling", "{0: 2}",
         "--trainer.accumulate_grad_batches", "2"),
        "--trainer.accumulate_grad_batches 2",
    ),
    (
        (FLAG, "GradientAccumulationScheduler", f"{FLAG}.scheduling", "{1: 2}",
         "--model.lr_scheduler", "CosineAnnealingLR", "--model.lr_scheduler.T_max", "-1",
         "--model.lr_scheduler_interval", "step"),
        "spans the whole run",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "part"), REFUSALS, ids=lambda value: " ".join(value)[:60])
def test_refused_before_there_is_a_run(
    flags: tuple[str, ...], part: str, command: Command, tmp_path: Path
) -> None:
    refused = command("fit", *TINY, *flags)
    assert refused.status == 2, refused
    sentence = one_sentence(refused)
    assert sentence.startswith(f"--trainer.callbacks {flags[1].rpartition('.')[2]}"), sentence
    assert part in sentence
    assert not (tmp_path / "lightning_logs").exists()


def test_a_trial_has_somewhere_to_log_to(command: Command) -> None:
    tried = command("fit", *TINY, FLAG, "LearningRateMonitor", "--trainer.fast_dev_run", "true")
    assert tried.status == 0, tried
