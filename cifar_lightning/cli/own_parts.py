"""Networks, losses and other parts that are named by an import path: which they are, and why one
cannot be had."""

import difflib
import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from cifar_lightning.errors import (
    FailedError,
    UsageError,
    UserError,
    is_own,
    own_place,
    own_traceback,
    words,
)
from cifar_lightning.runs.config import flat

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class Constructed:
    """The parts that a command makes: what the first of them that cannot be made has raised.

    jsonargparse answers that with all the types that it has tried.
    """

    def __init__(self) -> None:
        self._failed: tuple[Any, Exception] | None = None

    def prepare(self, value_of: Callable[[str], str | None], ours: dict[str, Any]) -> None:
        """Let functions of the user's own make network and loss: the parser takes those alone that
        say in their annotation that they give a module.

        Args:
            value_of: what the command line says of an option.
            ours: this project's entry of a checkpoint.
        """
        before = dict(flat(ours.get("config") or {}))
        for name in ("model.net", "model.net.class_path", "model.loss", "model.loss.class_path"):
            for path in (value_of(name), before.get(name)):
                made = find(str(path))
                if isinstance(made, FunctionType) and is_own(made.__code__.co_filename):
                    made.__annotations__.setdefault("return", nn.Module)

    def watch(self, parser: LightningArgumentParser, config: dict[str, Any]) -> None:
        """Look on while a parser makes the parts of a configuration."""
        for made in (object, *functions(config)):
            parser.add_instantiator(self._make, made)

    def _make(self, made: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return made(*args, **kwargs)
        except Exception as error:
            self._failed = self._failed or (made, error)
            raise

    def answer(self, error: Exception) -> NoReturn:
        """Raise what is to be said of an error that the parser has raised.

        Raises:
            FailedError: code of the user's own has failed.
            UsageError: a constructor refuses its arguments.
        """
        made, raised = self._failed or (None, error)
        if isinstance(raised, UserError):
            raise raised from error
        if own_traceback(raised) is not None:
            name = getattr(made, "__name__", "")
            raise FailedError(raised, f"{name} cannot be made" * bool(name)) from raised
        usual = (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException)
        if not isinstance(raised, usual):
            raise error
        raise UsageError(words(raised)) from error


def functions(config: Any) -> Iterator[Any]:
    """The functions that a configuration names as ``class_path``, at any depth."""
    if isinstance(config, dict):
        made = find(str(config.get("class_path", "")))
        if made is not None and not isinstance(made, type):
            yield made
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from functions(part)


def find(path: str) -> Any:
    """What an import path means; None if it means nothing, or cannot be imported."""
    if not _PATH.fullmatch(path):
        return None
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except Exception:  # said by explain, when the parser has come to it
        return None


def explain(option: str, path: str) -> str | None:
    """Why there is nothing under an import path; None if there is, or if this is no import path.

    Raises:
        FailedError: the module has raised something of its own.
    """
    if not _PATH.fullmatch(path):
        return None
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except SyntaxError as error:
        where = own_place(str(error.filename), error.lineno)
        return f"{option} {path} cannot be imported: {error.msg} ({where})"
    except ImportError as error:
        if (place := _line_of_own(error)) is not None:
            return f"{option} {path} cannot be imported: {words(error)} ({place})"
        missing = getattr(error, "name", None) or module_name
        return f"{option} {path}: there is no module {missing}{_where(missing)}"
    except Exception as error:
        if own_traceback(error) is None:
            return f"{option} {path} cannot be imported: {type(error).__name__}: {words(error)}"
        raise FailedError(error, f"{option} {path} cannot be imported") from error
    if hasattr(module, name):
        return None
    classes = [n for n, value in vars(module).items() if _is_of(value, module)]
    close = difflib.get_close_matches(name, classes, 1, cutoff=0.5)
    meant = f", did you mean {module_name}.{close[0]}?" if close else ""
    return f"{option} {path}: there is no {name} in {module_name}{meant}"


def _is_of(value: Any, module: ModuleType) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and (
        str(value.__module__).startswith(module.__name__)  # or a module of the package
    )


def _where(missing: str) -> str:
    return "" if "." in missing else f": neither {missing}.py in the current folder nor installed"


def _line_of_own(error: ImportError) -> str | None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_own(f.filename)]
    return own_place(frames[-1].filename, frames[-1].lineno) if frames else None
