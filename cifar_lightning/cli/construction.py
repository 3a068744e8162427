"""The parts that a command makes, and what is to be said when one of them cannot be made."""

import re
import traceback
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from cifar_lightning.cli.contract import described
from cifar_lightning.cli.own_parts import find, functions
from cifar_lightning.cli.parts import BASES
from cifar_lightning.cli.repeats import Setting
from cifar_lightning.errors import (
    FailedError,
    UsageError,
    UserError,
    is_own,
    own_traceback,
    words,
)
from cifar_lightning.runs.config import flat

_USUAL = (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException)
_OURS = re.compile(r"(data|model|checkpoints|dashboard)\.")


class Constructed:
    """The parts that a command makes: what the first of them that cannot be made has raised.

    jsonargparse answers that with all the types that it has tried.
    """

    def __init__(self) -> None:
        self._failed: tuple[Any, Exception] | None = None
        self._modules: dict[Any, str] = {}

    def prepare(self, value_of: Callable[[str], str | None], ours: dict[str, Any]) -> None:
        """Let functions of the user's own make network and loss: the parser takes those alone that
        say in their annotation that they give a module.

        Args:
            value_of: what the command line says of an option.
            ours: this project's entry of a checkpoint.
        """
        before = dict(flat(ours.get("config") or {}))
        for option in ("model.net", "model.loss"):
            for name in (option, f"{option}.class_path"):
                for path in (value_of(name), before.get(name)):
                    made = find(str(path))
                    if isinstance(made, FunctionType) and is_own(made.__code__.co_filename):
                        made.__annotations__.setdefault("return", nn.Module)
                        self._modules[made] = f"--{option} {path}"

    def watch(self, parser: LightningArgumentParser, config: dict[str, Any]) -> None:
        """Look on while a parser makes the parts of a configuration."""
        for made in (object, *functions(config)):
            parser.add_instantiator(self._make, made)

    def _make(self, made: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            value = made(*args, **kwargs)
            if made in self._modules and not isinstance(value, nn.Module):
                raise UsageError(
                    f"{self._modules[made]} returns {described(value)}: it must return an "
                    "nn.Module."
                )
            return value
        except Exception as error:
            self._failed = self._failed or (made, error)
            raise

    def answer(
        self, error: Exception, config: dict[str, Any], settings: Sequence[Setting]
    ) -> NoReturn:
        """Raise what is to be said of an error that the parser, or the trainer, has raised.

        Args:
            error: the error.
            config: of the command.
            settings: what was asked for.

        Raises:
            FailedError: code of the user's own has failed.
            UsageError: a constructor refuses its arguments.
        """
        made, raised = self._failed or (None, error)
        for said in (error, raised):
            if isinstance(said, UserError):
                raise said
        option = _option_of(made, config)
        if own_traceback(raised) is not None:
            name = getattr(made, "__name__", "")
            about = f"{option or name} cannot be made" if name else ""
            raise FailedError(raised, about) from raised
        text = words(raised) or type(raised).__name__
        if option is not None and not _OURS.match(text):
            raise UsageError(f"{option}: {text}") from error
        if not isinstance(raised, _USUAL):
            raise error
        if _is_of(raised, "pytorch_lightning.callbacks.timer"):
            asked = next((s.value for s in reversed(settings) if s.name.endswith("max_time")), "")
            raise UsageError(
                f"--trainer.max_time {asked} must be DD:HH:MM:SS, as in 00:00:10:00 for ten "
                "minutes."
            ) from error
        net = config["model"]["net"]["class_path"]
        if made is None and f"Import path {net}" in text:  # what is linked to it does not fit
            raise UsageError(
                f"--model.net {net} does not take its num_classes as a whole number."
            ) from error
        if _OURS.match(text):
            raise UsageError(f"--{text}") from error
        about = _of_trainer(text, settings) if _is_of(raised, "pytorch_lightning.trainer.") else ""
        raise UsageError(f"{about}{text}") from error


def _option_of(made: Any, config: dict[str, Any]) -> str | None:
    """The option that names a class or a function."""
    for option in BASES:
        group, _, name = option.partition(".")
        value = config[group].get(name)
        for one in value if isinstance(value, list) else [value]:
            path = one.get("class_path") if isinstance(one, dict) else None
            if made is not None and path is not None and find(str(path)) is made:
                return f"--{option} {made.__name__}"
    return None


def _is_of(error: BaseException, module: str) -> bool:
    """Whether an error has come through a module."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(f.f_globals.get("__name__", "").startswith(module) for f in frames)


def _of_trainer(text: str, settings: Sequence[Setting]) -> str:
    """The option that a sentence of the trainer is about, as the beginning of one: what it names,
    or else what has a value that it quotes; of its kind of device it may say neither."""
    asked = [s for s in settings if s.name.startswith("trainer.")]
    plain = text.replace("_", "-")

    def is_said(word: Any) -> bool:
        return (
            re.search(rf"(?<![\w.]){re.escape(str(word).replace('_', '-'))}(?!\w)", plain)
            is not None
        )

    for of in (
        [s for s in asked if is_said(s.name.removeprefix("trainer."))],
        [s for s in asked if re.match("[a-z]", str(s.value)) and is_said(s.value)],
        [s for s in asked if s.name == "trainer.accelerator"],
    ):
        if of:
            return f"--{of[-1].name} {of[-1].value}: "
    return ""
