"""What ``test`` leaves behind: a table in the terminal, ``test_report.json`` and two figures.

``test_report.json`` is of the run's best checkpoint on all of the run's own test images: the
figure that may be quoted as the run's. A test of anything else says so, also in its files' names.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from cifar_lightning.commands.columns import padded, widest
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import UserError, counted
from cifar_lightning.metrics import Evaluation
from cifar_lightning.runs.config import same_source
from cifar_lightning.runs.files import write_bytes, write_json
from cifar_lightning.runs.folders import LoadedCheckpoint
from cifar_lightning.runs.loggers import write_test_metrics
from cifar_lightning.runs.record import best_checkpoint

_ROWS = 30  # of the table, which a person still reads


class Tested(NamedTuple):
    """What was tested, and on what."""

    found: LoadedCheckpoint
    """The checkpoint."""
    data: CIFAR10DataModule
    """Whose test images were read."""
    config: dict[str, Any]
    """Of this command, plain values."""
    flip_averaged: bool
    """Whether each image was averaged with its mirror image."""
    folder: Path | None
    """Where the report goes to; it is printed alone if None."""


def report_test(
    tested: Tested, evaluation: Evaluation, metrics: dict[str, float], whole: bool
) -> None:
    """Print the report of a test. If it was a pass over all test images, write it as well;
    TensorBoard gets what is the run's own figure.

    Args:
        tested: the checkpoint and the images.
        evaluation: the pass over the test images.
        metrics: what was logged of it, by name.
        whole: whether the pass was one over the whole test split.

    Raises:
        UserError: the disk refuses.
    """
    found, folder = tested.found, tested.folder
    if not whole:
        print(table(make_report(tested, evaluation, metrics)))
        print("\nno report is written: this was a trial, not a pass over the whole test split")
        return
    labels, reasons = _unlike_the_run_s_own(tested)
    report = make_report(tested, evaluation, metrics, own=not labels)
    kind = "_flip_averaged" * tested.flip_averaged + "".join(f"-{label}" for label in labels)
    print(table(report), flush=True)  # whatever the disk says to the rest
    if folder is not None:
        _write(folder, report, evaluation, kind, ", ".join(labels))
        if found.run is not None and not labels:
            write_test_metrics(folder, metrics, found.content["global_step"])
        print(f"\nreport: {folder / f'test_report{kind}.json'} and test_*{kind}.png")
    for reason in reasons:
        print(f"not the run's own figure: {reason}")


def make_report(
    tested: Tested, evaluation: Evaluation, metrics: dict[str, float], own: bool = False
) -> dict[str, Any]:
    """Put together what ``test_report.json`` holds.

    Returns:
        checkpoint, epochs and global_step (that it was trained for), data (source, fingerprint),
        precision (that it was tested in),
        of_the_run (whether this is the run's best checkpoint on the run's own test images),
        flip_averaged, images, loss, accuracy, accuracy_95 (95 % confidence interval, Wilson),
        accuracy_top5 (null for five classes or fewer), calibration_error (expected, 15 bins),
        metrics (--model.metrics and what callbacks have logged as test/…, by name),
        classes (of each: precision, recall, f1, images; null where there is nothing to divide by),
        confusion_matrix (rows are the truth).
    """
    content = tested.found.content
    suffix = "_flip_averaged" * tested.flip_averaged
    logged = {
        name.removeprefix("test/").removesuffix(suffix): value
        for name, value in metrics.items()
        if name.startswith("test/")
    }
    rows = zip(
        tested.data.source.class_names,
        evaluation.precision.tolist(),
        evaluation.recall.tolist(),
        evaluation.f1.tolist(),
        evaluation.confusion_matrix.sum(dim=1).tolist(),
        strict=True,
    )
    return {
        "checkpoint": str(tested.found.path),
        "epochs": content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"],
        "global_step": content["global_step"],
        "data": {
            "source": type(tested.data.source).__name__,
            "fingerprint": tested.data.splits.test.data.fingerprint,
        },
        "precision": str(tested.config["trainer"]["precision"] or "32-true"),
        "of_the_run": own,
        "flip_averaged": tested.flip_averaged,
        "images": len(evaluation.labels),
        "loss": logged.pop("loss"),
        "accuracy": evaluation.accuracy,
        "accuracy_95": list(evaluation.accuracy_interval),
        "accuracy_top5": evaluation.accuracy_top5,
        "calibration_error": evaluation.calibration_error,
        "metrics": {name: _known(logged[name]) for name in sorted(logged.keys() - {"acc"})},
        "classes": {
            name: {
                "precision": _known(precision),
                "recall": _known(recall),
                "f1": _known(f1),
                "images": images,
            }
            for name, precision, recall, f1, images in rows
        },
        "confusion_matrix": evaluation.confusion_matrix.tolist(),
    }


def is_own_split(tested: Tested) -> bool:
    """Whether the test images are the test split of the checkpoint's run.

    That is what the run's source reads, wherever its images lie now. Training must not look at it:
    the first test pins its fingerprint in ``test_split.json``, once the training images beside it
    have turned out to be those that the run was trained on.

    Raises:
        UserError: ``test_split.json`` is damaged, or the disk refuses.
    """
    found, data = tested.found, tested.data
    before = found.ours.get("config")
    if before is None and found.ours.get("data") is None:  # written by a script
        return False
    if before is not None and not same_source(before, tested.config):
        return False
    fingerprint = data.splits.test.data.fingerprint
    path = (found.run or Path.cwd()) / "test_split.json"
    if found.run is not None and path.exists():
        try:
            return bool(json.loads(path.read_text(encoding="utf-8"))["fingerprint"] == fingerprint)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: remove it, and test again.") from error
    try:
        data.splits.load("fit")
    except UserError:  # what cannot be looked at is not known to be the same
        return False
    if found.ours.get("data") not in (None, data.fingerprint):
        return False
    if found.run is not None and tested.folder == found.run:
        write_json(path, {"source": type(data.source).__name__, "fingerprint": fingerprint})
    return True


def _unlike_the_run_s_own(tested: Tested) -> tuple[list[str], list[str]]:
    """How a test differs from that of the run's best checkpoint on the run's own test images: words
    for the names of files, and sentences."""
    labels, reasons = [], []
    path, run = tested.found.path, tested.found.run
    best = best_checkpoint(run) if run is not None else None
    if best is None or best.name != path.name:
        labels.append(path.stem)
        known = f"of which the best checkpoint is {best.name}" if best else "which has no best one"
        reasons.append(f"{path.name} is of {run}, {known}" if run else f"{path} is in no run")
    if not is_own_split(tested):
        source, images = type(tested.data.source).__name__, tested.data.splits.test.data.fingerprint
        labels.append(f"{source}-{images.split()[-1]}")
        reasons.append(f"{source} ({images}) is not known to be the run's own test split")
    return labels, reasons


def _write(
    folder: Path, report: dict[str, Any], evaluation: Evaluation, kind: str, unlike: str
) -> None:
    """Write report and figures into a folder, over those of an earlier test of the same kind, which
    the names of its files end in. Of what it is unlike the run's own the figures say, too."""
    from cifar_lightning.figures import calibration, confusion_matrix, png

    write_json(folder / f"test_report{kind}.json", report)
    title = f"{evaluation.accuracy:.2%} of {report['images']:,} test images"
    title += " flip averaged" * report["flip_averaged"] + (unlike and f"\n{unlike}")
    figure = confusion_matrix(evaluation, list(report["classes"]), title)
    write_bytes(folder / f"test_confusion_matrix{kind}.png", png(figure))
    write_bytes(folder / f"test_calibration{kind}.png", png(calibration(evaluation, "test")))


def table(report: dict[str, Any]) -> str:
    """The report in a few lines."""
    low, high = report["accuracy_95"]
    shown = _lowest(report["classes"])
    width = widest([*shown, ""])
    lines = [
        f"test accuracy      {report['accuracy']:.2%}  (95 % interval {low:.2%} to {high:.2%}, "
        f"{counted(report['images'], 'image')})",
        *(["averaged over each image and its mirror image"] if report["flip_averaged"] else []),
        *([] if (top5 := report["accuracy_top5"]) is None else [f"top-5 accuracy     {top5:.2%}"]),
        f"test loss          {report['loss']:.4f}",
        f"calibration error  {report['calibration_error']:.2%}",
        *[f"{padded(name, 18)} {_number(value)}" for name, value in report["metrics"].items()],
        "",
        f"{'':{width}}  precision  recall      F1  images",
    ]
    for name, of_class in shown.items():
        cells = [_cell(of_class[what]) for what in ("precision", "recall", "f1")]
        images = of_class["images"]
        lines.append(
            f"{padded(name, width)}  {cells[0]:>9}  {cells[1]:>6}  {cells[2]:>6}  {images:>6}"
        )
    if len(shown) < len(report["classes"]):
        lines.append(f"the {_ROWS} classes with the lowest F1; the report has all")
    return "\n".join(lines)


def _lowest(classes: dict[str, Any]) -> dict[str, Any]:
    """The classes that the table has: of many those with the lowest F1."""
    if len(classes) <= _ROWS:
        return classes
    return dict(sorted(classes.items(), key=lambda entry: entry[1]["f1"] or 0.0)[:_ROWS])


def _known(value: float) -> float | None:
    return value if value == value else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
