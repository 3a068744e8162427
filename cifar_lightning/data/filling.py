"""A folder that one process at a time puts something into."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock


@contextmanager
def filling(folder: Path, lock: str) -> Iterator[None]:
    """Have a folder, and be alone there. Whatever happens the lock goes again, and so do folders
    that were made for it and are empty.

    Args:
        folder: the folder; it need not be there.
        lock: the name of a file in it.

    Raises:
        OSError: the folder cannot be made, or nothing be written into it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / lock):
            try:
                yield
            finally:
                # Windows removes no open file. Who has waited for this one is not seen by who comes
                # later: after a failure two may fetch beside each other, which costs time.
                with suppress(OSError):
                    (folder / lock).unlink()
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()
