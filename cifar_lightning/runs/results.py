"""Where a command leaves what it finds out about a run, which may be somebody else's."""

import hashlib
import logging
from pathlib import Path

from cifar_lightning.runs.files import why_not_writable

log = logging.getLogger(__name__)


def results_folder(run: Path | None) -> Path | None:
    """The folder for the results of a run: its own. If that can only be read, one in the current
    folder, named after the run; None if that cannot be made either, and results are but printed.
    What is not as usual is said, so this is asked before the work is done.

    Args:
        run: the run's folder; the current folder takes its place if None.
    """
    usual = run or Path.cwd()
    if (reason := why_not_writable(usual)) is None:
        return usual
    if run is not None and (folder := _folder_here(run)) is not None:
        log.info("%s can only be read (%s): the results go into %s.", run, reason, folder)
        return folder
    here = "" if run is None else ", nor can the current folder"
    log.warning("%s cannot be written (%s)%s: results are printed alone.", usual, reason, here)
    return None


def _folder_here(run: Path) -> Path | None:
    """A folder for the results of a run alone: other people's runs have the same names."""
    path = run.resolve()
    folder = Path(f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}")
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if why_not_writable(folder) is None else None
