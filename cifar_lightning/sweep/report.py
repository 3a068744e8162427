"""What a sweep has found: a table, a picture, the winner's recipe and command."""

import math
import shlex
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution

from cifar_lightning.commands.columns import padded, widest
from cifar_lightning.figures import BLUE, ORANGE, png
from cifar_lightning.runs.config import NOT_THE_EXPERIMENT, is_in, read_config
from cifar_lightning.runs.files import write_bytes, write_text
from cifar_lightning.sweep.halving import BAD, Job, Standing, standings
from cifar_lightning.sweep.ledger import Ledger
from cifar_lightning.sweep.settings import Settings
from cifar_lightning.sweep.space import Params, words

_SHOWN = 20  # rows


def table(ledger: Ledger) -> str:
    """The configurations, the best first."""
    settings = ledger.settings
    assert settings is not None
    params, runs = ledger.params(), ledger.runs()
    found = standings(ledger.values())
    head = [
        "trial",
        "run",
        "epochs",
        "val/acc",
        "seeds",
        *(n.rpartition(".")[2] for n in settings.space),
    ]
    rows = [
        [
            str(s.configuration),
            runs.get((s.configuration, settings.seeds[0]), ""),
            str(s.epochs),
            "failed" if s.value == BAD else f"{s.value:.2%}",
            str(s.seeds),
            *(str(value) for value in params[s.configuration].values()),
        ]
        for s in found[:_SHOWN]
    ]
    widths = [widest(list(column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *rows]
    ]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more")
    return "\n".join(lines)


def command(settings: Settings, params: Params) -> str:
    """What trains a configuration by hand, to the same bits."""
    typed = ["python", "-m", "cifar_lightning", "fit", *settings.options, *words(params)]
    return f"OMP_NUM_THREADS={settings.threads} {shlex.join(typed)}"


def write_overlay(path: Path, run: Path, defaults: dict[str, Any]) -> None:
    """Write what the recipe of a run differs in from ``fit``'s defaults, for ``--config``. Raises
    UserError: the disk refuses."""
    recipe = _different(read_config(run).content, defaults)
    text = yaml.safe_dump(recipe, sort_keys=False)
    write_text(path, f"# The best of sweep {path.parent.name}, {run.name}\n{text}")


def _different(
    config: dict[str, Any], defaults: dict[str, Any], prefix: str = ""
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if value == defaults.get(key) or is_in(name, (*NOT_THE_EXPERIMENT, "data.source")):
            continue
        if (
            isinstance(value, dict)
            and "class_path" not in value
            and isinstance(defaults.get(key), dict)
        ):
            value = _different(value, defaults[key], f"{name}.")
        if value != {}:
            kept[key] = value
    return kept


def draw(path: Path, ledger: Ledger) -> None:
    """Draw the rungs, and the configurations in parallel coordinates. Raises UserError: the disk
    refuses."""
    settings, values, params = ledger.settings, ledger.values(), ledger.params()
    assert settings is not None
    found = [s for s in standings(values) if s.value != BAD]
    figure = Figure(figsize=(9, 4), dpi=100, layout="constrained")
    rungs, space = figure.subplots(1, 2, width_ratios=(1, 1.6))
    for s in reversed(found):  # the best on top
        best = s == found[0]
        look = {"color": ORANGE if best else BLUE, "linewidth": 2 if best else 1}
        alpha = 1.0 if best else 0.25 + 0.5 * s.epochs / settings.rungs[-1]
        points = [
            (j.epochs, 100 * v)
            for j, v in sorted(values.items())
            if _is_of(j, s, settings) and v is not None
        ]
        rungs.plot(*zip(*points, strict=True), marker="o", markersize=3, alpha=alpha, **look)
        places = [_place(settings, name, value) for name, value in params[s.configuration].items()]
        space.plot(range(len(places)), places, marker="o", markersize=3, alpha=alpha, **look)
    rungs.set(xlabel="epochs", ylabel="held-out accuracy in %", xticks=settings.rungs)
    rungs.set_title(f"{len(found)} configurations and their rungs", fontsize=9)
    _label(space, settings)
    space.set_title("the best is orange; fainter ones were stopped earlier", fontsize=9)
    write_bytes(path, png(figure))


def _is_of(job: Job, standing: Standing, settings: Settings) -> bool:
    return job.configuration == standing.configuration and job.seed == settings.seeds[0]


def _place(settings: Settings, name: str, value: Any) -> float:
    """From 0 to 1, on the option's own axis."""
    of: Any = settings.space[name]
    if isinstance(of, CategoricalDistribution):
        return of.choices.index(value) / max(len(of.choices) - 1, 1)
    scale = math.log if of.log else float
    return (scale(value) - scale(of.low)) / (scale(of.high) - scale(of.low))


def _label(axes: Axes, settings: Settings) -> None:
    names = [name.rpartition(".")[2] for name in settings.space]
    axes.set_xticks(range(len(names)), names, rotation=20, fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    for place, of in enumerate(settings.space.values()):
        axes.axvline(place, color="0.85", linewidth=1, zorder=0)
        several: Any = of
        ends = (
            several.choices
            if isinstance(of, CategoricalDistribution)
            else (several.low, several.high)
        )
        for number, end in enumerate(ends):
            height = number / max(len(ends) - 1, 1)
            axes.annotate(
                f"{end:g}" if isinstance(end, float) else str(end), (place, height),
                (4, 2), textcoords="offset points", fontsize=7, color="0.4",
            )  # fmt: skip
