"""Wrong usage, answered in one sentence that names the thing and the remedy."""

import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cifar_lightning.cli.help import format_help
from cifar_lightning.cli.options import OPTIONS
from cifar_lightning.commands.names import COMMANDS
from cifar_lightning.data import Source
from cifar_lightning.models import Network

# What can be named without its module, by option.
_CLASSES = {
    "data.source": Source,
    "model.net": Network,
    "model.optimizer": Optimizer,
    "model.lr_scheduler": LRScheduler,
}


class Parser(LightningArgumentParser):
    """Lightning's parser, less the forty lines with which jsonargparse answers a typing error and
    the 1,300 of its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # an abbreviation that is unique today means something else tomorrow
        super().__init__(*args, allow_abbrev=False, **kwargs)

    @property
    def command(self) -> str | None:
        """The command whose options these are; None for the parser around the commands, and for
        those that jsonargparse makes for the arguments of a class."""
        name: str = self.prog.removeprefix("cifar_lightning [options] ")
        return name if name in OPTIONS else None

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        if self.command is None:
            text: str = super().format_help(*args, **kwargs)
            return text
        return format_help(self.command, {a.dest: a.default for a in self._actions})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        options = [word for action in parser._actions for word in action.option_strings]
        command = f" {parser.command}" if parser.command else ""
        print(
            f"cifar_lightning: {one_sentence(message, options, sys.argv[1:])} "
            f"(python -m cifar_lightning{command} --help lists what there is)",
            file=sys.stderr,
        )
        sys.exit(2)


def one_sentence(message: str, options: Iterable[str], argv: Iterable[str]) -> str:
    """What a message of jsonargparse comes down to.

    Args:
        message: several lines, with the types that it tried.
        options: the options that there are.
        argv: what was asked for; gives the full name of an option that the message cuts short.
    """
    written = [word.split("=")[0] for word in argv if word.startswith("--")]
    if found := re.match(r"Option '(.*?)' is not accepted", message):
        return f"there is no option {_in_full(found[1], written)} for what it belongs to"
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        word = found[1].split("=")[0]
        return f"there is no option {word}{_did_you_mean(word, options)}"
    if found := re.search(r"invalid choice: '(.*?)' \(choose from", message):
        first = next(iter(argv))
        if first.startswith("-"):  # its value was taken for the command
            return f"there is no option {first}{_did_you_mean(first, options)} before the command"
        there_are = f"there are {', '.join(COMMANDS)}"
        return f"there is no command {found[1]}{_did_you_mean(found[1], COMMANDS)}; {there_are}"
    if re.match(r'expected "subcommand" to be one of', message):
        return f"a command is missing: {', '.join(COMMANDS)}"
    if found := re.match(r'Parser key "(.*?)":', message):
        return _about(_in_full(found[1], written).removeprefix("--"), message)
    return " ".join(message.split())[:300]


def _in_full(name: str, written: Iterable[str]) -> str:
    return next((word for word in written if word.endswith(f".{name}")), f"--{name}")


def _about(key: str, message: str) -> str:
    values = re.findall(r"(?:Given value|Got value): (.*)", message)
    value = values[-1].strip() if values else ""
    if nested := re.match(r"NestedArg\(key='(.*?)', val='?(.*?)'?\)", value):
        key, value = f"{key}.{nested[1]}", nested[2]
    if found := re.search(r"Multiple subclasses with name (\w+)\..*: (.*)\.", message):
        return f"--{key} {found[1]}: there are several, give one in full: {found[2]}"
    if key in _CLASSES and re.search("dot import path|not accessible", message):
        value = re.sub(r"Namespace\(class_path='(.*?)'.*", r"\1", value)
        value = value or re.findall(r"path (?:but|string:) ?(\S+)", message)[-1]
        names = sorted(_names(_CLASSES[key]))
        return f"--{key} {value}: there is no such class{_did_you_mean(value, names)}" + (
            f"; there are {', '.join(names)}" if len(names) < 10 else ""
        )
    types = dict.fromkeys(re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message))
    types.pop("NoneType", None)
    if types:
        return f"--{key} {value}: must be {' or '.join(types)}"
    details = [line.strip(" -") for line in message.splitlines()[1:]]
    detail = next((d for d in details if d and "Union subtypes" not in d), message)
    return f"--{key} {value}: {detail[:300]}".replace(" :", ":")


def _names(base: type) -> set[str]:
    """The public subclasses; jsonargparse makes some of its own to hold defaults."""
    children: list[type] = base.__subclasses__()
    own = {base.__name__} - {root.__name__ for root in _CLASSES.values()}
    names = own.union(*[_names(child) for child in children])
    return {name for name in names if not name.startswith(("_", "LazyInstance"))}


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1)
    return f", did you mean {close[0]}?" if close else ""
