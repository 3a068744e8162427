"""Convolutions on small maps as matrix products, which CPUs are faster at.

A 3×3 convolution on a map of 3×3 meets padding in 32 of the 81 products of a pixel and a weight
that it is written as. oneDNN computes them all, and spreads them badly over the cores when it
computes gradients. Here each of the kernel's taps is one product, over the pixels where it meets
the map: the same sums, in another order.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LARGEST = 3
"""Height and width, in pixels, up to which a map is small: docs/speed.md has what was measured."""


class SmallMaps(TorchFunctionMode):
    """While it is entered, ``conv2d`` on small maps is computed by products. Networks are left as
    they are, and so is every other convolution."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.conv2d and not kwargs and _is_small(*args):
            images, weight, bias = args[:3]
            if torch.is_autocast_enabled("cpu"):
                images = images.to(torch.get_autocast_dtype("cpu"))
            return _ByTaps.apply(images, weight, bias)
        return func(*args, **(kwargs or {}))


def _is_small(images: Tensor, weight: Tensor, *rest: Any) -> bool:
    side = weight.shape[2]
    return (
        images.device.type == "cpu"
        and images.dtype in (torch.bfloat16, torch.float32)
        and images.ndim == 4
        and max(images.shape[2:]) <= LARGEST
        and side == weight.shape[3] > 1
        and side % 2 == 1
        # bias, stride, padding, dilation and groups, as nn.Conv2d gives them
        and rest[1:] == ((1, 1), (side // 2, side // 2), (1, 1), 1)
    )


class _Tap(NamedTuple):
    """A place in the kernel, and the pixels where it meets the map."""

    row: int
    column: int
    of_output: tuple[slice, slice]
    of_input: tuple[slice, slice]


@cache
def _taps(height: int, width: int, side: int) -> tuple[_Tap, ...]:
    def spans(length: int) -> Iterator[tuple[int, slice, slice]]:
        for place in range(side):
            by = place - side // 2
            if abs(by) < length:
                output = slice(max(0, -by), length - max(0, by))
                yield place, output, slice(output.start + by, output.stop + by)

    return tuple(
        _Tap(row, column, (rows, columns), (rows_in, columns_in))
        for row, rows, rows_in in spans(height)
        for column, columns, columns_in in spans(width)
    )


class _ByTaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Of images N×C×H×W and weights K×C×side×side, in the images' number format, with sums in
        float32: N×K×H×W, channels last in memory."""
        pixels = images.permute(0, 2, 3, 1).contiguous()
        taps = weight.detach().permute(2, 3, 0, 1)
        kernel = torch.empty(taps.shape, dtype=images.dtype).copy_(taps)  # in one pass
        n, height, width, _ = pixels.shape
        out = torch.zeros(n, height, width, kernel.shape[2])
        if bias is not None:
            out += bias.detach()
        for tap in _taps(height, width, kernel.shape[0]):
            part = _rows(pixels, tap.of_input) @ kernel[tap.row, tap.column].T
            place = out[:, *tap.of_output]
            place += part.view(place.shape)
        ctx.save_for_backward(pixels, kernel)
        ctx.needs = weight, bias
        return out.to(images.dtype).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pixels, kernel = ctx.saved_tensors
        weight, bias = ctx.needs
        wants_images, wants_weight, wants_bias = ctx.needs_input_grad
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        of_images = torch.zeros(pixels.shape) if wants_images else None
        of_kernel = torch.zeros_like(kernel) if wants_weight else None
        for tap in _taps(*pixels.shape[1:3], kernel.shape[0]):
            rows = _rows(gradient, tap.of_output)
            if of_kernel is not None:
                torch.mm(rows.T, _rows(pixels, tap.of_input), out=of_kernel[tap.row, tap.column])
            if of_images is not None:
                place = of_images[:, *tap.of_input]
                place += (rows @ kernel[tap.row, tap.column]).view(place.shape)
        return (
            None if of_images is None else of_images.to(pixels.dtype).permute(0, 3, 1, 2),
            None if of_kernel is None else _like(of_kernel.permute(2, 3, 0, 1), weight),
            gradient.sum((0, 1, 2), dtype=torch.float32).to(bias.dtype) if wants_bias else None,
        )


def _rows(pixels: Tensor, place: tuple[slice, slice]) -> Tensor:
    """Those of N×H×W×C in a part of the map, one below another."""
    return pixels[:, *place].reshape(-1, pixels.shape[3])


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """In the number format and memory order of another of its shape."""
    return torch.empty_like(other).copy_(tensor)
