"""How a network is computed on the device at hand: its memory order, and small maps."""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from cifar_lightning.models.hardware import MemoryFormat, fastest_memory_format, products_pay
from cifar_lightning.models.small_maps import SmallMaps

_OF_TORCH = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Computing:
    """Computes a network as is fastest on a device.

    Args:
        memory_format: in which order images and weights lie in memory; auto for the device's.
    """

    def __init__(self, memory_format: MemoryFormat | Literal["auto"]) -> None:
        self.memory_format: MemoryFormat | None = None if memory_format == "auto" else memory_format
        """None before a device is known."""
        self._small_maps = False

    def adapt(self, net: nn.Module, device: torch.device, precision: str, compiled: bool) -> None:
        """Choose for a device.

        Args:
            net: the network; its weights are laid out by ``lay_out``.
            device: of its weights.
            precision: as Lightning names it, such as ``bf16-mixed``.
            compiled: whether ``torch.compile`` makes its code.
        """
        if self.memory_format is None:
            self.memory_format = fastest_memory_format(net, device.type, precision)
        self._small_maps = not compiled and products_pay(device.type, precision)

    def lay_out(self, net: nn.Module) -> None:
        """Bring a network's weights into the memory order; their values and names stay."""
        if self.memory_format is not None:
            net.to(memory_format=_OF_TORCH[self.memory_format])

    def __call__(self, net: nn.Module, images: Tensor) -> Tensor:
        """What a network gives for images N×C×H×W."""
        if self.memory_format is not None:
            images = images.contiguous(memory_format=_OF_TORCH[self.memory_format])
        with SmallMaps() if self._small_maps else nullcontext():
            out: Tensor = net(images)
        return out
