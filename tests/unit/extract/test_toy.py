"""The toy dataset's shapes, keypoints and pictures; its tree on disk is tested in `test_toy_tree`."""

import importlib
import importlib.util
from types import ModuleType

import numpy as np
import pytest

from matchkit.core.errors import DatasetError, UnknownNameError
from matchkit.extract.datasets.toy import (
    CATEGORIES,
    KEYPOINT_NAMES,
    SCHEMES,
    Instance,
    Rendering,
    View,
    render,
    sample_instance,
    sample_view,
)
from matchkit.extract.datasets.toy.camera import place_camera

EMBREEX = pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]")


def drawn(
    category: str, *, seed: int, azimuth: float | None = None, size: int = 64
) -> tuple[Instance, View, Rendering]:
    instance = sample_instance(category, seed=seed)
    view = sample_view(seed=seed, category=category, azimuth=azimuth)
    return instance, view, render(instance, view, size=size)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_mirrored_image_exchanges_left_and_right(category: str) -> None:
    scheme, names = SCHEMES[category], KEYPOINT_NAMES[category]
    assert 10 <= len(names) == len(set(names)) <= 14
    for number, name in enumerate(names):
        side, _, rest = name.partition("_")
        partner = scheme.partner(str(number))
        assert names[int(partner)] == {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)
        assert scheme.partner(partner) == str(number)


@pytest.mark.parametrize("category", CATEGORIES)
def test_groups_hold_every_keypoint_that_has_a_side_and_both_of_a_pair(category: str) -> None:
    scheme, names = SCHEMES[category], KEYPOINT_NAMES[category]
    members = {name for group in scheme.groups for name in group}
    assert {names[int(name)] for name in members} == {name for name in names if name.startswith(("left_", "right_"))}
    for group in scheme.groups:
        assert {scheme.partner(name) for name in group} == set(group)


def test_four_of_one_kind_are_one_group() -> None:
    found = {
        category: [{KEYPOINT_NAMES[category][int(name)] for name in group} for group in scheme.groups if len(group) > 2]
        for category, scheme in SCHEMES.items()
    }
    assert {category: len(groups) for category, groups in found.items()} == {
        **{"aeroplane": 0, "bird": 0, "car": 2, "chair": 2, "dog": 1}
    }
    assert found["dog"] == [{"left_front_paw", "right_front_paw", "left_hind_paw", "right_hind_paw"}]
    assert {"left_front_wheel", "right_front_wheel", "left_rear_wheel", "right_rear_wheel"} in found["car"]
    assert {"left_seat_front", "right_seat_front", "left_seat_rear", "right_seat_rear"} in found["chair"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_keypoints_lie_on_their_own_side_of_the_object(category: str) -> None:
    side = {"left": 1, "right": -1}
    for seed in range(12):
        instance = sample_instance(category, seed=seed)
        for name, (_, y, _) in zip(KEYPOINT_NAMES[category], instance.keypoints, strict=True):
            if (sign := side.get(name.split("_")[0])) is not None:
                assert y * sign > 0.01, (name, seed)


@pytest.mark.parametrize("category", CATEGORIES)
def test_an_instance_is_fixed_by_its_seed_and_normalised(category: str) -> None:
    first, again, other = (sample_instance(category, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.vertices, again.vertices)
    assert first.paints == again.paints
    assert first.vertices.shape != other.vertices.shape or not np.allclose(first.vertices, other.vertices)
    assert np.linalg.norm(first.vertices, axis=1).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(first.vertices.min(0) + first.vertices.max(0), 0, atol=1e-5)
    assert first.floor == pytest.approx(first.vertices[:, 2].min())


def test_a_category_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'cat'; there are: aeroplane, bird"):
        sample_instance("cat", seed=0)


@EMBREEX
@pytest.mark.parametrize("category", CATEGORIES)
def test_visible_keypoints_lie_on_the_mask(category: str) -> None:
    for seed in range(4):
        _, _, rendering = drawn(category, seed=seed, size=128)
        rows, columns = np.nonzero(rendering.mask)
        pixels = np.stack([columns, rows], 1)
        for point in rendering.keypoints[rendering.visible]:
            assert np.linalg.norm(pixels - point, axis=1).min() < 1.5, (category, seed)


@EMBREEX
@pytest.mark.parametrize("category", CATEGORIES)
def test_the_surface_seen_at_a_visible_keypoint_is_near_the_keypoint(category: str) -> None:
    instance, _, rendering = drawn(category, seed=1)
    pixels = np.clip(np.rint(rendering.keypoints[rendering.visible]).astype(int), 0, 63)
    seen = rendering.surface[pixels[:, 1], pixels[:, 0]]
    gap = np.linalg.norm(seen - instance.keypoints[rendering.visible], axis=1)
    assert np.nanmedian(gap) < 0.08  # of an object of radius 1, where a pixel is about 0.03 wide


@EMBREEX
def test_surface_points_project_back_to_their_pixels() -> None:
    instance, view, rendering = drawn("car", seed=2)
    rows, columns = np.nonzero(rendering.mask)
    pixels = place_camera(instance, view, size=64).project(rendering.surface[rows, columns].astype(float))
    np.testing.assert_allclose(pixels, np.stack([columns, rows], 1), atol=1e-2)
    assert np.isnan(rendering.surface[~rendering.mask]).all()


@EMBREEX
def test_box_spans_the_mask_and_the_view_decides_its_size() -> None:
    for seed in range(6):
        _, view, rendering = drawn("dog", seed=seed)
        xmin, ymin, xmax, ymax = rendering.box
        rows, columns = np.nonzero(rendering.mask)
        assert (xmin, ymin, xmax, ymax) == (columns.min(), rows.min(), columns.max(), rows.max())
        if max(map(abs, view.offset)) <= 1:
            assert max(xmax - xmin, ymax - ymin) / 64 == pytest.approx(view.span, abs=0.06)


@EMBREEX
@pytest.mark.parametrize(
    ("azimuth", "bin_", "words"),
    [(0.0, 0, "front"), (90.0, 2, "left"), (200.0, 4, "back"), (338.0, 0, "front"), (300.0, 7, "front right")],
)
def test_azimuth_bins_start_in_front_and_turn_to_the_objects_left(azimuth: float, bin_: int, words: str) -> None:
    _, _, rendering = drawn("car", seed=0, azimuth=azimuth)
    assert rendering.azimuth_id == bin_
    assert f"seen from the {words}" in rendering.caption
    shown = {name for name, seen in zip(KEYPOINT_NAMES["car"], rendering.visible, strict=True) if seen}
    if words == "left":
        assert "left_front_wheel" in shown
        assert "right_front_wheel" not in shown
    if words == "front":
        assert "left_headlight" in shown
        assert "left_taillight" not in shown


@EMBREEX
def test_from_the_front_the_objects_left_is_on_the_right_of_the_picture() -> None:
    for category in CATEGORIES:
        _, _, rendering = drawn(category, seed=0, azimuth=0.0)
        x = dict(zip(KEYPOINT_NAMES[category], rendering.keypoints[:, 0], strict=True))
        lefts = [name for name in x if name.startswith("left_")]
        assert np.mean([x[name] - x[name.replace("left_", "right_")] for name in lefts]) > 0


@EMBREEX
def test_pictures_repeat_and_styles_share_their_geometry() -> None:
    instance, view = sample_instance("bird", seed=5), sample_view(seed=5, category="bird")
    calm, again, hard = (render(instance, view, size=64, style=style) for style in ("calm", "calm", "hard"))
    np.testing.assert_array_equal(calm.image, again.image)
    assert (calm.image != hard.image).any()
    np.testing.assert_array_equal(calm.mask, hard.mask)
    np.testing.assert_array_equal(calm.keypoints, hard.keypoints)


@EMBREEX
def test_a_caption_names_category_colour_and_side() -> None:
    instance, _, rendering = drawn("dog", seed=1, azimuth=45.0)
    assert rendering.caption.startswith(f"a photo of a {instance.colour} dog seen from the front left")
    assert all(trait in rendering.caption for trait in instance.traits)


def test_without_embreex_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DatasetError, match=r"pip install 'matchkit\[toy\]'"):
        render(sample_instance("car", seed=0), sample_view(seed=0), size=32)
