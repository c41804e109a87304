"""Writes the toy dataset to disk as an SPair-71k tree.

    JPEGImages/<category>/<stem>.jpg         ImageAnnotation/<category>/<stem>.json (with `caption` and `instance`)
    Segmentation/<category>/<stem>.png       PairAnnotation/<split>/NNNNNN-<source>-<target>:<category>.json
    Layout/large/<split>.txt                 toy.json: the settings that made it

Every image shows another instance, so that no instance is in two splits. An image depends on (seed, split, category,
index) alone: the bytes are the same whatever the number of workers.
"""

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from matchkit.core.errors import ConfigError
from matchkit.extract.datasets.toy.keypoints import CATEGORIES, SPLIT_NAMES
from matchkit.extract.datasets.toy.pairs import POSES, Annotated, annotate_pair, draw_pairs, pair_name
from matchkit.extract.datasets.toy.render import Rendering, Style, render, require_embreex
from matchkit.extract.datasets.toy.scene import sample_instance, sample_view
from matchkit.extract.datasets.toy.trees import (
    Progress,
    count_workers,
    is_made,
    made_beside,
    mapped,
    settings_text,
    shares,
)

REVISION: int = 1
"""Raised whenever the same settings give another picture or annotation."""
KEYPOINT_SLOTS: int = 30
"""Keypoint ids in an SPair-71k image annotation, used or null."""
NOTE = "toy.json"
"""Holds the settings that made a tree."""


@dataclass(frozen=True)
class ToySizes:
    """How many images and ordered pairs each split has, over all categories together."""

    train_images: int = 1000
    val_images: int = 150
    test_images: int = 250
    train_pairs: int = 4000
    val_pairs: int = 500
    test_pairs: int = 1000

    def images(self, split: str) -> int:
        """Images of `trn`, `val` or `test`."""
        return {"trn": self.train_images, "val": self.val_images, "test": self.test_images}[split]

    def pairs(self, split: str) -> int:
        """Pairs of `trn`, `val` or `test`."""
        return {"trn": self.train_pairs, "val": self.val_pairs, "test": self.test_pairs}[split]


@dataclass(frozen=True)
class Settings:
    """All that decides the dataset's bytes; kept in `toy.json`."""

    seed: int
    sizes: ToySizes
    style: Style
    size: int
    revision: int = field(default=REVISION)

    def __post_init__(self) -> None:
        """Refuses values that no dataset can have."""
        if self.style not in get_args(Style):
            raise ConfigError(f"style must be one of {', '.join(get_args(Style))}, not {self.style!r}")
        if self.seed < 0 or min(asdict(self.sizes).values()) < 0:
            raise ConfigError("the toy dataset's seed and sizes must not be negative")
        if self.size < 16:
            raise ConfigError(f"toy images must be at least 16 pixels wide, not {self.size}")


@dataclass(frozen=True)
class _Job:
    """One image to be made."""

    split: str
    category: str
    index: int

    @property
    def stem(self) -> str:
        return f"{self.category}_{self.split}_{self.index:05d}"


def make_toy(
    root: Path,
    *,
    seed: int = 0,
    sizes: ToySizes | None = None,
    style: Style = "calm",
    size: int = 128,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Renders the toy dataset into `root`, or leaves it as it is if it is there already.

    The tree is made beside `root` and moved there when complete. With more than one worker the images are rendered by
    freshly started processes, so a script must guard its own code by `if __name__ == "__main__":`.

    Args:
        root: The folder to make; its parents are made too.
        seed: Another one gives another dataset, from 0.
        sizes: Images and pairs a split; the defaults of `ToySizes` if not given.
        style: `calm`, or `hard` with loud backgrounds and colours.
        size: Edge of the images in pixels.
        workers: Processes; as many as this one may use cores, if not given.
        progress: Called with (images made, images in all) after each one.

    Raises:
        DatasetError: If `root` holds something else, the images do not make enough pairs, or embreex is missing.
        ConfigError: If a setting is impossible.
    """
    settings = Settings(seed=seed, sizes=sizes or ToySizes(), style=style, size=size)
    count = count_workers(workers)
    if is_made(root / NOTE, asdict(settings)):
        return
    require_embreex()
    with made_beside(root) as tree:
        images = _write_images(tree, settings, workers=count, progress=progress)
        _write_pairs(tree, settings, images)
        (tree / NOTE).write_text(settings_text(asdict(settings)))


def _write_images(
    tree: Path, settings: Settings, *, workers: int, progress: Progress | None
) -> dict[str, list[Annotated]]:
    """Renders and annotates all images; what their annotations say, a list a split."""
    for folder in ("JPEGImages", "ImageAnnotation", "Segmentation"):
        for category in CATEGORIES:
            (tree / folder / category).mkdir(parents=True)
    jobs = [
        _Job(split, category, index)
        for split in SPLIT_NAMES
        for category, count in zip(CATEGORIES, shares(settings.sizes.images(split), len(CATEGORIES)), strict=True)
        for index in range(count)
    ]
    images: dict[str, list[Annotated]] = {split: [] for split in SPLIT_NAMES}
    with mapped(partial(_write_image, tree, settings), jobs, workers=workers) as made:
        for done, (job, image) in enumerate(zip(jobs, made, strict=True), start=1):
            images[job.split].append(image)
            if progress is not None:
                progress(done, len(jobs))
    return images


def _write_image(tree: Path, settings: Settings, job: _Job) -> Annotated:
    """Renders one image and writes its three files."""
    place = (settings.seed, SPLIT_NAMES.index(job.split), CATEGORIES.index(job.category), job.index)
    instance_seed, view_seed = (int(word) >> 1 for word in np.random.SeedSequence(place).generate_state(2, np.uint64))
    instance = sample_instance(job.category, seed=instance_seed)
    view = sample_view(seed=view_seed, category=job.category)
    rendering = render(instance, view, size=settings.size, style=settings.style)
    image = _annotated(rendering, job, size=settings.size)
    folder = Path(job.category)
    Image.fromarray(rendering.image).save(tree / "JPEGImages" / folder / f"{job.stem}.jpg", quality=95, subsampling=0)
    mask = Image.fromarray(rendering.mask.astype(np.uint8) * np.uint8(CATEGORIES.index(job.category) + 1))
    mask.save(tree / "Segmentation" / folder / f"{job.stem}.png")
    fields = _annotate_image(image, caption=rendering.caption, instance=instance_seed)
    (tree / "ImageAnnotation" / folder / f"{job.stem}.json").write_text(json.dumps(fields))
    return image


def _annotated(rendering: Rendering, job: _Job, *, size: int) -> Annotated:
    xmin, ymin, xmax, ymax = (int(edge) for edge in rendering.box)
    return Annotated(
        stem=job.stem,
        category=job.category,
        points=np.rint(rendering.keypoints).astype(np.int64),
        visible=rendering.visible,
        box=(xmin, ymin, xmax, ymax),
        azimuth_id=rendering.azimuth_id,
        truncated=min(xmin, ymin) == 0 or max(xmax, ymax) == size - 1,
        size=size,
    )


def _annotate_image(image: Annotated, *, caption: str, instance: int) -> dict[str, Any]:
    """The fields of an image's JSON file, in SPair-71k's order, then two of our own."""
    seen: dict[str, list[int] | None] = {str(slot): None for slot in range(KEYPOINT_SLOTS)}
    seen.update({str(i): image.points[i].tolist() for i in np.flatnonzero(image.visible)})
    return {
        "filename": f"{image.stem}.jpg",
        "src_database": "matchkit toy",
        "src_annotation": "matchkit toy",
        "src_image": "rendered",
        "image_width": image.size,
        "image_height": image.size,
        "image_depth": 3,
        "category": image.category,
        "pose": POSES[image.azimuth_id],
        "truncated": int(image.truncated),
        "occluded": 0,
        "difficult": 0,
        "bndbox": list(image.box),
        "kps": seen,
        "azimuth_id": image.azimuth_id,
        "caption": caption,
        "instance": instance,
    }


def _write_pairs(tree: Path, settings: Settings, images: dict[str, list[Annotated]]) -> None:
    """Draws and annotates the pairs of all splits."""
    layout = tree / "Layout" / "large"
    layout.mkdir(parents=True)
    for order, split in enumerate(SPLIT_NAMES):
        folder = tree / "PairAnnotation" / split
        folder.mkdir(parents=True)
        rng = np.random.default_rng(np.random.SeedSequence((settings.seed, order)))
        pairs = draw_pairs(images[split], count=settings.sizes.pairs(split), split=split, rng=rng)
        names = []
        for number, (source, target) in enumerate(pairs, start=1):
            names.append(pair_name(source, target, number=number))
            fields = annotate_pair(source, target, number=number)
            (folder / f"{names[-1]}.json").write_text(json.dumps(fields))
        (layout / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
