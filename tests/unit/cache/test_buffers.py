"""Memory that shards are read into."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from matchkit.cache.buffers import LARGE, memory
from matchkit.cache.places.local import PAGE


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 3), (3, 700, 701), (1 << 22,)])
def test_memory_has_the_shape_and_can_be_written(shape: Sequence[int], dtype: str) -> None:
    block = memory(shape, np.dtype(dtype))
    assert (block.shape, block.dtype) == (tuple(shape), np.dtype(dtype))
    assert block.flags.c_contiguous
    block[...] = 7
    assert (torch.from_numpy(block) == 7).all()
    if block.nbytes >= LARGE:
        assert block.ctypes.data % PAGE == 0


def test_blocks_do_not_overlap() -> None:
    one, other = (memory((LARGE,), np.dtype(np.uint8)) for _ in range(2))
    one[:], other[:] = 1, 2
    assert (one == 1).all()
