"""``predict`` on pictures of any kind."""

import json
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
    names = ["below/one.png", "exact.png", "grey.png", "large.png", "rgba.png"]
    assert [row["image"] for row in table] == [f"pictures/{name}" for name in names]
    classes = Shapes(50).class_names
    (run / "checkpoints/epoch=0.ckpt").write_bytes(moved.read_bytes())
    exact = torch.from_numpy(np.array(made["exact.png"]))[None]
    one = torch.tensor([200, 10, 10], dtype=torch.uint8).expand(1, 32, 32, 3)
    for row, images in ((table[1], exact), (table[0], one)):
        expected = probabilities_of(run, images)[0]
        values = torch.tensor([float(row[name]) for name in classes])
        assert torch.allclose(values, expected, atol=1e-6)
        assert row["prediction"] == classes[int(expected.argmax())]
    lines = ended.stdout.splitlines()
    assert len(lines) == 5
    assert "pictures that are named again count once (1)" in ended.stderr
    assert all(len(line.split("%")) == 4 for line in lines)
    assert Image.open(tmp_path / "predictions.png").height > 100


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "--data.images nowhere: there is no such file"),
        ("empty", "--data.images empty: the folder holds no pictures"),
        ("text.png", "as an image"),
        ("https://example.org/cat.png", "--data.images https://example.org/cat.png: this is an"),
    ],
)
def test_pictures_that_are_none(
    name: str, sentence: str, command: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    ended = command("predict", "--data.images", name)
    assert ended.status == (2 if "://" in name else 1)
    said = one_sentence(ended)
    assert name in said
    assert sentence in said
    assert not (run / "predictions.csv").exists()


def test_a_file_of_one_s_own(command: Command, run: Path, tmp_path: Path) -> None:
    pictures(tmp_path)
    for of, flags in (("pictures", ("--data.images", "pictures")), ("validation images", ())):
        assert command("predict", *flags, "--to", f"{of}.csv").status == 0
        ended = command("predict", *flags, "--to", f"{of}.json")
        assert ended.status == 0, ended.stderr
        assert f"for {'5 ' * bool(flags)}{'the ' * (not flags)}{of}: {of}.json" in ended.stderr
        table, objects = (
            rows(tmp_path / f"{of}.csv"),
            json.loads((tmp_path / f"{of}.json").read_text()),
        )
        assert len(table) == len(objects) == (5 if flags else 50)
        for row, found in zip(table, objects, strict=True):
            probabilities = found.pop("probabilities")
            assert row == {
                **{name: str(value) for name, value in found.items()},
                **{name: f"{p:.6f}" for name, p in probabilities.items()},
            }
            assert max(probabilities, key=probabilities.get) == found["prediction"]
    assert not list(run.glob("predictions.*"))
    before = (tmp_path / "pictures.csv").read_bytes()
    for name, part in (
        ("pictures.csv", "there is a file of that name"),
        ("x.xml", "its name must end in .csv, .json"),
        ("nowhere/x.csv", "there is no folder"),
    ):
        ended = command("predict", "--to", name)
        assert ended.status == 2
        assert f"--to {name}: {part}" in one_sentence(ended)
    assert (tmp_path / "pictures.csv").read_bytes() == before
