"""Muon for the weights between a network's first layer and its last, SGD for the rest.

Muon: Keller Jordan and others, https://kellerjordan.github.io/posts/muon/, 2024, as in
``airbench94_muon.py`` of https://github.com/KellerJordan/cifar10-airbench. A step goes equally far
in all directions that a weight's momentum has, also in those in which gradients are small.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.sgd import sgd

from cifar_lightning.models.hardware import computes_in_bf16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that raises small singular values fastest; it ends near 1, not at it."""

_AT_ONCE = 3
"""Iterations from one Gram matrix: bfloat16's error in it grows twelvefold with each."""


def orthogonalise(matrix: Tensor, iterations: int) -> Tensor:
    """The matrix with singular values near 1, by Newton and Schulz's iteration; in bfloat16 where
    the hardware computes in it, but for float64."""
    x = matrix if matrix.dtype == torch.float64 else matrix.to(_format(matrix.device.type))
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for done in range(0, iterations, _AT_ONCE):
        x = _iterate(x, min(_AT_ONCE, iterations - done))
    return x.T if tall else x


@cache
def _format(device: str) -> torch.dtype:
    # emulated on a CPU with AVX2 alone a step of AlexNet takes 14 s in bfloat16
    return torch.bfloat16 if computes_in_bf16(device) else torch.float32


def _iterate(x: Tensor, iterations: int) -> Tensor:
    """Each iteration makes (a + b·G + c·G²)·X of X, with G = X·Xᵀ. Here the factors, which are
    small where X is wide, are multiplied first, and X once: half the time on a CPU. Their multiples
    of the identity are kept apart, and with them the digits that bfloat16 would lose beside them.
    """
    a, b, c = _COEFFICIENTS
    gram = x @ x.T
    scale, factor = a, torch.addmm(gram, gram, gram, beta=b, alpha=c)  # (scale + factor)·X so far
    last = factor
    for _ in range(iterations - 1):
        half = torch.addmm(gram, last, gram, beta=a)
        gram = torch.addmm(half, half, last, beta=a)
        last = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor = torch.addmm(factor, last, factor, beta=a).add_(last, alpha=scale)
        scale *= a
    return torch.addmm(x, factor, x, beta=scale)


class MuonSGD(Optimizer):
    """Muon for hidden weights; SGD with momentum for the first layer, the last layer and biases.

    ``torch.optim.Muon`` takes matrices alone. Given flattened views of a convolution's weights it
    would look for their gradients at the views, which have none; the views would end where weights
    move to a device; a filter in channels-last order has no such view; and the rest of the network
    would need a second optimizer, where Lightning's own loop takes one.

    Args:
        named_parameters: of the network, in the order of its layers, and of the loss.
        lr: how far Muon moves a weight, a matrix of outputs × inputs: this many times an orthogonal
            matrix, and √(outputs / inputs) times as far where there are more outputs than inputs.
        sgd_lr: the learning rate of SGD; where lr changes in a run, it does in proportion.
        momentum: of both, Nesterov's.
        weight_decay: of all but vectors, decoupled: a weight shrinks by this share of its learning
            rate.
        iterations: towards an orthogonal matrix.
        together: a matrix of more outputs than this is taken apart into several, each of which is
            made orthogonal by itself: of the 1,024 outputs of a layer at once it costs most of all.
        first_layer: Muon moves its weights, too.
        last_layer: likewise.
        convolution_iterations: for the weights of convolutions, whose matrices are small; as many
            as of the others if left out.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float = 0.02,
        sgd_lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        iterations: int = 3,
        together: int = 384,
        first_layer: bool = False,
        last_layer: bool = False,
        convolution_iterations: int | None = None,
    ) -> None:
        for name, value in {"lr": lr, "sgd_lr": sgd_lr, "weight_decay": weight_decay}.items():
            if not value >= 0:
                raise ValueError(f"{name} {value} must be at least 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum} must be at least 0 and below 1")
        numbers = {
            "iterations": iterations,
            "together": together,
            "convolution_iterations": convolution_iterations,
        }
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} {number} must be at least 1")
        named = list(named_parameters)
        layers = [p for name, p in named if p.ndim > 1 and not name.startswith("loss.")]
        hidden = {id(p) for p in layers[0 if first_layer else 1 : None if last_layer else -1]}
        if not hidden:
            raise ValueError("the network has no layer between its first and its last; use SGD")
        matrices = [p for _, p in named if id(p) in hidden]
        rest = [p for _, p in named if id(p) not in hidden]
        groups: list[dict[str, Any]] = [
            {"params": matrices, **numbers},
            {"params": [p for p in rest if p.ndim > 1], "lr": sgd_lr},
            {"params": [p for p in rest if p.ndim <= 1], "lr": sgd_lr, "weight_decay": 0.0},
        ]
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; the loss, if the closure gives one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            lr, momentum = float(group["lr"]), group["momentum"]
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            buffers = [self._momentum(p) for p in weights]
            if "iterations" in group:
                for weight, buffer in zip(weights, buffers, strict=True):
                    _muon(weight, buffer, lr, group)
            else:
                sgd(
                    weights,
                    [p.grad for p in weights],
                    buffers,  # type: ignore[arg-type]
                    weight_decay=0.0,
                    momentum=momentum,
                    lr=lr,
                    dampening=0.0,
                    nesterov=momentum > 0,
                    maximize=False,
                )
        return loss

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _muon(weight: Tensor, buffer: Tensor, lr: float, group: dict[str, Any]) -> None:
    assert weight.grad is not None
    buffer.mul_(group["momentum"]).add_(weight.grad)
    ahead = weight.grad.add(buffer, alpha=group["momentum"]).flatten(1)
    blocks = ahead.chunk(-(-len(ahead) // group["together"]))
    iterations = group["iterations"]
    if weight.ndim > 2:  # a checkpoint of before there was a choice has none
        iterations = group.get("convolution_iterations") or iterations
    made = torch.cat([orthogonalise(block, iterations) for block in blocks])
    outputs, inputs = blocks[0].shape
    weight.add_(made.reshape(weight.shape), alpha=-lr * max(1.0, outputs / inputs) ** 0.5)
