"""Which images of a batch are whose."""

import pytest

from cifar_lightning.processes.collectives import shard


@pytest.mark.parametrize("size", [0, 1, 2, 3, 16, 63, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_image_of_a_batch_has_one_process(size: int, count: int) -> None:
    shares = [list(range(size))[shard(size, rank, count)] for rank in range(count)]
    assert [image for mine in shares for image in mine] == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
