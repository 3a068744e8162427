"""The fastest step of plain PyTorch on this machine: what ``bench`` holds ``fit`` against."""

import copy
import inspect
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

WARM_UP = 5
"""Steps of a loop that are not counted."""

_ROUNDS = 3
_SECONDS = 0.5  # that a round of one variant is to take
_FEWEST = 6  # steps of it
_FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64, "32": torch.float32}


class Variant(NamedTuple):
    """A way in which plain PyTorch can take the same step."""

    images: str
    """How images lie in memory: ``channels first`` or ``channels last``."""
    weights: str
    """Likewise those of convolutions."""
    fused: bool
    """Whether the optimizer updates all weights in one kernel."""

    def __str__(self) -> str:
        fused = "fused" if self.fused else "not fused"
        return f"images {self.images}, weights {self.weights}, optimizer {fused}"


class Limit:
    """Steps with the batches already on the device: forward, backward, optimizer.

    Nothing in it is this project's, so that it shares none of the choices which it judges: layers,
    automatic mixed precision and optimizer are torch's own.

    Args:
        net: is left as it is; each loop trains a copy.
        optimizer: makes the optimizer of a network.
        loss: from logits N×K and labels N to a number.
        batches: images, float N×3×H×W, and labels, int64 N.
        precision: as Lightning names it, such as ``bf16-mixed``.
        compile_mode: of ``torch.compile``; None for none.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[nn.Module], Optimizer],
        loss: Callable[[Tensor, Tensor], Tensor],
        batches: list[tuple[Tensor, Tensor]],
        precision: str,
        compile_mode: str | None = None,
    ) -> None:
        self._net, self._optimizer, self._loss, self._batches = net, optimizer, loss, batches
        self._device = batches[0][0].device
        number, _, way = precision.partition("-")
        self._dtype = _DTYPES[number]
        self._mixed = way == "mixed"
        self._compile_mode = compile_mode

    def variants(self) -> list[Variant]:
        """All that there are for this optimizer."""
        made = self._optimizer(copy.deepcopy(self._net))
        fused = (False, True) if _can_be_fused(made) else (False,)
        return [Variant(*of) for of in product(_FORMATS, _FORMATS, fused)]

    def fastest(self) -> tuple[Variant, dict[Variant, float]]:
        """The fastest variant by rounds of its own, and the median seconds a step of each. What is
        quoted has to be timed anew: the least of several noisy figures is too small."""
        loops = {variant: self.loop(variant) for variant in self.variants()}
        seconds: dict[Variant, list[float]] = {variant: [] for variant in loops}
        steps = max(_FEWEST, int(_SECONDS / next(iter(loops.values()))(_FEWEST)))
        for _ in range(_ROUNDS):
            for variant, loop in loops.items():
                seconds[variant].append(loop(steps))
        medians = {variant: statistics.median(values) for variant, values in seconds.items()}
        return min(medians, key=medians.__getitem__), medians

    def loop(self, variant: Variant) -> Callable[[int], float]:
        """A loop that has been warmed up: from a number of steps to seconds a step."""
        net = copy.deepcopy(self._net).to(self._device).train()
        net = net.to(memory_format=_FORMATS[variant.weights])
        if not self._mixed:
            net = net.to(self._dtype)
        if self._compile_mode is not None:
            net.compile(mode=self._compile_mode)
        optimizer = self._optimizer(net)
        if variant.fused:
            optimizer = _fused(optimizer)
        batches = [(self._laid_out(images, variant), labels) for images, labels in self._batches]

        def steps(count: int) -> float:
            start = self._now()
            for number in range(count):
                self._step(net, optimizer, *batches[number % len(batches)])
            return (self._now() - start) / count

        steps(WARM_UP)
        return steps

    def flops(self) -> int:
        """Floating-point operations of a step, by torch's own counter: convolutions and matrix
        products, a multiplication and an addition being two."""
        net = copy.deepcopy(self._net).to(self._device).train()
        images, labels = self._batches[0]
        with FlopCounterMode(display=False) as counter:
            self._loss(net(images), labels).backward()
        return int(counter.get_total_flops())

    def matmul_flops_per_second(self) -> float:
        """The rate of a large matrix product in this number format, the best of several."""
        side = 2048 if self._device.type == "cpu" else 8192
        dtype = self._dtype
        a, b = (torch.randn(side, side, device=self._device).to(dtype) for _ in range(2))
        seconds = []
        for _ in range(8):
            start = self._now()
            a @ b
            seconds.append(self._now() - start)
        return 2 * side**3 / min(seconds)

    def _step(self, net: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> None:
        with self._autocast():
            loss = self._loss(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, self._dtype) if self._mixed else nullcontext()

    def _laid_out(self, images: Tensor, variant: Variant) -> Tensor:
        dtype = images.dtype if self._mixed else self._dtype
        return images.to(dtype).contiguous(memory_format=_FORMATS[variant.images])

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _can_be_fused(optimizer: Optimizer) -> bool:
    kind = type(optimizer)
    takes = inspect.signature(kind).parameters
    return kind.__module__.startswith("torch.optim.") and "fused" in takes


def _fused(optimizer: Optimizer) -> Optimizer:
    left = ("fused", "foreign")
    groups = [
        {name: value for name, value in group.items() if name not in left}
        for group in optimizer.param_groups
    ]
    kind: Any = type(optimizer)
    made: Optimizer = kind(groups, fused=True)
    return made
