"""Memory that shards are read into."""

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

LARGE = 1 << 20
"""Bytes from which memory is taken in whole pages of its own."""


def memory(shape: Sequence[int], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "..."]:
    """Uninitialised memory; large blocks begin at a page, as O_DIRECT asks, in huge pages where the system has them.

    Fresh memory costs a page fault for every page at its first touch: reuse it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:  # mmap cannot be empty either
        return np.empty(shape, dtype)
    block = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(block, dtype).reshape(shape)
