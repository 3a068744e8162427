"""The global generators of torch, NumPy and Python, as functions of where training stands.

Dropout, a user's loss, callback or transform draw from them, and no checkpoint holds their state.
So they are set before such code may run, and nothing that a step draws depends on what was drawn
before it. What our own loader does draws nothing: it needs no setting of its own.
"""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import RunningStage
from torch import Generator

from cifar_lightning.lightning_internals import next_batch
from cifar_lightning.processes.collectives import world_size

log = logging.getLogger(__name__)


class Moment(IntEnum):
    """What the generators are set for. Different moments must not share a stream of numbers."""

    TRAINING_BATCH = 0
    TRAINING_EPOCH_START = 1
    TRAINING_EPOCH_END = 2
    VALIDATION_BATCH = 3
    VALIDATION_START = 4
    VALIDATION_END = 5
    TEST_BATCH = 6
    PREDICTION_BATCH = 7


_OF_STAGE = {
    RunningStage.VALIDATING: Moment.VALIDATION_BATCH,
    RunningStage.SANITY_CHECKING: Moment.VALIDATION_BATCH,
    RunningStage.TESTING: Moment.TEST_BATCH,
    RunningStage.PREDICTING: Moment.PREDICTION_BATCH,
}


class GlobalGenerators(Callback):
    """Sets the global generators from (seed, moment, epoch, batch, process).

    It is the first of a trainer's callbacks, so that it covers what the others draw.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._evaluated = 0
        self._before_step: Any = None
        self._step_draws = False

    def before_batch(self, trainer: Trainer) -> None:
        """Set the generators for a batch that is about to be moved to its device."""
        if trainer.training:
            epoch, batch = next_batch(trainer)
            self._set(trainer, Moment.TRAINING_BATCH, epoch, batch)
            if batch == 0:  # one step of an epoch tells; to look takes time
                self._before_step = _position(_torch_generator(trainer))
        elif trainer.state.stage in _OF_STAGE:
            stage = _OF_STAGE[RunningStage(trainer.state.stage)]
            self._set(trainer, stage, trainer.global_step, self._evaluated)
            self._evaluated += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0 and not self._step_draws:
            self._step_draws = _position(_torch_generator(trainer)) != self._before_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._set(trainer, Moment.TRAINING_EPOCH_START, trainer.current_epoch, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._set(trainer, Moment.TRAINING_EPOCH_END, trainer.current_epoch, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluated = 0
        self._set(trainer, Moment.VALIDATION_START, trainer.global_step, 0)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._set(trainer, Moment.VALIDATION_END, trainer.global_step, 0)

    def state_dict(self) -> dict[str, Any]:
        return {"processes": world_size(), "step_draws": self._step_draws}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step_draws = state_dict["step_draws"]
        if self._step_draws and state_dict["processes"] != world_size():
            log.warning(
                "This run draws random numbers in its training steps, in each process its own: in "
                "%d instead of %d it goes on as another experiment.",
                world_size(),
                state_dict["processes"],
            )

    def _set(self, trainer: Trainer, moment: Moment, *place: int) -> None:
        number = _mixed(self._seed, moment, *place, trainer.global_rank)
        torch.default_generator.manual_seed(number)  # torch.manual_seed takes 69 µs, this 2
        device = _torch_generator(trainer)
        if device is not torch.default_generator:
            device.manual_seed(number)
        np.random.seed(number & 0xFFFF_FFFF)
        random.seed(number)


@contextmanager
def generators_put_back(device: torch.device) -> Iterator[None]:
    """Leave the global generators, and that of a device, as they were before."""
    ours, numpys = random.getstate(), np.random.get_state()
    on_gpu = device.type in ("cuda", "mps")
    forked = {"devices": [device], "device_type": device.type} if on_gpu else {"devices": []}
    try:
        with torch.random.fork_rng(**forked):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)


def _torch_generator(trainer: Trainer) -> Generator:
    """The global generator of the device that trains."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


def _position(generator: Generator) -> Any:
    """Something that changes when a number is drawn."""
    if generator.device.type == "cuda":
        return generator.get_offset()
    return generator.get_state().numpy().tobytes()


def _mixed(*numbers: int) -> int:
    """A 64-bit number from several, by the steps of SplitMix64 (Steele, Lea and Flood 2014,
    https://doi.org/10.1145/2660193.2660195): numbers that differ a little give unlike ones."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ number) + 0x9E37_79B9_7F4A_7C15 & 0xFFFF_FFFF_FFFF_FFFF
        mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & 0xFFFF_FFFF_FFFF_FFFF
        mixed = (mixed ^ mixed >> 27) * 0x94D0_49BB_1331_11EB & 0xFFFF_FFFF_FFFF_FFFF
        mixed ^= mixed >> 31
    return mixed
