"""What ``test`` leaves behind: a table in the terminal, ``test_report.json`` and two figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_lightning.metrics import Evaluation
from cifar_lightning.runs.files import write_json
from cifar_lightning.runs.folders import LoadedCheckpoint
from cifar_lightning.runs.loggers import write_test_metrics


def report_test(
    found: LoadedCheckpoint,
    evaluation: Evaluation,
    metrics: dict[str, float],
    class_names: Sequence[str],
    flip_averaged: bool,
) -> None:
    """Print the report of a test, and write it into the checkpoint's run.

    Args:
        found: the checkpoint that was tested.
        evaluation: the pass over the test images.
        metrics: what was logged of it, by name.
        class_names: of the labels.
        flip_averaged: whether each image was averaged with its mirror image.

    Raises:
        UserError: the disk refuses.
    """
    folder = found.run or Path.cwd()
    loss = next(value for name, value in metrics.items() if name.startswith("test/loss"))
    report = write_report(folder, evaluation, loss, class_names, found.path, flip_averaged)
    if found.run is not None:
        write_test_metrics(folder, metrics, found.content["global_step"])
    print(f"{table(report)}\n\nreport: {folder}/test_report*.json and test_*.png")


def write_report(
    folder: Path,
    evaluation: Evaluation,
    loss: float,
    class_names: Sequence[str],
    checkpoint: Path,
    flip_averaged: bool = False,
) -> dict[str, Any]:
    """Write report and figures into a folder, over those of an earlier test of the same kind: a
    test averaged over mirror images has ``_flip_averaged`` in the names of its files.

    Returns:
        the content of ``test_report.json``: checkpoint, flip_averaged, images, loss, accuracy,
        accuracy_95 (95 % confidence interval, Wilson), calibration_error (expected, 15 bins),
        classes (of each: precision, recall, f1, images; null where there is nothing to divide by),
        confusion_matrix (rows are the truth).
    """
    from cifar_lightning.figures import calibration, confusion_matrix, save

    rows = zip(
        class_names,
        evaluation.precision.tolist(),
        evaluation.recall.tolist(),
        evaluation.f1.tolist(),
        evaluation.confusion_matrix.sum(dim=1).tolist(),
        strict=True,
    )
    report = {
        "checkpoint": str(checkpoint),
        "flip_averaged": flip_averaged,
        "images": len(evaluation.labels),
        "loss": loss,
        "accuracy": evaluation.accuracy,
        "accuracy_95": list(evaluation.accuracy_interval),
        "calibration_error": evaluation.calibration_error,
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
    kind = "_flip_averaged" if flip_averaged else ""
    write_json(folder / f"test_report{kind}.json", report)
    title = f"{evaluation.accuracy:.2%} of {len(evaluation.labels):,} test images"
    title += kind.replace("_", " ")
    figure = confusion_matrix(evaluation, class_names, title)
    save(figure, folder / f"test_confusion_matrix{kind}.png")
    save(calibration(evaluation, "test"), folder / f"test_calibration{kind}.png")
    return report


def table(report: dict[str, Any]) -> str:
    """The report in a few lines."""
    low, high = report["accuracy_95"]
    width = max(len(name) for name in report["classes"])
    lines = [
        f"test accuracy      {report['accuracy']:.2%}  (95 % interval {low:.2%} to {high:.2%}, "
        f"{report['images']:,} images)",
        *(["averaged over each image and its mirror image"] if report["flip_averaged"] else []),
        f"test loss          {report['loss']:.4f}",
        f"calibration error  {report['calibration_error']:.2%}",
        "",
        f"{'':{width}}  precision  recall      F1  images",
    ]
    for name, of_class in report["classes"].items():
        cells = [_cell(of_class[what]) for what in ("precision", "recall", "f1")]
        lines.append(
            f"{name:{width}}  {cells[0]:>9}  {cells[1]:>6}  {cells[2]:>6}  {of_class['images']:>6}"
        )
    return "\n".join(lines)


def _known(value: float) -> float | None:
    return value if value == value else None


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
