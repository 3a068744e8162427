"""Each of ``configs/`` trains."""

import math
from pathlib import Path

import pytest
import yaml
from helpers import RUN, logged
from program import PROJECT, Command

CONFIGS = PROJECT / "configs"


LARGE = {"resnet18.yaml", "vgg19.yaml"}


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(path.name, marks=pytest.mark.slow) if path.name in LARGE else path.name
        for path in sorted(CONFIGS.glob("*.yaml"))
    ],
)
def test_each_config_trains_on_the_built_in_data(
    config: str, command: Command, tmp_path: Path
) -> None:
    content = yaml.safe_load((CONFIGS / config).read_text())
    val_size = content["data"].get("val_size", 50) and 50 if "data" in content else 50
    ended = command(
        "fit", "--config", str(CONFIGS / config), "--data.source", "Shapes",
        "--data.source.size", "150", "--data.val_size", str(val_size), "--data.batch_size", "4",
        "--trainer.max_epochs", "1", "--trainer.max_steps", "20", "--trainer.accelerator", "cpu",
        "--trainer.log_every_n_steps", "1", "--dashboard.pictures_every_n_epochs", "0",
        "--trainer.precision", "32-true",
    )  # fmt: skip
    assert ended.status == 0, ended.stderr
    losses = logged(tmp_path / RUN, "train/loss")
    assert len(losses) == 20
    assert all(math.isfinite(loss) for loss in losses)
