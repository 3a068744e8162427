"""``compare``: show runs side by side, from what their folders hold."""

import math
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from typing import Any, NamedTuple

from cifar_lightning.commands.names import CommandParser, path
from cifar_lightning.errors import UserError
from cifar_lightning.runs.files import refusals_said, why_not_writable, write_bytes
from cifar_lightning.runs.record import Run, list_runs, read_run

# Test accuracies in % after each epoch of "Recognising CIFAR-10 with deep learning (2)", AlexNet;
# the original images, chosen on the test images.
ARTICLE = (
    25.06, 46.64, 56.72, 65.40, 66.47, 68.26, 72.21, 74.15, 74.49, 73.13,
    73.79, 75.89, 74.39, 75.63, 74.60, 75.54, 74.90, 74.86, 75.69, 74.23,
)  # fmt: skip


class Experiment(NamedTuple):
    """Runs that differ in the seed alone."""

    runs: list[Run]
    """One for each seed, the newest."""
    repeats: list[Run]
    """The others of these seeds: they say nothing about how much the seed matters."""


def compare(argv: Sequence[str]) -> None:
    """Run the command. Raises UserError if there is nothing to compare."""
    parser = CommandParser("compare")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", type=path, help="folders of runs; by default all"
    )
    parser.add_argument(
        "--logs", type=path, default=Path("lightning_logs"), help="where the runs are"
    )
    parser.add_argument(
        "--format", choices=("table", "md"), default="table", help="md is for a README"
    )
    parser.add_argument(
        "--to", type=path, help="the PNG with the curves; by default compare.png beside the runs"
    )
    asked = parser.parse_args(argv)
    folders = [_find(run, asked.logs) for run in asked.runs] or list_runs(asked.logs)
    folders, runs = _once_each(folders), []
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
    experiments = _experiments(runs)
    rows = [_row(experiment, _labels(runs)) for experiment in experiments]
    print(_markdown(rows) if asked.format == "md" else _table(rows))
    if any(run.config.chosen_on_test for run in runs):
        print("* chosen on the test images, as the article does: not comparable with the others")
    picture = asked.to or _beside(folders[0])
    if picture is None:
        return
    sys.stdout.flush()  # the table, whatever the disk says
    from cifar_lightning.figures import curves, png

    lines = [_curve(experiment, _labels(runs)) for experiment in experiments]
    write_bytes(picture, png(curves(lines, ARTICLE)))
    print(f"\ncurves: {picture}")


def _beside(run: Path) -> Path | None:
    """The picture beside a run; where one may only read there, in the current folder, and None if
    one may there neither, which is said."""
    reasons = []
    for folder in (run.parent, Path()):
        if (reason := why_not_writable(folder)) is None:
            return folder / "compare.png"
        reasons.append(f"{folder.absolute()} ({reason})")
    print(
        f"no curves are drawn: neither folder is to be written: {', '.join(reasons)}; "
        "say where to with --to.",
        file=sys.stderr,
    )
    return None


@refusals_said()
def _find(run: Path, logs: Path) -> Path:
    for folder in (run, logs / run):
        if folder.is_dir():
            return folder
    raise UserError(f"{run} is no folder of a run, nor is there one of that name in {logs}.")


def _once_each(folders: list[Path]) -> list[Path]:
    """Folders without those that another path has named already, which are said."""
    known: dict[tuple[int, int], Path] = {}
    for folder in folders:
        status = folder.stat()
        first = known.setdefault((status.st_dev, status.st_ino), folder)
        if first is not folder:
            print(f"{folder} is {first} once more: it counts once.", file=sys.stderr)
    return list(known.values())


def _experiments(runs: list[Run]) -> list[Experiment]:
    """Put the seeds of each experiment together; of one seed's runs the newest counts. Which runs
    do not count is said."""
    groups: dict[str, dict[int | str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run.experiment, {}).setdefault(run.seed, []).append(run)
    experiments = []
    for by_seed in groups.values():
        counted, repeats = [], []
        for seed, of_seed in by_seed.items():
            *older, newest = sorted(of_seed, key=lambda run: run.age)
            counted.append(newest)
            repeats += older
            for run in older:
                ours, theirs = run.path / "metrics.csv", newest.path / "metrics.csv"
                both = ours.exists() and theirs.exists()  # with the times that epochs took
                copied = both and cmp(ours, theirs, shallow=False)
                what = "is a copy of" if copied else f"repeats seed {seed} of"
                print(f"{run.path} {what} {newest.path}: it is not counted.", file=sys.stderr)
        experiments.append(Experiment(counted, repeats))
    return experiments


def _labels(runs: list[Run]) -> dict[Path, str]:
    """What runs are called, by their paths: the name of the folder, or the path where two have the
    same."""
    names = {run.path: run.path.name or run.path.resolve().name for run in runs}
    count = Counter(names.values())
    return {path: name if count[name] == 1 else str(path) for path, name in names.items()}


def _row(experiment: Experiment, labels: dict[Path, str]) -> dict[str, str]:
    """The cells of the runs of one experiment, by column."""
    group = experiment.runs
    first, seeds = group[0], len(group)
    on_test = first.config.chosen_on_test
    name = ", ".join(labels[run.path] for run in group)
    remarks = [f"{seeds} seeds"] if seeds > 1 else [first.alone] if first.alone else []
    if experiment.repeats:
        again = ", ".join(labels[run.path] for run in experiment.repeats)
        remarks.append(f"seed repeated by {again}")
    if remarks:
        name += f" ({'; '.join(remarks)})"
    best = [run.best["val/acc"] for run in group if run.best and "val/acc" in run.best]
    single = [run.test for run in group if run.test is not None]
    flipped = [r.test_flip_averaged for r in group if r.test_flip_averaged is not None]
    network = first.card.get("network", {})
    flops = network.get("flops_per_image")
    commits = {_commit(run.card.get("git")) for run in group}
    devices = {str(run.card.get("device", "")) for run in group}
    epochs = sorted({max((int(e["epoch"]) for e in run.epochs), default=0) for run in group})
    return {
        "run": name,
        "network": first.config.network,
        "data": first.config.source,
        "recipe": first.recipe,
        "epochs": "–".join(str(number) for number in dict.fromkeys((epochs[0], epochs[-1]))),
        "best val": "" if on_test else _percent(best, seeds),
        # of a checkpoint that was chosen on them, what the test images say is no test
        "test": "" if on_test else _percent(single, seeds),
        "test, flip averaged": "" if on_test else _percent(flipped, seeds),
        "article's protocol*": _percent(best, seeds) if on_test else "",
        "s/epoch": _number([run.median("speed/seconds_per_epoch") for run in group], ".1f"),
        "images/s": _number([run.median("speed/images_per_second") for run in group], ",.0f"),
        "device": ", ".join(sorted(devices)),
        "parameters": f"{network['parameters']:,}" if "parameters" in network else "",
        "MFLOPs/image": f"{flops / 1e6:,.0f}" if flops else "",
        "commit": ", ".join(sorted(commits)),
        "command": _command(first, seeds > 1),
    }


def _command(run: Run, seeds: bool) -> str:
    command: str = run.card.get("command", "")
    if seeds:
        command = re.sub(r" --seed_everything[ =]\d+", " --seed_everything N", command)
    return command and f"`{command.removeprefix('python -m cifar_lightning ')}`"


def _percent(values: list[float], seeds: int) -> str:
    """The mean of what is known of some seeds, and its deviation over them."""
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.2f}"
    if len(values) > 1:
        mean += f" ± {100 * statistics.stdev(values):.2f}"
    return f"{mean} %" + (f" ({len(values)} of {seeds})" if len(values) < seeds else "")


def _number(values: list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(statistics.median(known), form) if known else ""


def _commit(git: dict[str, Any] | None) -> str:
    if not git:
        return ""
    return f"{git.get('commit', '')[:7]}{'' if git.get('clean', True) else '+'}"


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


def _curve(
    experiment: Experiment, labels: dict[Path, str]
) -> tuple[str, list[list[tuple[float, float, float]]]]:
    """A label, and for each run its points: epoch, hours since its start, accuracy in %."""
    first, seeds = experiment.runs[0], len(experiment.runs)
    of = f"{seeds} seeds" if seeds > 1 else labels[first.path]
    label = f"{first.config.network}, {first.recipe} ({of})"
    return label, [_points(run) for run in experiment.runs]


def _points(run: Run) -> list[tuple[float, float, float]]:
    # an epoch that was interrupted has no time of its own
    usual = run.median("speed/seconds_per_epoch") or math.nan
    points, seconds = [], 0.0
    for epoch in run.epochs:
        seconds += epoch.get("speed/seconds_per_epoch", usual)
        if "val/acc" in epoch:
            points.append((epoch["epoch"], seconds, 100 * epoch["val/acc"]))
    return points
