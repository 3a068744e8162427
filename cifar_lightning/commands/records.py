"""An experiment of ``compare`` in raw numbers.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cifar_lightning.commands.experiments import Experiment
from cifar_lightning.runs.record import Run

Record = dict[str, Any]
"""An experiment by field: plain values, None where nothing is known."""


def record(
    experiment: Experiment,
    labels: dict[Path, str],
    metrics: Iterable[str] = (),
    reach: float | None = None,
) -> Record:
    """An experiment in raw numbers.

    Args:
        experiment: its runs.
        labels: what they are called.
        metrics: names of further metrics of tests, which some run here has.
        reach: an accuracy from 0 to 1.

    Returns:
        runs (labels), name, network, data, recipe, status (of the first run, and why it stands
        alone), n (how many seeds), seeds, repeated_by (runs that are not counted), epochs_min and
        epochs; best_val, test, test_flip_averaged, final (the test of a run that validates nothing:
        of its last epoch) and article_protocol, each with ``_n``, ``_mean`` and ``_std``:
        accuracies from 0 to 1, over the seeds of which they are known, the standard deviation that
        of a sample; test_<metric> likewise; seconds_to_reach (median over the seeds that did;
        ``_n``: how many) if there is an accuracy to reach; seconds_per_epoch, images_per_second
        (medians), device, parameters, flops_per_image, commit, command.
    """
    group = experiment.runs
    first = group[0]
    best = [run.best["val/acc"] for run in group if run.best and "val/acc" in run.best]
    single = [run.test for run in group if run.test is not None]
    flipped = [r.test_flip_averaged for r in group if r.test_flip_averaged is not None]
    # of a checkpoint that was chosen on them, what the test images say is no test
    on_test, final = first.config.chosen_on_test, not first.config.validates
    accuracies: dict[str, list[float]] = {
        "best_val": [] if on_test else best,
        "test": [] if on_test or final else single,
        "test_flip_averaged": [] if on_test else flipped,
        **{
            f"test_{name}": [
                r.test_metrics[name] for r in group if name in r.test_metrics and not on_test
            ]
            for name in metrics
        },
        "final": single if final else [],
        "article_protocol": best if on_test else [],
    }
    network = first.card.get("network", {})
    epochs = [max((int(e["epoch"]) for e in run.epochs), default=0) for run in group]
    return {
        "runs": [labels[run.path] for run in group],
        "name": _joined(run.config.name for run in group),
        "network": first.config.network,
        "data": first.config.source,
        "recipe": first.recipe,
        "status": first.alone or first.status,
        "n": len(group),
        "seeds": [run.seed if isinstance(run.seed, int) else None for run in group],
        "repeated_by": [labels[run.path] for run in experiment.repeats],
        "epochs_min": min(epochs),
        "epochs": max(epochs),
        **{
            f"{name}_{what}": value
            for name, values in accuracies.items()
            for what, value in _spread(values).items()
        },
        **({} if reach is None else _reached(group, reach)),
        "seconds_per_epoch": _median(run.median("speed/seconds_per_epoch") for run in group),
        "images_per_second": _median(run.median("speed/images_per_second") for run in group),
        "device": _joined(run.card.get("device", "") for run in group),
        "parameters": network.get("parameters"),
        "flops_per_image": network.get("flops_per_image"),
        "commit": _joined(_commit(run.card.get("git")) for run in group),
        "command": _command(first.card.get("command", ""), len(group) > 1),
    }


def _spread(values: list[float]) -> dict[str, float | int | None]:
    """How many there are, their mean and their standard deviation."""
    return {
        "n": len(values),
        "mean": statistics.mean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def _reached(group: list[Run], accuracy: float) -> Record:
    seconds = [s for run in group if (s := run.seconds_to(accuracy)) is not None]
    return {"seconds_to_reach_n": len(seconds), "seconds_to_reach": _median(seconds)}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _joined(texts: Iterable[str | None]) -> str | None:
    return ", ".join(sorted({str(text) for text in texts if text})) or None


def _commit(git: dict[str, Any] | None) -> str:
    if not git:
        return ""
    return f"{git.get('commit', '')[:7]}{'' if git.get('clean', True) else '+'}"


def _command(command: str, seeds: bool) -> str | None:
    if seeds:
        command = re.sub(r" --seed_everything[ =]\d+", " --seed_everything N", command)
    return command or None
