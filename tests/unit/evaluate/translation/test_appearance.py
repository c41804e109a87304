"""Cosines of features at the same and at corresponding positions, by hand."""

import math

import numpy as np
import pytest
from jaxtyping import Float

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.evaluate.translation.appearance import (
    Appearance,
    AppearanceSettings,
    Layers,
    appearance,
    by_depth,
    semantic_consistency,
    style_relevance,
)
from matchkit.evaluate.translation.warping import copied

Picture = Float[np.ndarray, "h w 3"]
SETTINGS = AppearanceSettings("hand-made", ("deep", "deeper"), "shallow", "next")


def noise(seed: int, *shape: int) -> Float[np.ndarray, "*shape"]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def everywhere(*vector: float, side: int = 4) -> Float[np.ndarray, "c h w"]:
    return np.tile(np.asarray(vector, np.float32)[:, None, None], (1, side, side))


def features(picture: Picture) -> Layers:
    """Colours, colours at half the size, colours less their mean, and all alike."""
    maps = picture.transpose(2, 0, 1)
    half = maps[:, ::2, ::2]
    return {"shallow": maps, "next": half, "deep": half - half.mean(), "deeper": np.ones_like(half)}


def test_cosines_are_averaged_over_positions() -> None:
    first, second = everywhere(1, 0), everywhere(3, 0)
    second[:, :2] = np.asarray([1, 1])[:, None, None]
    assert semantic_consistency({"a": first}, {"a": second}) == {"a": pytest.approx((1 + math.sqrt(0.5)) / 2)}


def test_each_layer_has_its_own() -> None:
    found = semantic_consistency(
        {"a": everywhere(1, 0), "b": everywhere(1, 0)}, {"a": everywhere(0, 2), "b": everywhere(-5, 0)}
    )
    assert found == {"a": pytest.approx(0), "b": pytest.approx(-1)}


def test_length_does_not_matter_and_nothing_is_like_nothing() -> None:
    maps = noise(0, 3, 5, 6)
    assert semantic_consistency({"a": maps}, {"a": 100 * maps})["a"] == pytest.approx(1)
    assert semantic_consistency({"a": maps}, {"a": 0 * maps})["a"] == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"a": everywhere(1)}, {"b": everywhere(1)}),
        ({"a": everywhere(1)}, {"a": everywhere(1, side=5)}),
    ],
)
def test_other_layers_are_refused(first: Layers, second: Layers) -> None:
    with pytest.raises(ConfigError, match="other layers or shapes"):
        semantic_consistency(first, second)


def test_a_flow_that_undoes_a_flip_finds_the_same_style() -> None:
    maps = noise(0, 3, 4, 6)
    flow = copied((4, 6))[:, ::-1].copy()
    where = np.ones((4, 6), dtype=np.bool_)
    relevant = style_relevance(maps, maps[:, :, ::-1], flow=flow, grid=(4, 6), where=where)
    assert relevant == pytest.approx(1)
    assert style_relevance(maps, maps[:, :, ::-1], flow=copied((4, 6)), grid=(4, 6), where=where) < 0.9


def test_a_layer_finer_than_the_flow_is_read_between_its_pixels() -> None:
    """A cell's centre lies between the four pixels of a layer twice as fine."""
    fine, where = np.zeros((2, 4, 4), np.float32), np.zeros((2, 2), dtype=np.bool_)
    where[0, 1] = True
    fine[:, :2, 2:] = [[[1, 1], [1, 1]], [[0, 4], [0, 0]]]
    relevant = style_relevance(everywhere(1, 0, side=2), fine, flow=copied((2, 2)), grid=(2, 2), where=where)
    assert relevant == pytest.approx(math.sqrt(0.5))


def test_the_exemplar_has_its_own_grid() -> None:
    exemplar = np.zeros((2, 3, 5), np.float32)
    exemplar[0] = 1
    exemplar[:, 2, 4] = [0, 1]
    flow, where = np.full((2, 2, 2), np.nan, np.float32), np.zeros((2, 2), dtype=np.bool_)
    flow[1, 0], where[1, 0] = [4, 2], True
    output = everywhere(0, 1, side=2)
    assert style_relevance(output, exemplar, flow=flow, grid=(3, 5), where=where) == pytest.approx(1)
    assert style_relevance(output, exemplar, flow=flow - [1, 0], grid=(3, 5), where=where) == pytest.approx(0)


def test_a_flow_that_leaves_the_exemplar_finds_its_border() -> None:
    maps, where = everywhere(1, 0, side=2), np.ones((2, 2), dtype=np.bool_)
    assert style_relevance(maps, maps, flow=copied((2, 2)) + 9, grid=(2, 2), where=where) == pytest.approx(1)


def test_without_correspondence_there_is_no_style() -> None:
    maps, flow = everywhere(1, 0), copied((4, 4))
    with pytest.raises(DatasetError, match="needs some cells"):
        style_relevance(maps, maps, flow=flow, grid=(4, 4), where=np.zeros((4, 4), dtype=np.bool_))
    flow[0, 0] = math.nan
    with pytest.raises(DatasetError, match="all known"):
        style_relevance(maps, maps, flow=flow, grid=(4, 4), where=np.ones((4, 4), dtype=np.bool_))


def whole(output: Picture, truth: Picture, exemplar: Picture, settings: AppearanceSettings = SETTINGS) -> Appearance:
    return appearance(
        output,
        truth,
        exemplar,
        flow=copied((4, 4)),
        grid=(4, 4),
        where=np.ones((4, 4), dtype=np.bool_),
        features=features,
        settings=settings,
    )


def test_the_right_picture_in_the_right_style() -> None:
    picture = noise(0, 8, 8, 3)
    found = whole(picture, picture, picture)
    assert [found.semantic, found.colour, found.texture] == pytest.approx([1, 1, 1])
    assert found.settings is SETTINGS


def test_each_number_is_of_its_picture_and_layer() -> None:
    picture, other = noise(0, 8, 8, 3), noise(1, 8, 8, 3)
    found = whole(picture, other, picture)
    assert found.colour == pytest.approx(1)
    assert found.semantic == pytest.approx((found.layers["deep"] + 1) / 2)
    assert found.layers["deep"] < 0.9
    negative = whole(picture, picture, -picture)
    assert [negative.semantic, negative.colour, negative.texture] == pytest.approx([1, -1, -1])


def test_a_layer_that_the_network_lacks_is_refused() -> None:
    picture = noise(0, 8, 8, 3)
    with pytest.raises(ConfigError, match="'hand-made' has no layer 'relu5_2', only"):
        whole(picture, picture, picture, AppearanceSettings("hand-made", ("relu5_2",), "shallow", "next"))


def test_layers_by_depth() -> None:
    assert by_depth("vgg", ["r12", "r22", "r32", "r42"]) == AppearanceSettings("vgg", ("r32", "r42"), "r12", "r22")
    with pytest.raises(ConfigError, match="a layer each"):
        by_depth("vgg", ["r12", "r22"])
