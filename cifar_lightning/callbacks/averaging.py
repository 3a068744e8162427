"""An average of the weights, beside those that are trained."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from cifar_lightning.errors import UsageError

_TRAINED = "trained_weights"


class AveragedWeights(Callback):
    """Validates, and saves for ``test``, an exponential moving average of the network's weights;
    training goes on with the weights themselves, which checkpoints hold too.

    With Lightning's own WeightAveraging (2.6) the weights that are trained are lost when training
    ends.

    Args:
        decay: share of the average that stays at each optimizer step; 0.999 looks back over the
            last thousand.

    Raises:
        ValueError: ``decay`` is not a share.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay {decay} must be at least 0 and below 1")
        self._decay = decay
        self._average: nn.Module | None = None
        self._restored: dict[str, Tensor] | None = None
        self._steps = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._average = deepcopy(_net(pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps = trainer.global_step
        if self._restored is not None and self._average is not None:
            # what Lightning has put into the network is the average
            self._average.load_state_dict(_net(pl_module).state_dict())
            _net(pl_module).load_state_dict(self._restored)
            self._restored = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._average is not None and trainer.global_step > self._steps:
            first, self._steps = self._steps == 0, trainer.global_step
            _average_in(self._average, _net(pl_module), 1.0 if first else 1 - self._decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(trainer, pl_module)  # for those who go on with the module in Python

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._average is not None and self._steps:
            checkpoint[_TRAINED] = _net(pl_module).state_dict()
            average = self._average.state_dict()
            checkpoint["state_dict"].update(
                {f"net.{name}": value for name, value in average.items()}
            )

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._restored = checkpoint.get(_TRAINED)

    def _swap(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or self._average is None or not self._steps:
            return
        averaged = self._average.state_dict()
        for name, value in _net(pl_module).state_dict().items():
            kept = value.clone()
            value.copy_(averaged[name])
            averaged[name].copy_(kept)


@torch.no_grad()
def _average_in(average: nn.Module, net: nn.Module, share: float) -> None:
    """Move an average of weights by a share of the way to those of a network.

    Not torch's AveragedModel, which keeps the number of steps on the CPU and asks at each of them,
    by a copy from the GPU, whether it is the first.
    """
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for own, other in zip(_numbers(average), _numbers(net), strict=True):
        for numbers, number in zip(
            kinds.setdefault(own.dtype, ([], [])), (own, other), strict=True
        ):
            numbers.append(number.detach())
    for dtype, (averaged, trained) in kinds.items():
        if dtype.is_floating_point and share < 1:
            torch._foreach_lerp_(averaged, trained, share)
        else:  # the first, or counters
            torch._foreach_copy_(averaged, trained)


def _numbers(net: nn.Module) -> Iterator[Tensor]:
    return chain(net.parameters(), net.buffers())


def _net(pl_module: LightningModule) -> nn.Module:
    net = getattr(pl_module, "net", None)
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"AveragedWeights averages the network `net` of a module, and "
            f"{type(pl_module).__name__} has none."
        )
    return net
