"""Where the loggers of one's own go on when their run does.

What a checkpoint keeps of a logger is its ``version``, as Lightning calls it. It is given to the
constructor by whatever name that has for it, before the logger is made.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pydoc import locate
from typing import Any

from jsonargparse import Namespace

from cifar_lightning.runs.folders import LoadedCheckpoint, goes_on

log = logging.getLogger(__name__)

Config = Mapping[str, Any]

_IDS = ("version", "id", "run_id", "experiment_key")
"""Arguments by which loggers are told where to go on."""
_PLACES = (
    "save_dir", "dir", "name", "project", "entity", "workspace", "experiment_name", "tracking_uri",
)  # fmt: skip
"""Arguments that say where the logs are. Two loggers of which they differ are two."""


def going_on(config: Namespace, plain: dict[str, Any], found: LoadedCheckpoint | None) -> Namespace:
    """Let the loggers of ``fit``, if that is the command, go on where those of a checkpoint's run
    were, if its folder does, and say which cannot. Those that the command line sends elsewhere
    are left alone.

    Args:
        config: the command line, parsed; a copy is changed.
        plain: what it says of ``fit``, plain values.
        found: the checkpoint.
    """
    if config.subcommand != "fit" or found is None or not goes_on(found):
        return config
    before = (found.ours.get("config") or {}).get("trainer", {}).get("logger")
    left = list(zip(as_list(before), found.ours.get("trackers", []), strict=False))
    loggers = deepcopy(as_list(config.fit.trainer.logger))
    for logger, said in zip(loggers, as_list(plain["trainer"]["logger"]), strict=True):
        argument = _argument(said, left)
        if argument is not None:
            logger.init_args = Namespace(**{**vars(logger.init_args), argument[0]: argument[1]})
    config = config.clone()
    config.fit.trainer.logger = loggers or config.fit.trainer.logger
    return config


def as_list(option: Any) -> list[Any]:
    """What an option holds that takes one thing, several, or none: null, true or false."""
    if option in (None, True, False):
        return []
    return option if isinstance(option, list) else [option]


def _argument(config: Config, left: list[tuple[Config, Any]]) -> Any:
    same = next((entry for entry in left if _are_one(entry[0], config)), None)
    given = _arguments(config)
    if same is None or any(given.get(name) is not None for name in _IDS):
        return None
    left.remove(same)
    kind = locate(config["class_path"])
    name = next((name for name in _IDS if name in _parameters(kind)), None)
    if name is None or same[1] is None:
        short = config["class_path"].rpartition(".")[2]
        log.info("%s cannot be told where it was: it begins anew.", short)
        return None
    return name, same[1]


def _arguments(config: Config) -> Config:
    return config.get("init_args") or {}


def _are_one(a: Config, b: Config) -> bool:
    return a["class_path"] == b["class_path"] and all(
        _arguments(a).get(name) == _arguments(b).get(name) for name in _PLACES
    )


def _parameters(kind: Any) -> Iterator[str]:
    """The arguments of a class, with those that it hands on to the one it is derived from."""
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            yield from (p.name for p in parameters)
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return
