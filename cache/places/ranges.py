"""What is asked of a server for some pieces of its objects, and how much of it at the same time."""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8

from matchkit.cache.places.place import Piece

REQUESTS = 32
"""Requests in flight, of all places of this process together: what 1 GB/s at 30 ms takes in chunks of 1 MB."""
LONGEST = 4 << 20
"""Bytes that one request reads at most; what is longer is split over several connections."""
GAP = 256 << 10
"""Bytes that are rather read in vain than left out by a second request."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REQUESTS, thread_name_prefix="matchkit-bucket")


@dataclass(slots=True)
class Request:
    """Bytes of an object that are asked for at once.

    Attributes:
        name: of the object.
        start: the first byte.
        end: the byte after the last one.
        parts: where they belong, as (offset in the object, memory).
    """

    name: str
    start: int
    end: int
    parts: list[tuple[int, UInt8[np.ndarray, " _"]]]

    def hand_out(self, data: UInt8[np.ndarray, " _"]) -> None:
        """Copies what was answered to where it belongs."""
        for offset, memory in self.parts:
            memory[:] = data[offset - self.start :][: memory.size]


def requests(pieces: Sequence[Piece]) -> list[Request]:
    """What to ask for: near pieces of an object together, long ones in parts."""
    asked: list[Request] = []
    for name, offset, memory in sorted(_parts(pieces), key=lambda part: part[:2]):
        end, last = offset + memory.size, asked[-1] if asked else None
        if last and last.name == name and offset - last.end <= GAP and max(end, last.end) - last.start <= LONGEST:
            last.parts.append((offset, memory))
            last.end = max(end, last.end)
        else:
            asked.append(Request(name, offset, end, [(offset, memory)]))
    return asked


def _parts(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, UInt8[np.ndarray, " _"]]]:
    for piece in pieces:
        if not piece.into.flags.c_contiguous:
            raise ValueError(f"the memory for {piece.name} is not contiguous")
        memory = flat_bytes(piece.into)
        for start in range(0, memory.size, LONGEST):
            yield piece.name, piece.offset + start, memory[start : start + LONGEST]


def flat_bytes(array: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, " _"]:
    """An array's values as they lie in memory, row by row."""
    return array.reshape(-1).view(np.uint8)


def together(calls: Sequence[Callable[[], None]]) -> None:
    """Makes all calls at the same time; returns when none of them runs any more, even where one fails."""
    if len(calls) == 1:
        calls[0]()
        return
    futures = [_pool().submit(call) for call in calls]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
    for future in futures:
        if not future.cancelled():
            future.result()
