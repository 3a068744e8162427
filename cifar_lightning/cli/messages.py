"""How the program's own messages look, and which ones of others are left out."""

import logging
import sys
import threading
import warnings


def plain_messages() -> None:
    """Our own messages as plain lines on standard error."""
    show = threading.excepthook

    def show_unless_said(failed: threading.ExceptHookArgs) -> None:
        # what TensorBoard's writer meets is raised again in the main thread, and answered there
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            show(failed)

    threading.excepthook = show_unless_said
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("cifar_lightning").setLevel(logging.INFO)
    # Lightning 2.6's own affair with newer versions of torch
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    # a warning for each metric; all of them are already the same in all processes
    warnings.filterwarnings("ignore", message=".*recommended to use .*sync_dist=True")
    # the loaders of a run that validates nothing, which has said so
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    # how often is decided here, or by the user
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")
    warnings.filterwarnings("ignore", message=".*fp16 is not supported on CPU")  # we refuse it


def quiet_lightning(level: int = logging.WARNING) -> None:
    """Let Lightning say what is wrong alone: it advertises from the moment it is imported."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(level)
    # what callbacks say when they are asked to: ModelSummary, EarlyStopping(verbose=True)
    logging.getLogger("pytorch_lightning.callbacks").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)  # its report
