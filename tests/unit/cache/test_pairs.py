"""Pairs with their maps: bounded memory, and an order that a resumed run takes up."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from matchkit.cache.pairs import CachedPairs, MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import DatasetError, StoreError
from matchkit.core.geometry import image_to_grid
from matchkit.core.interfaces import PairBatch
from matchkit.core.records import ImageRecord, Pair

IMAGES: Mapping[str, ImageRecord] = {
    name: ImageRecord(name, Path(f"{name}.jpg"), (96, 64)) for name in ("a", "b", "c", "d")
}
"""Twice the spec's input of 48 x 32, so that a cell of the grid 4 x 6 is 16 original pixels."""


def pair(number: int, source: str, target: str, points: Sequence[Sequence[float]] = ((8, 8), (90, 60))) -> Pair:
    marked = np.asarray(points, np.float32).reshape(-1, 2)
    ids = tuple(str(n) for n in range(len(marked)))
    return Pair(f"{number}-{source}-{target}", source, target, "cat", marked, marked[::-1], ids)


PAIRS = [pair(n, *names) for n, names in enumerate(["ab", "ba", "ac", "ca", "bc", "cb", "aa"])]


def maps_of(store: FeatureStore, *, limit: int = 10**6) -> MapCache:
    return MapCache(store, layers=["up1.0"], timesteps=[-1, 460], limit=limit)


def cached(store: FeatureStore, pairs: Sequence[Pair] = PAIRS) -> CachedPairs:
    return CachedPairs(maps_of(store), pairs, IMAGES, grid=(4, 6), to_grid=image_to_grid)


def pair_numbers(batch: PairBatch, store: FeatureStore) -> list[tuple[str, str]]:
    """The images of each pair, recognised by their maps."""
    known = {name: torch.from_numpy(store.read(name, ["up1.0"], [-1, 460])["up1.0"]) for name in store.ids}
    names = [next(n for n, m in known.items() if torch.equal(m, row)) for row in batch.maps["up1.0"]]
    return [(names[source], names[target]) for source, target in zip(batch.source, batch.target, strict=True)]


def test_maps_are_those_of_the_store(store: FeatureStore) -> None:
    maps = maps_of(store)["b"]
    assert list(maps) == ["up1.0"]
    np.testing.assert_array_equal(maps["up1.0"].numpy(), store.read("b", ["up1.0"], [-1, 460])["up1.0"])
    stacked = maps_of(store).batch(["c", "a"])["up1.0"]
    assert stacked.shape == (2, 2, 2, 4, 6)
    assert torch.equal(stacked[1], maps_of(store)["a"]["up1.0"])


@pytest.mark.parametrize(("images", "reads"), [(0, 6), (1, 6), (2, 4), (3, 3)])
def test_memory_is_bounded_and_what_was_used_last_is_held(
    store: FeatureStore, images: int, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(values.nbytes for values in maps_of(store)["a"].values())
    maps, asked = maps_of(store, limit=images * size + size // 2), []
    read = store.read
    monkeypatch.setattr(store, "read", lambda image_id, *rest: asked.append(image_id) or read(image_id, *rest))
    for image_id in "abacab":  # with room for two: a and b are read, a is held, c puts b out, a is held, b is read
        maps[image_id]
        assert maps._held.currsize <= images * size + size // 2
    assert len(asked) == reads


def test_an_image_that_is_not_in_the_store_is_named_at_once(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match=r"holds 1 of 2 images \(first absent: d\)\. Run: matchkit extract"):
        cached(store, [pair(0, "a", "d")])


def test_pairs_without_keypoints_are_left_out(store: FeatureStore) -> None:
    assert len(cached(store, [*PAIRS, pair(9, "a", "d", [])])) == len(PAIRS)
    with pytest.raises(DatasetError, match=r"none of the pairs .* has a keypoint"):
        cached(store, [pair(9, "a", "b", [])])


def test_a_batch_holds_each_image_once_and_the_cells_of_its_keypoints(store: FeatureStore) -> None:
    batch = cached(store).collate([PAIRS[2], PAIRS[0], PAIRS[6]])  # ac, ab, aa
    assert batch.maps["up1.0"].shape[0] == 3
    assert (batch.source, batch.target) == ((0, 0, 0), (1, 2, 0))
    assert pair_numbers(batch, store) == [("a", "c"), ("a", "b"), ("a", "a")]
    # (8, 8) lies in cell 0, (90, 60) in column 5 of row 3 on a grid of 6 columns
    assert [cells.tolist() for cells in batch.source_cells] == [[0, 23]] * 3
    assert [cells.tolist() for cells in batch.target_cells] == [[23, 0]] * 3
    assert batch.grid == (4, 6)


def order(store: FeatureStore, *, seed: int, count: int, start: int = 0, size: int = 3) -> list[list[tuple[str, str]]]:
    batches = cached(store).batches(size=size, seed=seed, start=start)
    return [pair_numbers(batch, store) for batch in islice(batches, count)]


def test_the_order_is_seeded_and_every_epoch_has_its_own(store: FeatureStore) -> None:
    one = order(store, seed=0, count=6)
    assert one == order(store, seed=0, count=6)
    assert one != order(store, seed=1, count=6)
    assert one[:2] != one[2:4]


def test_an_epoch_repeats_no_pair_and_leaves_its_partial_batch_out(store: FeatureStore) -> None:
    """Seven pairs in batches of three: two batches an epoch."""
    for first in (0, 2, 4):
        epoch = [names for batch in order(store, seed=0, count=2, start=first) for names in batch]
        assert len(epoch) == len(set(epoch)) == 6


@pytest.mark.parametrize("start", range(8))
def test_a_run_takes_up_at_any_batch(store: FeatureStore, start: int) -> None:
    assert order(store, seed=3, count=3, start=start) == order(store, seed=3, count=start + 3)[start:]


def test_a_split_smaller_than_a_batch_is_one_batch(store: FeatureStore) -> None:
    batches = order(store, seed=0, count=3, size=50)
    assert [len(batch) for batch in batches] == [7, 7, 7]
    assert batches[0] != batches[1]
    assert sorted(batches[0]) == sorted(batches[1])
