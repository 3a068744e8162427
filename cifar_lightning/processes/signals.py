"""Ctrl-C and SIGTERM: at once, or after what must not be cut in two."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked the program to stop.

    Not an ``Exception``, so that nothing takes it for a failure and goes on; not a
    ``KeyboardInterrupt``, which Lightning swallows and turns into exit status 1.

    Args:
        signum: the signal.
        between_batches: whether a run was ended where all its processes had finished a batch, its
            state saved.
    """

    def __init__(self, signum: int, between_batches: bool = False) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.between_batches = between_batches

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells count: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


def stop_at_once() -> None:
    """From here on a signal raises ``Interrupted`` where the program stands."""

    def handler(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    for signum in SIGNALS:
        signal.signal(signum, handler)


class GracefulStop:
    """While installed, the first signal is only noted; the second stops at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def install(self, *more: int) -> None:
        """Watch for Ctrl-C and SIGTERM, and for other signals given; in the main thread alone, as
        Python has it."""
        if threading.current_thread() is not threading.main_thread():
            return
        watched = (*SIGNALS, *more)
        self._before = {signum: signal.signal(signum, self._handle) for signum in watched}

    def remove(self) -> None:
        """Give the signals back to whoever had them."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def raise_if_asked(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise Interrupted(signum)
        self.signum = signum
        log.warning(
            "%s: finishing the batch, then saving (once more to stop at once)",
            "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name,
        )
