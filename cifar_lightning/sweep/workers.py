"""Who works at a sweep: a file for each process, locked and touched while it lives."""

import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

_EVERY, _PATIENCE = 15.0, 120.0  # seconds between two signs of life, and until one is missed


class Worker:
    """This process. Within the block others see that it lives.

    On one machine a file's lock says it, which falls with the process. Not every file system
    carries locks from one machine to another: there the file's time says it, by the file system's
    own clock.

    Args:
        folder: where the files are, common to all workers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._file = folder / self.name
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._file)
        self._lock.acquire()
        threading.Thread(target=self._live, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._lock.release()
        self._file.unlink(missing_ok=True)

    def _live(self) -> None:
        while not self._ended.wait(_EVERY):
            with suppress(OSError):  # a disk that is away for a while
                os.utime(self._file)

    def knows_alive(self, name: str) -> bool:
        """Whether a worker lives, this one included."""
        if name == self.name:
            return True
        file = self._folder / name
        if not file.is_file():
            return False
        if name.startswith(f"{_machine()}-"):
            try:
                with FileLock(file, timeout=0):
                    pass
            except Timeout:
                return True
            file.unlink(missing_ok=True)
            return False
        os.utime(self._file)
        return self._file.stat().st_mtime - file.stat().st_mtime < _PATIENCE

    def wait(self) -> None:
        """Until somebody else may have ended."""
        time.sleep(2)


def _machine() -> str:
    """A name that no two machines have, nor two containers that do not share locks."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    of_boot = boot.read_text(encoding="ascii").strip() if boot.exists() else f"{uuid.getnode():x}"
    return f"{platform.node().replace('-', '_')}-{of_boot.replace('-', '')[:12]}"
