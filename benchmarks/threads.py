"""A thread a batch against all threads on every batch: `sd-inversion` of the embedded pipeline, on the CPU, in one run.

PYTHONSAFEPATH=1 python benchmarks/threads.py
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams

IMAGES = 80
BATCHES = (2, 20)
Group = tuple[torch.Tensor, list[str]]


def all_on_one(backbone: SDInversion, groups: list[Group], *, cores: int) -> float:
    """Seconds for one batch after the other, each on all cores."""
    torch.set_num_threads(cores)
    start = time.perf_counter()
    for group in groups:
        backbone(*group)
    return time.perf_counter() - start


def one_each(backbone: SDInversion, groups: list[Group], *, cores: int) -> float:
    """Seconds for as many batches at a time as there are cores, each on one, as `matchkit extract` does."""
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        start = time.perf_counter()
        list(pool.map(lambda group: backbone(*group), groups))
        return time.perf_counter() - start


def main() -> None:
    cores = os.cpu_count() or 1
    backbone = SDInversion(SDInversionParams(steps=10, keys=(8, 7, 6)), device=torch.device("cpu"))
    images = torch.rand(IMAGES, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for batch in BATCHES:
        groups = [(images[n : n + batch], [str(n)] * batch) for n in range(0, IMAGES, batch)]
        together = min(all_on_one(backbone, groups, cores=cores) for _ in range(3))
        apart = min(one_each(backbone, groups, cores=cores) for _ in range(3))
        print(
            f"batch {batch:2}: all {cores} cores on a batch {IMAGES / together:5.1f} images/s, "
            f"a core a batch {IMAGES / apart:5.1f} images/s ({together / apart:.2f} times)"
        )


if __name__ == "__main__":
    main()
