"""What a device is said to be fastest in, with processors that are only pretended."""

import pytest
import torch
from torch import nn

from cifar_lightning.models import AlexNet, hardware
from cifar_lightning.models.hardware import computes_in_bf16, fastest_memory_format

XEON_WITH_AMX = {"avx512_f", "avx512_bf16", "amx_tile", "amx_bf16"}
EPYC = {"avx512_f", "avx512_bf16"}
OLD = {"avx2"}
GRAVITON = {"neon", "bf16"}


@pytest.mark.parametrize(
    ("features", "bf16", "in_fp32"),
    [
        (XEON_WITH_AMX, True, "contiguous"),
        (EPYC, True, "channels_last"),
        (OLD, False, "channels_last"),
        (GRAVITON, True, "channels_last"),
    ],
)
def test_processors(
    features: set[str], bf16: bool, in_fp32: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_cpu_features", lambda: features)
    assert computes_in_bf16("cpu") is bf16
    assert fastest_memory_format(AlexNet(), "cpu", "32-true") == in_fp32
    assert fastest_memory_format(AlexNet(), "cpu", "bf16-mixed") == "channels_last"
    assert fastest_memory_format(AlexNet(), "cuda", "32-true") == "channels_last"
    assert fastest_memory_format(nn.Flatten(), "cpu", "bf16-mixed") == "contiguous"


def test_this_processor() -> None:
    known = torch.cpu._is_avx512_bf16_supported()
    assert computes_in_bf16("cpu") >= known
    assert not computes_in_bf16("mps")


def test_where_torch_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = hardware._cpu_features()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert hardware._BF16 & hardware._cpu_features() == hardware._BF16 & ours
