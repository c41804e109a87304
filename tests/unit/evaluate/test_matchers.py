"""The nearest matcher against the published way: resize all channels, normalise, take the greatest cosine."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from matchkit.evaluate.matchers import Nearest, NearestParams


def published(source: torch.Tensor, target: torch.Tensor, points: np.ndarray, factor: int) -> np.ndarray:
    """Hyperfeatures §6.1 on the whole resized target map, with a bilinear source descriptor."""
    size = (target.shape[1] * factor, target.shape[2] * factor)
    resized = functional.interpolate(target[None], size=size, mode="bilinear", align_corners=False)[0]
    rows = functional.normalize(resized.flatten(1), dim=0)
    found = []
    for x, y in points:
        x0, y0 = int(np.floor(x)), int(np.floor(y))
        fx, fy = x - x0, y - y0
        rows_of_x = [source[:, y0 + j, x0] * (1 - fx) + source[:, y0 + j, x0 + 1] * fx for j in (0, 1)]
        query = rows_of_x[0] * (1 - fy) + rows_of_x[1] * fy
        best = int((functional.normalize(query, dim=0) @ rows).argmax())
        found.append([best % size[1], best // size[1]])
    return (np.asarray(found) + 0.5) / factor - 0.5


@pytest.mark.parametrize("factor", [1, 4])
def test_equals_the_published_way(factor: int) -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(150, 6, 7, generator=generator)
    target = torch.rand(150, 5, 9, generator=generator)
    points = np.asarray([[0.25, 0.5], [3.9, 4.2], [5.5, 2.0]], np.float32)
    matched = Nearest(NearestParams(upsample=factor)).match(source, target, points)
    np.testing.assert_allclose(matched, published(source, target, points, factor), atol=1e-6)


def test_a_shifted_map_is_found_shifted() -> None:
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(32, 8, 8, generator=generator)
    target = source.roll((1, 2), dims=(1, 2))  # one down, two to the right
    points = np.asarray([[1, 1], [4, 3]], np.float32)
    matched = Nearest(NearestParams(upsample=1)).match(source, target, points)
    np.testing.assert_array_equal(matched, points + np.asarray([2, 1]))


def test_a_zero_map_gives_a_point_and_no_warning() -> None:
    matched = Nearest(NearestParams()).match(torch.zeros(4, 3, 3), torch.zeros(4, 3, 3), np.zeros((1, 2), np.float32))
    assert np.isfinite(matched).all()
