"""A dataset with a broken annotation loads, or is refused by an error that names a file; nothing hangs or runs."""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import DRAWN, of_animals
from mutations import mutated

from matchkit.core.errors import DatasetError
from matchkit.core.records import PairDataset
from matchkit.extract.datasets import DATASETS

ENDINGS = (".json", ".csv", ".mat", ".txt", ".flo", ".yaml")
"""Of annotations; photographs and masks are decoded by libraries that have tests of their own."""
LAYOUTS = {name: (name, drawn) for name, drawn in DRAWN.items()} | {"ap10k-official": ("ap10k", of_animals)}
"""By a layout, the dataset that has it, and what draws a tree."""
LOADERS = tuple(name for name in LAYOUTS if name not in ("toy", "ade20k", "celeba-mask", "deepfashion"))
"""Those with keypoints; the toy dataset is read as SPair is."""
COUNT = int(os.environ.get("MATCHKIT_MUTATIONS", "200"))
"""Broken files a loader; more of them on request."""
LONGEST = 5.0
"""Seconds of the processor that one broken tree may take; nearly all take milliseconds."""
DANGEROUS = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)


class Watch:
    """Remembers what the interpreter does that no reader of annotations should."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event in DANGEROUS:
            self.seen.append(f"{event}{arguments}")


WATCH = Watch()
"""One for all tests: a hook stays until the process ends."""


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The watch, switched on."""
    WATCH.seen.clear()
    WATCH.on = True
    yield WATCH
    WATCH.on = False


def read(opener: Callable[[Path], PairDataset], root: Path) -> None:
    """Reads all that a dataset knows of images and pairs, and checks that what it hands out is sound."""
    data = opener(root)
    images = data.images
    for split in data.splits:
        for pair in data.pairs(split):
            assert {pair.source, pair.target} <= set(images)
            assert len(pair.keypoint_ids) == len(pair.source_points) == len(pair.target_points)
            for points in (pair.source_points, pair.target_points):
                assert np.isfinite(points).all()
        for category in {pair.category for pair in data.pairs(split)}:
            try:
                data.scheme(category)
            except DatasetError as error:
                assert data.name in str(error) or str(root) in str(error)  # noqa: PT017 - most datasets have none


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", LOADERS)
def test_a_broken_annotation_is_read_or_refused(name: str, spair_tree: Path, watch: Watch) -> None:
    dataset, drawn = LAYOUTS[name]
    root, opener = drawn(spair_tree), DATASETS.load(dataset)
    read(opener, root)
    files = sorted(path for path in root.rglob("*") if path.suffix in ENDINGS and path.is_file())
    draw = random.Random(f"{name} 0")
    came: Counter[str] = Counter()
    nameless: list[str] = []
    for number in range(COUNT):
        path = draw.choice(files)
        whole = path.read_bytes()
        path.write_bytes(mutated(whole, ending=path.suffix, draw=draw))
        began = time.process_time()
        try:
            read(opener, root)
        except DatasetError as error:
            came["refused"] += 1
            nameless += [f"change {number}, of {path}: {error}"] if str(root) not in str(error) else []
        except Exception as error:
            error.add_note(f"change {number}, of {path}: {path.read_bytes()[:300]!r}")
            raise
        else:
            came["read"] += 1
        assert time.process_time() - began < LONGEST, f"change {number}, of {path}"
        path.write_bytes(whole)
    assert watch.seen == []
    assert nameless == []
    assert min(came["read"], came["refused"]) > 0
    read(opener, root)
