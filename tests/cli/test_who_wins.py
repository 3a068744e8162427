"""The command line wins over the checkpoint, the checkpoint over the defaults."""

from pathlib import Path

import pytest
import yaml
from helpers import TINY, one_sentence
from program import Command

CLIP = "--trainer.gradient_clip_val"


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    """A run of one epoch with clipped gradients."""
    ended = command("fit", *TINY, "--trainer.max_epochs", "1", CLIP, "5")
    assert ended.status == 0, ended.stderr
    return tmp_path / "lightning_logs/version_0"


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return name


def resumed_with(run: Path) -> dict[str, object]:
    content = yaml.safe_load((run / "config-resume-1.yaml").read_text())
    trainer: dict[str, object] = content["trainer"]
    return trainer


def test_a_checkpoint_wins_over_defaults(command: Command, run: Path) -> None:
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert ended.status == 0, ended.stderr
    assert resumed_with(run)["gradient_clip_val"] == 5
    assert "--trainer.max_epochs: 2, was 1\n" in ended.stderr
    assert CLIP not in ended.stderr


def test_a_config_wins_over_the_checkpoint(command: Command, run: Path, tmp_path: Path) -> None:
    config = write(tmp_path, "more.yaml", "trainer: {max_epochs: 2, gradient_clip_val: 3}")
    ended = command("fit", "--ckpt_path", "last", "--config", config)
    assert ended.status == 0, ended.stderr
    assert resumed_with(run)["gradient_clip_val"] == 3
    assert f"{CLIP}: 3 from more.yaml, was 5\n" in ended.stderr
    assert "--trainer.max_epochs: 2 from more.yaml, was 1\n" in ended.stderr


@pytest.mark.parametrize("config_first", [True, False])
def test_flags_and_configs_count_in_their_order(
    config_first: bool, command: Command, run: Path, tmp_path: Path
) -> None:
    config = ("--config", write(tmp_path, "more.yaml", "trainer: {gradient_clip_val: 3}"))
    flag = (CLIP, "2")
    words = (*config, *flag) if config_first else (*flag, *config)
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", *words)
    assert ended.status == 0, ended.stderr
    assert resumed_with(run)["gradient_clip_val"] == (2 if config_first else 3)
    assert (f"{CLIP}: 2, was" if config_first else f"{CLIP}: 3 from more.yaml") in ended.stderr


@pytest.mark.parametrize("checkpoint_first", [True, False])
def test_the_run_s_own_config_asks_for_nothing_new(
    checkpoint_first: bool, command: Command, run: Path
) -> None:
    """It holds ``ckpt_path: null``, which does not take back the flag."""
    words = [("--ckpt_path", "last"), ("--config", str(run / "config.yaml"))]
    first, second = words if checkpoint_first else words[::-1]
    ended = command("fit", *first, *second)
    assert ended.status == 0, ended.stderr
    assert "this run is finished" in ended.stderr
    assert ", was" not in ended.stderr


def test_what_was_trained_with_is_refused_from_a_config(
    command: Command, run: Path, tmp_path: Path
) -> None:
    config = write(tmp_path, "other.yaml", "model: {label_smoothing: 0.1}")
    ended = command("fit", "--ckpt_path", "last", "--config", config)
    sentence = one_sentence(ended)
    assert ended.status == 2
    assert sentence.startswith("--model.label_smoothing 0.1 from other.yaml would change")


def test_ckpt_path_may_stand_in_a_config(command: Command, run: Path, tmp_path: Path) -> None:
    config = write(tmp_path, "on.yaml", "ckpt_path: last\ntrainer: {max_epochs: 2}")
    ended = command("fit", "--config", config)
    assert ended.status == 0, ended.stderr
    assert f"Going on from lightning_logs/{run.name}/checkpoints/last.ckpt" in ended.stderr
