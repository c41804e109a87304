"""The device that torch computes on."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from matchkit.core.errors import DeviceError

LOCAL_RANK = "LOCAL_RANK"
"""By which launchers of torch tell a process its number on this machine."""
log = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA, then Apple's MPS, then the CPU, and logs which.

    Of several processes that a launcher started, as `accelerate launch` does, each takes a GPU of its own.

    Raises:
        DeviceError: the device asked for is not there. There is no silent fall-back.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
        log.info("computing on %s", name)
    kind = name.partition(":")[0]
    if not present.get(kind, False):
        raise DeviceError(
            f"--device {name}: no such device here. Use --device cpu, or --device auto to take what is there"
        )
    if name == "cuda" and LOCAL_RANK in os.environ:
        name = f"cuda:{os.environ[LOCAL_RANK]}"
    return torch.device(name)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch's CPU operations on the calling thread: for many small ones, handing them out costs more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
