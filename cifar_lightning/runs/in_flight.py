"""What callbacks change of a run on its way, and no checkpoint of Lightning's holds."""

from collections.abc import Iterator
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import nn

_OF_TRAINER = ("accumulate_grad_batches", "gradient_clip_val")
_OF_MODULE = ("requires_grad", "training", "track_running_stats")


class InFlight:
    """Settings that callbacks make at the start of an epoch: the trainer's accumulation and
    clipping of gradients, frozen parameters, modules in evaluation mode, batch norms that keep no
    statistics.

    A run that is resumed within an epoch does not start it: Lightning calls no such hook.
    """

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None

    def begin(self, trainer: Trainer) -> None:
        """See what the trainer was given, before its callbacks change anything."""
        self._given = _of(trainer)

    def state(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """What a checkpoint holds: plain values."""
        unset = {
            flag: [name for name, part in _having(module, flag) if not getattr(part, flag)]
            for flag in _OF_MODULE
        }
        return {"given": self._given, "now": _of(trainer), **unset}

    def load(self, state: dict[str, Any] | None) -> None:
        """Keep what ``state`` has given until ``restore``; None of an older checkpoint."""
        self._before = state

    def restore(self, trainer: Trainer, module: LightningModule) -> None:
        """Set what was loaded, if anything was, less what the trainer was given anew since."""
        before, self._before = self._before, None
        if before is None:
            return
        for name, value in before["now"].items():
            if self._given[name] == before["given"][name]:
                setattr(trainer, name, value)
        for flag in _OF_MODULE:
            for name, part in _having(module, flag):
                setattr(part, flag, name not in before[flag])


def _of(trainer: Trainer) -> dict[str, Any]:
    return {name: getattr(trainer, name) for name in _OF_TRAINER}


def _having(module: nn.Module, flag: str) -> Iterator[tuple[str, Any]]:
    """The parameters, or the parts of a module, that have a flag."""
    if flag == "requires_grad":
        return module.named_parameters()
    return ((name, part) for name, part in module.named_modules() if hasattr(part, flag))
