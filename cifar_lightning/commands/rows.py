"""The rows of ``compare``: an experiment in raw numbers, and as people read it.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import csv
import difflib
import io
import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cifar_lightning.commands.columns import padded, widest
from cifar_lightning.commands.experiments import Experiment
from cifar_lightning.errors import UsageError
from cifar_lightning.runs.record import Run

Record = dict[str, Any]
"""An experiment by field: plain values, None where nothing is known."""

_FIELDS = {
    "run": "runs", "name": "name", "network": "network", "data": "data", "recipe": "recipe",
    "epochs": "epochs", "best val": "best_val_mean", "test": "test_mean",
    "test, flip averaged": "test_flip_averaged_mean",
    "final": "final_mean", "article's protocol*": "article_protocol_mean",
    "s to reach": "seconds_to_reach", "s/epoch": "seconds_per_epoch",
    "images/s": "images_per_second", "device": "device", "parameters": "parameters",
    "MFLOPs/image": "flops_per_image", "commit": "commit", "command": "command",
}  # fmt: skip
"""The columns of the table, and the fields by which they are sorted."""
_MORE_IS_BETTER = (
    "best val", "test", "test, flip averaged", "final", "article's protocol*", "images/s",
)  # fmt: skip


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


def cells(of: Record) -> dict[str, str]:
    """A record as the table shows it, by column."""
    seeds = of["n"]
    alone = "" if of["status"] == "finished" else of["status"]
    remarks = [f"{seeds} seeds"] if seeds > 1 else [alone] if alone else []
    if of["repeated_by"]:
        remarks.append(f"seed repeated by {', '.join(of['repeated_by'])}")
    flops, command = of["flops_per_image"], of["command"]
    return {
        "run": ", ".join(of["runs"]) + (f" ({'; '.join(remarks)})" if remarks else ""),
        "name": of["name"] or "",
        "network": of["network"],
        "data": of["data"],
        "recipe": of["recipe"],
        "epochs": "–".join(str(n) for n in dict.fromkeys((of["epochs_min"], of["epochs"]))),
        "best val": _percent(of, "best_val"),
        "test": _percent(of, "test"),
        "test, flip averaged": _percent(of, "test_flip_averaged"),
        **{name.replace("_", " ", 1): _mean(of, name) for name in _further(of)},
        "final": _percent(of, "final"),
        "article's protocol*": _percent(of, "article_protocol"),
        **({"s to reach": _time(of)} if "seconds_to_reach" in of else {}),
        "s/epoch": _number(of["seconds_per_epoch"], ".1f"),
        "images/s": _number(of["images_per_second"], ",.0f"),
        "device": of["device"] or "",
        "parameters": _number(of["parameters"], ","),
        "MFLOPs/image": _number(flops and flops / 1e6, ",.0f"),
        "commit": of["commit"] or "",
        "command": f"`{command.removeprefix('python -m cifar_lightning ')}`" if command else "",
    }


def in_order(records: list[Record], column: str | None) -> list[int]:
    """The numbers of the records, sorted by a column: of accuracies, further metrics and images/s
    the largest first, of all else the smallest; what has no value last. Raises UsageError: there is
    no such column."""
    if column is None:
        return list(range(len(records)))
    further = {name.replace("_", " ", 1): f"{name}_mean" for name in _further(records[0])}
    known = {**_FIELDS, **further}
    fields = {name: field for name, field in known.items() if field in records[0]}
    plain = {name.lower().removesuffix("*"): name for name in fields}
    asked = column.lower().removesuffix("*")
    if asked not in plain:
        close = difflib.get_close_matches(asked, plain, n=1)
        meant = f", did you mean {plain[close[0]]}?" if close else ";"
        raise UsageError(
            f"--sort {column}: there is no such column{meant} there are {' | '.join(fields)}."
        )
    name = plain[asked]
    if name == "run":
        return list(range(len(records)))  # the oldest first, which they are
    values = [of[fields[name]] for of in records]
    there = [i for i, value in enumerate(values) if value is not None]
    there.sort(key=lambda i: -values[i] if name in (*_MORE_IS_BETTER, *further) else values[i])
    return there + [i for i, value in enumerate(values) if value is None]


def as_table(records: list[Record]) -> str:
    """For a terminal: without empty columns, and without the command, which is too long for it."""
    rows = [cells(of) for of in records]
    shown = [
        column
        for column in rows[0]
        if column in ("run", "best val") or (column != "command" and any(r[column] for r in rows))
    ]
    lines = [shown, *([row[column] for column in shown] for row in rows)]
    widths = [widest(list(column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(records: list[Record]) -> str:
    """For a README; without the names of runs where none has one."""
    rows = [cells(of) for of in records]
    if not any(row["name"] for row in rows):
        for row in rows:
            del row["name"]
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[cell.replace("|", "\\|") for cell in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_csv(records: list[Record]) -> str:
    """For a spreadsheet: raw numbers; what there are several of is separated by semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0])
    for of in records:
        lists = (value if isinstance(value, list) else [value] for value in of.values())
        writer.writerow(["; ".join("" if v is None else str(v) for v in some) for some in lists])
    return text.getvalue().rstrip("\n")


def as_json(records: list[Record]) -> str:
    """For a script: a list of objects with raw numbers."""
    return json.dumps(records, indent=2, ensure_ascii=False)


FORMATS = {"table": as_table, "md": as_markdown, "csv": as_csv, "json": as_json}


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


def _time(of: Record) -> str:
    text, n = _number(of["seconds_to_reach"], ",.0f"), of["seconds_to_reach_n"]
    return text + (f" ({n} of {of['n']})" if 0 < n < of["n"] else "")


def _percent(of: Record, name: str) -> str:
    """The mean of what is known of some seeds, and its deviation over them."""
    n, mean, deviation = (of[f"{name}_{what}"] for what in ("n", "mean", "std"))
    if mean is None:
        return ""
    text = f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
    return f"{text} %" + (f" ({n} of {of['n']})" if n < of["n"] else "")


def _mean(of: Record, name: str) -> str:
    """Likewise, of a metric that is no share."""
    n, mean, deviation = (of[f"{name}_{what}"] for what in ("n", "mean", "std"))
    if mean is None:
        return ""
    text = f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
    return text + (f" ({n} of {of['n']})" if n < of["n"] else "")


def _further(of: Record) -> list[str]:
    """The fields of further metrics of tests, less ``_mean``."""
    names = [name.removesuffix("_mean") for name in of if name.endswith("_mean")]
    return [name for name in names if name.startswith("test_") and name != "test_flip_averaged"]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _number(value: float | None, form: str) -> str:
    return format(value, form) if value is not None else ""


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
