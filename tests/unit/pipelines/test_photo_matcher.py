"""Photographs matched by a fitted head: the stage's numbers, and what the stage has no need of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import ConfigError
from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines import photo_matcher
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match
from matchkit.pipelines.photo_matcher import PhotoMatcher, lattice

Draw = Callable[[tuple[int, int], int], Image.Image]
FITS = {
    "fusion": (),
    "aggregator": ("projection=128", "steps=2", "pairs=1", "validate_every=2"),
    "co-pca": ("rank=3",),
}
"""A head that is not fitted, one that is, and one of pairs."""


@pytest.fixture
def tree(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A drawn dataset beside features of all its images, and the folder in which the test runs."""
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32", "cell=4", "fit=letterbox"), device="cpu")
    return spair_tree


@pytest.fixture
def colours(tree: Path) -> PhotoMatcher:
    """Matches by colour alone."""
    fit_head("spair", "fusion", root=tree, settings=("features=pixels",), device="cpu")
    return PhotoMatcher("fusion", device="cpu")


@pytest.fixture
def edges(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> PhotoMatcher:
    """Matches by edges, of which no two cells of a pattern have the same, on 16 x 16 cells."""
    monkeypatch.chdir(spair_tree.parent)
    told = ("input_size=64", "cell=4", "fit=letterbox")
    extract("spair", "hog", root=spair_tree, settings=told, device="cpu")
    fit_head("spair", "fusion", root=spair_tree, settings=("features=hog",), device="cpu")
    return PhotoMatcher("fusion", device="cpu")


def pattern(size: tuple[int, int], seed: int) -> Image.Image:
    """Squares of 9 pixels in random colours."""
    squares = np.random.default_rng(seed).integers(0, 256, (size[1] // 9, size[0] // 9, 3), dtype=np.uint8)
    return Image.fromarray(squares).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("head", list(FITS))
@pytest.mark.parametrize("matching", [(), ("matcher=soft-argmax", "points=patch")])
def test_files_are_matched_as_the_stage_matches_them(head: str, matching: tuple[str, ...], tree: Path) -> None:
    fit_head("spair", head, root=tree, settings=("features=pixels", *FITS[head]), device="cpu")
    written = match("spair", head, root=tree, settings=("split=trn", *matching), device="cpu")
    expected = Predictions.load(written.predictions)
    matcher, data = PhotoMatcher(head, dataset="spair", settings=matching, device="cpu"), open_dataset("spair", tree)
    pairs = [pair for pair in data.pairs("trn") if len(pair.source_points)]
    assert pairs
    for pair in pairs:
        source, target = (data.images[name].path for name in (pair.source, pair.target))
        found, evidence = matcher.match(source, target, pair.source_points), expected.evidence[pair.id]
        np.testing.assert_allclose(found.points, expected.points[pair.id], atol=1e-4)
        np.testing.assert_allclose(found.similarity, evidence.similarity, atol=1e-5)
        np.testing.assert_allclose(found.margin, evidence.margin, atol=1e-5)
        np.testing.assert_allclose(found.cycle, evidence.cycle, atol=1e-4)
        np.testing.assert_array_equal(found.mutual, evidence.mutual)


def test_a_photograph_in_itself(edges: PhotoMatcher) -> None:
    points = np.asarray([(40, 42), (100, 30), (76, 80)], np.float32)
    found = edges.match(pattern((144, 90), 3), pattern((144, 90), 3), points)
    assert len(found) == 3
    np.testing.assert_allclose(found.points, points, atol=2)  # of cells of 9 pixels
    assert found.similarity.min() > 0.9
    assert found.cycle.max() < 3
    assert found.mutual.all()
    assert found.inside.all()


def test_a_place_on_the_bars_lies_outside(colours: PhotoMatcher) -> None:
    grey = Image.new("RGB", (64, 16), (128, 128, 128))
    pixels = np.full((40, 16, 3), (250, 0, 0), np.uint8)
    found = colours.match(grey, Image.fromarray(pixels), [(3, 3)])
    # the bars are grey, and nothing red is like grey
    assert not found.inside[0]
    assert not 0 <= found.points[0, 0] <= 15


def test_the_orientation_of_a_camera_is_honoured(edges: PhotoMatcher, tmp_path: Path, draw: Draw) -> None:
    upright = draw((30, 48), 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    points = [(20, 44), (3, 5)]  # the first lies outside of the file's own 48 x 30 pixels
    turned, told = (edges.match(tmp_path / name, upright, points) for name in ("turned.png", "upright.png"))
    np.testing.assert_array_equal(turned.points, told.points)
    back = edges.match(upright, tmp_path / "turned.png", points)
    np.testing.assert_array_equal(back.points, told.points)


def test_one_photograph_is_looked_at_once_for_many(edges: PhotoMatcher, draw: Draw) -> None:
    a, points = draw((40, 30), 0), [(5, 5), (30, 20)]
    seen = edges.look(a)
    for seed in (1, 2):
        b = draw((30, 40), seed)
        np.testing.assert_array_equal(edges.match(seen, b, points).points, edges.match(a, b, points).points)


def test_what_other_networks_saw_is_refused(edges: PhotoMatcher, colours: PhotoMatcher, draw: Draw) -> None:
    seen = colours.look(draw((40, 30), 0))
    with pytest.raises(ConfigError, match="photo was looked at by another matcher's networks"):
        edges.match(seen, draw((40, 30), 0), [(1, 1)])


def test_many_points_are_matched_in_shares(edges: PhotoMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pattern((144, 90), 0), pattern((90, 144), 1)
    points = lattice((144, 90), (7, 5))
    whole, flow = edges.match(a, b, points), edges.dense(a, b)
    monkeypatch.setattr(photo_matcher, "HELD", 3 * 4 * 128 * 128)
    parts = edges.match(a, b, points)
    for name in ("points", "similarity", "margin", "cycle"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-4)
    np.testing.assert_array_equal(parts.mutual, whole.mutual)
    np.testing.assert_allclose(edges.dense(a, b), flow, atol=1e-3)


def test_no_points(edges: PhotoMatcher, draw: Draw) -> None:
    found = edges.match(draw((40, 30), 0), draw((40, 30), 1), np.zeros((0, 2)))
    assert found.points.shape == (0, 2)
    assert len(found.mutual) == 0


def test_the_dense_flow_is_that_of_the_cells_middles(edges: PhotoMatcher) -> None:
    a, b = pattern((144, 90), 0), pattern((90, 90), 1)
    flow = edges.dense(a, b)
    assert (flow.shape, flow.dtype) == ((90, 144, 2), np.dtype(np.float32))
    middles = lattice((144, 90), (16, 10))  # letterboxed to 64 x 40 pixels in cells of 4
    found = edges.match(a, b, middles).points
    np.testing.assert_allclose(flow[4::9, 4::9].reshape(-1, 2), found - middles, atol=1e-3)


def test_the_flow_into_a_larger_copy(edges: PhotoMatcher) -> None:
    a = pattern((72, 72), 7)
    flow = edges.dense(a, a.resize((144, 144), Image.Resampling.BICUBIC))
    ys, xs = np.mgrid[:72, :72].astype(np.float32)
    expected = np.stack([xs, ys], 2) + 0.5  # the pixel x is the pixel 2 x + 0.5 there
    assert np.median(np.abs(flow - expected)) < 1


def test_similarities_are_greatest_about_the_match(edges: PhotoMatcher) -> None:
    a, b, point = pattern((144, 90), 0), pattern((90, 144), 1), (50, 40)
    values = edges.similarity(a, b, point)
    assert (values.shape, values.dtype) == ((144, 90), np.dtype(np.float32))
    found = edges.match(a, b, [point])
    x, y = np.rint(found.points[0]).astype(int)
    assert values[y, x] == pytest.approx(found.similarity[0], abs=0.03)
    assert values[y, x] > np.quantile(values, 0.97)
    assert values.max() <= 1.001
    small = edges.similarity(a, b, point, size=(30, 48))
    np.testing.assert_allclose(small, values[1::3, 1::3], atol=1e-3)  # the middles of 3 x 3 pixels


def test_a_lattice_lies_evenly() -> None:
    np.testing.assert_allclose(lattice((4, 2), (2, 1)), [(0.5, 0.5), (2.5, 0.5)])
    np.testing.assert_allclose(lattice((2, 2), (2, 2)), [(0, 0), (1, 0), (0, 1), (1, 1)])
