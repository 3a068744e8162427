"""``compare``: show runs side by side, from what their folders hold."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_lightning.commands.experiments import (
    Experiment,
    experiments_of,
    find_runs,
    labels_of,
    select,
)
from cifar_lightning.commands.names import CommandParser, check_target, path
from cifar_lightning.commands.records import record
from cifar_lightning.commands.rows import FORMATS, in_order
from cifar_lightning.errors import UserError
from cifar_lightning.runs.files import why_not_writable, write_bytes
from cifar_lightning.runs.record import read_run

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
        "runs", nargs="*", metavar="RUN", type=path, help="folders of runs; by default all"
    )
    parser.add_argument(
        "--logs", type=path, default=Path("lightning_logs"), help="where the runs are"
    )
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="table",
        help="md is for a README; csv and json have raw numbers, a row or an object an experiment",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this network, data, recipe, name, status, seed or device, or this "
        "option of fit, as in model.optimizer.lr=0.05; * stands for anything",
    )
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        help="sort by a column of the table: the largest accuracies, further metrics and images/s "
        "first, the smallest of all else",
    )
    parser.add_argument(
        "--reach",
        type=_accuracy,
        metavar="ACCURACY",
        help="tell the time to an accuracy, as 0.74: the seconds until an epoch's val/acc was as "
        "high, the median over the seeds",
    )
    parser.add_argument(
        "--to", type=path, help="the PNG with the curves; by default compare.png beside the runs"
    )
    asked = parser.parse_args(argv)
    if asked.to is not None:
        check_target(asked.to, (".png",), may_exist=True)
    folders, runs = find_runs(asked.runs, asked.logs), []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            print(f"{folder} is left out: it cannot be read as a run ({error})", file=sys.stderr)
            continue
    if not runs:
        raise UserError(f"{asked.logs} holds no run that can be compared: fit makes one.")
    runs = select(runs, asked.only)
    for sentence in (sentence for run in runs for sentence in run.not_quoted):
        print(sentence, file=sys.stderr)
    labels = labels_of(runs)
    experiments = experiments_of(runs)
    metrics = sorted({name for run in runs for name in run.test_metrics})
    records = [record(of, labels, metrics, asked.reach) for of in experiments]
    order = in_order(records, asked.sort)
    print(FORMATS[asked.format]([records[i] for i in order]))
    read_by_people = asked.format in ("table", "md")
    if read_by_people and any(run.config.chosen_on_test for run in runs):
        print("* chosen on the test images, as the article does: not comparable with the others")
    picture = asked.to or _beside(folders[0])
    if picture is None:
        return
    sys.stdout.flush()  # the table, whatever the disk says
    from cifar_lightning.figures import curves, png

    write_bytes(picture, png(curves([_curve(experiments[i], labels) for i in order], ARTICLE)))
    print(f"\ncurves: {picture}", file=sys.stdout if read_by_people else sys.stderr)


def _accuracy(text: str) -> float:
    try:
        accuracy = float(text)
    except ValueError:
        accuracy = -1.0
    if not 0 <= accuracy <= 1:
        raise argparse.ArgumentTypeError(f"{text} must be an accuracy from 0 to 1")
    return accuracy


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


def _curve(
    experiment: Experiment, labels: dict[Path, str]
) -> tuple[str, list[list[tuple[float, float, float]]]]:
    """A label, and for each run its points: epoch, seconds of training, accuracy in %."""
    first, seeds = experiment.runs[0], len(experiment.runs)
    of = f"{seeds} seeds" if seeds > 1 else labels[first.path]
    label = f"{first.config.name or f'{first.config.network}, {first.recipe}'} ({of})"
    points = [
        [(n, s, 100 * accuracy) for n, s, accuracy in run.accuracies] for run in experiment.runs
    ]
    return label, points
