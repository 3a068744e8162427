"""``python -m cifar_lightning``: run a command, answer what goes wrong in one sentence."""

import logging
import os
import sys
import warnings

from cifar_lightning.errors import UserError
from cifar_lightning.interrupts import Interrupted, stop_at_once


def main() -> None:
    """The entry point.

    Exit status: 0 done; 1 failed, with a sentence on standard error; 2 wrong usage; 130 after
    Ctrl-C and 143 after SIGTERM.
    """
    try:
        stop_at_once()
        _quiet()
        # after the handlers: importing torch takes seconds, in which Ctrl-C is as likely as later
        from cifar_lightning.cli import run

        run()
    except Interrupted as interrupted:
        print(f"\nStopped by {interrupted}.", file=sys.stderr)
        sys.exit(interrupted.exit_status)
    except UserError as error:
        if os.environ.get("CIFAR_LIGHTNING_TRACEBACK"):
            raise
        print(f"cifar_lightning: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def _quiet() -> None:
    """Our own messages as plain lines on standard error, and none of Lightning's advertisements."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("cifar_lightning").setLevel(logging.INFO)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6's own affair with newer versions of torch
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message=".*fp16 is not supported on CPU")  # we refuse it


if __name__ == "__main__":
    main()
