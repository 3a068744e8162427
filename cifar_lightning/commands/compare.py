"""``compare``: show runs side by side, from what their folders hold."""

import math
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_lightning.commands.names import CommandParser
from cifar_lightning.errors import UserError
from cifar_lightning.runs.record import Run, list_runs, read_run

# Test accuracies in % after each epoch of "Recognising CIFAR-10 with deep learning (2)", AlexNet;
# the original images, chosen on the test images.
ARTICLE = (
    25.06, 46.64, 56.72, 65.40, 66.47, 68.26, 72.21, 74.15, 74.49, 73.13,
    73.79, 75.89, 74.39, 75.63, 74.60, 75.54, 74.90, 74.86, 75.69, 74.23,
)  # fmt: skip


def compare(argv: Sequence[str]) -> None:
    """Run the command. Raises UserError if there is nothing to compare."""
    parser = CommandParser("compare")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", type=Path, help="folders of runs; by default all"
    )
    parser.add_argument(
        "--logs", type=Path, default=Path("lightning_logs"), help="where the runs are"
    )
    parser.add_argument(
        "--format", choices=("table", "md"), default="table", help="md is for a README"
    )
    parser.add_argument(
        "--to", type=Path, help="the PNG with the curves; by default compare.png beside the runs"
    )
    asked = parser.parse_args(argv)
    folders = [_find(run, asked.logs) for run in asked.runs] or list_runs(asked.logs)
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            print(f"{folder} is left out: it cannot be read as a run ({error})", file=sys.stderr)
            continue
        for sentence in runs[-1].not_quoted:
            print(sentence, file=sys.stderr)
    if not runs:
        raise UserError(f"{asked.logs} holds no run that can be compared: fit makes one.")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    rows = [_row(group) for group in groups.values()]
    print(_markdown(rows) if asked.format == "md" else _table(rows))
    if any(run.config.chosen_on_test for run in runs):
        print("* chosen on the test images, as the article does: not comparable with the others")
    path = asked.to or folders[0].parent / "compare.png"
    from cifar_lightning.figures import curves, save

    save(curves([_curve(group) for group in groups.values()], ARTICLE), path)
    print(f"\ncurves: {path}")


def _find(run: Path, logs: Path) -> Path:
    for folder in (run, logs / run):
        if folder.is_dir():
            return folder
    raise UserError(f"{run} is no folder of a run, nor is there one of that name in {logs}.")


def _row(group: list[Run]) -> dict[str, str]:
    """The cells of the runs of one experiment, by column."""
    first = group[0]
    on_test = first.config.chosen_on_test
    name = ", ".join(run.path.name for run in group)
    if len(group) > 1:
        name += f" ({len(group)} seeds)"
    elif first.status != "finished":
        name += f" ({first.status})"
    best = [run.best["val/acc"] for run in group if run.best and "val/acc" in run.best]
    single = [run.test for run in group if run.test is not None]
    flipped = [r.test_flip_averaged for r in group if r.test_flip_averaged is not None]
    network = first.card.get("network", {})
    flops = network.get("flops_per_image")
    commits = {_commit(run.card.get("git")) for run in group}
    return {
        "run": name,
        "network": first.config.network,
        "data": first.config.source,
        "recipe": first.recipe,
        "epochs": str(max((int(epoch["epoch"]) for epoch in first.epochs), default=0)),
        "best val": "" if on_test else _percent(best),
        # of a checkpoint that was chosen on them, what the test images say is no test
        "test": "" if on_test else _percent(single),
        "test, flip averaged": "" if on_test else _percent(flipped),
        "article's protocol*": _percent(best) if on_test else "",
        "s/epoch": _number([run.median("speed/seconds_per_epoch") for run in group], ".1f"),
        "images/s": _number([run.median("speed/images_per_second") for run in group], ",.0f"),
        "device": first.card.get("device", ""),
        "parameters": f"{network['parameters']:,}" if "parameters" in network else "",
        "MFLOPs/image": f"{flops / 1e6:,.0f}" if flops else "",
        "commit": ", ".join(sorted(commits)),
        "command": _command(first, seeds=len(group) > 1),
    }


def _command(run: Run, seeds: bool) -> str:
    command: str = run.card.get("command", "")
    if seeds:
        command = re.sub(r" --seed_everything[ =]\d+", " --seed_everything N", command)
    return command and f"`{command.removeprefix('python -m cifar_lightning ')}`"


def _percent(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.2f}"
    if len(values) > 1:
        mean += f" ± {100 * statistics.stdev(values):.2f}"
    return f"{mean} %"


def _number(values: list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(statistics.median(known), form) if known else ""


def _commit(git: dict[str, Any] | None) -> str:
    if not git:
        return ""
    return f"{git['commit'][:7]}{'' if git['clean'] else '+'}"


def _markdown(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(rows: list[dict[str, str]]) -> str:
    """Without empty columns, and without the command, which is too long for a terminal."""
    shown = [
        column
        for column in rows[0]
        if column in ("run", "best val") or (column != "command" and any(r[column] for r in rows))
    ]
    lines = [shown, *([row[column] for column in shown] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _curve(group: list[Run]) -> tuple[str, list[list[tuple[float, float, float]]]]:
    """A label, and for each run its points: epoch, hours since its start, accuracy in %."""
    first = group[0]
    label = f"{first.config.network}, {first.recipe}" + (
        f" ({len(group)} seeds)" if len(group) > 1 else f" ({first.path.name})"
    )
    return label, [_points(run) for run in group]


def _points(run: Run) -> list[tuple[float, float, float]]:
    # an epoch that was interrupted has no time of its own
    usual = run.median("speed/seconds_per_epoch") or math.nan
    points, seconds = [], 0.0
    for epoch in run.epochs:
        seconds += epoch.get("speed/seconds_per_epoch", usual)
        if "val/acc" in epoch:
            points.append((epoch["epoch"], seconds, 100 * epoch["val/acc"]))
    return points
