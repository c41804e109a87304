"""Pairs matched from the pose of the source that resembles the target most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Bool

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import DatasetError, StoreError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.poses import Pose, posed_id
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.pose_alignment import PoseAlignmentParams
from matchkit.pipelines.align import Aligned, PoseChoice, partner_rows, predict_aligned
from matchkit.pipelines.frames import Frames
from matchkit.pipelines.lookup import Finder

SIDE = 8
SOURCE, TARGET = "dog/a", "dog/b"
SPEC = FeatureSpec("pixels", "none", (LayerSpec("only", 16, (SIDE, SIDE)),), (0,), (SIDE, SIDE), "letterbox", "fp32")
"""A cell is a pixel, so a point of the image frame is the same in the grid frame."""
IMAGES = {name: ImageRecord(name, Path(f"{name}.jpg"), (SIDE, SIDE), "dog") for name in (SOURCE, TARGET)}
PAIR = Pair(
    *("ab", SOURCE, TARGET, "dog"),
    source_points=np.asarray([[2, 3], [5, 4], [1, 6], [6, 1]], np.float32),
    target_points=np.zeros((4, 2), np.float32),
    keypoint_ids=("left", "right", "nose", "ear"),
    source_box=(1.0, 1.0, 6.0, 6.0),
    target_box=(2.0, 2.0, 7.0, 7.0),
)
SCHEME = KeypointScheme(flips=(("left", "right"), ("ear", "other ear")))
ALL = PoseAlignmentParams(poses=("hflip", "rot90", "rot270"), masks="none")


@dataclass
class Dogs:
    """Two images of eight by eight pixels; a keypoint scheme where there is one."""

    scheme_held: KeypointScheme | None = SCHEME
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    images: Mapping[str, ImageRecord] = field(default_factory=lambda: IMAGES)
    name: str = "dogs"
    splits: tuple[str, ...] = ("test",)

    def pairs(self, split: str) -> Sequence[Pair]:
        del split
        return [PAIR]

    def scheme(self, category: str) -> KeypointScheme:
        if self.scheme_held is None:
            raise DatasetError(f"dogs: category '{category}' has no flip table")
        return self.scheme_held

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        if image_id not in self.masks:
            raise DatasetError(f"no mask of {image_id}")
        return self.masks[image_id]


class Maps:
    """Random descriptor maps of the images and of all copies; the target looks like one of them, one cell aside.

    Attributes:
        asked: the ids whose maps were asked for.
    """

    def __init__(self, alike: Pose) -> None:
        generator = torch.Generator().manual_seed(0)
        poses: list[Pose] = ["none", *ALL.poses]
        self.held = {posed_id(SOURCE, pose): torch.randn(16, SIDE, SIDE, generator=generator) for pose in poses}
        self.held[TARGET] = self.held[posed_id(SOURCE, alike)].roll((1, 1), dims=(1, 2))
        self.asked: list[str] = []

    def __call__(self, image_id: str) -> torch.Tensor:
        self.asked.append(image_id)
        return self.held[image_id]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store that says it has everything."""
    ids = [SOURCE, TARGET, *(posed_id(SOURCE, pose) for pose in ALL.poses)]
    with FeatureStore.create(tmp_path_factory.mktemp("dogs") / "F.zarr", SPEC, ids) as store:
        for image_id in ids:
            store.write(image_id, {"only": torch.zeros(1, 16, SIDE, SIDE)})
    return store


def aligned(
    maps: Maps,
    store: FeatureStore,
    params: PoseAlignmentParams = ALL,
    *,
    data: Dogs | None = None,
    pairs: Sequence[Pair] = (PAIR,),
) -> Aligned:
    data = data or Dogs()
    finder = Finder(Frames(data.images, SPEC, (SIDE, SIDE)), Nearest(NearestParams(upsample=1)))
    return predict_aligned(pairs, data, store, finder, params, describe=maps)


def test_a_source_that_looks_alike_as_it_is_stays_so(store: FeatureStore) -> None:
    found = aligned(Maps("none"), store)
    assert found.taken == {"none": 1, "hflip": 0, "rot90": 0, "rot270": 0}
    np.testing.assert_array_equal(found.found.points["ab"], PAIR.source_points + 1)


def test_in_a_mirrored_source_the_partner_is_looked_up_at_its_mirrored_place(store: FeatureStore) -> None:
    maps = Maps("hflip")
    found = aligned(maps, store)
    assert found.taken == {"none": 0, "hflip": 1, "rot90": 0, "rot270": 0}
    # left is at (2, 3), right at (5, 4); the nose is its own partner
    np.testing.assert_array_equal(
        found.found.points["ab"][:3], [[7 - 5 + 1, 4 + 1], [7 - 2 + 1, 3 + 1], [7 - 1 + 1, 6 + 1]]
    )


def test_without_partner_the_place_of_the_plain_source_is_kept(store: FeatureStore) -> None:
    maps = Maps("hflip")
    maps.held[SOURCE][:, 1, 6] = maps.held[TARGET][:, 5, 2]
    assert aligned(maps, store).found.points["ab"][3].tolist() == [2, 5]


def test_all_keep_their_places_where_no_partner_is_annotated(store: FeatureStore) -> None:
    maps = Maps("hflip")
    one = replace(
        PAIR, keypoint_ids=("ear",), source_points=PAIR.source_points[3:], target_points=np.zeros((1, 2), np.float32)
    )
    maps.held[SOURCE][:, 1, 6] = maps.held[TARGET][:, 5, 2]
    assert aligned(maps, store, pairs=[one]).found.points["ab"].tolist() == [[2, 5]]


@pytest.mark.parametrize("scheme", [SCHEME, None])
def test_a_partner_can_be_sought_in_the_mirrored_source(store: FeatureStore, scheme: KeypointScheme | None) -> None:
    maps = Maps("hflip")
    clicked = maps.held[SOURCE][:, 1, 6]
    maps.held[TARGET][:, 5, 2] = clicked  # the click itself is in the target, and
    noise = torch.randn(16, generator=torch.Generator().manual_seed(1))
    maps.held[f"{SOURCE}@flip"][:, 4, 3] = clicked + 0.1 * noise  # what looks like it in the mirrored source
    maps.held[TARGET][:, 7, 6] = clicked + 0.3 * noise  # looks like this in the target
    maps.held[TARGET][:, 5, 2] -= 0.3 * noise
    found = aligned(maps, store, replace(ALL, partnerless="self-match"), data=Dogs(scheme))
    assert found.taken["hflip"] == 1
    assert found.found.points["ab"][3].tolist() == [6, 7]


def test_in_a_turned_source_a_keypoint_is_looked_up_at_its_own_turned_place(store: FeatureStore) -> None:
    for pose, place in (("rot90", [3, 7 - 2]), ("rot270", [7 - 3, 2])):
        found = aligned(Maps(pose), store, data=Dogs(None), params=replace(ALL, poses=("rot90", "rot270")))
        assert found.taken[pose] == 1
        assert found.found.points["ab"][0].tolist() == [place[0] + 1, place[1] + 1]


def test_a_pair_without_keypoints_has_none_and_costs_nothing(store: FeatureStore) -> None:
    nothing = np.zeros((0, 2), np.float32)
    bare = replace(PAIR, id="bare", source_points=nothing, target_points=nothing, keypoint_ids=())
    maps = Maps("none")
    found = aligned(maps, store, data=Dogs(None), pairs=[bare])
    assert found.found.points["bare"].shape == (0, 2)
    assert maps.asked == []
    assert sum(found.taken.values()) == 0


def test_keypoints_on_the_far_edges_and_their_mirrored_places_are_looked_up(store: FeatureStore) -> None:
    edge = np.asarray([[8, 8], [0, 0]], np.float32)  # VOC counts from one, so the size itself is in the image
    pair = replace(PAIR, source_points=edge, target_points=edge, keypoint_ids=("left", "right"))
    for pose in ("none", "hflip", "rot90", "rot270"):
        found = aligned(Maps(pose), store, pairs=[pair])
        assert found.taken[pose] == 1
        assert ((found.found.points["ab"] >= 0) & (found.found.points["ab"] < SIDE)).all()
    (left, right) = aligned(Maps("hflip"), store, pairs=[pair]).found.points["ab"].tolist()
    assert (left, right) == ([0, 1], [1, 0])  # one cell aside, round the edge, of (7, 0) and of (0, 7), for (-1, 8)


def test_the_published_rule_mirrors_corners() -> None:
    frames = Frames(IMAGES, SPEC, (SIDE, SIDE), "patch")
    point = np.asarray([[3, 2]], np.float32)
    assert frames.posed(SOURCE, point, "hflip").tolist() == [[5, 2]]
    assert frames.to_grid(f"{SOURCE}@flip", frames.posed(SOURCE, point, "hflip")).tolist() == [[4.5, 1.5]]
    assert Frames(IMAGES, SPEC, (SIDE, SIDE)).posed(SOURCE, point, "hflip").tolist() == [[4, 2]]


def test_turned_copies_lie_in_the_input_as_turned_images() -> None:
    images = {SOURCE: replace(IMAGES[SOURCE], size=(8, 4))}
    frames = Frames(images, SPEC, (SIDE, SIDE))
    assert frames.placement(SOURCE).offset == (0, 2)
    assert frames.placement(f"{SOURCE}@rot90").offset == (2, 0)


def chosen(maps: Maps, data: Dogs, pair: Pair = PAIR, **params: object) -> Pose:
    told = replace(ALL, poses=("hflip",), **params)  # type: ignore[arg-type]
    return PoseChoice(data, Frames(data.images, SPEC, (SIDE, SIDE)), told, maps)(pair)


def split_maps() -> Maps:
    """The mirrored copy is like the target in the upper half, the source as it is in the lower half."""
    maps = Maps("none")
    maps.held[TARGET] = maps.held[SOURCE].clone()
    maps.held[TARGET][:, : SIDE // 2] = maps.held[f"{SOURCE}@flip"][:, : SIDE // 2]
    return maps


@pytest.mark.parametrize(("rows", "pose"), [(slice(0, 4), "hflip"), (slice(4, 8), "none")])
def test_only_what_is_in_the_masks_counts(rows: slice, pose: Pose) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[rows] = True
    box = (0.0, float(rows.start), 7.0, float(rows.stop - 1))
    assert chosen(split_maps(), Dogs(masks={SOURCE: mask, TARGET: mask}), masks="segmentation") == pose
    assert chosen(split_maps(), Dogs(), replace(PAIR, source_box=box, target_box=box), masks="box") == pose


def test_the_target_can_be_left_unmasked() -> None:
    maps = Maps("none")
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[:4] = True
    # the mirrored copy is nearly in the target's mask, the source as it is wholly beside it
    maps.held[TARGET][:, 4:] = maps.held[SOURCE][:, :4]
    maps.held[TARGET][:, :4] = maps.held[f"{SOURCE}@flip"][:, :4] + 0.1
    data = Dogs(masks={SOURCE: mask, TARGET: mask})
    assert chosen(maps, data, masks="segmentation") == "hflip"
    assert chosen(maps, data, masks="segmentation", mask_target=False) == "none"


def test_a_mask_is_mirrored_with_its_image() -> None:
    maps = Maps("hflip")
    maps.held[TARGET] = maps.held[f"{SOURCE}@flip"].clone()
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[:, :2] = True
    data = Dogs(masks={SOURCE: mask, TARGET: mask[:, ::-1].copy()})
    assert chosen(maps, data, masks="segmentation") == "hflip"
    # the mirrored mask is right: what it leaves out may be anything
    maps.held[f"{SOURCE}@flip"][:, :, :6] = 0
    assert chosen(maps, data, masks="segmentation") == "hflip"


def test_an_object_of_no_cell_stays_as_it_is() -> None:
    nothing = np.zeros((SIDE, SIDE), dtype=np.bool_)
    assert chosen(Maps("hflip"), Dogs(masks={SOURCE: nothing, TARGET: ~nothing}), masks="segmentation") == "none"


def test_another_grid_than_the_descriptors_own() -> None:
    assert chosen(Maps("hflip"), Dogs(), masks="none", alignment_grid=13) == "hflip"


@pytest.mark.parametrize(
    ("masks", "pair", "held", "message"),
    [
        ("box", replace(PAIR, source_box=None), {}, "pair 'ab' has no box of 'dog/a'"),
        ("box", replace(PAIR, target_box=None), {}, "pair 'ab' has no box of 'dog/b'"),
        ("segmentation", PAIR, {}, "no mask of dog/a. Align without it: --set masks=box"),
        ("segmentation", PAIR, {SOURCE: np.ones((4, 6), np.bool_)}, "'dog/a' is 6 x 4 pixels, the image 8 x 8"),
    ],
)
def test_masks_that_are_not_there_are_told(
    masks: str, pair: Pair, held: Mapping[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        chosen(Maps("none"), Dogs(masks=held), pair, masks=masks)


def test_a_category_without_scheme_is_refused_before_anything_is_computed(store: FeatureStore) -> None:
    maps = Maps("none")
    with pytest.raises(DatasetError, match=r"no flip table.*--set partnerless=self-match"):
        aligned(maps, store, data=Dogs(None))
    assert maps.asked == []


@pytest.mark.parametrize(
    ("poses", "options"), [(("hflip",), "--flip"), (("rot90",), "--rotate"), (ALL.poses, "--flip --rotate")]
)
def test_copies_that_were_not_extracted_are_told(poses: tuple[Pose, ...], options: str, tmp_path: Path) -> None:
    with (
        FeatureStore.create(tmp_path / "F.zarr", SPEC, [SOURCE, TARGET]) as empty,
        pytest.raises(StoreError) as refused,
    ):
        aligned(Maps("none"), empty, replace(ALL, poses=poses))  # type: ignore[arg-type]
    assert str(refused.value).endswith(f"Run: matchkit extract {options}")


def test_rows_of_partners() -> None:
    assert partner_rows(PAIR.keypoint_ids, SCHEME).tolist() == [1, 0, 2, -1]
    assert partner_rows(PAIR.keypoint_ids, None).tolist() == [-1, -1, -1, -1]
