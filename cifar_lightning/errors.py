"""What goes wrong, in one sentence; and which part of a traceback is of the user's own code."""

import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PYTHON = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parent, *_PYTHON))
_OF_LAUNCHERS = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "MASTER_PORT",
    "NODE_RANK", "SLURM_PROCID", "SLURM_NTASKS",
)  # fmt: skip
_LONGEST = 400  # characters of what an exception says


class UserError(Exception):
    """Something outside the program is wrong.

    The message names the thing and says what to do about it.
    """

    exit_status = 1


class DivergedError(UserError):
    """The loss is no longer a number."""


class UsageError(UserError):
    """The command line asks for what cannot be."""

    exit_status = 2


class FailedError(UserError):
    """Something was raised that nobody has foreseen: by code of the user's own, by a library or by
    this program.

    The message is what the exception says; of the user's own code it says where.

    Args:
        error: what was raised.
        about: the option or the thing that it is about, if that is known.
        run: the folder of the run, if there is one by now.
    """

    def __init__(self, error: BaseException, about: str = "", run: Path | None = None) -> None:
        self.error = error
        self.run = run
        self.own_traceback = own_traceback(error)
        """The traceback from the user's own file on; None if none is in it."""
        said = words(error)
        text = f"{about}: " * bool(about) + type(error).__name__ + f": {said}" * bool(said)
        if (where := _place(error)) is not None:
            text += f" ({where})"
        super().__init__(text.removesuffix(".") + ".")

    def keep_traceback(self) -> str:
        """Add the whole traceback to ``traceback.txt`` in the run's folder. Returns the sentences
        that are to follow the message: where it is, and which checkpoint is there."""
        if self.run is None:
            hint = " Set CIFAR_LIGHTNING_TRACEBACK=1 to see where."
            return "" if self.own_traceback else hint
        path, last = self.run / "traceback.txt", self.run / "checkpoints" / "last.ckpt"
        sentences = ""
        try:
            with path.open("a") as file:
                file.writelines(traceback.format_exception(self.error))
            sentences = f" The whole traceback is in {path}."
        except OSError:  # the disk may be what failed
            pass
        return sentences + f" The last checkpoint is {last}." * last.exists()


@contextmanager
def answered(run: Callable[[], Path | None]) -> Iterator[None]:
    """Turn what nobody has foreseen into a FailedError, with the folder that the run has then."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise FailedError(error, run=run()) from error


@contextmanager
def answered_about(about: str) -> Iterator[None]:
    """Answer what somebody else's code raises: what it is about, and what the exception says.

    Raises:
        FailedError: code of the user's own has raised it.
        UsageError: a library has.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if own_traceback(error) is not None:
            raise FailedError(error, about) from error
        said = words(error) or type(error).__name__
        if "not supported between instances of" in said:
            said = "an argument is of the wrong kind"
        raise UsageError(f"{about}: {said}") from error


def words(error: BaseException) -> str:
    """What an exception says, in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def counted(number: int, thing: str) -> str:
    """A number with its noun: 1 epoch, 2 epochs, 3 classes."""
    many = f"{thing}{'es' if thing.endswith(('s', 'tch')) else 's'}"
    return f"{number:,} {thing if number == 1 else many}"


def local_path(given: str | os.PathLike[str], option: str = "") -> Path:
    """A path of this machine that was given on the command line, ``~`` being one's home.

    Args:
        given: as it was typed.
        option: after which it was typed.

    Raises:
        UsageError: it is empty or an address, it cannot be the name of anything, or it begins with
            the home of somebody who is not known here.
    """
    text = os.fspath(given)
    if not text:
        raise UsageError(f'{option} "": give a path.'.lstrip())
    if re.match(r"[a-zA-Z][\w+.-]+:/", text):  # one letter is a drive of Windows
        what = f"{option} {text}".lstrip()
        raise UsageError(f"{what}: this is an address; give a path of this machine.")
    try:
        path = Path(text).expanduser()
        path.exists()
    except PermissionError:  # whoever reads or writes there says more
        return path
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a zero, ~nobody
        reason = getattr(error, "strerror", None) or str(error)
        shown = text if len(text) <= _LONGEST // 4 else f"{text[: _LONGEST // 4]}…"
        what = f"{option} {shown!r}".lstrip()
        raise UsageError(f"{what} cannot be used ({reason}): give another path.") from error
    return path


def own_traceback(error: BaseException) -> str | None:
    """The traceback of an exception, and of those behind it, from the first file on that is neither
    ours nor a library's; None if no such file is in it."""
    if not _own_frames(error):
        return None
    whole = part = traceback.TracebackException.from_exception(error)
    while True:
        own = [place for place, frame in enumerate(part.stack) if is_own(frame.filename)]
        del part.stack[: own[0]]
        behind = part.__cause__ or part.__context__
        if behind is None or not any(is_own(frame.filename) for frame in behind.stack):
            part.__cause__ = part.__context__ = None
            return "".join(whole.format())
        part = behind


def is_own(file: str) -> bool:
    """Whether a file of code is the user's own: neither ours, nor a library's, nor Python's."""
    return not file.startswith(("<", *_LIBRARIES)) and "-packages" not in file


def own_place(file: str, line: int | None) -> str:
    """A line of a file, as one says it; from the current folder if the file is in it."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}, line {line}"


def _place(error: BaseException) -> str | None:
    frames = _own_frames(error)
    return own_place(frames[-1].filename, frames[-1].lineno) if frames else None


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if is_own(frame.filename)]


def process_number() -> int:
    """The number of this process among those that torchrun, SLURM or the first of them started:
    who it is that speaks, also before they are connected."""
    numbers = (os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return int(next((number for number in numbers if number.isdecimal()), "0"))


def check_environment() -> None:
    """Whether what a launcher has told this process is numbers. Raises UserError."""
    for name in _OF_LAUNCHERS:
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise UserError(f"The environment variable {name} is {value!r}, no number: unset it.")
