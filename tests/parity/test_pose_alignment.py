"""The distances of pose alignment against the published implementation's numbers: `specs/geoaware.md` §4.1."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from matchkit.core.geometry import place
from matchkit.core.similarity import resize
from matchkit.evaluate.masks import mask_on_grid, posed_mask
from matchkit.evaluate.pose_alignment import PoseAlignmentParams, imd, mutual_nearest, pose_distances
from matchkit.evaluate.presets import ALIGNMENTS

GRID, FINE, CANVAS = 60, 64, 960


def field(kind: str, c: float, y: float, x: float) -> torch.Tensor:
    channels, ys, xs = torch.meshgrid(torch.arange(8.0), torch.arange(60.0), torch.arange(60.0), indexing="ij")
    waves = getattr(torch, kind)(c * channels + y * ys + x * xs) + 1.5
    return functional.normalize(waves, dim=0)


SOURCE, TARGET = field("sin", 0.3, 0.11, 0.07), field("cos", 0.2, 0.05, -0.09)
Y, X = np.mgrid[:CANVAS, :CANVAS]
DISC = (X - 480) ** 2 + (Y - 400) ** 2 <= 300**2
RECTANGLE = (Y >= 200) & (Y < 700) & (X >= 300) & (X < 800)


def published_mask(mask: np.ndarray) -> torch.Tensor:
    placement = place((CANVAS, CANVAS), (CANVAS, CANVAS), fit="letterbox")
    return torch.from_numpy(mask_on_grid(mask, placement, (FINE, FINE), sampling="corner"))


def test_masks_are_sampled_as_published() -> None:
    counts = [int(published_mask(mask).sum()) for mask in (DISC, posed_mask(DISC, "hflip"), RECTANGLE)]
    assert counts == [1250, 1255, 1122]


def test_the_mean_of_as_many_cells() -> None:
    distances = imd(
        resize(torch.stack([SOURCE, SOURCE.flip(2)]), (FINE, FINE)),
        resize(TARGET.expand(2, 8, GRID, GRID), (FINE, FINE)),
        source_mask=torch.stack([published_mask(DISC), published_mask(posed_mask(DISC, "hflip"))]),
        target_mask=published_mask(RECTANGLE).expand(2, FINE, FINE),
        masked_out="far",
    )
    assert distances.tolist() == pytest.approx([0.1002833, 0.1026281], abs=1e-7)


def test_the_released_code_as_a_preset() -> None:
    masks = torch.stack([published_mask(DISC), published_mask(posed_mask(DISC, "hflip"))])
    distances = pose_distances(
        torch.stack([SOURCE, SOURCE.flip(2)]),
        TARGET,
        PoseAlignmentParams(**{**ALIGNMENTS["code"], "poses": ("hflip",)}),
        source_masks=masks,
        target_mask=published_mask(RECTANGLE),
    )
    assert distances.tolist() == pytest.approx([0.1002833, 0.1026281], abs=1e-7)


def test_mutual_neighbours_do_not_see_a_mirrored_map() -> None:
    everything = torch.ones(2, GRID, GRID, dtype=torch.bool)
    distances = mutual_nearest(
        torch.stack([SOURCE, SOURCE.flip(2)]),
        TARGET.expand(2, 8, GRID, GRID),
        source_mask=everything,
        target_mask=everything,
    )
    assert distances.tolist() == pytest.approx([0.0543017, 0.0543017], abs=2e-6)
