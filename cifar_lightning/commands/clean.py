"""``clean``: free what the last states of finished runs take on disk.

Nothing here imports torch: it shall answer at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from filelock import FileLock, Timeout

from cifar_lightning.commands.experiments import find_runs
from cifar_lightning.commands.names import CommandParser, path
from cifar_lightning.errors import UserError
from cifar_lightning.runs.record import best_checkpoint, list_runs, read_run


def clean(argv: Sequence[str]) -> None:
    """Run the command. Raises UserError: there is no such run, or a file cannot be removed."""
    parser = CommandParser("clean")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", type=path, help="folders of runs; by default all"
    )
    parser.add_argument(
        "--logs", type=path, default=Path("lightning_logs"), help="where the runs are"
    )
    parser.add_argument(
        "--remove", action="store_true", help="remove the files; without it they are only listed"
    )
    asked = parser.parse_args(argv)
    if not asked.runs and asked.logs != Path("lightning_logs") and not asked.logs.exists():
        raise UserError(f"--logs {asked.logs}: there is no such folder.")
    freed: list[int] = []
    for run in find_runs(asked.runs, asked.logs):
        last = run / "checkpoints" / "last.ckpt"
        if not last.exists():
            continue
        if (why := _needed(run)) is not None:
            print(f"{run} keeps its last.ckpt: {why}.", file=sys.stderr)
            continue
        size = last.stat().st_size
        if asked.remove and not _removed(last, run):
            continue
        print(f"{last}  {size / 1e6:,.1f} MB")
        freed.append(size)
    total = f"{sum(freed) / 1e6:,.1f} MB in {len(freed)} file{'s' if len(freed) != 1 else ''}"
    if asked.remove:
        print(f"{total} removed")
    elif freed:
        print(f"{total}: add --remove to remove them. The best epochs stay, and can be tested.")
    else:
        print("nothing to remove")


def _needed(run: Path) -> str | None:
    """Why a run's last state must stay; None if it need not."""
    for logs in (run.parent, run.resolve().parent):
        if any(newest.samefile(run) for newest in list_runs(logs)[-1:]):
            return "it is the newest run, which --ckpt_path last means"
    try:
        found = read_run(run)
    except ValueError as error:
        return f"it cannot be read as a run ({error})"
    if found.status != "finished":
        return f"it is {found.status}"
    if found.alone == "ended by time":
        return "max_time ended it, and it can go on"
    best = best_checkpoint(run)
    if best is None or best.name == "last.ckpt":
        return "it has no checkpoint of its best epoch"
    if not _is_whole(best):
        return f"{best.name} is damaged"
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        with ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (OSError, BadZipFile):
        return False


def _removed(last: Path, run: Path) -> bool:
    """Remove a run's last state, unless somebody has begun to go on from it."""
    try:
        with FileLock(run / ".lock", timeout=0):
            last.unlink()
    except Timeout:
        print(f"{run} keeps its last.ckpt: it is running.", file=sys.stderr)
        return False
    except OSError as error:
        raise UserError(f"{last} cannot be removed ({error.strerror or error}).") from error
    return True
