"""What an extraction will cost, before it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matchkit.cache.layout import DTYPES
from matchkit.core.spec import FeatureSpec
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.extract import prepare


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of an extraction: images, bytes an image and in all, and calls of the network an image."""

    images: int
    bytes_an_image: int
    bytes_in_all: int
    calls_an_image: int


def plan(
    dataset: str, entry: str, *, root: Path | None = None, weights: str | None = None, settings: Sequence[str] = ()
) -> Plan:
    """Counts what `matchkit extract` would compute and write."""
    backbone, _ = prepare(dataset, entry, weights=weights, settings=settings, device="cpu")
    images = len(open_dataset(dataset, root).images)
    size = bytes_an_image(backbone.spec)
    return Plan(images, size, size * images, calls_an_image(backbone.spec))


def bytes_an_image(spec: FeatureSpec) -> int:
    """The bytes of one image's maps at rest."""
    values = sum(layer.channels * layer.grid[0] * layer.grid[1] for layer in spec.layers)
    return values * len(spec.timesteps) * DTYPES[spec.dtype].itemsize


def calls_an_image(spec: FeatureSpec) -> int:
    """Calls of the network: an inversion runs up to its noisiest kept timestep, anything else is one call."""
    steps = spec.options.get("steps")
    if not isinstance(steps, int):
        return 1
    stride = 1000 // steps
    return max(0, max(spec.timesteps)) // stride + (2 if max(spec.timesteps) >= 0 else 1)
