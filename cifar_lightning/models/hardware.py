"""What a device computes fastest in: its number format, and the order of images in memory.

Rules, not measurements: the same command must give the same run. ``bench`` measures every order
that plain PyTorch has, and docs/speed.md keeps what it said by CPU.
"""

import platform
from pathlib import Path
from typing import Literal

import torch
from torch import nn

MemoryFormat = Literal["channels_last", "contiguous"]
"""As torch names them: N×H×W×C in memory, or N×C×H×W."""


def computes_in_bf16(device: str) -> bool:
    """Whether the hardware has bfloat16 arithmetic, rather than emulating it.

    Args:
        device: the type, such as ``cpu``.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(_BF16 & _cpu_features())


def fastest_memory_format(net: nn.Module, device: str, precision: str) -> MemoryFormat:
    """The order in memory in which a network trains fastest.

    Args:
        net: one of this project's; others are given what every PyTorch code expects, since
            ``view`` raises in channels-last order.
        device: the type, such as ``cpu``.
        precision: as Lightning names it, such as ``bf16-mixed``.
    """
    if not type(net).__module__.startswith("cifar_lightning.models."):
        return "contiguous"
    if device == "mps":
        return "contiguous"  # not measured; as Apple's users have it
    # oneDNN's fp32 convolutions are slower in channels-last order on a Xeon with AMX, by a fifth
    wide = precision.startswith(("32", "64"))
    return "contiguous" if wide and device == "cpu" and _AMX & _cpu_features() else "channels_last"


def products_pay(device: str, precision: str) -> bool:
    """Whether ``SmallMaps`` is faster than torch's convolutions."""
    return device == "cpu" and precision == "bf16-mixed"


# as torch names them, and as Linux does
_AMX = {"amx_tile"}
_BF16 = {"avx512_bf16", "amx_bf16", "bf16", "sve_bf16"}


def _cpu_features() -> set[str]:
    if hasattr(torch.cpu, "get_capabilities"):  # since torch 2.11
        return {name for name, there in torch.cpu.get_capabilities().items() if there is True}
    info = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not info.exists():
        return set()
    return set(info.read_text(encoding="utf-8", errors="replace").split())
