"""What a command that starts from a checkpoint runs with: the command line wins over the
checkpoint, the checkpoint over configs and defaults, and nothing changes without a word."""

import json
import logging
from collections.abc import Iterator
from typing import Any

from cifar_lightning.errors import UserError

log = logging.getLogger(__name__)

# Changed half-way, these would make a run that never was: neither the old experiment nor a new
# one. Where the same images lie (root, mirrors) may change.
_PAST = (
    "seed_everything",
    "data",
    "model.net",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
)
_MAY_MOVE = ("data.source.init_args.root", "data.source.init_args.mirrors")
# These say how one command runs, not what the experiment is.
_OF_THE_COMMAND = ("ckpt_path", "config", "verbose", "weights_only", "return_predictions")


def with_checkpoint_config(argv: list[str], config: dict[str, Any], command: str) -> list[str]:
    """Put a checkpoint's configuration between the ``--config`` options and the other flags.

    Args:
        argv: the arguments of the program; the first is the command.
        config: the configuration of the run, as ``fit`` had it.
        command: the command; those that do not train take the data and the network alone.
    """
    start = argv.index(command) + 1
    configs, flags = _split(argv[start:])
    if command == "fit":
        inherited = {k: v for k, v in config.items() if k not in _OF_THE_COMMAND}
    else:
        inherited = {k: config[k] for k in ("seed_everything", "data", "model") if k in config}
    return [*argv[:start], *configs, "--config", json.dumps(inherited), *flags]


def has_configs(argv: list[str]) -> bool:
    """Whether a ``--config`` was given."""
    return bool(_split(argv)[0])


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    configs: list[str] = []
    flags: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--config", "-c"):
            configs += [argument, *([value] if (value := next(rest, None)) is not None else [])]
        elif argument.startswith(("--config=", "-c=")):
            configs.append(argument)
        else:
            flags.append(argument)
    return configs, flags


def against_the_past(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare a run's configuration with what it is to go on with, and print each difference.

    Raises:
        UserError: something is asked for that would change what was already trained.
    """
    old, new = dict(_flat(before)), dict(_flat(now))
    for name in sorted(old.keys() | new.keys()):
        if _is_in(name, _OF_THE_COMMAND) or old.get(name) == new.get(name):
            continue
        shown = f"--{name.replace('.init_args', '')}"
        if _is_in(name, _PAST) and not _is_in(name, _MAY_MOVE):
            raise UserError(
                f"{shown} {new.get(name)} would change what this run has already trained with "
                f"({old.get(name)}): leave it out to go on, or start a new run."
            )
        log.info("%s: %s, was %s", shown, new.get(name), old.get(name))


def _is_in(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
