"""The distances by which the source's pose is chosen."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matchkit.core.errors import ConfigError
from matchkit.core.params import build
from matchkit.evaluate import MATCHERS, pose_alignment
from matchkit.evaluate.pose_alignment import (
    FAR,
    PoseAlignmentParams,
    imd,
    mutual_nearest,
    pose_distances,
)
from matchkit.evaluate.presets import ALIGNMENTS
from matchkit.pipelines.match import MatchParams

GRID = (4, 5)


def drawn(seed: int, *, share: float = 0.6, zeros: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two maps of six channels with a mask of some of their cells; a share of the elements are zero."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 6, *GRID, generator=generator)
    maps[torch.rand(maps.shape, generator=generator) < zeros] = 0
    masks = torch.rand(2, *GRID, generator=generator) < share
    masks[:, 0, 0] = True
    return maps, masks


def looped(maps: torch.Tensor, masks: torch.Tensor, *, neighbour: str = "l2", masked_out: str = "left-out") -> float:
    """§4.1 cell by cell: the mean distance of the first map's cells to their nearest ones of the second."""
    rows, columns = (values.flatten(1).T.double() for values in maps)
    inside, beside = masks.flatten(1)
    if masked_out == "far":
        rows, columns = rows * inside[:, None], columns * beside[:, None]
        rows, columns = (torch.where(values == 0, FAR, values) for values in (rows, columns))
        beside = torch.ones_like(beside)
    distances = []
    for row in rows[inside]:
        candidates = columns[beside]
        apart = [float((row - other).norm()) for other in candidates]
        alike = [float(row @ other) for other in candidates]
        distances.append(min(apart) if neighbour == "l2" else apart[alike.index(max(alike))])
    return sum(distances) / len(distances)


@given(st.integers(0, 10**6), st.sampled_from(["l2", "dot"]))
def test_all_cells_at_once_equal_a_loop_over_cells(seed: int, neighbour: str) -> None:
    maps, masks = drawn(seed)
    told = imd(maps[:1], maps[1:], source_mask=masks[:1], target_mask=masks[1:], neighbour=neighbour)  # type: ignore[arg-type]
    assert told.item() == pytest.approx(looped(maps, masks, neighbour=neighbour), rel=1e-5)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.6]), st.sampled_from([0.4, 1.1]))
def test_the_published_rule_of_zeros_equals_a_loop_over_cells(seed: int, zeros: float, share: float) -> None:
    maps, masks = drawn(seed, zeros=zeros, share=share)
    told = imd(maps[:1], maps[1:], source_mask=masks[:1], target_mask=masks[1:], masked_out="far")
    assert told.item() == pytest.approx(looped(maps, masks, masked_out="far"), rel=1e-5)


@given(st.integers(0, 10**6))
def test_permuting_the_cells_changes_no_distance(seed: int) -> None:
    maps, masks = drawn(seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed + 1))
    shuffled = maps.flatten(2)[:, :, order].unflatten(2, GRID)
    shuffled_masks = masks.flatten(1)[:, order].unflatten(1, GRID)
    for distance in (imd, mutual_nearest):
        before, after = (
            distance(a[:1], maps[1:], source_mask=m[:1], target_mask=masks[1:])
            for a, m in ((maps, masks), (shuffled, shuffled_masks))
        )
        assert after.item() == pytest.approx(before.item(), rel=1e-6)


def test_a_map_is_at_no_distance_from_itself() -> None:
    maps, masks = drawn(0)
    for distance in (imd, mutual_nearest):
        assert distance(maps, maps, source_mask=masks, target_mask=masks).tolist() == [0, 0]


def test_only_cells_that_are_nearest_to_each_other_count() -> None:
    source = torch.tensor([[[[0.0, 1.0, 9.0]]]])
    target = torch.tensor([[[[0.5, 5.0, 5.5]]]])
    whole = torch.ones(1, 1, 3, dtype=torch.bool)
    # 0 and 1 both want 0.5, which takes 0, the first of equals; 9 and 5.5 want each other
    assert mutual_nearest(source, target, source_mask=whole, target_mask=whole).item() == pytest.approx((0.5 + 3.5) / 2)
    assert imd(source, target, source_mask=whole, target_mask=whole).item() == pytest.approx((0.5 + 0.5 + 3.5) / 3)


def test_power_and_pooling() -> None:
    source, target = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[3.0]]]])
    both, one = torch.ones(1, 1, 2, dtype=torch.bool), torch.ones(1, 1, 1, dtype=torch.bool)
    found = {
        (power, pooling): imd(source, target, source_mask=both, target_mask=one, power=power, pooling=pooling).item()  # type: ignore[arg-type]
        for power in ("plain", "squared")
        for pooling in ("mean", "sum")
    }
    assert found == {("plain", "mean"): 2.5, ("plain", "sum"): 5, ("squared", "mean"): 6.5, ("squared", "sum"): 13}


def test_an_empty_mask_is_infinitely_far() -> None:
    maps, masks = drawn(1)
    nothing = torch.zeros_like(masks)
    for distance in (imd, mutual_nearest):
        assert distance(maps, maps, source_mask=nothing, target_mask=masks).tolist() == [torch.inf] * 2
        assert distance(maps, maps, source_mask=masks, target_mask=nothing).tolist() == [torch.inf] * 2


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_blocks_of_rows_change_nothing(zeros: float, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = drawn(2, zeros=zeros)

    def told() -> list[float]:
        far = imd(maps, maps.flip(0), source_mask=masks, target_mask=masks.flip(0), masked_out="far")
        mutual = mutual_nearest(maps, maps.flip(0), source_mask=masks, target_mask=masks.flip(0))
        return [*far.tolist(), *mutual.tolist()]

    whole = told()
    monkeypatch.setattr(pose_alignment, "BLOCK", 1)
    assert told() == pytest.approx(whole, rel=1e-6)


def test_large_grids_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    cdist = torch.cdist

    def counted(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows) * len(columns))
        return cdist(rows, columns)

    monkeypatch.setattr(pose_alignment, "COSTS", {"l2": counted})
    maps, whole = torch.rand(1, 1, 72, 72), torch.ones(1, 72, 72, dtype=torch.bool)
    imd(maps, maps, source_mask=whole, target_mask=whole)
    assert len(sizes) == 2
    assert max(sizes) <= pose_alignment.BLOCK < sum(sizes)


def test_descriptors_are_normalised_before_they_are_compared() -> None:
    maps, _ = drawn(3)
    params = PoseAlignmentParams(poses=("hflip",), alignment_grid=8)
    fine = torch.ones(2, 8, 8, dtype=torch.bool)
    plain, longer = (
        pose_distances(scale * maps, maps[1], params, source_masks=fine, target_mask=fine[0]) for scale in (1, 7)
    )
    torch.testing.assert_close(plain, longer)
    assert plain[1].item() == 0  # the second pose is the target itself
    assert plain[0].item() > 0.1


def test_no_parameter_is_also_one_of_matching() -> None:
    own = {field.name for field in dataclasses.fields(PoseAlignmentParams)}
    for kind in (MatchParams, *(MATCHERS.load(name).Params for name in MATCHERS.table())):
        assert not own & {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_every_preset_is_made_of_parameters_that_change_something(name: str) -> None:
    params = build(PoseAlignmentParams, ALIGNMENTS[name], where=name)
    plain = PoseAlignmentParams()
    assert params.poses[0] == "hflip"
    assert all(getattr(params, key) != getattr(plain, key) for key in ALIGNMENTS[name])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"poses": ["hflip", "hflip"]}, "'hflip' stands twice"),
        ({"poses": ["none"]}, "poses.0"),
        ({"alignment_grid": -1}, "alignment_grid must be 0"),
        ({"masked_out": "far", "distance": "mutual"}, "masked_out=left-out"),
        ({"masked_out": "far", "neighbour": "dot"}, "masked_out=left-out"),
        ({"pose": []}, "Did you mean 'poses'"),
    ],
)
def test_impossible_parameters_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(PoseAlignmentParams, values, where="params.yaml match")
