"""Writes the toy objects that are photographed several times to disk, with all that they are translated from.

    JPEGImages/<category>/<stem>.jpg              Parts/<category>/<stem>.png: the labels of `CLASSES`
    Edges/<category>/<stem>.png: outlines, 255    Joints/<category>/<stem>.json
    toy-views.json: the settings that made it

A stem is `<split>_<object>_<view>`. Joints are keypoints (x, y) by name, image frame, the hidden ones too; `visible`
names the others.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from matchkit.extract.datasets.toy.keypoints import KEYPOINT_NAMES, SPLIT_NAMES
from matchkit.extract.datasets.toy.part_names import PARTS
from matchkit.extract.datasets.toy.render import require_embreex
from matchkit.extract.datasets.toy.trees import Progress, count_workers, is_made, made_beside, mapped, settings_text
from matchkit.extract.datasets.toy.truth import Shot, depth_edges, part_labels
from matchkit.extract.datasets.toy.views import ViewId, ViewSettings, take, view_ids

NOTE = "toy-views.json"
"""Holds the settings that made a tree."""
FOLDERS = ("JPEGImages", "Parts", "Edges", "Joints")


def make_toy_views(
    root: Path,
    settings: ViewSettings | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Renders the dataset into `root`, or leaves it as it is if it is there already.

    The tree is made beside `root` and moved there when complete. With more than one worker the images are rendered by
    freshly started processes, so a script must guard its own code by `if __name__ == "__main__":`.

    Args:
        root: the folder to make; its parents are made too.
        settings: what to render; the defaults of `ViewSettings` if not given.
        workers: processes; as many as this one may use cores, if not given. The bytes are the same.
        progress: called with (images made, images in all) after each one.

    Raises:
        DatasetError: `root` holds something else, or embreex is missing.
        ConfigError: fewer than one worker.
    """
    settings = settings or ViewSettings()
    count = count_workers(workers)
    if is_made(root / NOTE, settings.fields()):
        return
    require_embreex()
    images = [image for split in SPLIT_NAMES for image in view_ids(settings, split)]
    with made_beside(root) as tree:
        for folder in FOLDERS:
            for category in PARTS:
                (tree / folder / category).mkdir(parents=True)
        with mapped(partial(_write_view, tree, settings), images, workers=count) as made:
            for done, _ in enumerate(made, start=1):
                if progress is not None:
                    progress(done, len(images))
        (tree / NOTE).write_text(settings_text(settings.fields()))


def _write_view(tree: Path, settings: ViewSettings, image: ViewId) -> None:
    """Renders one picture and writes its four files."""
    shot = take(settings, image)
    edges = depth_edges(shot.rendering).astype(np.uint8) * np.uint8(255)
    Image.fromarray(shot.rendering.image).save(tree / "JPEGImages" / f"{image}.jpg", quality=95, subsampling=0)
    Image.fromarray(part_labels(shot)).save(tree / "Parts" / f"{image}.png")
    Image.fromarray(edges).save(tree / "Edges" / f"{image}.png")
    (tree / "Joints" / f"{image}.json").write_text(json.dumps(_annotate(shot)))


def _annotate(shot: Shot) -> dict[str, Any]:
    names, rendering = KEYPOINT_NAMES[shot.instance.category], shot.rendering
    points = np.round(rendering.keypoints.astype(float), 3).tolist()
    return {
        "joints": dict(zip(names, points, strict=True)),
        "visible": [name for name, seen in zip(names, rendering.visible, strict=True) if seen],
        "azimuth_id": rendering.azimuth_id,
        "caption": rendering.caption,
    }
