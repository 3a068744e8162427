"""``predict`` on pictures of any kind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import one_sentence, probabilities_of, rows
from PIL import Image
from program import Command

from cifar_lightning.data import Shapes


def pictures(folder: Path) -> dict[str, Image.Image]:
    numbers = np.random.default_rng(0)
    made = {
        "grey.png": Image.fromarray(numbers.integers(0, 256, (40, 60), dtype=np.uint8)),
        "rgba.png": Image.fromarray(numbers.integers(0, 256, (32, 32, 4), dtype=np.uint8)),
        "one.png": Image.new("RGB", (1, 1), (200, 10, 10)),
        "large.png": Image.fromarray(
            np.kron(
                numbers.integers(0, 256, (3, 4, 3), dtype=np.uint8),
                np.ones((1000, 1000, 1), dtype=np.uint8),
            )
        ),
        "exact.png": Image.fromarray(Shapes(50).load("train").images[0].numpy()),
    }
    (folder / "pictures/below").mkdir(parents=True)
    for name, picture in made.items():
        picture.save(folder / "pictures" / ("below" if name == "one.png" else "") / name)
    (folder / "pictures/.hidden").write_text("no picture")
    (folder / "pictures/Thumbs.db").write_text("no picture")
    return made


def test_predict_needs_the_checkpoint_alone(command: Command, run: Path, tmp_path: Path) -> None:
    made = pictures(tmp_path)
    moved = tmp_path / "elsewhere.ckpt"
    next((run / "checkpoints").glob("epoch=*")).rename(moved)
    # a source whose images would not be found, and flags that are not repeated
    content = torch.load(moved, weights_only=True)
    source = {"class_path": "ImageFolder", "init_args": {"root": "/nowhere", "resize": None}}
    content["cifar_lightning"]["config"]["data"]["source"] = source
    torch.save(content, moved)
    ended = command(
        "predict", "--ckpt_path", str(moved), "--data.images", "pictures", "pictures/exact.png"
    )
    assert ended.status == 0, ended.stderr
    table = rows(tmp_path / "predictions.csv")
    names = ["below/one.png", "exact.png", "grey.png", "large.png", "rgba.png", "exact.png"]
    assert [row["image"] for row in table] == [f"pictures/{name}" for name in names]
    classes = Shapes(50).class_names
    (run / "checkpoints/epoch=0.ckpt").write_bytes(moved.read_bytes())
    exact = torch.from_numpy(np.array(made["exact.png"]))[None]
    one = torch.tensor([200, 10, 10], dtype=torch.uint8).expand(1, 32, 32, 3)
    for row, images in ((table[1], exact), (table[5], exact), (table[0], one)):
        expected = probabilities_of(run, images)[0]
        values = torch.tensor([float(row[name]) for name in classes])
        assert torch.allclose(values, expected, atol=1e-6)
        assert row["prediction"] == classes[int(expected.argmax())]
    lines = ended.stdout.splitlines()
    assert len(lines) == 6
    assert all(len(line.split("%")) == 4 for line in lines)
    assert Image.open(tmp_path / "predictions.png").height > 100


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("nowhere", "there is no such file"), ("empty", "no pictures"), ("text.png", "as an image")],
)
def test_pictures_that_are_none(
    name: str, sentence: str, command: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    ended = command("predict", "--data.images", name)
    assert ended.status == 1
    said = one_sentence(ended)
    assert name in said
    assert sentence in said
    assert not (run / "predictions.csv").exists()
