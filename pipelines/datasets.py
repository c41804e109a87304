"""Makes the datasets of rendered toy objects."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from matchkit.core.errors import DatasetError, UnknownNameError
from matchkit.core.params import build
from matchkit.extract.datasets import open_dataset
from matchkit.extract.datasets.toy import ToySizes, make_toy
from matchkit.extract.datasets.toy.views import ViewSettings
from matchkit.extract.datasets.toy.write_views import make_toy_views
from matchkit.pipelines.settings import told

log = logging.getLogger(__name__)
MADE = ("toy", "toy-views")
"""The datasets that can be made."""


@dataclass(frozen=True, slots=True)
class ToyParams:
    """What the toy dataset is made of: its seed, looks, the images' edge in pixels, images and pairs a split."""

    seed: int = 0
    style: Literal["calm", "hard"] = "calm"
    size: int = 128
    train_images: int = 1000
    val_images: int = 150
    test_images: int = 250
    train_pairs: int = 4000
    val_pairs: int = 500
    test_pairs: int = 1000


@dataclass(frozen=True, slots=True)
class DatasetCounts:
    """A dataset on the disk: its folder, images, and pairs a split."""

    root: Path
    images: int
    pairs: dict[str, int]


def make(name: str, root: Path | None = None, settings: Sequence[str] = (), *, replace: bool = False) -> DatasetCounts:
    """Renders the dataset `toy` or `toy-views` into `root`, by default `data/<name>`.

    One of the same settings is kept, another one only gives way on `replace`.

    Raises:
        UnknownNameError: another dataset.
        ConfigError: a setting that does not exist or is impossible.
        DatasetError: `root` holds something else, or the renderer is not installed.
    """
    if name not in MADE:
        raise UnknownNameError(f"'{name}' cannot be made; there are: {', '.join(MADE)}")
    render = _toy(settings) if name == "toy" else _toy_views(settings)
    root = root or Path("data") / name
    try:
        _with_progress(render, root)
    except DatasetError:
        if not (replace and (root / f"{name}.json").is_file()):
            raise
        # the new one first: should it fail, the old one is still there
        beside = root.with_name(f".{root.name}.new")
        _with_progress(render, beside)
        shutil.rmtree(root)
        beside.rename(root)
    return count(name, root)


def _toy(settings: Sequence[str]) -> Callable[..., None]:
    asked = told("make_toy", settings)
    params = build(ToyParams, asked.values, where=asked.where)
    sizes = ToySizes(**{field.name: getattr(params, field.name) for field in fields(ToySizes)})
    return partial(make_toy, seed=params.seed, sizes=sizes, style=params.style, size=params.size)


def _toy_views(settings: Sequence[str]) -> Callable[..., None]:
    asked = told("make_toy_views", settings)
    return partial(make_toy_views, settings=build(ViewSettings, asked.values, where=asked.where))


def _with_progress(render: Callable[..., None], root: Path) -> None:
    with tqdm(desc="render", unit="image", disable=None) as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done - progress.n)

        render(root, progress=show)


def count(dataset: str, root: Path | None = None) -> DatasetCounts:
    """Opens a dataset and reads every annotation of it."""
    data = open_dataset(dataset, root)
    pairs = {split: len(data.pairs(split)) for split in data.splits}
    return DatasetCounts(root or Path("data") / dataset, len(data.images), pairs)
