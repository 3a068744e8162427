"""``COMMAND --help``: the table of options, with the defaults that the parser has."""

import inspect
import textwrap
from argparse import SUPPRESS
from collections.abc import Iterator, Mapping
from typing import Any

from cifar_lightning.cli.choices import CHOICES, Choice
from cifar_lightning.cli.options import EXAMPLES, INTRODUCTIONS, NAMING, OPTIONS, UNLISTED

_WIDTH = 100
_COLUMN = 42  # where texts begin
_UNBROKEN = "\N{NO-BREAK SPACE}"


def format_help(command: str, defaults: Mapping[str, Any]) -> str:
    """The help of a command.

    Args:
        command: fit, validate, test or predict.
        defaults: of the options that the parser has, by name; an option of the table that is not
            among them is left out.
    """
    lines = [
        f"usage: python -m cifar_lightning {command} [--config FILE] [--OPTION VALUE ...]",
        "",
        INTRODUCTIONS[command],
        "",
        *[f"  python -m cifar_lightning {example}" for example in EXAMPLES[command]],
        "",
        NAMING,
    ]
    if command != "fit":
        lines += ["", UNLISTED]
    for title, options in OPTIONS[command].items():
        lines += ["", f"{title}:"]
        for key, text in options.items():
            name = key.split()[0]
            if name in defaults:
                lines += _of_option(command, key, text, defaults[name])
    return "\n".join(lines) + "\n"


def _of_option(command: str, key: str, text: str, default: Any) -> Iterator[str]:
    name = key.split()[0]
    # what a checkpoint says of data and model takes the place of the parser's defaults
    inherited = command != "fit" and name.startswith(("data.", "model.")) and default is not None
    yield from _entry(
        f"  --{key}", text, "default: the checkpoint's" if inherited else _note(default)
    )
    for typed, choice in CHOICES.get(name, {}).items() if command == "fit" else ():
        yield f"    {typed}: {choice.text}"
        for argument, what in choice.arguments.items():
            note = _note(_default_of(choice, argument.split()[0], default))
            yield from _entry(f"      --{name}.{argument}", what, note)


def _entry(head: str, text: str, note: str | None) -> list[str]:
    if note is not None:
        text = f"{text.removesuffix('.')} ({note.replace(' ', _UNBROKEN)})."
    lines = textwrap.wrap(text, _WIDTH - _COLUMN, break_on_hyphens=False, break_long_words=False)
    lines = [" " * _COLUMN + line.replace(_UNBROKEN, " ") for line in lines]
    if len(head) < _COLUMN - 1:
        return [head + lines[0][len(head) :], *lines[1:]]
    return [head, *lines]


def _note(default: Any) -> str | None:
    if default is inspect.Parameter.empty:
        return "must be given"
    return None if default in (None, SUPPRESS, ()) else f"default: {_typed(default)}"


def _typed(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):  # a class and its arguments
        arguments = [f"{name} {_typed(of)}" for name, of in value.get("init_args", {}).items()]
        return " ".join([value["class_path"].rpartition(".")[2], *arguments])
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    return str(value)


def _default_of(choice: Choice, argument: str, chosen: Any) -> Any:
    """The default of a class's argument: where the class is itself a default, that may say more."""
    if isinstance(chosen, dict) and chosen["class_path"].endswith(f".{choice.of.__name__}"):
        arguments = chosen.get("init_args", {})
        if argument in arguments:
            return arguments[argument]
    return inspect.signature(choice.of).parameters[argument].default
