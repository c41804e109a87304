"""What the embedded pipeline paints, and whether a head of inversions reads it, as one picture to look at.

    python -m matchkit.pipelines.train_tiny.sheet

The first pictures of each category of the toy dataset's validation split are painted again from their captions. A head
that was fitted on inversions carries the keypoints of each rendered picture to the painted one, whose features are
those of its generation: the transfer of Diffusion Hyperfeatures, §2.4 to §2.6. `make demo` makes what it needs.
"""

import csv
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import MatchkitError
from matchkit.core.geometry import Points, grid_to_image, image_to_grid, place
from matchkit.core.interfaces import ImageHead
from matchkit.core.records import ImageRecord
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.extract.datasets import open_dataset
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.generate import generate
from matchkit.pipelines.settings import features_path, weights_path

DATASET, FEATURES = "toy", "sd-inversion"
OUT = Path("docs/generated-toys.jpg")
PAINTED = Path("generated/toys")
EACH = 4
"""Pictures of a category, the first ones of the split: none is picked by its looks."""
GENERATION = ("steps=10", "keys=[8,7,6]", "guidance=6", "batch=20")
"""The trajectory of the inversions in `params.yaml`, walked the other way."""
NEAR = 0.1
"""Of the box's longer side: how near a keypoint that is carried there and back must come to count."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A rendered picture, the one painted from its caption, and the keypoints of the first on the second."""

    record: ImageRecord
    caption: str
    painted: Path
    points: Points
    found: Points
    back: Points

    @property
    def returned(self) -> np.ndarray:
        """Which keypoints came back to where they were."""
        extent = float(np.ptp(self.points, axis=0).max())
        return np.asarray(np.linalg.norm(self.back - self.points, axis=1) <= NEAR * extent)


class Transfer:
    """A head of inversions on the features of generations.

    Args:
        name: of the fitted head.
        painted: the store of the generations, with the keys of the inversions.
    """

    def __init__(self, name: str, painted: FeatureStore) -> None:
        kept = HeadWeights.load(weights_path(DATASET, name))
        head = kept.build(device=torch.device("cpu"))
        assert isinstance(head, ImageHead)
        self._head = head
        self._stores = (FeatureStore.open(features_path(DATASET, FEATURES), kept.spec), painted)
        # a generation's key is one level above the inversion's: keys are what both have in common
        steps = dict(zip(kept.spec.timesteps, painted.timesteps, strict=True))
        self._timesteps = (head.timesteps, tuple(steps[timestep] for timestep in head.timesteps))
        self._matcher = Nearest(NearestParams(upsample=8))

    def __call__(self, record: ImageRecord, caption: str, picture: Path) -> Carried:
        """Carries an image's keypoints to the picture painted from its caption, and back."""
        points = np.array(list(record.keypoints.values()), np.float32)
        placement = place(record.size, self._stores[0].spec.input_size, fit="stretch")
        grid = self._head.grid
        rendered, painted = (self._descriptor(side, record.id) for side in (0, 1))
        there = self._matcher.match(rendered, painted, image_to_grid(points, placement, grid))
        back = self._matcher.match(painted, rendered, there)
        found, returned = (grid_to_image(on_grid, placement, grid) for on_grid in (there, back))
        return Carried(record, caption, picture, points, found, returned)

    @torch.inference_mode()
    def _descriptor(self, side: int, image_id: str) -> torch.Tensor:
        maps = self._stores[side].read(image_id, self._head.layers, self._timesteps[side])
        return self._head.describe({layer: values[None] for layer, values in maps.items()}, [image_id])[0]


def chosen(root: Path) -> dict[str, tuple[ImageRecord, str]]:
    """The first pictures of each category's validation split with their captions, by id."""
    images = open_dataset(DATASET, root).images
    found: dict[str, tuple[ImageRecord, str]] = {}
    for category in sorted({record.category for record in images.values()}):
        names = [name for name in images if name.startswith(f"{category}/{category}_val_")][:EACH]
        for name in names:
            caption = json.loads((root / "ImageAnnotation" / f"{name}.json").read_text())["caption"]
            found[name] = images[name], str(caption)
    return found


def paint(wanted: dict[str, tuple[ImageRecord, str]], out: Path) -> FeatureStore:
    """Paints the captions into a folder, and returns the store of the features that were seen meanwhile."""
    out.mkdir(parents=True, exist_ok=True)
    prompts = out / "prompts.csv"
    with prompts.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "prompt"))
        writer.writerows((name, caption) for name, (_, caption) in wanted.items())
    return FeatureStore.open(generate(prompts, out=out, settings=GENERATION, device="cpu").store)


def draw(carried: Sequence[Carried], out: Path) -> None:
    """Every rendered picture beside the painted one, a row a category, keypoints in one colour on both."""
    rows = -(-len(carried) // EACH)
    figure = Figure(figsize=(2.4 * EACH, 1.55 * rows), layout="constrained", dpi=100)
    axes = figure.subplots(rows, 2 * EACH, squeeze=False).ravel()
    colours = mpl.colormaps["hsv"]
    for number, told in enumerate(carried):
        shades = colours(np.linspace(0, 0.9, len(told.points)))
        for side, (path, points) in enumerate(((told.record.path, told.points), (told.painted, told.found))):
            axis = axes[2 * number + side]
            with Image.open(path) as picture:
                axis.imshow(picture.convert("RGB"))
            axis.scatter(*points.T, s=9, c=shades, edgecolors="white", linewidths=0.4)
        caption = textwrap.fill(told.caption.removeprefix("a photo of "), 34)
        axes[2 * number].set_title(caption, fontsize=5, loc="left")
    for axis in axes:
        axis.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, pil_kwargs={"quality": 85})


@click.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("data/toy"), show_default=True)
@click.option("--painted", type=click.Path(path_type=Path), default=PAINTED, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@click.option("--head", "heads", multiple=True, default=("aggregator", "raw-layer"), show_default=True)
def main(root: Path, painted: Path, out: Path, heads: tuple[str, ...]) -> None:
    """Paints toys from captions, and draws what the first of some heads of inversions finds in them."""
    try:
        wanted = chosen(root)
        store = paint(wanted, painted)
        for number, name in enumerate(heads):
            transfer = Transfer(name, store)
            carried = [
                transfer(record, caption, painted / "images" / f"{image_id}.png")
                for image_id, (record, caption) in wanted.items()
            ]
            if number == 0:
                draw(carried, out)
            returned = np.concatenate([told.returned for told in carried])
            click.echo(f"{name}: {returned.mean():.0%} of {len(returned)} keypoints come back")
    except MatchkitError as error:
        raise click.ClickException(str(error)) from error
    click.echo(str(out))


if __name__ == "__main__":
    main()
