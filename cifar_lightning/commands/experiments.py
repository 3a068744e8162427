"""Which runs ``compare`` is asked for, and which of them are one experiment.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from filecmp import cmp
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from cifar_lightning.errors import UsageError, UserError
from cifar_lightning.runs.config import class_name, flat
from cifar_lightning.runs.files import refusals_said
from cifar_lightning.runs.record import Run, list_runs

_KNOWN: dict[str, Callable[[Run], Any]] = {
    "run": lambda run: run.path.resolve().name,
    "name": lambda run: run.config.name or "null",
    "network": lambda run: run.config.network,
    "data": lambda run: run.config.source,
    "recipe": lambda run: run.recipe,
    "status": lambda run: run.status,
    "seed": lambda run: run.seed,
    "device": lambda run: run.card.get("device", "null"),
}
"""What ``--only`` knows of a run, beside its options."""


class Experiment(NamedTuple):
    """Runs that differ in the seed alone."""

    runs: list[Run]
    """One for each seed, the newest."""
    repeats: list[Run]
    """The others of these seeds: they say nothing about how much the seed matters."""


def select(runs: list[Run], only: Sequence[str]) -> list[Run]:
    """The runs of which all conditions hold.

    Args:
        runs: all there are.
        only: conditions ``NAME=VALUE``: a name is one of a few facts or an option of ``fit``; a
            value is compared as text, whatever its case, where ``*`` stands for anything, or as a
            number. What a run has not is null.

    Raises:
        UsageError: a condition is none, or no run has anything of that name.
        UserError: no run is left.
    """
    for condition in only:
        name, equals, wanted = condition.partition("=")
        if not (name and equals):
            raise UsageError(f"--only {condition}: it must be NAME=VALUE, as in network=AlexNet.")
        found = [_value(run, name) for run in runs]
        if not any(found):
            raise UsageError(
                f"--only {condition}: no run has a {name}; there are {', '.join(_KNOWN)} and the "
                "options of fit, such as model.optimizer.lr."
            )
        kept = [r for r, value in zip(runs, found, strict=True) if _is_like(value, wanted)]
        if not kept:
            there = sorted({value or "null" for value in found})
            more = f" and {len(there) - 9} more" if len(there) > 9 else ""
            raise UserError(
                f"--only {condition}: {name} of the runs is {', '.join(there[:9])}{more}: take one "
                "of these."
            )
        runs = kept
    return runs


def _value(run: Run, name: str) -> str | None:
    """What a run has under a name; None if it does not know it, as options of later versions."""
    if name in _KNOWN:
        return str(_KNOWN[name](run))
    for option, value in flat(run.config.content):
        if option.replace(".init_args", "") == name:
            return "null" if value is None else str(value)
        if option.replace(".init_args", "") == f"{name}.class_path":
            return class_name(value)
    return None


def _is_like(value: str | None, wanted: str) -> bool:
    text = value or "null"
    try:
        if float(text) == float(wanted):
            return True
    except ValueError:  # not both are numbers
        pass
    return fnmatchcase(text.lower(), wanted.lower())


def find_runs(asked: Sequence[Path], logs: Path) -> list[Path]:
    """The folders of the runs that are asked for, by path or by name in ``logs``; all there if
    none is. Each counts once. Raises UserError: there is no such folder."""
    if not asked and logs.exists() and not logs.is_dir():
        raise UserError(f"--logs {logs}: this is no folder of runs.")
    return _once_each([_find(run, logs) for run in asked] or list_runs(logs))


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


def experiments_of(runs: list[Run]) -> list[Experiment]:
    """Put the seeds of each experiment together; of one seed's runs the newest counts. Which runs
    do not count is said."""
    groups: dict[str, dict[int | str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run.experiment, {}).setdefault(run.seed, []).append(run)
    found = []
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
        found.append(Experiment(counted, repeats))
    return found


def labels_of(runs: list[Run]) -> dict[Path, str]:
    """What runs are called, by their paths: the name of the folder, or the path where two have the
    same."""
    names = {run.path: run.path.name or run.path.resolve().name for run in runs}
    count = Counter(names.values())
    return {path: name if count[name] == 1 else str(path) for path, name in names.items()}
