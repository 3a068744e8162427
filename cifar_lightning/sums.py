"""Loss and accuracy over many batches, at the price of a few microseconds a step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cifar_lightning.processes import sum_over_processes, world_size

_TOGETHER = 64  # batches


class Sums(nn.Module):
    """Loss and right answers, summed up over all images seen since the last reset.

    torchmetrics takes 130 µs a step for the same, and its MeanMetric(nan_strategy="disable")
    loses the weights, so that a short last batch counts as much as a full one (1.9.0).
    """

    loss: Tensor
    right: Tensor
    images: Tensor

    def __init__(self, persistent: bool = False) -> None:
        super().__init__()
        self.register_buffer("loss", torch.zeros(()), persistent)
        self.register_buffer("right", torch.zeros((), dtype=torch.int64), persistent)
        self.register_buffer("images", torch.zeros((), dtype=torch.int64), persistent)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self.register_state_dict_pre_hook(lambda sums, *_: sums._count())  # type: ignore[no-untyped-call]

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, float logits N×K and int64 labels N. Nothing is read back
        from the device."""
        if len(labels) == 0:
            return  # the mean loss of no images is not a number
        self.loss.add_(loss, alpha=len(labels))
        # counted together, which takes less time than each by itself; whole numbers add up to the
        # same in any order
        self._waiting.append((logits, labels))
        if len(self._waiting) == _TOGETHER:
            self._count()

    def merge(self, other: "Sums") -> None:
        other._count()
        self.loss.add_(other.loss)
        self.right.add_(other.right)
        self.images.add_(other.images)

    def total(self) -> "Sums":
        """The sums over all processes; with one process these."""
        if world_size() == 1:
            return self
        total = Sums().to(self.loss.device)
        total.values = sum_over_processes(self.values)
        return total

    @property
    def values(self) -> Tensor:
        """Loss, right answers and images as float64, which holds each of them exactly."""
        self._count()
        return torch.stack([value.double() for value in (self.loss, self.right, self.images)])

    @values.setter
    def values(self, values: Tensor) -> None:
        self._waiting.clear()
        for own, value in zip((self.loss, self.right, self.images), values, strict=True):
            own.copy_(value)

    def means(self, name: str) -> dict[str, Tensor]:
        """Mean loss and top-1 accuracy; the braces in ``name`` become ``loss`` and ``acc``."""
        self._count()
        return {
            name.format("loss"): self.loss / self.images,
            name.format("acc"): self.right / self.images,
        }

    def reset(self) -> None:
        self._waiting.clear()
        self.loss.zero_()
        self.right.zero_()
        self.images.zero_()

    def _count(self) -> None:
        if self._waiting:
            logits, labels = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting.clear()
            self.right.add_((logits.argmax(dim=1) == labels).sum())
            self.images.add_(len(labels))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Sums":
        # moves along with the weights, but is none of them: "16-true" must not round it
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self
