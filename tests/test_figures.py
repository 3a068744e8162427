"""Pictures: what is drawn in them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from helpers import evaluated
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifar_lightning import figures
from cifar_lightning.figures import captioned, confusion_matrix, curves, legible, pixels


def test_confusion_matrix_in_the_picture() -> None:
    evaluation = evaluated(torch.eye(3)[[0, 1, 0, 2]], torch.tensor([0, 1, 1, 1]))
    figure = confusion_matrix(evaluation, ["a", "b", "c"], "title")
    axes = figure.axes[0]
    drawn = axes.images[0].get_array()
    assert drawn is not None
    shares = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]])
    assert np.asarray(drawn) == pytest.approx(np.sqrt(shares))
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ["1", "0", "0", "1", "1", "1", "0", "0", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_confusion_matrix_of_many_classes() -> None:
    truth = torch.arange(200).repeat(2)
    taken_for = truth.clone()
    taken_for[:35] = 7  # of the 34 others that are, all but the last six have names
    names = [f"class {number}" for number in range(200)]
    evaluation = evaluated(torch.eye(200)[taken_for] * 0.9 + 0.0001, truth)
    figure = confusion_matrix(evaluation, names, "title")
    axes = figure.axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == [*names[:29], "others"]
    drawn = np.asarray(axes.images[0].get_array()) ** 2
    assert drawn.shape == (30, 30)
    assert drawn[3, [3, 7]].tolist() == pytest.approx([0.5, 0.5])
    assert drawn[29, [7, 29]].tolist() == pytest.approx([6 / 342, 336 / 342])
    assert "171 others together" in axes.get_title()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fonts that there are beside matplotlib's: none, until one is put into the list."""
    fonts: list[str] = []
    monkeypatch.setattr(figures, "_installed", lambda: fonts)
    for cached in (figures._families, figures._say_numbers, figures._has):
        cached.cache_clear()
    yield fonts
    figures._families.cache_clear()


def write_font(path: Path, characters: str) -> None:
    """A font in which every character is a black square."""
    pen = TTGlyphPen(None)
    corners = [(0, 0), (0, 1000), (1000, 1000), (1000, 0)]
    pen.moveTo(corners[0])
    for corner in corners[1:]:
        pen.lineTo(corner)
    pen.closePath()
    names = [f"u{ord(character):X}" for character in characters]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *names])
    font.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names, pen.glyph())})
    font.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (1000, 0)))
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_has(installed: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert legible(["cat", "café", "Ωμέγα"]) == ["cat", "café", "Ωμέγα"]
        assert caplog.messages == []
        for _ in range(2):
            assert legible(["cat", "猫"]) == ["#0", "#1"]
    (said,) = caplog.messages
    assert said.startswith("Pictures show numbers in the place of names, #1 for 猫: install a font")
    image = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    pixels(captioned(image, ["猫"], "犬"))  # nothing is drawn as a box, which matplotlib warns of


@pytest.mark.filterwarnings("error")
def test_names_that_an_installed_font_has(
    installed: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, characters in (("Cats", "猫"), ("Dogs", "犬")):
        write_font(tmp_path / f"{name}.ttf", characters)
        installed.append(str(tmp_path / f"{name}.ttf"))
    (tmp_path / "broken.ttf").write_text("no font")
    installed.append(str(tmp_path / "broken.ttf"))
    assert legible(["cat", "猫", "犬"]) == ["cat", "猫", "犬"]
    assert caplog.messages == []
    image = np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    written, empty = (pixels(captioned(image, [text], "title")) for text in ("猫犬", ""))
    assert (written != empty).sum() > 3 * 2 * 60  # two squares of some eight pixels a side


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$5", "$a_b$", r"$\\frac$"])
def test_names_that_are_no_formulas(name: str) -> None:
    evaluation = evaluated(torch.eye(2), torch.tensor([0, 1]))
    figure = confusion_matrix(evaluation, [name, "b"], name)
    pixels(figure)
    named = [text for text in figure.findobj(Text) if name in text.get_text()]
    assert named
    assert not any(text.get_parse_math() for text in named)


def test_curves_of_very_different_lengths() -> None:
    def points(seconds: float) -> list[tuple[float, float, float]]:
        return [(epoch, epoch * seconds, 50.0 + epoch) for epoch in (1, 2, 3)]

    def drawn(*runs: tuple[str, float]) -> Figure:
        return curves([(label, [points(seconds)]) for label, seconds in runs], (25.0, 40.0))

    alike, unlike = drawn(("one", 10), ("two", 30)), drawn(("one", 10), ("two", 50))
    assert [axes.get_xscale() for axes in alike.axes] == ["linear", "linear"]
    assert [axes.get_xscale() for axes in unlike.axes] == ["linear", "log"]
    assert (
        drawn(("a long recipe, " * 40, 10)).get_figheight() > drawn(("short", 10)).get_figheight()
    )
    assert drawn().axes[1].get_xscale() == "linear"
