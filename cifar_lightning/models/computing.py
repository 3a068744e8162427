"""How a network is computed on the device at hand: its memory order, and small maps."""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cifar_lightning.models.hardware import MemoryFormat, fastest_memory_format, products_pay
from cifar_lightning.models.small_maps import SmallMaps

_OF_TORCH = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Computing:
    """Computes a network as is fastest on a device.

    Args:
        memory_format: in which order images and weights lie in memory; auto for the device's.
        compile_mode: of ``torch.compile``, which is to make the network's code; None for none.
    """

    def __init__(
        self, memory_format: MemoryFormat | Literal["auto"], compile_mode: str | None
    ) -> None:
        self.memory_format: MemoryFormat | None = None if memory_format == "auto" else memory_format
        """None before a device is known."""
        self._is_auto = memory_format == "auto"
        self.compile_mode = compile_mode
        self._small_maps = False

    def adapt(self, net: nn.Module, device: torch.device, precision: str) -> None:
        """Choose for a device, and a precision as Lightning names it; before an optimizer knows the
        network's weights. Their values and names stay."""
        if self.memory_format is None:
            self.memory_format = fastest_memory_format(net, device.type, precision)
        self._small_maps = self.compile_mode is None and products_pay(device.type, precision)
        self._lay_out(net)

    def restore(self, net: nn.Module, memory_format: MemoryFormat | None) -> None:
        """Take over what a checkpoint was trained in, if nothing else was asked for."""
        if self._is_auto and memory_format is not None:
            self.memory_format = memory_format
            self._lay_out(net)

    def compile(self, net: nn.Module) -> None:
        """Compile a network if asked to; in place, so that the names of its weights stay."""
        if self.compile_mode is not None:
            net.compile(mode=self.compile_mode)

    def _lay_out(self, net: nn.Module) -> None:
        there = [*net.parameters(), *net.buffers()]
        # layers that take their size from the first images have no weights before that
        if self.memory_format is not None and not any(map(is_lazy, there)):
            net.to(memory_format=_OF_TORCH[self.memory_format])

    def __call__(self, net: nn.Module, images: Tensor) -> Tensor:
        """What a network gives for images N×C×H×W."""
        if self.memory_format is not None:
            images = images.contiguous(memory_format=_OF_TORCH[self.memory_format])
        with SmallMaps() if self._small_maps else nullcontext():
            out: Tensor = net(images)
        # CUDA graphs put the next batch's results into the same memory
        return out if self.compile_mode is None else out.clone()
