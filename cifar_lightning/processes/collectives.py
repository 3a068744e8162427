"""One process or many: what they tell each other, beside the gradients.

Without a process group every function here is that of a single process, and costs nothing.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# A process may wait for another one that still downloads its data: 170 MB at 50 kB/s is an hour.
_PATIENCE = timedelta(hours=3)


def world_size() -> int:
    """The number of processes that train or evaluate together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leave() -> None:
    """End the connection; asked of all processes together. None may wait for another to end before
    it has left: NCCL frees what the processes of a machine share when all of them let go of it."""
    if dist.is_initialized():
        dist.destroy_process_group()
        _control.cache_clear()


def abort() -> None:
    """End the connection whatever the others do. After an error they may be waiting for this one
    or be gone, and leaving properly would let pending exchanges finish: it could wait for ever."""
    if dist.is_initialized():
        for exchange in _exchanges:
            exchange.drop()  # what is on its way holds the connection open, and nobody would notice
        dist.distributed_c10d._abort_process_group()
        _control.cache_clear()


def shard(size: int, rank: int, world_size: int) -> slice:
    """The places of one process in a batch of ``size`` images: processes differ by one image at
    most, and may have none."""
    each, more = divmod(size, world_size)
    first = rank * each + min(rank, more)
    return slice(first, first + each + (rank < more))


def all_reduce_sum(values: Sequence[float]) -> list[float]:
    """The sums of plain numbers over all processes, in float64."""
    total = torch.tensor(values, dtype=torch.float64)  # on the CPU: not every GPU has it
    if world_size() > 1:
        dist.all_reduce(total, group=_control())
    numbers: list[float] = total.tolist()
    return numbers


def all_gather(value: T) -> list[T]:
    """A picklable value of each process, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_control())
    return values


def broadcast(value: T) -> T:
    """The picklable value of process 0."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_control())
    return values[0]


def in_order(parts: list[Tensor]) -> list[Tensor]:
    """What each process made of its share of each batch, in the order of the images.

    Args:
        parts: a tensor for each batch; as many in each process.
    """
    if world_size() == 1:
        return parts
    everyone = all_gather([part.cpu() for part in parts])
    return [part for batch in zip(*everyone, strict=True) for part in batch]


_exchanges: WeakSet["AsyncAllReduceMax"] = WeakSet()


class AsyncAllReduceMax:
    """Numbers that all processes act upon at the same step: the largest that any of them has.

    With several processes the answer comes one call later. It has crossed the network by then,
    while the step was computed, and no step waits for it.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, Any] | None = None
        _exchanges.add(self)

    def drop(self) -> None:
        """Forget what is on its way."""
        self._pending = None

    def exchange(self, *numbers: int) -> tuple[int, ...]:
        """Give own numbers, at least 0; returns the largest of those given one call before."""
        if world_size() == 1:
            return numbers
        earlier = self._answer(len(numbers))
        values = torch.tensor(numbers)
        work = dist.all_reduce(values, dist.ReduceOp.MAX, group=_control(), async_op=True)
        self._pending = values, work
        return earlier

    def settle(self, *numbers: int) -> tuple[int, ...]:
        """Wait for the answer to these numbers and to those that are on their way."""
        before = self.exchange(*numbers)
        return tuple(map(max, before, self._answer(len(numbers)))) if self._pending else before

    def _answer(self, count: int) -> tuple[int, ...]:
        if self._pending is None:
            return (0,) * count
        values, work = self._pending
        work.wait()
        self._pending = None
        return tuple(values.tolist())


@cache
def _control() -> Any:
    # A group of its own, on the CPU whatever trains: asking it makes no GPU wait, and its messages
    # do not queue behind gradients.
    return dist.new_group(backend="gloo", timeout=_PATIENCE)
