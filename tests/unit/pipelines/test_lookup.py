"""Keypoints looked up with their evidence, on maps whose answers are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.evaluate.evidence import Presences
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.on_cells import SoftArgmax, SoftArgmaxParams
from matchkit.evaluate.pose_alignment import PoseAlignmentParams
from matchkit.pipelines.align import Lookup
from matchkit.pipelines.frames import Frames
from matchkit.pipelines.lookup import Finder, Found, Query, Table, Wanted, Witness, presences_of, started

SIDE, STRIDE = 8, 2
SPEC = FeatureSpec("pixels", "none", (LayerSpec("only", 64, (SIDE, SIDE)),), (0,), (16, 16), "stretch", "fp32")
SHOWN = {"left": (4.5, 6.5), "right": (10.5, 8.5), "tail": (0.5, 0.5)}
"""A cell has two pixels, and the centre of cell n is at 2 n + 0.5. The target shows no tail."""
IMAGES = {
    "a": ImageRecord("a", Path("a.jpg"), (16, 16), "dog", None, SHOWN),
    "b": ImageRecord("b", Path("b.jpg"), (16, 16), "dog", None, {"left": (6.5, 6.5), "right": (12.5, 8.5)}),
}
PAIR = Pair(
    *("ab", "a", "b", "dog"),
    source_points=np.asarray([[4.5, 6.5], [10.5, 8.5]], np.float32),
    target_points=np.asarray([[6.5, 6.5], [12.5, 8.5]], np.float32),
    keypoint_ids=("left", "right"),
    target_box=(0.0, 0.0, 10.0, 5.0),
)
NEAREST = Nearest(NearestParams(upsample=1))


def one_hot() -> torch.Tensor:
    """Every cell is like itself alone."""
    return torch.eye(SIDE * SIDE).unflatten(1, (SIDE, SIDE))


def looked_up(witness: Finder, source: torch.Tensor, target: torch.Tensor) -> Table:
    wanted = witness.wanted(PAIR)
    places = witness.frames.to_grid("a", wanted.points)
    return witness(Query(PAIR, "a", source, target, places, np.arange(len(places))))


def kept(witness: Finder, source: torch.Tensor, target: torch.Tensor) -> Found:
    found = Found()
    witness.keep(PAIR, looked_up(witness, source, target), found)
    return found


FRAMES = Frames(IMAGES, SPEC, (SIDE, SIDE))
PLAIN = Witness(FRAMES, NEAREST, None)


def test_a_perfect_match_comes_back_to_its_keypoint() -> None:
    """The target is the source, one cell to the right."""
    found = kept(PLAIN, one_hot(), one_hot().roll(1, dims=2))
    assert found.points["ab"].tolist() == [[6.5, 6.5], [12.5, 8.5]]
    told = found.evidence["ab"]
    assert told.similarity.tolist() == pytest.approx([1, 1])
    assert told.margin.tolist() == pytest.approx([1, 1])
    assert told.cycle.tolist() == [0, 0]
    assert told.mutual.tolist() == [True, True]
    assert np.isnan(told.probability).all()
    assert found.presences == {}


def test_the_way_back_can_end_elsewhere() -> None:
    """The found cell of the second is more like another cell of the source, two cells right of it and two above."""
    source, target = one_hot(), one_hot()
    source[:, 2, 7] = source[:, 4, 4] = 0
    source[[36, 20], 2, 7] = torch.tensor([0.6, 0.8])
    source[36, 4, 5], source[37, 4, 5] = 0.6, 0.8  # the keypoint's own cell, (5, 4)
    target[:, 4, 5] = 0
    target[[36, 20], 4, 4] = torch.tensor([0.8, 0.6])
    # cell (5, 4) of the source: with (4, 4) of the target 0.48, with all others 0
    told = kept(PLAIN, source, target).evidence["ab"]
    assert told.similarity[1] == pytest.approx(0.48)
    # and that with (7, 2) of the source 0.96: two cells right and two above
    assert told.cycle.tolist() == [0, pytest.approx(np.hypot(2 * STRIDE, 2 * STRIDE))]
    assert told.mutual.tolist() == [True, False]


def test_a_softmax_has_a_probability() -> None:
    """One cell in 64 has the cosine 1, and eight of the others are about it."""
    told = kept(Witness(FRAMES, SoftArgmax(SoftArgmaxParams(temperature=0.5)), None), one_hot(), one_hot())
    peak = np.exp(2)
    assert told.evidence["ab"].probability.tolist() == pytest.approx([(peak + 8) / (peak + 63)] * 2, rel=1e-5)


AROUND = Witness(FRAMES, NEAREST, Presences((0.1, 0.3), "box"))
"""The target's box is 10 pixels wide: within 1 pixel, and within 3."""


def test_the_keypoints_that_the_source_alone_shows_are_looked_up_too() -> None:
    wanted = AROUND.wanted(PAIR)
    assert wanted.names == ("left", "right", "tail")
    assert wanted.points.tolist() == [[4.5, 6.5], [10.5, 8.5], [0.5, 0.5]]
    assert PLAIN.wanted(PAIR) == Wanted(PAIR.keypoint_ids, PAIR.source_points)


def test_the_greatest_similarities_within_and_outside_of_the_radii() -> None:
    """Two cells of the target are like the first keypoint's cell: (3, 3), of 0.6, and (4, 3), of 0.8.

    As published, the cell n lies at 2 n: these two are 0.7 and 1.6 pixels from the keypoint at (6.5, 6.5). The second
    keypoint's cell is at its place. The tail, at (0, 0) as the target does not show it, is only like the far corner.
    """
    source, target = one_hot(), torch.zeros(64, SIDE, SIDE)
    target[26, 3, 3], target[63, 3, 3] = 0.6, 0.8
    target[26, 3, 4], target[62, 3, 4] = 0.8, -0.6
    target[37, 4, 6] = 1.0
    target[0, 7, 7], target[61, 7, 7] = 0.28, 0.96
    target[0, 0, 0], target[61, 0, 0] = -0.28, 0.96
    found = kept(AROUND, source, target)
    told = found.presences["ab"]
    assert (told.lowest, told.highest) == pytest.approx((-0.28, 1.0))
    assert told.near.ravel().tolist() == pytest.approx([0.6, 0.8, 1.0, 1.0, -0.28, 0.0])
    assert told.far.ravel().tolist() == pytest.approx([0.8, 0.0, 0.0, 0.0, 0.28, 0.28])
    # the points and the evidence are of the pair's own
    assert found.points["ab"].tolist() == [[8.5, 6.5], [12.5, 8.5]]
    assert len(found.evidence["ab"].similarity) == 2


def test_with_evidence_and_without_it_the_same_is_found() -> None:
    draw = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 64, SIDE, SIDE, generator=draw)
    plain = kept(Finder(FRAMES, NEAREST), source, target)
    assert plain.evidence == {}
    np.testing.assert_array_equal(kept(AROUND, source, target).points["ab"], plain.points["ab"])


@dataclass
class Held:
    """Descriptor maps by image."""

    maps: dict[str, torch.Tensor]

    def __call__(self, image_id: str) -> torch.Tensor:
        return self.maps[image_id]


def test_in_a_mirrored_source_the_way_back_ends_in_the_mirrored_source() -> None:
    """The mirrored copy is the target; left and right are partners, and the tail has none."""
    draw = torch.Generator().manual_seed(1)
    copy, source = torch.randn(2, 64, SIDE, SIDE, generator=draw)
    lookup = Lookup(PAIR, AROUND, Held({"a": source, "a@flip": copy, "b": copy.roll(1, dims=1)}))
    table = lookup.posed("hflip", KeypointScheme(flips=(("left", "right"),)), PoseAlignmentParams(poses=("hflip",)))
    found = Found()
    AROUND.keep(PAIR, table, found)
    # left is looked up at the mirrored right, (15 - 10.5, 8.5), and found a cell below; the other way round too
    assert found.points["ab"].tolist() == [[4.5, 10.5], [10.5, 8.5]]
    assert found.evidence["ab"].cycle.tolist() == [0, 0]
    assert found.evidence["ab"].mutual.tolist() == [True, True]
    assert found.evidence["ab"].similarity.tolist() == pytest.approx([1, 1])
    assert found.presences["ab"].near.shape == (3, 2)


def test_a_partner_that_the_target_does_not_show_is_not_looked_up() -> None:
    """Left and tail are partners: the tail is in the source alone, so that left keeps its place of the plain source."""
    maps = {"a": one_hot(), "a@flip": torch.zeros(64, SIDE, SIDE), "b": one_hot()}
    scheme = KeypointScheme(flips=(("left", "tail"),))
    table = Lookup(PAIR, AROUND, Held(maps)).posed("hflip", scheme, PoseAlignmentParams(poses=("hflip",)))
    assert table[0, :3].tolist() == pytest.approx([4.5, 6.5, 1.0])


def test_pairs_start_with_nothing() -> None:
    found = started([PAIR], AROUND)
    assert found.points["ab"].shape == (0, 2)
    assert found.evidence["ab"].mutual.shape == (0,)
    assert found.presences["ab"].far.shape == (0, 2)


def test_radii_are_about_the_box_where_every_pair_has_one() -> None:
    bare = Pair("x", "a", "b", "dog", PAIR.source_points, PAIR.target_points, PAIR.keypoint_ids)
    assert presences_of([PAIR], IMAGES, (0.3, 0.1)) == Presences((0.1, 0.3), "box")
    assert presences_of([PAIR, bare], IMAGES, (0.1,)) == Presences((0.1,), "image")
    assert presences_of([PAIR], IMAGES, ()) is None
    untold = IMAGES | {"b": ImageRecord("b", Path("b.jpg"), (16, 16), "dog")}
    assert presences_of([PAIR], untold, (0.1,)) is None
