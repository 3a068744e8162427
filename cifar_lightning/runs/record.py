"""Which runs there are, and what the folder of each holds.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import csv
import json
import math
import re
import statistics
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from types import NoneType
from typing import Any

from filelock import FileLock, Timeout

from cifar_lightning.runs.config import RunConfig, flat, read_config, was_changed
from cifar_lightning.runs.ending import is_finished, read_summary
from cifar_lightning.runs.files import refusals_said

_SPEED = "speed/images_per_second"


@dataclass(frozen=True)
class Run:
    """What a run's folder holds."""

    path: Path
    config: RunConfig
    card: dict[str, Any]
    epochs: list[dict[str, float]]
    """For each whole epoch: its number (``epoch``, from 1) and the metrics logged at its end."""
    test: float | None
    """Test accuracy of the best checkpoint, if it was tested; ``test_flip_averaged`` likewise."""
    test_flip_averaged: float | None
    test_metrics: dict[str, float]
    """Further metrics of that test, such as those of ``--model.metrics``, by name."""
    not_quoted: list[str]
    """Reports that are not of the best checkpoint and files that are damaged, a sentence each."""
    status: str
    """``finished``, ``running`` or ``interrupted``."""
    alone: str
    """Why other runs cannot be of the same experiment, in a few words; empty if they can."""

    @property
    def recipe(self) -> str:
        """The config files of its command, and ``RunConfig.recipe``."""
        configs = re.findall(r"--config[ =]('[^']*'|\S+)", self.card.get("command", ""))
        names = "+".join(Path(config.strip("'")).stem for config in configs)
        return (f"{names}: " if names else "") + self.config.recipe

    @property
    def seed(self) -> int | str:
        """Its seed; something of its own if that is not known."""
        seed = self.config.content.get("seed_everything")
        return str(self.path) if seed is None else int(seed)

    @property
    def age(self) -> tuple[str, int]:
        """Greater for a run that was started later."""
        name = self.path.resolve()
        number = run_number(name) if is_run_name(name.name) else -1
        return str(self.card.get("started", "")), number

    @property
    def best(self) -> dict[str, float] | None:
        """The epoch whose checkpoint was kept as the best."""
        return _best(self.config.monitor, self.epochs)

    @property
    def best_checkpoint(self) -> Path | None:
        """The checkpoint of that epoch; of a run that validates nothing its last."""
        return best_checkpoint(self.path)

    def median(self, metric: str) -> float | None:
        values = [epoch[metric] for epoch in self.epochs if metric in epoch]
        return statistics.median(values) if values else None

    @property
    def accuracies(self) -> list[tuple[float, float, float]]:
        """Of each epoch that was validated: its number, the seconds that training had taken by its
        end (with validation and checkpoints, without the start of the process), ``val/acc``."""
        # an epoch that was interrupted has no time of its own
        usual = self.median("speed/seconds_per_epoch")
        points, seconds = [], 0.0
        for epoch in self.epochs:
            seconds += epoch.get("speed/seconds_per_epoch", math.nan if usual is None else usual)
            if "val/acc" in epoch:
                points.append((epoch["epoch"], seconds, epoch["val/acc"]))
        return points

    def seconds_to(self, accuracy: float) -> float | None:
        """When an epoch's ``val/acc`` first was at least this; None if none's was."""
        return next((s for _, s, reached in self.accuracies if reached >= accuracy), None)

    @property
    def experiment(self) -> str:
        """A text that is equal for finished runs that differ in the seed alone."""
        if self.alone:
            return str(self.path)
        return self.config.experiment(self.card.get("data", {}).get("training_images"))


@refusals_said()
def list_runs(logs: Path) -> list[Path]:
    """List the folders of the runs in ``logs``, oldest first. Raises UserError: one may not."""
    found = logs.iterdir() if logs.is_dir() else ()
    runs = [f for f in found if is_run_name(f.name) and f.is_dir()]
    return sorted(runs, key=run_number)


def is_run_name(name: str) -> bool:
    """Whether a folder of this name is a run's."""
    return re.fullmatch(r"version_\d+", name) is not None


def run_number(run: Path) -> int:
    """Return N of ``version_N``."""
    return int(run.name.removeprefix("version_"))


def kept_checkpoints(run: Path) -> list[Path]:
    """List the checkpoints that are named after epoch and score, newest epoch first.

    A file is kept for its score when it beats all before: the first of them is the run's best.
    Lightning's ModelCheckpoint names its files after epoch and step, and keeps them for neither.
    """
    name = re.compile(r"epoch=(\d+)-val_(acc|loss)=.*\.ckpt")
    files = [(m, f) for f in run.glob("checkpoints/*") if (m := name.fullmatch(f.name))]
    return [file for _, file in sorted(files, key=lambda item: -int(item[0][1]))]


def best_checkpoint(run: Path) -> Path | None:
    """The checkpoint that stands for a run: that of the best epoch, or of a run that validates
    nothing the last; None if it has none yet.
    """
    if kept := kept_checkpoints(run):
        return kept[0]
    last = run / "checkpoints" / "last.ckpt"
    with suppress(OSError, ValueError):  # of what its configuration does not say nothing is known
        if last.exists() and not read_config(run).validates:
            return last
    return None


def read_run(folder: Path) -> Run:
    """Read a run's folder, whether finished or not.

    Raises:
        ValueError: it cannot be read as a run; says why.
    """
    try:
        config = read_config(folder)
        epochs = _read_epochs(folder / "metrics.csv")
        summary, trainer = read_summary(folder), config.trainer
        last = None if config.validates else summary.get("global_step", -1)
        if (finished := is_finished(summary)) is None:
            done = max((int(epoch["epoch"]) for epoch in epochs), default=0)
            enough = _reached(trainer.get("max_steps"), summary.get("global_step", -1))
            finished = enough or _reached(trainer.get("max_epochs"), done)
        best = _best(config.monitor, epochs)
        reports = [_read_report(folder, kind, best, last) for kind in ("", "_flip_averaged")]
        (tested, problem), (flip_averaged, other) = reports
        not_quoted = [sentence for sentence in (problem, other) if sentence]
        status = "running" if _is_locked(folder) else "finished" if finished else "interrupted"
        alone = status if status != "finished" else ""
        if summary.get("ended_by") == "time":
            alone = alone or "ended by time"
        if not alone and was_changed(folder):
            alone = "options changed half-way"
        card, problem = _read_card(folder / "card.json")
        not_quoted += [problem] if problem else []
        test, averaged = tested.pop("accuracy", None), flip_averaged.get("accuracy")
        run = Run(folder, config, card, epochs, test, averaged, tested, not_quoted, status, alone)
        _ = run.recipe, run.seed, run.experiment, run.age  # of this run, not of all, they fail
        return run
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _best(monitor: str, epochs: list[dict[str, float]]) -> dict[str, float] | None:
    sign = -1 if monitor == "val/loss" else 1
    held = [epoch for epoch in epochs if monitor in epoch]
    return max(held, key=lambda epoch: sign * epoch[monitor], default=None)


def _read_report(
    folder: Path, kind: str, best: dict[str, float] | None, last: int | None
) -> tuple[dict[str, float], str | None]:
    """The accuracy and the further metrics that a test's report gives; if it is not of the
    checkpoint that is the run's best by now (or its last, of the step ``last``, if that stands for
    it), nothing and a sentence that says so.

    A run may have gone on since it was tested, and earlier versions let a test of any checkpoint
    overwrite the report.
    """
    path = folder / f"test_report{kind}.json"
    try:
        if not (report := _json(path)):
            return {}, None
        known = (report.get("metrics") or {}).items()
        figures = {str(name): float(value) for name, value in known if value is not None}
        figures["accuracy"] = float(report["accuracy"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return {}, f"{path} is damaged and not quoted ({' '.join(str(error).split())})."
    tested = PureWindowsPath(str(report.get("checkpoint"))).name  # takes both kinds of paths
    if last is not None:
        is_best = tested == "last.ckpt" and report.get("global_step") == last
        name = f"last.ckpt of step {last}"
    elif kept := kept_checkpoints(folder):
        is_best, name = tested == kept[0].name, kept[0].name
    else:  # they may have been deleted since
        begins = f"epoch={int(best['epoch']) - 1}-" if best else "no checkpoint"
        is_best, name = tested.startswith(begins), f"{begins}…"
    if is_best:
        return figures, None
    return {}, (
        f"{path} is not quoted: it is of {tested}, and the best checkpoint is {name}: run test "
        "again."
    )


_IN_CARD: dict[str, type | tuple[type, ...]] = {
    "command": str, "started": str, "device": str, "data": dict, "network": dict,
    "git": (dict, NoneType), "data.training_images": (str, NoneType), "network.parameters": int,
    "network.flops_per_image": (int, float, NoneType), "git.commit": str, "git.clean": bool,
}  # fmt: skip
"""What is made use of, and its types."""


def _read_card(path: Path) -> tuple[dict[str, Any], str | None]:
    """A run's card; if it is damaged, an empty one and a sentence that says so: what a run is worth
    does not hang on it."""
    try:
        card = _json(path)
        named = {**card, **dict(flat(card))}
        wrong = [n for n, kind in _IN_CARD.items() if n in named and not isinstance(named[n], kind)]
        if not wrong:
            return card, None
        reason = f"{wrong[0]} is {named[wrong[0]]!r}"
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
    return {}, f"{path} is damaged and left out ({reason})."


def _reached(limit: int | None, count: int) -> bool:
    return limit is not None and 0 <= limit <= count


def _read_epochs(path: Path) -> list[dict[str, float]]:
    epochs: dict[int, dict[str, float]] = {}
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            # of an epoch's other rows only the speed is of use: the last of them is kept
            at_end = row.get("val/acc") or row.get("train/acc_epoch")
            names = row.keys() - {"epoch", "step"} if at_end else {_SPEED} & row.keys()
            values = {name: float(row[name]) for name in names if row[name]}
            if row.get("epoch") and values:
                number = int(row["epoch"]) + 1
                epochs.setdefault(number, {"epoch": number}).update(values)
    # an epoch that is not over has no mean yet
    return [epoch for epoch in epochs.values() if "val/acc" in epoch or "train/acc_epoch" in epoch]


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no object")
    return content


def _is_locked(folder: Path) -> bool:
    lock = folder / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that one may only read: of somebody else's run nothing is known
        return False
