"""``cifar_lightning.fit``: the command, from a script or a notebook."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT

from cifar_lightning.cli.lightning_cli import run
from cifar_lightning.cli.messages import plain_messages
from cifar_lightning.processes.signals import Interrupted
from cifar_lightning.runs.record import Run, read_run


def fit(*options: object) -> Run | None:
    """Train as ``python -m cifar_lightning fit`` does, with these options.

    >>> run = fit("--config", "quickstart", "--trainer.max_epochs", 2)

    Args:
        options: as the command line has them; each is turned into text.

    Returns:
        The run: its ``path``, ``epochs``, ``best`` metrics and ``best_checkpoint``; None if it has
        no folder (``--trainer.fast_dev_run``).

    Raises:
        UserError: what the command line says in one sentence (of ``cifar_lightning.errors``).
        KeyboardInterrupt: after Ctrl-C, or a notebook's stop; the newest state is saved.
    """
    with _as_the_program(["fit", *map(str, options)]):
        try:
            folder = run().run_folder()
        except Interrupted as interrupted:
            if interrupted.signum == SIGINT:
                raise KeyboardInterrupt from interrupted
            sys.exit(interrupted.exit_status)
    return None if folder is None else read_run(folder)


@contextmanager
def _as_the_program(argv: list[str]) -> Iterator[None]:
    """Have the process look as one that the command line has started, and then as before."""
    arguments, environ, hook = sys.argv, dict(os.environ), threading.excepthook
    root = logging.getLogger()
    handlers = list(root.handlers)
    with warnings.catch_warnings():
        plain_messages()
        sys.argv = ["cifar_lightning", *argv]  # the record of the run and its processes repeat it
        try:
            yield
        finally:
            sys.argv, threading.excepthook, root.handlers[:] = arguments, hook, handlers
            os.environ.clear()
            os.environ.update(environ)
