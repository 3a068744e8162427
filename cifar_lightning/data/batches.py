"""Whole batches, taken from memory by index."""

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.trainer.states import TrainerStatus
from torch import Tensor

from cifar_lightning.data.source import LabelledImages
from cifar_lightning.lightning_internals import is_drawn_from, next_batch
from cifar_lightning.processes.collectives import shard, world_size

if TYPE_CHECKING:
    from cifar_lightning.data.datamodule import CIFAR10DataModule


_AT_ONCE = 1 << 26
"""Bytes of images that a GPU makes at once."""


class Share(NamedTuple):
    """One process's share of a batch.

    DDP divides the sum of the gradients by the number of processes, not of images: a module has to
    weight its loss by the share. One that does says so by an attribute ``takes_shares = True``.
    """

    images: Tensor
    """float N×3×H×W; N may be 0."""
    labels: Tensor
    """int64 N."""
    of: int
    """How many images all shares have together."""


class Prepared(NamedTuple):
    """A batch, or one process's share of it, as the network takes it, on a GPU already."""

    images: Tensor
    """float32 N×3×H×W, augmented and normalised."""
    labels: Tensor
    """int64 N."""
    of: tuple[int, ...]
    """With several processes how many images all shares have together; else empty."""


class Epochs:
    """Counts the epochs that are gone through without a trainer."""

    def __init__(self) -> None:
        self.begun = 0


class Batches:
    """Loads the batches of one split; iterating it gives one epoch.

    To the trainer of its data module it gives (the rest of) the epoch that is trained, as the
    pixels and draws of which the data module's hooks make what the network takes, on the device. To
    everybody else it gives what the network takes: images, float32 N×3×H×W, and labels, from the
    first batch on, and each time the next epoch of those that are shuffled.

    Args:
        module: whose split it is.
        data: images uint8 N×H×W×3 and labels int64 N.
        order: gives the indices of an epoch's images, int64, from the number of the epoch.
        draws: gives, from an epoch's order and its number, what happens to the image in each place.
        epochs: counts what is gone through without a trainer.
    """

    def __init__(
        self,
        module: "CIFAR10DataModule",
        data: LabelledImages,
        order: Callable[[int], Tensor],
        draws: Callable[[Tensor, int], Tensor] | None = None,
        epochs: Epochs | None = None,
    ) -> None:
        self._module = module
        self._data = data
        self._batch_size = module.batch_size
        self._order = order
        self._draws = draws
        self._epochs = epochs or Epochs()
        self._next: tuple[int, int] | None = None  # of who has no trainer
        self._restored = False
        self.images_per_epoch = len(order(0))

    def __len__(self) -> int:
        return -(-self.images_per_epoch // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        # A generator, which finds out at its first batch who draws from it and where that stands:
        # Lightning calls iter() before a checkpoint's progress has been restored.
        batches = self._epoch(lambda: batches)
        return batches

    def pixels(
        self,
        epoch: int,
        first: int = 0,
        process: tuple[int, int] = (0, 1),
        ordered_as: int | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """The batches of an epoch, from the batch ``first`` on, as they lie in memory.

        Args:
            epoch: its number.
            first: the number of a batch.
            process: rank and number of the processes that share each batch out among themselves.
            ordered_as: the epoch whose order it has, if not its own.

        Yields:
            images uint8 N×H×W×3, labels int64 N and, where images are augmented, draws. With
            several processes there are four parts: images, labels, draws or None, and the number
            of images in the whole batch, of which a process may have none.
        """
        images, labels = self._data
        places, order, draws = self._of_epoch(epoch, first, process, ordered_as)
        for mine, whole in places:
            index = order[mine]
            # not images[index], which takes twelve times as long for uint8 on a CPU
            chosen = images.index_select(0, index), labels.index_select(0, index)
            drawn = None if draws is None else draws[mine]
            if process[1] > 1:
                yield *chosen, drawn, whole
            else:
                yield chosen if drawn is None else (*chosen, drawn)

    def _of_epoch(
        self, epoch: int, first: int, process: tuple[int, int], ordered_as: int | None
    ) -> tuple[list[tuple[slice, int]], Tensor, Tensor | None]:
        """For each batch from ``first`` on, where this process's share of it lies in the epoch's
        order and how many images the batch has; the order, int64; and the draws, if any."""
        device = self._data.images.device
        order = self._order(epoch if ordered_as is None else ordered_as)
        draws = None if self._draws is None else self._draws(order, epoch).to(device)
        order = order.to(device)
        places = []
        for start in range(first * self._batch_size, len(order), self._batch_size):
            size = min(self._batch_size, len(order) - start)
            mine = range(start, start + size)[shard(size, *process)]
            places.append((slice(mine.start, mine.stop), size))
        return places, order, draws

    def _prepared(
        self, epoch: int, first: int, process: tuple[int, int], ordered_as: int | None
    ) -> Iterator[Prepared]:
        """The same batches as the network takes them, many of them made at once: a step is then a
        slice, which launches nothing, where one made for itself takes some 30 kernels."""
        places, order, draws = self._of_epoch(epoch, first, process, ordered_as)
        images, labels = self._data
        at_once = max(1, _AT_ONCE // (4 * self._batch_size * images[0].numel()))
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            index = torch.cat([order[mine] for mine, _ in some])
            drawn = None if draws is None else torch.cat([draws[mine] for mine, _ in some])
            made = self._module.prepare_batch(
                images.index_select(0, index), labels.index_select(0, index), drawn
            )
            sizes = [mine.stop - mine.start for mine, _ in some]
            parts = [part.split(sizes) for part in made]
            for (_, whole), ready, theirs in zip(some, *parts, strict=True):
                yield Prepared(ready, theirs, (whole,) if process[1] > 1 else ())

    def _epoch(self, this: Callable[[], Iterator[Any]]) -> Iterator[tuple[Any, ...]]:
        trainer = at_work(self._module.trainer)
        if trainer is not None and is_drawn_from(trainer, self._module, this()):
            self._next = None
            epoch, first = next_batch(trainer) if trainer.training else (0, 0)
            process = trainer.global_rank, trainer.world_size
            same = 0 if trainer.overfit_batches else None  # the same batches again and again
            device = trainer.strategy.root_device
            if device.type != "cuda":
                yield from self.pixels(epoch, first, process, same)
            elif self._data.images.device.type == "cpu":
                yield from _copied_ahead(self.pixels(epoch, first, process, same), device)
            else:
                yield from self._prepared(epoch, first, process, same)
            return
        if world_size() > 1:
            warnings.warn(
                f"Each of the {world_size()} processes goes through all images of this loader; "
                "give the trainer datamodule=... to have batches shared out.",
                stacklevel=2,
            )
        epoch, first = self._begin()
        for batch, pixels in enumerate(self.pixels(epoch, first), start=first):
            self._next = epoch, batch + 1
            images, labels = self._module.prepare_batch(*pixels)
            yield images.contiguous(), labels

    def _begin(self) -> tuple[int, int]:
        """Where somebody who has no trainer starts: (epoch, batch)."""
        epoch, first = self._next if self._restored and self._next else (self._epochs.begun, 0)
        if first >= len(self):
            epoch, first = epoch + 1, 0
        self._restored = False
        self._epochs.begun = epoch + 1
        return epoch, first

    # By these a trainer that was given this loader, and not the data module, goes on in mid-epoch.
    # That of the data module has its position in its own progress, and needs no state here; without
    # the two methods it would warn.
    def state_dict(self) -> dict[str, Any]:
        return {} if self._next is None else dict(zip(("epoch", "batch"), self._next, strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = (state["epoch"], state["batch"]) if state else None
        self._restored = True


def _copied_ahead(
    batches: Iterator[tuple[Any, ...]], device: torch.device
) -> Iterator[tuple[Any, ...]]:
    """Batches on a GPU, each copied from pinned memory before the one before it is given: nobody
    waits for a copy. The stream of the step copies too, which keeps memory in order."""
    ready: list[tuple[Any, ...]] = []
    for batch in batches:
        ready.append(
            tuple(
                part.pin_memory().to(device, non_blocking=True)
                if isinstance(part, Tensor)
                else part
                for part in batch
            )
        )
        if len(ready) == 2:
            yield ready.pop(0)
    yield from ready


def at_work(trainer: Trainer | None) -> Trainer | None:
    """The trainer, while it fits, validates, tests or predicts."""
    running = trainer is not None and trainer.state.status == TrainerStatus.RUNNING
    return trainer if running else None
