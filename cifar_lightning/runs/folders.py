"""The folders of runs: ``lightning_logs/version_N``, and the checkpoints in them."""

import logging
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from cifar_lightning.errors import UserError, local_path
from cifar_lightning.processes import slurm
from cifar_lightning.runs.checkpoint_io import KEY, read_checkpoint
from cifar_lightning.runs.config import write_config
from cifar_lightning.runs.ending import read_summary, reopen
from cifar_lightning.runs.files import refusals_said, why_not_writable, write_text
from cifar_lightning.runs.loggers import event_files
from cifar_lightning.runs.record import (
    best_checkpoint,
    is_run_name,
    kept_checkpoints,
    list_runs,
    run_number,
)

log = logging.getLogger(__name__)

Which = Literal["best", "last"]


class LoadedCheckpoint(NamedTuple):
    """A checkpoint that was read, and where."""

    path: Path
    content: dict[str, Any]

    @property
    def run(self) -> Path | None:
        """The run that it lies in; None when it lies elsewhere, be it in a copy of the folder
        ``checkpoints`` alone."""
        run = self.path.parent.parent
        is_run = (run / "config.yaml").exists() or is_run_name(run.resolve().name)
        return run if is_run and self.path.parent.name == "checkpoints" else None

    @property
    def ours(self) -> dict[str, Any]:
        """What this project adds to Lightning's content: format, config, data, class_names,
        image_side, computed_by, code, logs; empty if the checkpoint was made without it."""
        entry: dict[str, Any] = self.content.get(KEY, {})
        return entry

    @property
    def image_side(self) -> int:
        """Height and width of the images that it was trained on, in pixels."""
        # earlier versions did not write it down: there images were 32×32, or scaled
        source = ((self.ours.get("config") or {}).get("data") or {}).get("source") or {}
        resize = (source.get("init_args") or {}).get("resize")
        return int(self.ours.get("image_side") or resize or 32)


def logs_folder(root: str | Path | None) -> Path:
    """Where the runs are, below the trainer's ``default_root_dir``. Raises UsageError: that is an
    address, not a folder."""
    return local_path(root or ".", "--trainer.default_root_dir") / "lightning_logs"


@refusals_said()
def open_run(
    logs: Path, found: LoadedCheckpoint | None, config: dict[str, Any]
) -> tuple[Path, FileLock]:
    """Open the folder of a run that begins or goes on from a checkpoint, lock it, as two processes
    would overwrite each other's checkpoints, and write down what it was asked for.

    Raises:
        UserError: another process trains this run, or its folder cannot be made.
    """
    if found is None or found.run is None:
        run = _new_run(logs)
    elif (why := _why_branch(found)) is None:
        run = found.run
    else:
        run = _new_run(logs)
        _branch(found, run)
        log.info("%s %s: this run branches off.", found.run, why)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=1)  # compare takes it for a moment, to see who is training
    except Timeout:
        raise UserError(
            f"{run}: another process is training this run; wait for its end or stop it."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"{run} cannot be locked ({error}), so two processes might train it at once: take "
            "another file system, with --trainer.default_root_dir."
        ) from error
    if (job := slurm.job_id()) is not None:
        write_text(run / "slurm_job", job)
    reopen(run)
    if found is not None and run != found.run and (before := found.ours.get("config")):
        write_config(run, before)  # what the first part of it was trained with
    write_config(run, config)
    return run, lock


def goes_on(found: LoadedCheckpoint | None) -> bool:
    """Whether a run that starts from a checkpoint, if any, goes on in the folder of that."""
    return found is not None and found.run is not None and _why_branch(found) is None


@refusals_said()
def find_checkpoint(
    name: str, logs: Path, of_run: Which = "best", option: str = "--ckpt_path"
) -> LoadedCheckpoint:
    """Read the checkpoint that ``last``, ``best``, a path or the folder of a run means.

    ``last`` and ``best`` are those of the newest run of ``fit`` under ``logs`` that has any. Where
    the newest state of a run cannot be read, ``last`` is the newest that can, with a warning; a
    newer run that has none is named, with the reason.

    Args:
        name: what is asked for.
        logs: the folder of all runs.
        of_run: which one the folder of a run means.
        option: after which it is asked for.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if name not in ("last", "best"):
        path = local_path(name, option)
        if not path.is_dir():
            return LoadedCheckpoint(path, read_checkpoint(path))
        run = path.parent if path.name == "checkpoints" else path
        if (why := _why_passed_over(run, of_run)) is not None:
            raise UserError(f"{option} {name}: the run has no {of_run} checkpoint: {why}.")
        return _read_of(run, of_run)
    which: Which = "best" if name == "best" else "last"
    passed_over: dict[str, list[Path]] = {}
    for run in reversed(list_runs(logs)):
        why = _why_passed_over(run, which)
        if why is None and not (run / "config.yaml").exists():
            why = "it was made from Python, and no command knows of what; give its path to take it"
        if why is not None:
            passed_over.setdefault(why, []).append(run)
            continue
        found = _read_of(run, which)
        for why, runs in passed_over.items():
            log.warning("%s is passed over: %s.", _named(runs), why)
        return found
    if name == "best" and any(logs.glob("version_*/checkpoints/last.ckpt")):
        raise UserError(
            f"{option} best: no run under {logs} has validated an epoch, so none has a best "
            f"one; give {option} last, or the path of a checkpoint."
        )
    raise UserError(
        f"{option} {name}: no run under {logs} has a checkpoint; start one with "
        "`python -m cifar_lightning fit`, or give the path of a checkpoint."
    )


def weights_file(given: str, logs: Path) -> str:
    """The file whose weights a new run starts from: a checkpoint that ``best``, ``last`` or the
    folder of a run means, else what was given. Raises UserError: there is no such checkpoint."""
    option = "--model.weights"
    if given in ("best", "last") or local_path(given, option).is_dir():
        return str(find_checkpoint(given, logs, option=option).path)
    return given


def _candidates(run: Path, which: Which) -> list[Path]:
    if which == "best":
        return [best] if (best := best_checkpoint(run)) is not None else []
    last = run / "checkpoints" / "last.ckpt"
    return [last] * last.exists() + kept_checkpoints(run)


def _why_passed_over(run: Path, which: Which) -> str | None:
    """Why a run has no such checkpoint; None if it has."""
    if _candidates(run, which):
        return None
    last = run / "checkpoints" / "last.ckpt"
    return "no epoch of it has been validated" if last.exists() else "it has no checkpoint"


def _read_of(run: Path, which: Which) -> LoadedCheckpoint:
    """The first of a run's candidates that can be read, others with a warning. Raises UserError:
    none can."""
    problems = []
    for path in _candidates(run, which):
        try:
            found = LoadedCheckpoint(path, read_checkpoint(path))
        except UserError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            log.warning("%s Using %s instead.", problem, path)
        if which == "best" and path.name == "last.ckpt":
            log.info("%s has no best epoch, as it validates nothing: its last one is used.", run)
        return found
    raise UserError(f"{run} has no checkpoint that can be read. {' '.join(problems)}")


@refusals_said()
def checkpoint_of_job(logs: Path) -> Path | None:
    """Find ``last.ckpt`` of the run that this SLURM job trained before it was requeued.

    Outside such a job, or if that run has none yet, return None.
    """
    if not slurm.was_requeued():
        return None
    for run in reversed(list_runs(logs)):
        mark = run / "slurm_job"
        if mark.exists() and mark.read_text(encoding="utf-8") == slurm.job_id():
            last = run / "checkpoints" / "last.ckpt"
            return last if last.exists() else None
    return None


def is_newest_run(run: Path) -> bool:
    """Whether ``--ckpt_path last`` means this run."""
    return all(run_number(other) <= run_number(run) for other in list_runs(run.parent))


def _named(runs: list[Path]) -> str:
    """The newest of some runs, and how many more."""
    return f"{runs[0]}{f' (and {len(runs) - 1} older)' if len(runs) > 1 else ''}"


def _new_run(logs: Path) -> Path:
    """Create the next ``version_N``, unlike that of any other process."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        number = max(map(run_number, list_runs(logs)), default=-1) + 1
        while True:
            run = logs / f"version_{number}"
            try:
                run.mkdir()
                return run
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UserError(
            f"{logs} cannot hold a new run ({error.strerror}): make it a writable folder, or "
            "choose another place with --trainer.default_root_dir."
        ) from error


def _why_branch(found: LoadedCheckpoint) -> str | None:
    """Why a run cannot go on in its own folder; None if it can."""
    assert found.run is not None
    for folder in (found.run, found.path.parent):
        if (reason := why_not_writable(folder)) is not None:
            return f"can only be read ({reason})"
    if found.path.name == "last.ckpt":
        return None
    path = found.path.with_name("last.ckpt")
    try:
        # clean may have removed the state, not the logs, which say how far the run has come
        last = read_checkpoint(path) if path.exists() else read_summary(found.run)
    except (UserError, ValueError):
        return None
    # a newer one would be lost by going on there
    newer = last.get("global_step", 0) > found.content["global_step"]
    return "has gone on from there since" if newer else None


def _branch(found: LoadedCheckpoint, run: Path) -> None:
    """Copy the logs and the best checkpoint of the run of ``found`` into a new run, as files of
    one's own: those of another may be there to be read alone."""
    if found.run is None:
        return
    files = {file: run / file.name for file in found.run.glob("metrics.csv")}
    files |= {file: run / file.name for file in event_files(found.run)}
    best = found.content.get("callbacks", {}).get("Checkpoints", {}).get("best_name")
    if best and (found.path.parent / best).exists():
        files[found.path.parent / best] = run / "checkpoints" / best
    try:
        (run / "checkpoints").mkdir()
        for file, copy in files.items():
            shutil.copyfile(file, copy)
    except OSError as error:
        raise UserError(
            f"{found.run} cannot be copied to {run} ({error.strerror}): see to the disk and to the "
            "permissions there."
        ) from error
