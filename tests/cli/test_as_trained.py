"""What ``validate``, ``test`` and ``predict`` may do otherwise than the run of their checkpoint."""

import re
from pathlib import Path

import pytest
import torch
from helpers import TINY, files, logged, one_sentence
from program import Command

NORMALISED = ("--data.mean", "[0.4,0.5,0.5]")

REFUSED = [
    ("validate", ("--seed_everything", "1")),
    ("validate", ("--data.val_size", "100")),
    ("validate", ("--data.val_size", "0")),
    ("validate", ("--data.std", "[0.25,0.25,0.25]")),
    ("validate", ("--model.loss", "stand_ins.MeanSquares")),
    ("validate", ("--model.net", "stand_ins.Required")),
    ("test", ("--seed_everything", "1")),
    ("test", NORMALISED),
    ("test", ("--model.label_smoothing", "0.1")),
    ("test", ("--model.optimizer.lr", "0.5")),
    ("test", ("--checkpoints.monitor", "val/loss")),
    ("predict", ("--data.val_size", "100")),
    ("predict", NORMALISED),
]


@pytest.mark.parametrize(("name", "flag"), REFUSED, ids=lambda value: str(value))
def test_a_checkpoint_is_measured_as_it_was_trained(
    name: str, flag: tuple[str, str], command: Command, run: Path
) -> None:
    before = files(run)
    ended = command(name, *flag)
    assert ended.status == 2, ended
    sentence = one_sentence(ended)
    assert sentence.startswith(f"{flag[0]} ")
    assert "is not what lightning_logs/version_0/checkpoints/epoch=" in sentence
    assert f"and {name} takes a checkpoint as it was trained" in sentence
    assert files(run) == before


def test_from_a_file_and_of_pictures(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("data: {batch_size: 16, val_size: 100}\n")
    ended = command("validate", "--config", "other.yaml")
    assert ended.status == 2
    said, sentence = ended.stderr.splitlines()
    assert said == "--data.batch_size: 16, was 32"
    assert "--data.val_size 100 from other.yaml is not what" in sentence
    ended = command("predict", "--data.images", "other.yaml", "--data.source.size", "250")
    assert "--data.source.size 250 is not what" in one_sentence(ended)


def test_what_may_differ_is_said(command: Command, run: Path) -> None:
    free = {"data.batch_size": "16", "trainer.precision": "64-true", "data.source.size": "300"}
    flags = [word for name, value in free.items() for word in (f"--{name}", value)]
    metric = ("--model.metrics", "stand_ins.Confidence")
    ended = command("validate", "--ckpt_path", "last", *flags, *metric)
    assert ended.status == 0, ended.stderr
    path = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert [line for line in ended.stderr.splitlines() if "Warning" not in line] == [
        "--data.batch_size: 16, was 32",
        "--model.metrics: stand_ins.Confidence, was None",
        "--trainer.precision: 64-true, was 32-true",
        f"Validating {path} on held-out training images",
    ]
    shown = re.search(r"val/acc\s+│\s+([\d.]+)", ended.stdout)
    assert shown is not None, ended.stdout
    assert float(shown[1]) == pytest.approx(logged(run, "val/acc")[-1], abs=1e-6)
    ended = command("validate", "--trainer.limit_val_batches", "1")
    assert "This was a trial" in ended.stderr


def test_a_checkpoint_of_a_script(command: Command, run: Path, tmp_path: Path) -> None:
    """It holds no configuration: nothing is refused, and nothing is taken for the run's own."""
    (best,) = run.glob("checkpoints/epoch=*")
    content = torch.load(best, weights_only=True)
    del content["cifar_lightning"]
    torch.save(content, best)
    how = [*TINY[:8], "--trainer.accelerator", "cpu"]
    ended = command("validate", *how)
    assert ended.status == 0, ended.stderr
    assert "whether these were held out is not known" in ended.stderr
    ended = command("test", *how)
    assert ended.status == 0, ended.stderr
    assert "is not known to be the run's own test split" in ended.stdout
    assert not (run / "test_report.json").exists()
    assert not (run / "test_split.json").exists()


def test_an_option_of_a_later_version(command: Command, run: Path) -> None:
    """Options that the checkpoint's version did not have are at their defaults, or asked for."""
    (best,) = run.glob("checkpoints/epoch=*")
    content = torch.load(best, weights_only=True)
    for name in ("cutout", "mean"):
        del content["cifar_lightning"]["config"]["data"][name]
    torch.save(content, best)
    assert command("validate").status == 0
    assert "--data.mean [0.4, 0.5, 0.5] is not what" in one_sentence(
        command("validate", *NORMALISED)
    )
