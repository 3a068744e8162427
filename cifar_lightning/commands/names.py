"""The commands by name, and a parser for those that are not Lightning's.

Nothing here imports torch: help and ``compare`` shall answer at once.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from cifar_lightning.errors import UsageError, local_path

COMMANDS = {
    "fit": "train a network; goes on with a run when given --ckpt_path last",
    "validate": "measure a checkpoint on the held-out images",
    "test": "measure a checkpoint on the test images, and write a report",
    "predict": "classify pictures of your own (--data.images), or the held-out images",
    "export": "write a checkpoint as a model file that runs elsewhere",
    "compare": "runs side by side: a table and their curves",
    "clean": "what the last states of finished runs take on disk, and removing them",
    "bench": "what a step costs here, beside plain PyTorch; takes what fit takes",
    "sweep": "search for a better recipe; goes on where it was when it is started again",
}

HELP = "\n".join(
    [
        "usage: python -m cifar_lightning COMMAND [options]",
        "",
        "Train AlexNet on CIFAR-10 with PyTorch Lightning.",
        "",
        *[f"  {name:<10} {what}" for name, what in COMMANDS.items()],
        "",
        "python -m cifar_lightning COMMAND --help lists the options of a command.",
        "Exit status: 0 done, 1 failed, 2 wrong usage, 130 after Ctrl-C, 143 after SIGTERM.",
    ]
)


def path(text: str) -> Path:
    """A path as it was typed, ``~`` being one's home: a shell leaves that in ``--logs=~/runs``."""
    try:
        return local_path(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error  # says after which option


def check_target(target: Path, endings: Iterable[str], may_exist: bool = False) -> None:
    """Whether ``--to`` names a file that can be written, and is not there yet. Raises UsageError:
    says what is wrong."""
    if target.suffix not in endings:
        raise UsageError(f"--to {target}: its name must end in {', '.join(endings)}.")
    if target.exists() and not (may_exist and target.is_file()):
        raise UsageError(f"--to {target}: there is a file of that name; remove it or take another.")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"--to {target}: there is no folder {target.absolute().parent}.")


class CommandParser(argparse.ArgumentParser):
    """argparse, less its usage lines: wrong usage is answered in one sentence."""

    def __init__(self, command: str) -> None:
        super().__init__(
            f"python -m cifar_lightning {command}",
            description=COMMANDS[command],
            allow_abbrev=False,
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = [word.partition("=")[0] for word in args or ()]
        for action in self._actions:
            given = [word for word in words if word in action.option_strings]
            if len(given) > 1 and action.nargs is None:  # else they add up
                self.error(f"{given[0]} is given more than once")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help lists what there is)")
