"""An average of the weights, beside those that are trained."""

from functools import partial
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
        self._average: AveragedModel | None = None
        self._restored: dict[str, Tensor] | None = None
        self._steps = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        average = partial(_average, self._decay)
        self._average = AveragedModel(_net(pl_module), multi_avg_fn=average, use_buffers=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps = trainer.global_step
        if self._restored is not None and self._average is not None:
            # what Lightning has put into the network is the average
            self._average.module.load_state_dict(_net(pl_module).state_dict())
            self._average.n_averaged.fill_(self._steps)
            _net(pl_module).load_state_dict(self._restored)
            self._restored = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._average is not None and trainer.global_step > self._steps:
            self._steps = trainer.global_step
            self._average.update_parameters(_net(pl_module))

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
            average = self._average.module.state_dict()
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
        averaged = self._average.module.state_dict()
        for name, value in _net(pl_module).state_dict().items():
            kept = value.clone()
            value.copy_(averaged[name])
            averaged[name].copy_(kept)


def _average(decay: float, *tensors: Any) -> None:
    get_ema_multi_avg_fn(decay)(
        *tensors
    )  # a function within a function, which pickle does not take


def _net(pl_module: LightningModule) -> nn.Module:
    net = getattr(pl_module, "net", None)
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"AveragedWeights averages the network `net` of a module, and "
            f"{type(pl_module).__name__} has none."
        )
    return net
