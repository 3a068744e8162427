"""Writing files whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_lightning.errors import UserError


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
    """Flush a file's content to disk, or a folder's names: a rename is not durable before that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, with the line ends of ``text``.

    Raises:
        UserError: the disk refuses; an older file of that name is kept.
    """
    try:
        with write_then_rename(path) as part, part.open("w", newline="") as file:
            file.write(text)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): make room there, and the "
            "folder writable."
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values as JSON, whole. Raises UserError if the disk refuses."""
    write_text(path, json.dumps(content, indent=2) + "\n")
