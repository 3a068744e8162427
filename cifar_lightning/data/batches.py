"""Whole batches, taken from memory by index."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from cifar_lightning.data.source import LabelledImages
from cifar_lightning.processes.collectives import shard


class Batches:
    """An endless supply of epochs over one split; iterating it gives (the rest of) one epoch.

    It holds no position of its own. Where an epoch starts is asked of the caller when the first
    batch is drawn, so that it follows what was trained on and not what was fetched.

    Args:
        data: images uint8 N×H×W×3 and labels int64 N.
        batch_size: images in a batch; the last batch of an epoch may be smaller.
        order: gives the indices of an epoch's images, int64, from the number of the epoch.
        position: gives (epoch, batch): the next batch to draw.
        draws: gives, for each place in an epoch's order, what happens to the image there; a batch
            then has these rows as its third part.
        process: rank and number of the processes that share each batch out among themselves. With
            several, a batch has four parts: images, labels, draws or None, and the number of images
            in the whole batch, of which this process may have none.
    """

    def __init__(
        self,
        data: LabelledImages,
        batch_size: int,
        order: Callable[[int], Tensor],
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
        draws: Callable[[int], Tensor] | None = None,
        process: tuple[int, int] = (0, 1),
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._order = order
        self._position = position
        self._draws = draws
        self._process = process
        self.images_per_epoch = len(order(0))

    def __len__(self) -> int:
        return -(-self.images_per_epoch // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        # A generator: the position is read at the first batch, not when Lightning calls iter(),
        # which it does before a checkpoint's progress has been restored.
        epoch, first = self._position()
        images, labels = self._data
        order = self._order(epoch).to(images.device)
        draws = None if self._draws is None else self._draws(epoch).to(images.device)
        for batch in range(first, len(self)):
            whole = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
            mine = shard(len(order[whole]), *self._process)
            index = order[whole][mine]
            # not images[index], which takes twelve times as long for uint8 on a CPU
            chosen = images.index_select(0, index), labels.index_select(0, index)
            drawn = None if draws is None else draws[whole][mine]
            if self._process[1] > 1:
                yield *chosen, drawn, len(order[whole])
            else:
                yield chosen if drawn is None else (*chosen, drawn)

    # Lightning warns that a loader without these two cannot be resumed in mid-epoch. This one can,
    # and has no state: the position travels with the trainer's own progress.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
