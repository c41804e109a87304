"""The training pictures: pairs of views of toy objects, rendered once into a memory-mapped cache.

The toy dataset's own splits are never trained on: `make_toy` draws its objects' seeds from all of 63 bits, and here
every seed lies between `TRAIN_SEEDS` and half a billion above it, or, for the pictures that only measure, `PROBE_SEEDS`
and as much above. That one of its pictures falls into these ranges has odds below one in a billion.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.lib.format import open_memmap
from tqdm import tqdm

from matchkit.core.seeding import derive_seed
from matchkit.extract.backbones.tiny.architecture import INPUT_SIZE, LATENT_STRIDE
from matchkit.extract.datasets.toy import CATEGORIES, Rendering, View, render, sample_instance, sample_view

TRAIN_SEEDS = 1_000_000_000
PROBE_SEEDS = 2_000_000_000
_SPAN = 500_000_000
_GRID = INPUT_SIZE // LATENT_STRIDE
_CHUNK = 100
_FURTHEST = 110.0
"""Widest turn between the two views of an object, in degrees: beyond it they share hardly any surface."""


@dataclass(frozen=True)
class Renders:
    """Rendered pictures; rows 2k and 2k + 1 show one object twice, under other cameras, lamps and backgrounds.

    Attributes:
        images: Pixels, 0 to 255.
        surface: Object-space point (object units, radius 1) seen at each patch's centre; NaN on the background.
        category: Index into `CATEGORIES`.
        captions: A prompt a picture.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    surface: Float32[np.ndarray, "n gh gw 3"]
    category: Int64[np.ndarray, " n"]
    captions: Sequence[str]


def draw_pair(index: int, *, seed: int, base: int = TRAIN_SEEDS) -> tuple[Rendering, Rendering]:
    """Renders two views of object number `index`: the same arguments give the same pictures."""
    category = CATEGORIES[index % len(CATEGORIES)]
    instance = sample_instance(category, seed=base + derive_seed(seed, "instance", index) % _SPAN)
    first = _view(category, seed=base + derive_seed(seed, "view", index, 0) % _SPAN)
    turn = np.random.default_rng(derive_seed(seed, "turn", index)).uniform(-_FURTHEST, _FURTHEST)
    second = _view(category, seed=base + derive_seed(seed, "view", index, 1) % _SPAN, azimuth=first.azimuth + turn)
    return render(instance, first, size=INPUT_SIZE), render(instance, second, size=INPUT_SIZE)


def _view(category: str, *, seed: int, azimuth: float | None = None) -> View:
    return sample_view(seed=seed, category=category, azimuth=azimuth)


def patch_surface(rendering: Rendering) -> Float32[np.ndarray, "gh gw 3"]:
    """The surface points seen at the patches' centres, to the nearest pixel right of and below them."""
    half = LATENT_STRIDE // 2
    return rendering.surface[half::LATENT_STRIDE, half::LATENT_STRIDE]


def load_renders(folder: Path, *, pairs: int, seed: int) -> Renders:
    """Opens the cache of `pairs` objects, rendering first what is missing from it.

    Rendering takes about 60 ms a pair on one core and resumes at the last complete hundred.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / f"ledger-{seed}-{pairs}.jsonl"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    if len(rows) < pairs:
        rows = rows[: len(rows) // _CHUNK * _CHUNK]
    mode = "r+" if rows else "w+"
    shape = (2 * pairs, INPUT_SIZE, INPUT_SIZE, 3)
    images = open_memmap(folder / f"images-{seed}-{pairs}.npy", mode=mode, dtype=np.uint8, shape=shape)
    grid = (2 * pairs, _GRID, _GRID, 3)
    surface = open_memmap(folder / f"surface-{seed}-{pairs}.npy", mode=mode, dtype=np.float32, shape=grid)
    chunk: list[tuple[str, str]] = []
    for index in tqdm(range(len(rows), pairs), desc="render", unit="pair", disable=None):
        views = draw_pair(index, seed=seed)
        images[2 * index : 2 * index + 2] = [view.image for view in views]
        surface[2 * index : 2 * index + 2] = [patch_surface(view) for view in views]
        chunk.append((views[0].caption, views[1].caption))
        if len(chunk) == _CHUNK or index == pairs - 1:
            images.flush()
            surface.flush()
            rows += chunk
            ledger.write_text("".join(json.dumps(row) + "\n" for row in rows))
            chunk = []
    captions = [caption for row in rows for caption in row]
    category = np.arange(2 * pairs) // 2 % len(CATEGORIES)
    return Renders(images=images, surface=surface, category=category.astype(np.int64), captions=captions)
