"""What a checkpoint says of the parts of a module, which it does not hold as objects."""

import logging
from typing import Any

log = logging.getLogger(__name__)


def is_description(value: Any) -> bool:
    """Whether a module's hyper-parameters describe all its parts in plain values, as the command
    line writes them."""
    return "net" in value and _is_plain(value)


def compare_losses(trained: str | None, ours: str) -> None:
    """Say that a checkpoint was trained with another loss. From Python a loss is an object."""
    if trained not in (None, ours):
        log.warning(
            "The checkpoint was trained with the loss %s, and what is loaded has %s: the losses of "
            "its evaluations are not comparable; give it loss=%s(...) unless that is meant.",
            trained,
            ours,
            trained,
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, str | int | float)
