"""Semantic consistency and style relevance: what a picture shows, and in which colours and textures, by features.

Both are cosines of a network's features, of any network that is given; published with VGG-19: `relu3_2`, `relu4_2` and
`relu5_2` for the semantics, `relu1_2` for colour, `relu2_2` for texture. Source: CoCosNet §5, from memory of the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.geometry import grid_to_image, place

Layers = Mapping[str, Float[np.ndarray, "_ _ _"]]
"""Feature maps (c,h,w) by layer, from shallow to deep; each has its own channels and grid."""
Features = Callable[[Float[np.ndarray, "h w 3"]], Layers]
"""From a picture in [0, 1] to its layers."""
SHORTEST = 1e-12
"""A feature vector shorter than this has a cosine of 0 with any other."""


@dataclass(frozen=True, slots=True)
class AppearanceSettings:
    """Which layers of which network are compared.

    Attributes:
        network: whose features they are, with a digest of its weights.
        semantic: the layers of semantic consistency.
        colour: the layer of the relevance of colour.
        texture: the layer of the relevance of texture.
    """

    network: str
    semantic: tuple[str, ...]
    colour: str
    texture: str


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a picture looks, each a mean cosine, -1 to 1.

    Attributes:
        semantic: with the picture that it should be, the mean over layers.
        layers: the same by layer.
        colour: with the exemplar at corresponding positions.
        texture: the same in the next layer.
        settings: what the numbers mean.
    """

    semantic: float
    layers: Mapping[str, float]
    colour: float
    texture: float
    settings: AppearanceSettings


def by_depth(network: str, layers: Sequence[str]) -> AppearanceSettings:
    """Colour by the shallowest layer, texture by the next, and semantics by all that are deeper.

    Args:
        network: as in the settings.
        layers: names from shallow to deep.

    Raises:
        ConfigError: less than three layers.
    """
    if len(layers) < 3:
        raise ConfigError(f"appearance needs a layer each for colour, texture and semantics, not {list(layers)}")
    colour, texture, *semantic = layers
    return AppearanceSettings(network, tuple(semantic), colour, texture)


def appearance(
    output: Float[np.ndarray, "h w 3"],
    truth: Float[np.ndarray, "h w 3"],
    exemplar: Float[np.ndarray, "eh ew 3"],
    *,
    flow: Float[np.ndarray, "gh gw 2"],
    grid: tuple[int, int],
    where: Bool[np.ndarray, "gh gw"],
    features: Features,
    settings: AppearanceSettings,
) -> Appearance:
    """Compares an output with its truth and with its exemplar; the network sees each picture once.

    Args:
        output: what came out.
        truth: what it should be.
        exemplar: whose style it should have.
        flow: for each cell of the output the corresponding (x, y) in the exemplar's grid frame.
        grid: the exemplar's, as (height, width).
        where: the output's cells whose correspondence is known.
        features: the network.
        settings: which of its layers.

    Raises:
        ConfigError: the network lacks a layer.
        DatasetError: no cell counts, or a flow that counts is not finite.
    """
    of_output, of_truth, of_exemplar = features(output), features(truth), features(exemplar)
    for name in (*settings.semantic, settings.colour, settings.texture):
        if not all(name in layers for layers in (of_output, of_truth, of_exemplar)):
            raise ConfigError(f"'{settings.network}' has no layer '{name}', only {list(of_output)}")
    layers = semantic_consistency(
        {name: of_output[name] for name in settings.semantic}, {name: of_truth[name] for name in settings.semantic}
    )
    colour, texture = (
        style_relevance(of_output[name], of_exemplar[name], flow=flow, grid=grid, where=where)
        for name in (settings.colour, settings.texture)
    )
    return Appearance(float(np.mean(list(layers.values()))), layers, colour, texture, settings)


def semantic_consistency(output: Layers, truth: Layers) -> dict[str, float]:
    """The mean over positions of the cosine between the features of a picture and of what it should be, by layer.

    Raises:
        ConfigError: the layers are not the same, or there are none.
    """
    shapes = [{name: maps.shape for name, maps in layers.items()} for layers in (output, truth)]
    if not output or shapes[0] != shapes[1]:
        raise ConfigError(f"features of other layers or shapes cannot be compared: {shapes[0]} and {shapes[1]}")
    return {name: float(_cosines(_flat(maps), _flat(truth[name])).mean()) for name, maps in output.items()}


def style_relevance(
    output: Float[np.ndarray, "c h w"],
    exemplar: Float[np.ndarray, "c eh ew"],
    *,
    flow: Float[np.ndarray, "gh gw 2"],
    grid: tuple[int, int],
    where: Bool[np.ndarray, "gh gw"],
) -> float:
    """The mean cosine between the features of a picture and of its exemplar at corresponding positions, in one layer.

    Both are sampled bilinearly: the picture at the centres of the flow's cells, the exemplar where the flow leads.

    Args:
        output: features of the picture.
        exemplar: features of the exemplar.
        flow: for each cell of the picture the corresponding (x, y) in the exemplar's grid frame.
        grid: the exemplar's, as (height, width).
        where: the picture's cells that count.

    Raises:
        DatasetError: no cell counts, or a flow that counts is not finite.
    """
    if not where.any() or not np.isfinite(flow[where]).all():
        raise DatasetError("style relevance needs some cells whose corresponding positions are all known")
    rows, columns = np.nonzero(where)
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    here = _sampled(output, cells, (where.shape[0], where.shape[1]))
    there = _sampled(exemplar, flow[where].astype(np.float32), grid)
    return float(_cosines(here, there).mean())


def _sampled(
    maps: Float[np.ndarray, "c h w"], points: Float[np.ndarray, "n 2"], grid: tuple[int, int]
) -> Float[np.ndarray, "c n"]:
    """Features at points of the frame of `grid`, whatever the grid of the features; outside, the border's."""
    size = (maps.shape[2], maps.shape[1])
    x, y = grid_to_image(points, place(size, size, fit="stretch"), grid).T.astype(np.float64)
    channels = np.arange(len(maps))[:, None]
    at = np.broadcast_arrays(channels, y[None], x[None])
    return np.asarray(ndimage.map_coordinates(maps.astype(np.float64), at, order=1, mode="nearest"))


def _cosines(first: Float[np.ndarray, "c n"], second: Float[np.ndarray, "c n"]) -> Float[np.ndarray, " n"]:
    one, other = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    return np.asarray((one * other).sum(axis=0) / np.maximum(lengths, SHORTEST))


def _flat(maps: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "c n"]:
    return maps.reshape(len(maps), -1)
