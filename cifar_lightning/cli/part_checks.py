"""Whether each class that an option names has the arguments that it is given, and is given those
that it needs."""

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from jsonargparse import ArgumentParser
from torch import nn

from cifar_lightning.cli import own_parts
from cifar_lightning.cli.parts import BASES, DEFAULTS, Part, parts, parts_of
from cifar_lightning.cli.repeats import ADD_UP, Setting
from cifar_lightning.errors import UsageError
from cifar_lightning.runs.config import flat, is_in

# What the program gives: parameters, an optimizer, the number of classes; by place, or by name.
_FIRST_IS_GIVEN = ("model.optimizer", "model.lr_scheduler", "model.metrics")
_NUM_CLASSES = "num_classes"
_FIRST = {"model.optimizer": "the parameters", "model.lr_scheduler": "the optimizer"}
_NOTHING = inspect.Parameter.empty
_OF_NO_NAME = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_KEYS = ("class_path", "init_args", "dict_kwargs")
_MOST = 12  # names in a sentence


@contextmanager
def answered(settings: Sequence[Setting], before: dict[str, Any]) -> Iterator[None]:
    """Say whose an argument is that the parser refuses, or one that it misses.

    Args:
        settings: what was asked for.
        before: the configuration of the run that goes on.

    Raises:
        UsageError: there is such an argument.
    """
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.__cause__, UsageError):  # of Parser.error
            _check_arguments(settings, before)
        raise


def _check_arguments(settings: Sequence[Setting], before: dict[str, Any]) -> None:
    named = {n.removesuffix(".class_path"): v for n, v in flat(before) if n.endswith("class_path")}
    defaults = DEFAULTS | {option: str(v) for option, v in named.items() if option in BASES}
    _check_place(settings, defaults)
    for part in parts(settings, defaults):
        if (why := own_parts.explain(f"--{part.option}", part.path)) is not None:
            raise UsageError(why)
        if not _is_kind_of(part.option, made := part.made):
            if made is None or part.option not in ADD_UP:
                continue  # which the parser says well
            base = BASES[part.option]
            raise UsageError(
                f"--{part.option} {part.path}: this is no {base.__name__} of "
                f"{base.__module__.partition('.')[0]}."
            )
        accepted = _accepted(part.option, made)
        for name, value in part.arguments.items():
            if accepted is not None and name not in accepted and name != "dict_kwargs":
                raise UsageError(_does_not_have(part, name, value, accepted))
        if part.path != defaults.get(part.option):
            _check_complete(part)


def _check_complete(part: Part) -> None:
    """Whether all arguments are given that have no default. Raises UsageError."""
    made = part.made
    if part.option == "model.net" and isinstance(made, nn.Module):
        raise UsageError(f"--model.net {part.path} is an object: name its class.")
    parameters = _parameters(made)
    if part.option == "model.net" and parameters and not _takes(parameters, _NUM_CLASSES):
        raise takes_no_number(made)
    if part.option in _FIRST and parameters and parameters[0].default not in (_NOTHING, None):
        what = _FIRST[part.option]
        raise UsageError(f"--{part.option} {part.path} must take {what} as its first argument.")
    missing = [name for name in _required(part) if part.arguments.get(name, _NOTHING) is _NOTHING]
    if not missing:
        return
    about = f"--{part.option} {part.path}"
    if part.option == "model.loss" and not isinstance(part.made, type):
        raise UsageError(
            f"{about} is called to make the loss, and needs {_and(missing)}: if it is the loss "
            "itself, call it in the forward(logits, labels) of an nn.Module, and name that."
        )
    give = _and([f"--{part.option}.{name}" for name in missing])
    raise UsageError(f"{about} needs {_and(missing)}: give {give}.")


def check_all_complete(config: dict[str, Any], settings: Sequence[Setting]) -> None:
    """Whether the parts of a configuration that were asked for have all arguments without a
    default. The parser leaves those null whose type it does not know.

    Args:
        config: plain values.
        settings: what was asked for.

    Raises:
        UsageError: one is missing.
    """
    null = {s.option for s in settings if s.value in (None, "null")}
    for option in BASES:
        if not any(is_in(s.option.removesuffix("+"), (option,)) for s in settings):
            continue
        group, _, name = option.partition(".")
        value = config[group].get(name)
        for one in value if isinstance(value, list) else [value]:
            for part in parts_of(option, one):
                for n in [n for n, v in part.arguments.items() if v is None]:
                    if f"{option}.{n}" not in null and not isinstance(value, list):
                        del part.arguments[n]
                _check_complete(part)


def takes_no_number(made: Any) -> UsageError:
    """What is to be said of a network that does not take the number of classes."""
    return UsageError(
        f"--model.net {made.__name__}: a network must take the number of classes as its argument "
        "num_classes."
    )


def _check_place(settings: Sequence[Setting], defaults: Mapping[str, str]) -> None:
    """Whether arguments in files stand where the parser looks for them, and have a class."""
    given = {(s.file, s.name) for s in settings}
    for setting in settings:
        option = next((o for o in BASES if setting.name.startswith(f"{o}.")), None)
        below = setting.name.removeprefix(f"{option}.").partition(".")[0]
        if below in _KEYS or option is None:
            continue
        if setting.file is not None and (setting.file, f"{option}.class_path") in given:
            raise UsageError(
                f"--{setting.name} {setting.value}: beside class_path the arguments stand below "
                f"init_args, as in init_args: {{{below}: {setting.value}}}."
            )
        named = any(s.option.removesuffix("+") == option for s in settings)
        if not named and option not in defaults:
            raise UsageError(
                f"--{setting.name} {setting.value}: no --{option} is named that it could belong "
                "to; name it first."
            )


def _accepted(option: str, made: Any) -> list[str] | None:
    """The arguments of a class, also those that it hands on to others; None if that cannot be
    seen."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(made, type) else parser.add_function_arguments
    skip: set[str | int] = {1} if option in _FIRST_IS_GIVEN else set()
    try:
        added = add(made, "part", skip=skip, fail_untyped=False)
    except Exception:  # whatever its code has in it
        return None
    return [name.removeprefix("part.") for name in added]


def _is_kind_of(option: str, made: Any) -> bool:
    """Whether this may be the value of an option: a class of its kind, or a function."""
    if isinstance(made, type):
        return issubclass(made, nn.Module if option == "model.net" else BASES[option])
    return isinstance(made, FunctionType)


def _parameters(made: Any) -> list[inspect.Parameter]:
    try:
        return [*inspect.signature(made).parameters.values()]
    except (TypeError, ValueError):  # it is not written in Python
        return []


def _takes(parameters: list[inspect.Parameter], name: str) -> bool:
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _required(part: Part) -> list[str]:
    parameters = _parameters(part.made)
    if part.option in _FIRST_IS_GIVEN:
        parameters = parameters[1:]
    return [
        p.name
        for p in parameters
        if p.default is _NOTHING and p.kind not in _OF_NO_NAME
        if not (part.option == "model.net" and p.name == _NUM_CLASSES)
    ]


def _does_not_have(part: Part, name: str, value: Any, accepted: list[str]) -> str:
    about = f"--{part.option}.{name} {value}: {part.path.rpartition('.')[2]} has no {name}"
    if close := difflib.get_close_matches(name, accepted, 1):
        return f"{about}, did you mean --{part.option}.{close[0]}?"
    there = [a for a in accepted if not (part.option == "model.net" and a == _NUM_CLASSES)]
    more = ", …" * (len(there) > _MOST)
    return (
        f"{about}; it has {', '.join(there[:_MOST])}{more}." if there else f"{about}: leave it out."
    )


def _and(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
