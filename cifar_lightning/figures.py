"""The pictures: drawn with matplotlib, legible in a TensorBoard card, safe for the colour-blind.

Importing this takes most of a second: those who draw import it when they do.
"""

import io
import logging
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

if TYPE_CHECKING:  # it imports torch, which `compare` does without
    from cifar_lightning.metrics import Evaluation

log = logging.getLogger(__name__)

# The colours of Okabe and Ito, less yellow, https://jfly.uni-koeln.de/color/
BLUE, ORANGE = "#0072B2", "#D55E00"
_COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_SIZE = 7  # points; TensorBoard's cards are 350 pixels wide
_LINE = 180  # characters of that size that are as wide as a figure of 10 inches
_FONT = "DejaVu Sans"  # comes with matplotlib
_CLASSES = 30  # more are too small to be told apart in a confusion matrix
_MANY_TIMES = 4  # as long: on a linear axis the shorter runs are a corner


def confusion_matrix(evaluation: "Evaluation", class_names: Sequence[str], title: str) -> Figure:
    """A K×K table: truth downwards, prediction across; colour is the share of the true class. Of
    many classes those that are mistaken most, the others together."""
    matrix, class_names = evaluation.confusion_matrix.numpy(), legible(class_names)
    if len(class_names) > _CLASSES:
        matrix, class_names, others = _most_mistaken(matrix, class_names)
        title += f"\nthe {_CLASSES - 1} classes mistaken most, {others} others together"
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = len(class_names)
    figure, axes = _figure(3.5, 3.5)
    # the square root lets the few mistakes be seen beside the many hits
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    if classes <= 12:
        for row in range(classes):
            for column in range(classes):
                dark = shares[row, column] > 0.4
                axes.text(
                    column, row, str(matrix[row, column]), ha="center", va="center",
                    fontsize=_SIZE - 1, color="white" if dark else "black",
                )  # fmt: skip
    size = _SIZE if classes <= 20 else _SIZE - 2
    names = [shortened(name, 20) for name in class_names]
    axes.set_xticks(range(classes), names, rotation=90, fontsize=size)
    axes.set_yticks(range(classes), names, fontsize=size)
    axes.set_xlabel("prediction", fontsize=_SIZE)
    axes.set_ylabel("truth", fontsize=_SIZE)
    axes.set_title(title, fontsize=_SIZE + 1)
    return figure


def _most_mistaken(
    matrix: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, list[str], int]:
    """A confusion matrix with all classes in one row and column but those that are mistaken most;
    the names of its classes, and how many are in one."""
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    shown = np.sort(np.argsort(-mistakes, kind="stable")[: _CLASSES - 1])
    place = np.full(len(matrix), len(shown))
    place[shown] = np.arange(len(shown))
    reduced = np.zeros((_CLASSES, _CLASSES), dtype=matrix.dtype)
    np.add.at(reduced, (place[:, None], place[None, :]), matrix)
    return reduced, [*(class_names[i] for i in shown), "others"], len(matrix) - len(shown)


def calibration(evaluation: "Evaluation", title: str) -> Figure:
    """Accuracy against confidence, bin by bin; a calibrated network is on the diagonal."""
    confidence, accuracy, count = (values.numpy() for values in evaluation.reliability())
    figure, axes = _figure(3.5, 3.4)
    axes.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    axes.vlines(confidence, confidence, accuracy, color=ORANGE, linewidth=1)
    sizes = 15 + 250 * count / count.sum()
    axes.scatter(confidence, accuracy, s=sizes, color=BLUE, zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("confidence (size of a dot: share of the images)", fontsize=_SIZE)
    axes.set_ylabel("accuracy", fontsize=_SIZE)
    axes.set_title(
        f"{title}: expected calibration error {evaluation.calibration_error:.1%}",
        fontsize=_SIZE + 1,
    )
    return figure


def captioned(images: np.ndarray, captions: Sequence[str], title: str, columns: int = 4) -> Figure:
    """Images in rows, each with its caption of one or two lines below.

    Args:
        images: uint8 N×H×W×3, N at least 1.
        captions: N texts.
        title: above all.
        columns: images in a row.
    """
    rows = -(-len(images) // columns)
    height, width = images.shape[1:3]
    gap, below = max(1, width // 8), round(height * 0.62)
    sheet = np.full(
        (rows * (height + below), columns * (width + gap) - gap, 3), 255, dtype=np.uint8
    )
    corners = [
        (i // columns * (height + below), i % columns * (width + gap)) for i in range(len(images))
    ]
    for image, (y, x) in zip(images, corners, strict=True):
        sheet[y : y + height, x : x + width] = image
    figure, axes = _figure(0.875 * columns, 1.2 * rows + 0.2)
    axes.imshow(sheet, interpolation="nearest")
    for caption, (y, x) in zip(captions, corners, strict=True):
        axes.text(
            x + width / 2, y + height + 1, caption, ha="center", va="top", fontsize=_SIZE,
            linespacing=1.1,
        )  # fmt: skip
    axes.axis("off")
    axes.set_title(title, fontsize=_SIZE + 1)
    return figure


def mosaic(images: np.ndarray, title: str, columns: int) -> Figure:
    """Small images side by side, without captions: uint8 N×H×W×3."""
    rows = -(-len(images) // columns)
    height, width = images.shape[1:3]
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        sheet[y : y + height, x : x + width] = image
    figure, axes = _figure(3.5, 3.5 * sheet.shape[0] / sheet.shape[1] + 0.2)
    axes.imshow(sheet, interpolation="nearest")
    axes.axis("off")
    axes.set_title(title, fontsize=_SIZE + 1)
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """The figure as TensorBoard shows it: uint8 H×W×3."""
    canvas = FigureCanvasAgg(_with_fonts(figure))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def png(figure: Figure) -> bytes:
    """A PNG file, for print twice as fine as for TensorBoard."""
    file = io.BytesIO()
    FigureCanvasAgg(_with_fonts(figure)).print_figure(file, dpi=200, format="png")
    return file.getvalue()


def legible(names: Sequence[str]) -> list[str]:
    """The names, or their numbers if no font that is installed has all their characters, which is
    said once."""
    characters = frozenset("".join(names))
    if _families(characters) is not None:
        return list(names)
    _say_numbers(tuple(names))
    return [f"#{number}" for number in range(len(names))]


@cache
def _say_numbers(names: tuple[str, ...]) -> None:
    number, name = next(n for n in enumerate(names) if _families(frozenset(n[1])) is None)
    log.warning(
        "Pictures show numbers in the place of names, #%d for %s: install a font that has these "
        "characters, such as Noto Sans CJK.",
        number,
        name,
    )


def shortened(text: str, width: int) -> str:
    """The end of a text, if it is longer than so many characters."""
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def _with_fonts(figure: Figure) -> Figure:
    """Have every text drawn as it is: in fonts that have its characters, and $ being no formula."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        families = _families(frozenset(text.get_text()))
        if families is None:
            known = [c if _families(frozenset(c)) else "?" for c in text.get_text()]
            text.set_text("".join(known))
            families = _families(frozenset(known))
        text.set_fontfamily(families or [_FONT])
    return figure


@cache
def _families(characters: frozenset[str]) -> list[str] | None:
    """The fonts that a text of these characters is drawn with: matplotlib's own, and those of the
    installed that have the rest; None if there are none."""
    families = [_FONT]
    missing = characters - {"\n"}
    missing -= _has(font_manager.findfont(_FONT))
    while missing:
        path = max(_installed(), key=lambda path: len(missing & _has(path)), default=None)
        if path is None or not missing & _has(path):
            return None
        missing -= _has(path)
        font_manager.fontManager.addfont(path)
        families.append(font_manager.FontProperties(fname=path).get_name())
    return families


@cache
def _installed() -> list[str]:
    # asked of the system: matplotlib's own list is as old as its cache
    return sorted(font_manager.findSystemFonts())


@cache
def _has(path: str) -> frozenset[str]:
    """The characters of a font; none of one that matplotlib cannot draw with."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # not pyplot: it keeps every figure, and wants a display on some machines
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=_SIZE)
    return figure, axes


def curves(
    runs: Sequence[tuple[str, Sequence[Sequence[tuple[float, float, float]]]]],
    reference: Sequence[float],
) -> Figure:
    """Validation accuracy of several experiments over epochs and over time.

    Args:
        runs: for each experiment a label and its runs: points of (epoch, seconds, accuracy in %).
        reference: the article's accuracy in % after each epoch.
    """
    labels = [textwrap.fill(label, _LINE) for label, _ in runs]
    lines = sum(1 + label.count("\n") for label in labels)
    figure = Figure(figsize=(10, 4.4 + 0.18 * lines), dpi=100, layout="constrained")
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    by_epoch.plot(
        range(1, len(reference) + 1), reference, ":", color="black", label="article (test images)"
    )
    totals = [run[-1][1] for _, of_label in runs for run in of_label if run]
    longest = max(totals, default=0)
    unit, seconds = ("minutes", 60) if longest > 120 else ("seconds", 1)
    for number, (label, (_, of_label)) in enumerate(zip(labels, runs, strict=True)):
        style = {
            "color": _COLOURS[number % len(_COLOURS)],
            "linestyle": ("-", "--", "-.")[number // len(_COLOURS) % 3],
            "marker": ".",
        }
        for i, points in enumerate(of_label):
            epochs, times, accuracies = zip(*points, strict=True) if points else ((), (), ())
            by_epoch.plot(epochs, accuracies, label=None if i else label, **style)
            by_time.plot([t / seconds for t in times], accuracies, **style)
    for axes, what in ((by_epoch, "epochs"), (by_time, unit)):
        axes.set_xlabel(what, fontsize=_SIZE)
        axes.tick_params(labelsize=_SIZE)
        axes.grid(color="0.9")
    if totals and longest > _MANY_TIMES * min(totals):
        by_time.set_xscale("log")
        by_time.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        by_time.xaxis.set_major_formatter("{x:g}")
        by_time.xaxis.set_minor_formatter(NullFormatter())
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_epoch.set_ylabel("validation accuracy, %", fontsize=_SIZE)
    figure.legend(loc="outside lower left", fontsize=_SIZE, ncols=1, frameon=False)
    return figure
