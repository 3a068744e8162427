"""What YAML and jsonargparse take without a word, or answer oddly: found before they read it."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from cifar_lightning.errors import UsageError, local_path

GROUPS = ("data", "model", "trainer", "checkpoints", "dashboard")
"""The groups of options."""
_MOST = 100_000  # values: a few aliases of aliases are more than any memory holds

_OCTAL = re.compile(r"[-+]?0[0-7_]+")


def find_config(given: str) -> str:
    """The path of a config that is given by its name (``quickstart``); whatever else there is, a
    file or the text of one, as it was given.

    Raises:
        UsageError: there is neither such a file nor such a name.
    """
    is_text = given[:1] in ("-", "{", "[") or any(sign in given for sign in (": ", ":\n", "\n"))
    if is_text:
        return given  # what the parser reads or complains of
    path = local_path(given, "--config")
    if path.is_fifo():
        raise UsageError(f"--config {given} is a pipe, which can be read but once: give a file.")
    if path.exists():
        return given  # what the parser reads or complains of
    names = {path.stem: str(path) for path in sorted(_configs().glob("*.yaml"))}
    if given in names:
        return names[given]
    # also configs/quickstart.yaml, where there is no clone
    close = difflib.get_close_matches(Path(given).stem, names, 1)
    hint = f", did you mean {close[0]}?" if close else "."
    raise UsageError(
        f"--config {given}: there is no such file{hint} By name there are {', '.join(names)}."
    )


def _configs() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.with_name("configs")  # in a clone


def check_config(path: str) -> None:
    """Whether a config file says what it seems to say, and the files that it includes do.

    Raises:
        UsageError: it is empty, or not in UTF-8; an alias in it stands for what it is part of; a
            key stands twice; a number is another than it looks.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        yaml.safe_load(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"--config {path}, line {line}: save the file as UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"--config {path}, line {line}: {error.problem}.") from error
    except RecursionError as error:
        raise UsageError(f"--config {path} is nested too deeply to be read.") from error
    except (OSError, yaml.YAMLError):
        return  # jsonargparse says it well
    if document is None:
        raise UsageError(f"--config {path} is empty: leave it out, or put options into it.")
    try:
        size = _size(document, {})
    except _CircleError as error:
        raise UsageError(
            f"--config {path}: an alias (*name) stands for what it is itself a part of; "
            "write the value out."
        ) from error
    if size > _MOST:
        raise UsageError(f"--config {path} has more than {_MOST:,} values, written out.")
    for key, value in document.value if isinstance(document, yaml.MappingNode) else ():
        if key.value in GROUPS and isinstance(value, yaml.SequenceNode):
            raise UsageError(
                f"--config {path}, line {value.start_mark.line + 1}: {key.value} holds a list; its "
                "options are written as name: value."
            )
    for line, fault in _faults(document, set()):
        raise UsageError(f"--config {path}, line {line}: {fault}.")


def check_all_yaml() -> None:
    """Have jsonargparse refuse the same in any other YAML or JSON that it reads: a file for one
    group of options (``--trainer my_trainer.yaml``), one that a config file includes, a value on
    the command line. What it reads by itself drops the first of two keys without a word."""
    load = get_loader("yaml")
    if getattr(load, "checks", False):
        return

    def checked(text: str) -> Any:
        if ":" in text:
            document = yaml.compose(text, Loader=yaml.SafeLoader)
            if isinstance(document, yaml.CollectionNode):
                for line, fault in _faults(document, set()):
                    raise UsageError(f"Line {line} of a value in YAML: {fault}.")
        return load(text)

    checked.checks = True
    set_loader("yaml", checked, (yaml.YAMLError,))


class _CircleError(Exception):
    """A value is part of itself."""


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a document has where each alias is written out. Raises _CircleError."""
    if known.setdefault(id(node), 0) < 0:
        raise _CircleError
    if not known[id(node)]:
        known[id(node)] = -1  # not done yet
        known[id(node)] = 1 + sum(_size(part, known) for part in _parts(node))
    return known[id(node)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return []


def _faults(node: yaml.Node, seen: set[int]) -> Iterator[tuple[int, str]]:
    """Lines, from 1, and what is wrong there."""
    if id(node) in seen:  # by an alias
        return
    seen.add(id(node))
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            name, at = str(key.value), key.start_mark.line + 1
            if name in first:
                yield at, f"{name} stands twice, first in line {first[name]}; keep one of them"
            first[name] = at
    elif isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
        if _OCTAL.fullmatch(node.value):
            plain = node.value.lstrip("+-0_") or "0"
            yield line, f"YAML reads {node.value} as an octal number; write {plain}"
        elif ":" in node.value:
            yield line, f'YAML counts {node.value} in sixties; write "{node.value}"'
    for part in _parts(node):
        yield from _faults(part, seen)
