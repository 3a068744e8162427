"""Writing files whole or not at all, on any platform, and into folders of others."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_lightning.errors import UserError

# What Windows and some network drives answer, where a folder cannot be opened or flushed.
_NO_FLUSH = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOTSUP}


@contextmanager
def write_then_rename(path: Path) -> Iterator[Path]:
    """Yield a path to write to; after the block, flush that file to disk and rename it to ``path``.

    Readers find the old file or the new one, never half of one, even after a kill or a power
    failure. If the block or the disk fails, the old file stays and the new one is removed.

    Raises:
        OSError: the disk refuses.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        flush(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file's content to disk, or a folder's names: a rename is not durable before that.

    Where the platform flushes no folders, its own order of writing has to do.
    """
    folder = path.is_dir()
    # Windows flushes what was opened for writing alone
    how = os.O_RDWR if not folder and os.access(path, os.W_OK) else os.O_RDONLY
    try:
        descriptor = os.open(path, how)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder or error.errno not in _NO_FLUSH:
            raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole.

    Raises:
        UserError: the disk refuses; an older file of that name is kept.
    """
    try:
        with write_then_rename(path) as part, part.open("wb") as file:
            file.write(content)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): make room there, and the "
            "folder writable."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8, with the line ends of ``text``. Raises UserError if the
    disk refuses."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values as JSON, whole. Raises UserError if the disk refuses."""
    write_text(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def refusals_said() -> Iterator[None]:
    """Answer with a sentence what the system refuses within the block, or the function that this
    decorates: raises UserError for OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be used ({error.strerror or error}): see to the disk and to "
            "its permissions."
        ) from error


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be made in a folder, as the system says it; None if one can.

    One is made and removed: what permissions say is not the whole truth on network drives, on
    Windows, and for root.
    """
    trial = folder / f".writable-{os.getpid()}"
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None
