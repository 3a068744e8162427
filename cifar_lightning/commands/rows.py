"""The rows of ``compare``: records in order, and as people, spreadsheets and scripts read them.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import csv
import difflib
import io
import json

from cifar_lightning.commands.columns import padded, widest
from cifar_lightning.commands.records import Record
from cifar_lightning.errors import UsageError

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


def _time(of: Record) -> str:
    """To the accuracy that was asked for: nobody shall look for a column that is left out."""
    n = of["seconds_to_reach_n"]
    if not n:
        return "not reached"
    return f"{of['seconds_to_reach']:,.0f}" + (f" ({n} of {of['n']})" if n < of["n"] else "")


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


def _number(value: float | None, form: str) -> str:
    return format(value, form) if value is not None else ""
