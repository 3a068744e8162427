"""Wrong usage, answered in one sentence that names the thing and the remedy."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser
from torch.nn import Module

from cifar_lightning.cli import own_parts
from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.choices import CHOICES
from cifar_lightning.cli.config_file import GROUPS
from cifar_lightning.cli.help import format_help
from cifar_lightning.cli.options import OPTIONS
from cifar_lightning.cli.parts import BASES, subclasses, written
from cifar_lightning.commands.names import COMMANDS
from cifar_lightning.errors import UsageError

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    **dict.fromkeys(("Sequence", "list", "tuple"), "a list, as in [1, 2, 3]"),
    **dict.fromkeys(("dict", "Mapping"), "a mapping, as in {name: value}"),
}
"""Python's types, as one says them."""
_GROUP = "give its options one by one, or the path of a YAML file with them"
_NOTHING = inspect.Parameter.empty
_NO_CLASS = re.compile(
    "dot import path|Import path|to be a subclass|expects a function"
    "|a valid subclass|is abstract|import path format"
)


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

    def add_function_arguments(
        self, function: Any, *args: Any, linked_targets: set[str] | None = None, **kwargs: Any
    ) -> list[str]:
        # jsonargparse 4.53 knows arguments that come from elsewhere for classes alone
        if linked_targets is not None:
            wanted = inspect.signature(function).parameters
            required = {n for n in linked_targets & wanted.keys() if wanted[n].default is _NOTHING}
            for name in required:
                self.add_argument(f"--{name}", type=int, default=None)
            kwargs["skip"] = {*(kwargs.get("skip") or ()), *required}
        added: list[str] = super().add_function_arguments(function, *args, **kwargs)
        return added

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        options = [word for action in parser._actions for word in action.option_strings]
        command = parser.command or next((word for word in sys.argv[1:] if word in OPTIONS), "")
        program = f"python -m cifar_lightning {command}".strip()
        settings = Arguments(sys.argv[1:], OPTIONS).settings
        usage = UsageError(
            f"{one_sentence(message, options, written(settings), sys.argv[1:])} "
            f"({program} --help lists what there is)"
        )
        # jsonargparse tries several types, and takes an Exception for one that does not fit
        raise SystemExit(usage.exit_status) from usage


def one_sentence(
    message: str, options: Iterable[str], asked: list[str], argv: Iterable[str]
) -> str:
    """What a message of jsonargparse comes down to.

    Args:
        message: several lines, with the types that it tried.
        options: the options that there are.
        asked: those that were asked for; gives the full name of one that the message cuts short.
        argv: the program's arguments.
    """
    if found := re.match(r"Option '(.*?)' is not accepted", message):
        return f"there is no option {_in_full(found[1], asked)} for what it belongs to"
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    if found := unknown or re.match(r"Subcommand '\w+' does not accept option '(.*?)'", message):
        word = found[1].split("=")[0]
        word = word if unknown else f"--{word}"  # of a file
        return f"there is no option {word}{_did_you_mean_option(word, options)}"
    if found := re.search(r"invalid choice: '(.*?)' \(choose from", message):
        first = next(iter(argv))
        if first.startswith("-"):  # its value was taken for the command
            return f"there is no option {first}{_did_you_mean(first, options)} before the command"
        there_are = f"there are {', '.join(COMMANDS)}"
        return f"there is no command {found[1]}{_did_you_mean(found[1], COMMANDS)}; {there_are}"
    if re.match(r'expected "subcommand" to be one of', message):
        return f"a command is missing: {', '.join(COMMANDS)}"
    if found := re.match(r'Parser key "(.*?)":', message):
        return _about(_in_full(found[1], asked).removeprefix("--"), message)
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
    inner = re.findall(r'Parser key "(.*?)":\n', message)[1:]
    if inner:  # of an argument of the class
        part = message.rpartition(f'Parser key "{inner[-1]}":')[2]
        in_full = inner[-1] if inner[0].startswith(f"{key}.") else ".".join([key, *inner])
        return _about(in_full, part)
    types = dict.fromkeys(re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message))
    types.pop("NoneType", None)
    may = _choices(message)
    if key in BASES or (_NO_CLASS.search(message) and not types):
        asked = re.sub(r"Namespace\(class_path='(.*?)'.*", r"\1", value)
        asked = asked or next(iter(re.findall(r"path (?:but|string:) ?(\S+)", message)), '""')
        return own_parts.explain(f"--{key}", asked) or _no_such_class(key, asked)
    if "Not of type Seed" in message:
        value = value or str(Arguments(sys.argv[1:], OPTIONS).value_of(key))
        return f"--{key} {value}: must be a whole number from 0 to 4294967295"
    if key == "trainer.max_time":
        return f"--{key} {value} must be DD:HH:MM:SS, as in 00:00:10:00 for ten minutes"
    if may:
        if any(word.isdigit() for word in may):
            types.pop("int", None)
        truths = ["true", "false"] * ("bool" in types)
        others = [_in_words(types.keys() - {"bool"})] * bool(types.keys() - {"bool"})
        *first, last = [*truths, *may, *others]
        return f"--{key} {value}: must be {', '.join(first)}{' or ' * bool(first)}{last}"
    if types:
        return f"--{key} {value}: must be {_in_words(types)}"
    if found := re.search(r"Unable to load config ['\"](.*?)['\"]", message):
        return f"--{key} {found[1]}: {_GROUP}"
    details = [line.strip(" -") for line in message.splitlines()[1:]]
    detail = next((d for d in details if d and "Union subtypes" not in d), message)
    return f"--{key} {value}: {detail[:300]}".replace(" :", ":")


def _choices(message: str) -> list[str]:
    """The words that an option takes, if it takes some alone."""
    listed = re.findall(r"Literal\[(.*?)\]", message)
    return [*dict.fromkeys(word.strip("'\" ") for part in listed for word in part.split(","))]


def _in_words(types: Iterable[str]) -> str:
    words = dict.fromkeys(_TYPES.get(name, name) for name in types)
    if "a number" in words:
        words.pop("a whole number", None)
    return " or ".join(words)


def _no_such_class(key: str, value: str) -> str:
    base = BASES.get(key.rstrip("+"))
    if (found := own_parts.find(value)) is not None:
        return f"--{key} {value}: {_of_another_kind(key, found, base)}"
    if base is None:
        return f"--{key} {value}: must be an object, by the import path of its class"
    if re.search(r"[/\\:]|\.py$", value):
        return f"--{key} {value}: write an import path, as in my_file.MyClass for ./my_file.py"
    names = sorted(_names(base))
    if base is Module:
        names = [name for name in names if name.endswith("Loss")]
    return f"--{key} {value}: there is no such class{_did_you_mean(value, names)}" + (
        f"; there are {', '.join(names)}" if len(names) < 10 else ""
    )


def _of_another_kind(key: str, found: Any, base: type | None) -> str:
    if key == "model.loss" and not isinstance(found, type) and callable(found):
        return (
            "this is a function: call it in the forward(logits, labels) of an nn.Module, and name "
            "that"
        )
    if isinstance(found, type) and base and issubclass(found, base) and inspect.isabstract(found):
        return f"this is not whole; it lacks {', '.join(sorted(found.__abstractmethods__))}"
    if key in ("model.net", "model.loss"):
        return "this is no nn.Module; name a class of them, or a function of yours that returns one"
    return (
        f"this is no {base.__name__} of {base.__module__.split('.')[0]}"
        if base
        else ("this is no class for it")
    )


def _names(base: type) -> set[str]:
    """The public subclasses; jsonargparse makes some of its own to hold defaults."""
    roots = {root.__name__ for root in BASES.values()}
    names = {kind.__name__ for kind in subclasses(base)} - roots
    return {name for name in names if not name.startswith(("_", "LazyInstance"))}


def _did_you_mean(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    words = list(words)
    equal = [other for other in words if other.lower() == word.lower()]
    close = equal or difflib.get_close_matches(word, words, 1, cutoff)
    return f", did you mean {close[0]}?" if close else ""


def _did_you_mean_option(word: str, options: Iterable[str]) -> str:
    """One that ends alike is meant rather than one that begins alike; never a whole group."""
    of_classes = [f"--{option}.{name.split()[0]}" for option, choices in CHOICES.items()
                  for choice in choices.values() for name in choice.arguments]  # fmt: skip
    there = sorted({*options, *of_classes})
    there = [option for option in there if option.strip("-") not in GROUPS]
    last = word.rpartition(".")[2]
    alike = [option for option in there if "." in word and option.endswith(f".{last}")]
    return _did_you_mean(word, alike, 0.0) or _did_you_mean(word, there)
