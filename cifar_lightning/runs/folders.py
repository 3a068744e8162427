"""The folders of runs: ``lightning_logs/version_N``, and the checkpoints in them."""

import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from cifar_lightning.errors import UserError
from cifar_lightning.processes import slurm
from cifar_lightning.runs.checkpoint_io import KEY, read_checkpoint
from cifar_lightning.runs.config import write_config
from cifar_lightning.runs.ending import read_summary, reopen
from cifar_lightning.runs.loggers import event_files
from cifar_lightning.runs.record import (
    best_checkpoint,
    kept_checkpoints,
    list_runs,
    run_number,
)

log = logging.getLogger(__name__)


class LoadedCheckpoint(NamedTuple):
    """A checkpoint that was read, and where."""

    path: Path
    content: dict[str, Any]

    @property
    def run(self) -> Path | None:
        """The run that it lies in; None when it lies elsewhere."""
        inside = self.path.parent.name == "checkpoints"
        return self.path.parent.parent if inside else None

    @property
    def ours(self) -> dict[str, Any]:
        """What this project adds to Lightning's content: format, config, data, class_names,
        image_side, logs; empty if the checkpoint was made without it."""
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
    """Where the runs are, below the trainer's ``default_root_dir``."""
    return Path(root or ".") / "lightning_logs"


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
    elif _is_newest_state(found):
        run = found.run
    else:
        run = _new_run(logs)
        _branch(found, run)
        log.info("%s has gone on from there since: this run branches off.", found.run)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=1)  # compare takes it for a moment, to see who is training
    except Timeout:
        raise UserError(
            f"{run}: another process is training this run; wait for its end or stop it."
        ) from None
    if (job := slurm.job_id()) is not None:
        (run / "slurm_job").write_text(job)
    reopen(run)
    if found is not None and run != found.run and (before := found.ours.get("config")):
        write_config(run, before)  # what the first part of it was trained with
    write_config(run, config)
    return run, lock


def find_checkpoint(name: str, logs: Path) -> LoadedCheckpoint:
    """Read the checkpoint that ``last``, ``best`` or a path means.

    ``last`` and ``best`` are those of the newest run under ``logs`` that has any. Where the
    newest state of a run cannot be read, ``last`` is the newest that can, with a warning; a newer
    run that has none is named, with the reason.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if name not in ("last", "best"):
        path = Path(name).expanduser()
        return LoadedCheckpoint(path, read_checkpoint(path))
    passed_over: dict[str, list[Path]] = {}
    for run in reversed(list_runs(logs)):
        last, kept = run / "checkpoints" / "last.ckpt", kept_checkpoints(run)
        candidates = kept[:1] if name == "best" else [last] * last.exists() + kept
        if name == "best" and not kept and (stands_for_it := best_checkpoint(run)) is not None:
            log.info("%s has no best epoch, as it validates nothing: its last one is used.", run)
            candidates = [stands_for_it]
        if not candidates:
            why = "no epoch of it has been validated" if last.exists() else "it has no checkpoint"
            passed_over.setdefault(why, []).append(run)
            continue
        problems = []
        for path in candidates:
            try:
                found = LoadedCheckpoint(path, read_checkpoint(path))
            except UserError as error:
                problems.append(str(error))
                continue
            for why, runs in passed_over.items():
                log.warning("%s is passed over: %s.", _named(runs), why)
            for problem in problems:
                log.warning("%s Using %s instead.", problem, path)
            return found
        raise UserError(f"{run} has no checkpoint that can be read. {' '.join(problems)}")
    if name == "best" and any(logs.glob("version_*/checkpoints/last.ckpt")):
        raise UserError(
            f"--ckpt_path best: no run under {logs} has validated an epoch, so none has a best "
            "one; give --ckpt_path last, or the path of a checkpoint."
        )
    raise UserError(
        f"--ckpt_path {name}: no run under {logs} has a checkpoint; start one with "
        "`python -m cifar_lightning fit`, or give the path of a checkpoint."
    )


def checkpoint_of_job(logs: Path) -> Path | None:
    """Find ``last.ckpt`` of the run that this SLURM job trained before it was requeued.

    Outside such a job, or if that run has none yet, return None.
    """
    if not slurm.was_requeued():
        return None
    for run in reversed(list_runs(logs)):
        mark = run / "slurm_job"
        if mark.exists() and mark.read_text() == slurm.job_id():
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


def _is_newest_state(found: LoadedCheckpoint) -> bool:
    """Whether the run of ``found`` holds no newer state that going on there would lose."""
    if found.path.name == "last.ckpt" or found.run is None:
        return True
    path = found.path.with_name("last.ckpt")
    try:
        # clean may have removed the state, not the logs, which say how far the run has come
        last = read_checkpoint(path) if path.exists() else read_summary(found.run)
    except (UserError, ValueError):
        return True
    return bool(last.get("global_step", 0) <= found.content["global_step"])


def _branch(found: LoadedCheckpoint, run: Path) -> None:
    """Copy the logs and the best checkpoint of the run of ``found`` into a new run."""
    if found.run is None:
        return
    for file in (*found.run.glob("metrics.csv"), *event_files(found.run)):
        shutil.copy2(file, run)
    best = found.content.get("callbacks", {}).get("Checkpoints", {}).get("best_name")
    if best and (found.path.parent / best).exists():
        (run / "checkpoints").mkdir()
        shutil.copy2(found.path.parent / best, run / "checkpoints")
