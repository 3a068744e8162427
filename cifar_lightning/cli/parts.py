"""The classes that options name, each with the arguments that are given to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import yaml
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from cifar_lightning.cli import own_parts
from cifar_lightning.cli.repeats import ADD_UP, Setting
from cifar_lightning.data import Source
from cifar_lightning.models import Network
from cifar_lightning.runs.config import is_in

BASES: dict[str, type] = {
    "data.source": Source,
    "model.net": Network,
    "model.optimizer": Optimizer,
    "model.lr_scheduler": LRScheduler,
    "model.loss": nn.Module,
    "model.metrics": Metric,
    "trainer.callbacks": Callback,
    "trainer.logger": Logger,
}
"""What a class is of, by option: those can be named without their module."""

DEFAULTS = {"data.source": "CIFAR10", "model.net": "AlexNet", "model.optimizer": "SGD"}
"""The classes that are taken where none is named."""


@dataclass
class Part:
    """A class, or a function that makes an object, and what is given to it."""

    option: str
    path: str
    """As it was written: its name, or its import path."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Values by name."""

    @property
    def made(self) -> Any:
        """The class or the function; None if that is not known."""
        if "." in self.path:
            return own_parts.find(self.path)
        found = [c for c in subclasses(BASES[self.option]) if c.__name__ == self.path]
        return found[0] if len(found) == 1 else None


def subclasses(base: type) -> Iterator[type]:
    """Those of a class, and theirs."""
    children: list[type] = base.__subclasses__()
    for child in children:
        yield child
        yield from subclasses(child)


def written(settings: Sequence[Setting]) -> list[str]:
    """The options that are set, in full, those of the parts in lists, too; the last first."""
    names = [f"{part.option}.{name}" for part in parts(settings, {}) for name in part.arguments]
    return [f"--{name}" for name in (*(s.option for s in reversed(settings)), *names)]


def parts(settings: Sequence[Setting], defaults: Mapping[str, str]) -> Iterator[Part]:
    """Each class with the arguments that belong to it, as the parser reads the settings."""
    found = {option: [Part(option, path)] for option, path in defaults.items()}
    for setting in _classes_first(settings):
        name, adds = setting.option.removesuffix("+"), setting.option.endswith("+")
        option = next((o for o in BASES if is_in(name, (o,))), None)
        if option is None:
            continue
        if name == option:
            value = _value(setting)
            one_by_one = value if isinstance(value, list) else [value]
            new = [part for one in one_by_one for part in parts_of(option, one)]
            if option in ADD_UP and adds:
                new = [*found.get(option, []), *new]
            found[option] = new
        elif found.get(option):
            argument = name.removeprefix(f"{option}.").partition(".")[0]
            found[option][-1].arguments[argument] = setting.value
    for those in found.values():
        yield from those


def _classes_first(settings: Sequence[Setting]) -> Iterator[Setting]:
    """In a file an argument may stand before its class."""
    for file, those in groupby(settings, key=lambda setting: setting.file):
        one_by_one = list(those)
        yield from one_by_one if file is None else sorted(one_by_one, key=_is_argument)


def _is_argument(setting: Setting) -> bool:
    return setting.option.removesuffix("+") not in BASES


def _value(setting: Setting) -> Any:
    if isinstance(setting.value, str) and setting.value.startswith(("{", "[")):
        try:
            return yaml.safe_load(setting.value)
        except yaml.YAMLError:
            return None
    return setting.value


def parts_of(option: str, value: Any) -> list[Part]:
    """The part that a value describes, by a path or by ``class_path`` and ``init_args``; none if it
    is neither."""
    if isinstance(value, str):
        return [Part(option, value)]
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        return [Part(option, value["class_path"], dict(value.get("init_args") or {}))]
    return []
