"""Shard files: what is read of them, and how images come into those that they share."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from matchkit.cache.layout import ArrayLayout
from matchkit.cache.places.local import PARTIAL
from matchkit.cache.shards import pieces
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]
IDS = [f"i{number}" for number in range(20)]
ARRAY = ArrayLayout("up0.0", np.dtype(np.float16), (5, 2, 3, 7), 16, compressed=False)
FIRST = "up0.0/c.0.0.0.0.0"


@pytest.fixture
def twenty(tmp_path: Path, spec: FeatureSpec) -> Iterator[FeatureStore]:
    """An empty store of twenty images: sixteen share a shard file, and the last four another one."""
    with FeatureStore.create(tmp_path / "F.zarr", spec, IDS) as store:
        yield store


def files(store: FeatureStore) -> list[str]:
    return sorted(path.name for path in (Path(str(store)) / "up0.0").glob("c.*"))


def seen_by_zarr(store: FeatureStore, row: int) -> np.ndarray:
    array = zarr.open_array(Path(str(store)) / "up0.0", mode="r")
    return np.asarray(array[row])


@pytest.mark.parametrize(
    ("steps", "runs"),
    [
        ([0, 1, 2, 3, 4], [(0, 5)]),
        ([1, 2, 3], [(1, 3)]),
        ([3], [(3, 1)]),
        ([], []),
        ([0, 1, 3, 4], [(0, 2), (3, 2)]),
        ([4, 3, 2], [(4, 1), (3, 1), (2, 1)]),
        ([2, 2, 3, 0], [(2, 1), (2, 2), (0, 1)]),
        ([0, 1, 2, 3, 4, 0], [(0, 5), (0, 1)]),
    ],
)
def test_neighbouring_timesteps_are_one_piece(steps: list[int], runs: list[tuple[int, int]]) -> None:
    into = np.zeros((len(steps), 2, 3, 7), np.float16)
    wanted = pieces(ARRAY, 18, steps, into)
    assert [(piece.name, piece.offset, piece.into.nbytes) for piece in wanted] == [
        ("up0.0/c.1.0.0.0.0", 2 * ARRAY.image_bytes + first * ARRAY.chunk_bytes, count * ARRAY.chunk_bytes)
        for first, count in runs
    ]
    for number, piece in enumerate(wanted):
        piece.into[...] = number + 1
    assert [values.flat[0] for values in into] == [n + 1 for n, (_, count) in enumerate(runs) for _ in range(count)]


def test_a_shared_shard_is_complete_with_its_last_image(
    twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    reader = FeatureStore.open(str(twenty))
    for number in [*range(15, 3, -1), 17, *range(3)]:
        twenty.write(IDS[number], random_maps(spec, number))
        assert same(reader.read(IDS[number]), random_maps(spec, number))
    assert files(twenty) == [f"c.0.0.0.0.0{PARTIAL}", f"c.1.0.0.0.0{PARTIAL}"]
    twenty.write(IDS[3], random_maps(spec, 3))
    assert files(twenty) == ["c.0.0.0.0.0", f"c.1.0.0.0.0{PARTIAL}"]
    assert (Path(str(twenty)) / FIRST).stat().st_size == twenty._reader.arrays[0].shard_bytes
    twenty.finalize()
    assert files(twenty) == ["c.0.0.0.0.0", "c.1.0.0.0.0"]
    for number in (*range(16), 17):
        for store in (twenty, reader, FeatureStore.open(str(twenty))):
            assert same(store.read(IDS[number]), random_maps(spec, number))
    assert not seen_by_zarr(twenty, 16).any()


def test_images_are_written_again_while_the_file_is_read(
    twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    """Before and after its completion: whoever has it open keeps what was there."""
    for number in range(16):
        twenty.write(IDS[number], random_maps(spec, number))
        if number in (7, 15):
            path = Path(str(twenty)) / (FIRST if number == 15 else FIRST + PARTIAL)
            with path.open("rb") as file:
                before = path.read_bytes()
                twenty.write(IDS[3], random_maps(spec, 100 + number))
                assert file.read() == before
            assert path.read_bytes() != before
    assert files(twenty) == ["c.0.0.0.0.0"]
    expected = [115 if number == 3 else number for number in range(16)]
    for number, seed in enumerate(expected):
        assert same(twenty.read(IDS[number]), random_maps(spec, seed))
        written = random_maps(spec, seed)["up0.0"].permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(seen_by_zarr(twenty, number), written)


def test_a_finalized_shard_takes_more_images(
    twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    for number in (2, 18):
        twenty.write(IDS[number], random_maps(spec, number))
    twenty.finalize()
    assert not seen_by_zarr(twenty, 3).any()
    twenty.close()
    more = [f"more{number}" for number in range(4)]
    with FeatureStore.create(str(twenty), spec, [*IDS, *more]) as wider:
        for seed, image_id in enumerate([IDS[3], more[0], more[3]]):
            wider.write(image_id, random_maps(spec, 50 + seed))
        assert files(wider) == ["c.0.0.0.0.0", "c.1.0.0.0.0"]
        wider.finalize()
        found = {image_id: wider.read(image_id) for image_id in wider.ids}
    assert list(found) == [IDS[2], IDS[3], IDS[18], more[0], more[3]]
    for row, (image_id, seed) in zip((2, 3, 18, 20, 23), zip(found, (2, 50, 18, 51, 52), strict=True), strict=True):
        assert same(found[image_id], random_maps(spec, seed))
        written = random_maps(spec, seed)["up0.0"].permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(seen_by_zarr(wider, row), written)


def test_a_shard_of_withdrawn_images_is_removed(
    twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    twenty.write(IDS[0], random_maps(spec, 0))
    twenty.withdraw(IDS[0])
    twenty.finalize()
    assert files(twenty) == []
    twenty.write(IDS[1], random_maps(spec, 1))
    twenty.write(IDS[0], random_maps(spec, 2))
    assert same(twenty.read(IDS[0]), random_maps(spec, 2))
    assert same(twenty.read(IDS[1]), random_maps(spec, 1))


def test_finalize_leaves_alone_what_another_writer_is_at(
    twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    twenty.write(IDS[0], random_maps(spec, 0))
    with FeatureStore.create(str(twenty), spec, IDS) as other:
        other.write(IDS[16], random_maps(spec, 16))
        other.finalize()
        assert files(twenty) == [f"c.0.0.0.0.0{PARTIAL}", "c.1.0.0.0.0"]
        twenty.finalize()
        assert files(twenty) == ["c.0.0.0.0.0", "c.1.0.0.0.0"]
        twenty.write(IDS[1], random_maps(spec, 1))
        other.write(IDS[17], random_maps(spec, 17))
    for number in (0, 1, 16, 17):
        assert same(twenty.read(IDS[number]), random_maps(spec, number))


def test_what_finalize_took_it_gives_back(twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    with FeatureStore.create(str(twenty), spec, IDS) as dead:
        dead.write(IDS[0], random_maps(spec, 0))
    twenty.write(IDS[16], random_maps(spec, 16))
    twenty.finalize()
    with FeatureStore.create(str(twenty), spec, IDS) as other:
        other.write(IDS[1], random_maps(spec, 1))
        with pytest.raises(StoreError, match="images from row 16 on are being written by another process"):
            other.write(IDS[17], random_maps(spec, 17))


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("gone", [False, True])
def test_writing_makes_no_zeros_of_images_that_a_damaged_shard_lacks(
    twenty: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same, *, sealed: bool, gone: bool
) -> None:
    for number in range(3):
        twenty.write(IDS[number], random_maps(spec, number))
    if sealed:
        twenty.finalize()
    shard = Path(str(twenty)) / (FIRST if sealed else FIRST + PARTIAL)
    if gone:
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[: twenty._reader.arrays[0].offset(2) + 5])
    for attempt in (lambda: twenty.write(IDS[0], random_maps(spec, 9)), twenty.finalize):
        if not (attempt == twenty.finalize and (sealed or gone)):
            with pytest.raises(StoreError, match=r"up0\.0/c\.0\..* is damaged or gone\. Run: matchkit cache verify"):
                attempt()
        with pytest.raises(StoreError, match=r"c\.0\..* is damaged or gone"):
            twenty.read(IDS[2])
    for number in (1, 2):
        twenty.withdraw(IDS[number])
    for number in range(3):
        twenty.write(IDS[number], random_maps(spec, 20 + number))
    twenty.finalize()
    assert all(same(twenty.read(IDS[number]), random_maps(spec, 20 + number)) for number in range(3))
