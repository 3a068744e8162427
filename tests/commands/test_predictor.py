"""Prediction from Python."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import probabilities_of, rows
from PIL import Image
from program import Command

from cifar_lightning import Predictor
from cifar_lightning.data import Shapes
from cifar_lightning.errors import UserError

NAMES = Shapes(50).class_names


def test_says_what_the_command_says(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    numbers = np.random.default_rng(0)
    for name, shape in (("wide.png", (40, 90, 3)), ("grey.png", (50, 33)), ("rgba.png", (9, 9, 4))):
        values = numbers.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "pictures" / name)
    ended = command("predict", "--data.images", "pictures")
    assert ended.status == 0, ended.stderr
    table = rows(run / "predictions.csv")
    paths = [tmp_path / row["image"] for row in table]
    predictor = Predictor(logs=run.parent)
    assert predictor.ckpt_path == next((run / "checkpoints").glob("epoch=*"))
    for pictures in (
        paths,
        map(str, paths),
        [Image.open(path) for path in paths],
        (np.asarray(Image.open(path)) for path in paths),
    ):
        answers = predictor(pictures)
        assert [answer.label for answer in answers] == [row["prediction"] for row in table]
        for answer, row in zip(answers, table, strict=True):
            assert list(answer.probabilities) == list(NAMES)
            assert answer.probability == answer.probabilities[answer.label]
            for name, probability in answer.probabilities.items():
                assert probability == pytest.approx(float(row[name]), abs=2e-6)


def test_any_number_of_pictures(run: Path) -> None:
    images = Shapes(1500).load("test").images  # more than are looked at together
    answers = Predictor(next(run.glob("checkpoints/last.ckpt")))(images.numpy())
    assert len(answers) == 300
    best = Predictor(next(run.glob("checkpoints/epoch=*")))
    probabilities = torch.tensor([list(a.probabilities.values()) for a in best(images.numpy())])
    assert torch.allclose(probabilities, probabilities_of(run, images), atol=1e-5)
    assert best([]) == []


def test_what_is_no_picture(run: Path, tmp_path: Path) -> None:
    predictor = Predictor(logs=run.parent)
    with pytest.raises(TypeError, match=r"give a list"):
        predictor("picture.png")
    with pytest.raises(TypeError, match=r"float32, \(32, 32, 3\).* uint8"):
        predictor([np.zeros((32, 32, 3), dtype=np.float32)])
    with pytest.raises(TypeError, match=r"\(3, 32, 32\)"):
        predictor([np.zeros((3, 32, 32), dtype=np.uint8)])
    with pytest.raises(TypeError, match="NoneType"):
        predictor([None])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"nowhere.png cannot be read"):
        predictor([tmp_path / "nowhere.png"])
    with pytest.raises(UserError, match="no run under"):
        Predictor(logs=tmp_path / "elsewhere")
