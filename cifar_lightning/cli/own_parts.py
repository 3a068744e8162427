"""Networks, losses and other parts that are named by an import path: which they are, and why one
cannot be had."""

import difflib
import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from cifar_lightning.errors import FailedError, is_own, own_place, own_traceback, words
from cifar_lightning.runs.config import flat

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


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
        return getattr(_import(module), name, None)
    except Exception:  # said by explain, when the parser has come to it
        return None


def _import(path: str) -> Any:
    """A module, or a class in one that another class is in."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        outer = find(path) if error.name == path else None
        if outer is None:
            raise
        return outer


def explain(option: str, path: str) -> str | None:
    """Why there is nothing under an import path; None if there is, or if this is no import path.

    Raises:
        FailedError: the module has raised something of its own.
    """
    if not _PATH.fullmatch(path):
        return None
    module_name, _, name = path.rpartition(".")
    try:
        module = _import(module_name)
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
    if name == "py":
        return f"{option} {path}: name a class or a function in it, as in {module_name}.MyClass"
    close = difflib.get_close_matches(name, classes, 1, cutoff=0.5)
    meant = f", did you mean {module_name}.{close[0]}?" if close else ""
    return f"{option} {path}: there is no {name} in {module_name}{meant}"


def code_of(config: dict[str, Any]) -> dict[str, str]:
    """A checksum of each file of the user's own that a class of the model is written in, or one
    that it derives from; by the module's name.

    Args:
        config: of a run, plain values.
    """
    files: dict[str, str] = {}
    for name, path in flat({"model": config["model"]}):
        made = find(str(path)) if name.endswith("class_path") else None
        for part in made.__mro__ if isinstance(made, type) else [made]:
            module = sys.modules.get(getattr(part, "__module__", None) or "")
            file = getattr(module, "__file__", None)
            if module is not None and file and is_own(file):
                with suppress(OSError):
                    files[module.__name__] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return files


def _is_of(value: Any, module: ModuleType) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and (
        str(value.__module__).startswith(module.__name__)  # or a module of the package
    )


def _where(missing: str) -> str:
    return "" if "." in missing else f": neither {missing}.py in the current folder nor installed"


def _line_of_own(error: ImportError) -> str | None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_own(f.filename)]
    return own_place(frames[-1].filename, frames[-1].lineno) if frames else None
