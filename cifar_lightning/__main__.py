"""``python -m cifar_lightning``: run a command, answer what goes wrong in one sentence."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cifar_lightning.cli.messages import plain_messages
from cifar_lightning.commands.names import HELP
from cifar_lightning.errors import FailedError, UserError, check_environment, process_number
from cifar_lightning.processes.signals import Interrupted, stop_at_once


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point; in Python ``cifar_lightning.fit`` is the one to call.

    Args:
        argv: the arguments; the process's own if they are left out.

    Exit status: 0 done; 1 failed, with a sentence on standard error, and the traceback where the
    user's own code raised; 2 wrong usage; 130 after Ctrl-C and 143 after SIGTERM.
    """
    if argv is not None:
        sys.argv[1:] = argv
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:  # closed, which print does not mind and others do
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    try:
        # read when torch is imported: its sockets complain of every process that has ended
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        stop_at_once()
        if isinstance(sys.stdout, io.TextIOWrapper):  # not every terminal knows ± and class names
            sys.stdout.reconfigure(errors="replace")
        plain_messages()
        check_environment()
        if str(_here()) not in sys.path:  # as `python -m` has it, and `cifar-lightning` not
            sys.path.insert(0, str(Path.cwd()))
        # after the handlers: importing torch takes seconds, in which Ctrl-C is as likely as later
        with _printing():
            _run(sys.argv[1:])
    except BrokenPipeError:
        # `compare | head` has read enough; Python would flush once more when it ends, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Interrupted as interrupted:
        if process_number() == 0:
            print(f"\nStopped by {interrupted}.", file=sys.stderr)
        sys.exit(interrupted.exit_status)
    except Exception as error:
        if os.environ.get("CIFAR_LIGHTNING_TRACEBACK"):
            raise
        failure = error if isinstance(error, UserError) else FailedError(error)
        _say(failure)
        sys.exit(failure.exit_status)


def _here() -> Path:
    """The current folder. Raises UserError: it has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UserError("The current folder has been removed: change to another one.") from error


@contextmanager
def _printing() -> Iterator[None]:
    """Notice what standard output refuses within the block, as a disk that is full does: argparse,
    who prints help, does not mind. Raises UserError."""
    out, refused = sys.stdout, []
    write = out.write

    def watched(text: str) -> int:
        try:
            return write(text)
        except OSError as error:
            refused.append(error)
            raise

    out.write = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        out.write = write  # type: ignore[method-assign]
        try:
            out.flush()
        except OSError as error:
            refused.append(error)
        if any(isinstance(error, BrokenPipeError) for error in refused):
            raise refused[0]
        if refused:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # else Python tries again
            raise UserError(f"Standard output cannot be written ({refused[0].strerror}).")


def _say(error: UserError) -> None:
    if "cifar_lightning.processes.launch" in sys.modules:  # else there is but this process
        from cifar_lightning.processes.launch import is_said

        if is_said(error):
            return
    which = f"process {process_number()}: " if process_number() else ""
    text = str(error)
    for word in (word.strip("/") for word in sys.argv[1:] if not word.isprintable()):
        text = text.replace(word, repr(word)[1:-1])  # a line stays a line
    if "\n" not in text and not text.endswith((".", "!", "?", ")", "]")):
        text += "."  # what a constructor of somebody else raised
    if isinstance(error, FailedError):
        text += error.keep_traceback()
    print(f"cifar_lightning: {which}{text}", file=sys.stderr)
    if isinstance(error, FailedError) and error.own_traceback:
        print(error.own_traceback, end="", file=sys.stderr)


def _run(argv: list[str]) -> None:
    first = argv[0] if argv else ""
    if first in ("-h", "--help"):
        print(HELP)
    elif first == "--version":
        try:
            print(f"cifar_lightning {version('cifar_lightning')}")
        except PackageNotFoundError:
            print("cifar_lightning, not installed: a copy of its sources")
    elif first == "compare":
        from cifar_lightning.commands.compare import compare

        compare(argv[1:])
    elif first == "clean":
        from cifar_lightning.commands.clean import clean

        clean(argv[1:])
    elif first == "export":
        from cifar_lightning.commands.export import export

        export(argv[1:])
    elif first == "bench":
        from cifar_lightning.bench.bench import bench

        bench(argv[1:])
    elif first == "sweep":
        try:
            from cifar_lightning.sweep.sweep import sweep
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("optuna"):
                raise
            install = "pip install 'cifar_lightning[sweep]', in a clone pip install -e '.[sweep]'"
            raise UserError(f"sweep needs Optuna: {install}.") from error
        sweep(argv[1:])
    else:
        from cifar_lightning.cli.lightning_cli import run

        run()


if __name__ == "__main__":
    main()
