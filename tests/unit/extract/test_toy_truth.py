"""What is known of two toy pictures together, and of the parts and outlines of one."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.toy import KEYPOINT_NAMES, sample_instance, sample_view
from matchkit.extract.datasets.toy.camera import place_camera
from matchkit.extract.datasets.toy.part_names import CLASSES, LABEL_OF_MESH, LIMBS, PART_OF_MESH, PARTS
from matchkit.extract.datasets.toy.truth import (
    Shot,
    correspondences,
    depth_edges,
    dressed,
    part_labels,
    shoot,
)

EMBREEX = pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]")
CATEGORIES = tuple(PARTS)
SIZE = 64


def shot(category: str, *, seed: int, azimuth: float) -> Shot:
    view = sample_view(seed=seed, category=category, azimuth=float(azimuth))
    return shoot(sample_instance(category, seed=seed), replace(view, offset=(0.0, 0.0)), size=SIZE)


def grid() -> np.ndarray:
    """Each pixel's own (x, y)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.stack([columns, rows], -1)


def wing_faces(seed: int) -> int:
    """Triangles of a bird's left wing."""
    bird = sample_instance("bird", seed=seed)
    return int((bird.face_part == PART_OF_MESH["bird"].index("left_wing")).sum())


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_mesh_has_a_part_and_every_limb_two_keypoints(category: str) -> None:
    for seed in range(6):
        assert len(sample_instance(category, seed=seed).paints) == len(PART_OF_MESH[category])
    assert len(LABEL_OF_MESH[category]) == len(PART_OF_MESH[category])
    assert set(PARTS[category]) == set(PART_OF_MESH[category])
    assert {joint for limb in LIMBS[category] for joint in limb} <= set(KEYPOINT_NAMES[category])


@pytest.mark.parametrize("category", CATEGORIES)
def test_parts_of_a_side_lie_on_it(category: str) -> None:
    sides = {"left": 1, "right": -1}
    for seed in range(6):
        instance = sample_instance(category, seed=seed)
        middles = instance.vertices[instance.faces].mean(1)
        for mesh, part in enumerate(PART_OF_MESH[category]):
            if (side := sides.get(part.split("_")[0])) is not None:
                assert middles[instance.face_part == mesh, 1].mean() * side > 0.01, (seed, part)


@EMBREEX
@pytest.mark.parametrize("category", CATEGORIES)
def test_the_labels_of_a_picture_are_its_categorys_parts_where_the_object_is(category: str) -> None:
    seen = shot(category, seed=2, azimuth=60)
    labels = part_labels(seen)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels != 0, seen.rendering.mask)
    names = {CLASSES[label] for label in np.unique(labels)} - {"background"}
    assert len(names) > 4
    assert names <= {f"{category}/{part}" for part in PARTS[category]}


@EMBREEX
def test_a_label_is_that_of_the_part_seen() -> None:
    seen = shot("car", seed=2, azimuth=70)
    labels, joints = part_labels(seen), dict(zip(KEYPOINT_NAMES["car"], seen.rendering.keypoints, strict=True))
    for joint in ("left_front_wheel", "left_rear_wheel"):
        x, y = np.rint(joints[joint]).astype(int)
        assert CLASSES[labels[y, x]] == f"car/{joint}"


@EMBREEX
def test_edges_outline_the_object_and_what_stands_before_it() -> None:
    seen = shot("dog", seed=4, azimuth=90)
    mask, edges = seen.rendering.mask, depth_edges(seen.rendering)
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    assert edges[mask & ~inner].all()  # the object's outermost pixels
    assert not edges[~mask].any()
    assert 0 < (edges & inner).sum() < inner.sum() / 2


@EMBREEX
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_pictures_correspondence_with_itself_is_the_identity(category: str) -> None:
    seen = shot(category, seed=1, azimuth=40)
    flow = correspondences(seen, seen)
    mask = seen.rendering.mask
    np.testing.assert_allclose(flow[mask], grid()[mask], atol=0.02)
    assert np.isnan(flow[~mask]).all()


@EMBREEX
@pytest.mark.parametrize("category", CATEGORIES)
def test_another_view_shows_a_point_where_its_camera_projects_it(category: str) -> None:
    target, exemplar = shot(category, seed=1, azimuth=30), shot(category, seed=1, azimuth=75)
    flow = correspondences(target, exemplar)
    known = np.isfinite(flow[..., 0])
    assert 0.5 < known.sum() / target.rendering.mask.sum() < 1
    points = target.rendering.surface[known]  # of the same object
    camera = place_camera(exemplar.instance, exemplar.view, size=SIZE)
    np.testing.assert_allclose(flow[known], camera.project(points.astype(float)), atol=0.02)
    x, y = np.clip(np.rint(flow[known]).astype(int), 0, SIZE - 1).T
    gap = np.linalg.norm(exemplar.rendering.surface[y, x] - points, axis=1)
    assert np.nanmedian(gap) < 0.03  # of an object of radius 1; a pixel is about 0.03 wide


@EMBREEX
@pytest.mark.parametrize("category", CATEGORIES)
def test_two_objects_correspond_part_by_part(category: str) -> None:
    target, exemplar = shot(category, seed=1, azimuth=45), shot(category, seed=3, azimuth=60)
    flow = correspondences(target, exemplar)
    known = np.isfinite(flow[..., 0])
    x, y = np.clip(np.rint(flow[known]).astype(int), 0, SIZE - 1).T
    shown = part_labels(exemplar)[y, x]
    assert (shown == part_labels(target)[known]).mean() > 0.8  # the rest lies on seams


@EMBREEX
def test_what_the_exemplar_hides_has_no_correspondence() -> None:
    left, right = shot("car", seed=2, azimuth=90), shot("car", seed=2, azimuth=270)
    flow, labels = correspondences(left, right), part_labels(left)
    wheels = np.isin(labels, [CLASSES.index(f"car/left_{end}_wheel") for end in ("front", "rear")])
    assert wheels.sum() > 50
    assert np.isfinite(flow[wheels, 0]).mean() < 0.1  # both sides of a tyre's tread may be seen


@EMBREEX
def test_what_lies_outside_the_exemplar_has_no_correspondence() -> None:
    target = shot("dog", seed=4, azimuth=60)
    moved = shoot(target.instance, replace(target.view, offset=(2.0, 0.0)), size=SIZE)
    flow = correspondences(target, moved)
    known = np.isfinite(flow[..., 0])
    assert 0.1 < known.sum() / target.rendering.mask.sum() < 0.9
    assert (flow[known] > -0.5).all()
    assert (flow[known] < SIZE - 0.5).all()


@EMBREEX
def test_wings_of_other_triangles_have_no_correspondence() -> None:
    spread, folded = (next(seed for seed in range(20) if (wing_faces(seed) > 100) == is_folded) for is_folded in (0, 1))
    one, other = shot("bird", seed=spread, azimuth=60), shot("bird", seed=folded, azimuth=60)
    known = np.isfinite(correspondences(one, other)[..., 0])
    wings = np.isin(part_labels(one), [CLASSES.index(f"bird/{side}_wing") for side in ("left", "right")])
    assert wings.any()
    assert not known[wings].any()
    assert known[part_labels(one) == CLASSES.index("bird/head")].mean() > 0.5


@EMBREEX
def test_an_object_in_its_own_paint_and_place_is_its_own_picture() -> None:
    seen = shot("aeroplane", seed=3, azimuth=50)
    again = dressed(seen, seen)
    np.testing.assert_array_equal(again.image, seen.rendering.image)
    assert again.caption == seen.rendering.caption


@EMBREEX
def test_a_dressed_object_keeps_its_shape_and_takes_on_the_exemplars_paint() -> None:
    target, exemplar = shot("car", seed=1, azimuth=50), shot("car", seed=9, azimuth=80)
    worn = dressed(target, exemplar)
    np.testing.assert_array_equal(worn.face, target.rendering.face)
    np.testing.assert_array_equal(worn.keypoints, target.rendering.keypoints)
    assert f"{exemplar.instance.colour} car" in worn.caption
    body = CLASSES.index("car/body")
    colours = [
        picture[part_labels(of) == body].mean(0)
        for picture, of in (
            (worn.image, target),
            (exemplar.rendering.image, exemplar),
            (target.rendering.image, target),
        )
    ]
    assert np.abs(colours[0] - colours[1]).max() < 25 < np.abs(colours[0] - colours[2]).max()


@EMBREEX
def test_the_same_object_and_camera_in_another_place_is_dressed_as_it_is_there() -> None:
    target = shot("dog", seed=4, azimuth=60)
    there = replace(sample_view(seed=11, category="dog"), azimuth=20.0)
    exemplar = shoot(target.instance, there, size=SIZE)
    camera = {
        name: getattr(target.view, name) for name in ("azimuth", "elevation", "roll", "distance", "span", "offset")
    }
    expected = shoot(target.instance, replace(there, **camera), size=SIZE)
    np.testing.assert_array_equal(dressed(target, exemplar).image, expected.rendering.image)


@EMBREEX
def test_two_categories_have_nothing_in_common() -> None:
    car, dog = shot("car", seed=1, azimuth=50), shot("dog", seed=1, azimuth=50)
    with pytest.raises(DatasetError, match="a car and a dog have no point in common"):
        correspondences(car, dog)
    with pytest.raises(DatasetError, match="a car does not wear the paint of a dog"):
        dressed(car, dog)
