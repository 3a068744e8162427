"""Options that are given more than once.

Those of several classes add up. Of others the last counts, and what it takes the place of is said.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import yaml

from cifar_lightning.runs.config import class_name, is_in

ADD_UP = ("trainer.callbacks", "trainer.logger", "trainer.plugins", "model.metrics")
"""Options that take several classes."""

_IMAGES = "--data.images"
_OF_ONE_CLASS = ("data.source", "model.net", "model.loss", "model.optimizer", "model.lr_scheduler")
_NUM_CLASSES = "model.net.num_classes"
_NO_CLASS = (None, True, False)


class Setting(NamedTuple):
    """What an argument, or a line of a config file, says of an option."""

    name: str
    value: Any
    file: str | None
    """The config file that it stands in; None for a flag."""

    @property
    def option(self) -> str:
        """Its name as people write it."""
        return short(self.name)

    @property
    def plain(self) -> Any:
        """Its value, of whatever type it is; classes by their names alone."""
        value = self.value
        if self.file is None and isinstance(value, str):
            try:
                value = yaml.safe_load(value)
            except yaml.YAMLError:
                return value
        if self.option not in (*_OF_ONE_CLASS, *ADD_UP):
            return value
        if isinstance(value, list):
            return [class_name(v) for v in value]
        return class_name(value) if isinstance(value, str) else value

    def __str__(self) -> str:
        shown = self.value
        if isinstance(shown, list) and self.option in ADD_UP:
            shown = ", ".join(map(str, self.plain))
        return f"{shown} from {self.file}" if self.file else f"--{self.name} {shown}"


def short(name: str) -> str:
    """An option as people write it."""
    for part in (".init_args", ".dict_kwargs", ".class_path"):
        name = name.replace(part, "")
    return name


def add_up(words: Sequence[str]) -> list[str]:
    """The arguments in which every further callback, logger, metric or picture is one more.

    ``--trainer.callbacks A --trainer.callbacks B`` becomes ``--trainer.callbacks A
    --trainer.callbacks+ B``, and ``--data.images A --data.images B`` ``--data.images A B``, where
    jsonargparse would forget A.
    """
    words = _together(_IMAGES, words)
    added: list[str] = []
    given: set[str] = set()
    for word, following in zip_longest(words, words[1:]):
        flag, equals, value = word.partition("=")
        option = flag.removeprefix("--")
        if flag.startswith("--") and option.removesuffix("+") in ADD_UP:
            setting = Setting(option.removesuffix("+"), value if equals else following, None)
            if setting.plain in _NO_CLASS:
                given.discard(setting.name)
            elif option in given:
                word = f"{flag}+{equals}{value}"
            else:
                given.add(setting.name)
        added.append(word)
    return added


def _together(option: str, words: Sequence[str]) -> list[str]:
    """The arguments with all values of an option that takes several behind its first mention."""
    others: list[str] = []
    values: list[str] = []
    place, within = None, False
    for word in words:
        flag, equals, value = word.partition("=")
        if word.startswith("--"):
            within = flag == option
        if not within:
            others.append(word)
        elif flag != option:
            values.append(word)
        else:
            place = len(others) if place is None else place
            values += [value] if equals else []
    return others if place is None else [*others[:place], option, *values, *others[place:]]


def overridden(settings: Sequence[Setting], final: set[str]) -> Iterator[str]:
    """Say which flags do not count, and which callbacks of config files.

    Args:
        settings: in the order in which they stand.
        final: the options that there are in the end, as people write them.
    """
    for place, flag in enumerate(settings):
        if flag.file is not None:
            continue
        winner = _winner(flag, settings[place + 1 :])
        if winner is not None and winner.plain != flag.plain:
            yield f"--{flag.name} {flag.value} does not count: {winner} stands later."
        elif winner is None and flag.option == _NUM_CLASSES:
            yield f"--{flag.name} {flag.value} does not count: the number comes from the data."
        elif winner is None and is_in(flag.option, _OF_ONE_CLASS) and flag.option not in final:
            part = next(name for name in _OF_ONE_CLASS if is_in(flag.option, (name,)))
            yield f"--{flag.name} {flag.value} does not count: --{part}, given later, has none."
    for name in ADD_UP:
        those = [s for s in settings if s.option == name and s.plain not in _NO_CLASS]
        for earlier, later in pairwise(those):
            if earlier.file is not None and earlier.plain != later.plain:
                adds = f"--{name}+" if later.file is None else f"{name.split('.')[1]}+"
                yield f"{earlier} does not count: {later} stands later; {adds} adds to it."


def _winner(flag: Setting, later: Sequence[Setting]) -> Setting | None:
    """The last of the settings that take a flag's place."""
    winner, option = None, flag.option.removesuffix("+")
    for setting in later:
        parent = setting.option.removesuffix("+")
        if parent in ADD_UP and option.startswith(f"{parent}."):
            break  # what follows is about another class
        if setting.option == option and not (setting.file and setting.value is None):
            winner = setting
    return winner
