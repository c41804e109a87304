"""Pairs with their maps: right though memory is reused, in bounded memory, in an order that a resumed run takes up."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from matchkit.cache.pairs import CachedPairs, MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, DatasetError, StoreError
from matchkit.core.flips import Flips, FlipWeights
from matchkit.core.interfaces import PairBatch
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
NAMES = [f"i{number:02}" for number in range(12)]
IMAGES: Mapping[str, ImageRecord] = {name: ImageRecord(name, Path(f"{name}.jpg"), (96, 64)) for name in NAMES}
"""Twice the spec's input of 48 x 32, so that a cell of the grid 4 x 6 is 16 original pixels."""
A, B, C, D = NAMES[:4]


def pair(number: int, source: str, target: str, points: Sequence[Sequence[float]] = ((8, 8), (90, 60))) -> Pair:
    marked = np.asarray(points, np.float32).reshape(-1, 2)
    ids = tuple(str(n) for n in range(len(marked)))
    return Pair(f"{number}-{source}-{target}", source, target, "cat", marked, marked[::-1], ids)


FEW = [pair(n, *names) for n, names in enumerate([(A, B), (B, A), (A, C), (C, A), (B, C), (C, B), (A, A)])]
ALL = [pair(n, *names) for n, names in enumerate(permutations(NAMES, 2))]


def numbered(folder: Path, *, dtype: str = "fp16") -> FeatureStore:
    """A store of all of `NAMES`; all values of an image are about its number plus one."""
    spec = FeatureSpec("pixels", "none", LAYERS, (460, -1, 60), (48, 32), "stretch", dtype)
    noise = torch.Generator().manual_seed(0)
    shapes = {layer.name: (3, layer.channels, *layer.grid) for layer in LAYERS}
    with FeatureStore.create(folder / f"{dtype}.zarr", spec, NAMES) as store:
        for number, name in enumerate(NAMES):
            maps = {layer: number + 1 + 0.1 * torch.rand(shape, generator=noise) for layer, shape in shapes.items()}
            store.write(name, maps)
    return store


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return numbered(tmp_path_factory.mktemp("many"))


IMAGE_BYTES = 2 * 2 * (2 * 4 * 6 + 5 * 2 * 3)
"""Two timesteps of both layers of an image in fp16."""


def maps_of(store: FeatureStore, *, images: int = len(NAMES), spare: int = 0) -> MapCache:
    limit = images * IMAGE_BYTES + spare
    return MapCache(store, layers=["up1.0", "up0.0"], timesteps=[-1, 460], limit=limit)


def cached(store: FeatureStore, pairs: Sequence[Pair] = ALL, *, images: int = len(NAMES)) -> CachedPairs:
    return CachedPairs(maps_of(store, images=images), pairs, IMAGES, grid=(4, 6))


def names_of(batch: PairBatch) -> list[tuple[str, str]]:
    """The images of each pair, recognised by their maps."""
    names = [NAMES[int(maps.mean()) - 1] for maps in batch.maps["up1.0"]]
    return [(names[source], names[target]) for source, target in ((pair.source, pair.target) for pair in batch.pairs)]


@pytest.fixture
def reads(many: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that are read from `many`, one after the other."""
    asked: list[str] = []
    read = many.read
    monkeypatch.setattr(
        many, "read", lambda image_id, *rest, **out: asked.append(image_id) or read(image_id, *rest, **out)
    )
    return asked


def test_maps_are_those_of_the_store_in_the_order_asked_for(many: FeatureStore) -> None:
    batch = maps_of(many).batch([C, A])
    assert list(batch) == ["up1.0", "up0.0"]
    for number, image_id in enumerate([C, A]):
        fresh = many.read(image_id, ["up1.0", "up0.0"], [-1, 460])
        assert all(torch.equal(batch[name][number], fresh[name]) for name in fresh)
        assert all(batch[name].dtype == fresh[name].dtype for name in fresh)
    assert batch["up1.0"].movedim(-3, -1).is_contiguous()


@pytest.mark.parametrize(("images", "expected"), [(0, "abacab"), (1, "abacab"), (2, "abcb"), (3, "abc"), (9, "abc")])
def test_what_was_used_last_is_held(many: FeatureStore, reads: list[str], images: int, expected: str) -> None:
    """With room for two: a and b are read, a is held, c puts b out, a is held, b is read."""
    maps = maps_of(many, images=images, spare=IMAGE_BYTES - 1)
    for letter in "abacab":
        maps.batch([NAMES["abc".index(letter)]])
    assert maps.images == images
    assert reads == [NAMES["abc".index(letter)] for letter in expected]


@pytest.mark.parametrize(("images", "held"), [(0, 0), (5, 5), (12, 12), (100, 12)])
def test_memory_is_what_was_allowed_and_two_batches(
    many: FeatureStore, monkeypatch: pytest.MonkeyPatch, images: int, held: int
) -> None:
    made: list[int] = []

    def counting(allocate: Callable[..., dict[str, torch.Tensor]]) -> Callable[..., dict[str, torch.Tensor]]:
        def allocated(*args: Any, **options: Any) -> dict[str, torch.Tensor]:
            found = allocate(*args, **options)
            made.append(sum(values.nbytes for values in found.values()))
            return found

        return allocated

    monkeypatch.setattr(many, "buffers", counting(many.buffers))
    monkeypatch.setattr(many, "batch_buffers", counting(many.batch_buffers))
    for batch in islice(cached(many, images=images).batches(size=3, seed=0), 10):
        assert len(batch.pairs) == 3
    batches = [3 * 2 * IMAGE_BYTES] * 2
    assert made == [IMAGE_BYTES, *([held * IMAGE_BYTES] if held else []), *batches]
    made.clear()
    next(cached(many, images=images).batches(size=100, seed=0))
    assert made[-2:] == [12 * IMAGE_BYTES] * 2  # a hundred pairs have two hundred images, but of twelve


def test_a_read_that_failed_spoils_nothing(many: FeatureStore) -> None:
    """The slot that was emptied for it must not be taken for one that another image holds."""
    maps = maps_of(many, images=2)
    maps.batch([A, B])
    for _ in range(2):
        with pytest.raises(StoreError, match="does not hold image 'nobody'"):
            maps.batch(["nobody"])
    for names in ([C], [A, B, C], [C, B, A]):
        for name, values in zip(names, maps.batch(names)["up1.0"], strict=True):
            assert torch.equal(values, many.read(name, ["up1.0"], [-1, 460])["up1.0"])


def test_an_image_that_is_not_in_the_store_is_named_at_once(many: FeatureStore) -> None:
    with pytest.raises(StoreError, match=r"holds 1 of 2 images \(first absent: x\)\. Run: matchkit extract"):
        cached(many, [pair(0, A, "x")])


def test_pairs_without_keypoints_are_left_out(many: FeatureStore) -> None:
    assert len(cached(many, [*FEW, pair(9, A, "nobody", [])])) == len(FEW)
    with pytest.raises(DatasetError, match=r"none of the pairs .* has a keypoint"):
        cached(many, [pair(9, A, B, [])])


@pytest.mark.parametrize("images", [0, 12])
def test_a_batch_holds_each_image_once_and_the_cells_of_its_keypoints(
    many: FeatureStore, reads: list[str], images: int
) -> None:
    batch = cached(many, FEW, images=images).collate([FEW[2], FEW[0], FEW[6]])  # ac, ab, aa
    assert reads == [A, C, B]
    assert batch.maps["up1.0"].shape == (3, 2, 2, 4, 6)
    assert [(pair.source, pair.target) for pair in batch.pairs] == [(0, 1), (0, 2), (0, 0)]
    assert names_of(batch) == [(A, C), (A, B), (A, A)]
    # (8, 8) lies in cell 0, (90, 60) in column 5 of row 3 on a grid of 6 columns
    assert [pair.source_cells.tolist() for pair in batch.pairs] == [[0, 23]] * 3
    assert [pair.target_cells.tolist() for pair in batch.pairs] == [[23, 0]] * 3
    places = [[(8 + 0.5) / 16 - 0.5, (8 + 0.5) / 16 - 0.5], [(90 + 0.5) / 16 - 0.5, (60 + 0.5) / 16 - 0.5]]
    assert [pair.source_points.tolist() for pair in batch.pairs] == [places] * 3
    assert [pair.target_points.tolist() for pair in batch.pairs] == [places[::-1]] * 3
    assert [pair.target_side for pair in batch.pairs] == [6.0, 6.0, 6.0]  # of the whole target, where a pair has no box
    assert batch.grid == (4, 6)


@pytest.fixture(scope="module", params=["fp16", "fp32", "bf16", "int8", "int4"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return numbered(tmp_path_factory.mktemp("encoded"), dtype=request.param)


@pytest.mark.parametrize("images", [0, 5, 12])
def test_a_batch_stays_right_while_the_next_one_is_read(
    encoded: FeatureStore, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    """Each batch is compared with fresh reads once the thread has the next one ready, over more than an epoch."""
    bytes_in_fp16 = 2 if encoded.spec.dtype == "fp32" else 1
    pairs, ready = cached(encoded, images=images * bytes_in_fp16), threading.Semaphore(0)
    collate = pairs.collate

    def telling(*args: object, number: int) -> PairBatch:
        batch = collate(*args, number=number)  # type: ignore[arg-type]
        ready.release()
        return batch

    monkeypatch.setattr(pairs, "collate", telling)
    fresh = {name: encoded.read(name, ["up1.0", "up0.0"], [-1, 460]) for name in NAMES}
    seen = set()
    for number, batch in enumerate(islice(pairs.batches(size=20, seed=0), 7)):
        for _ in range(2 if number == 0 else 1):
            assert ready.acquire(timeout=20)
        for names, pair in zip(names_of(batch), batch.pairs, strict=True):
            for row, name in zip((pair.source, pair.target), names, strict=True):
                assert all(torch.equal(batch.maps[layer][row], maps) for layer, maps in fresh[name].items())
        seen.add(batch.maps["up0.0"].data_ptr())
    assert len(seen) == 2


def batches(
    store: FeatureStore, *, seed: int, count: int, start: int = 0, size: int = 9, images: int = len(NAMES)
) -> list[list[tuple[str, str]]]:
    found = cached(store, images=images).batches(size=size, seed=seed, start=start)
    return [names_of(batch) for batch in islice(found, count)]


@pytest.mark.parametrize(
    ("images", "size", "in_epoch"), [(4, 1, 132), (0, 12, 11), (1, 9, 14), (4, 9, 14), (12, 9, 14)]
)
def test_an_epoch_has_every_pair_once_but_for_a_partial_batch(
    many: FeatureStore, images: int, size: int, in_epoch: int
) -> None:
    """132 pairs; in batches of nine, six of them are left out, other ones each epoch."""
    found = batches(many, seed=0, count=2 * in_epoch, size=size, images=images)
    epochs = [[names for batch in found[first : first + in_epoch] for names in batch] for first in (0, in_epoch)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == size * in_epoch
    assert epochs[0] != epochs[1]
    assert size != 9 or set(epochs[0]) != set(epochs[1])


@pytest.mark.parametrize("images", [4, 12])
def test_the_order_is_seeded(many: FeatureStore, images: int) -> None:
    one = batches(many, seed=0, count=5, images=images)
    assert one == batches(many, seed=0, count=5, images=images)
    assert one != batches(many, seed=1, count=5, images=images)


@pytest.mark.parametrize("images", [4, 12])
def test_a_run_takes_up_at_any_batch(many: FeatureStore, images: int) -> None:
    whole = batches(many, seed=3, count=30, images=images)
    for start in (1, 13, 14, 28):
        assert batches(many, seed=3, count=2, start=start, images=images) == whole[start : start + 2]


def test_a_batch_has_its_number_wherever_a_run_takes_up(many: FeatureStore) -> None:
    batches = cached(many).batches(size=3, seed=0, start=50)
    assert [batch.number for batch in islice(batches, 3)] == [50, 51, 52]
    batches.close()


def test_the_longer_side_of_the_targets_box_in_cells(many: FeatureStore) -> None:
    boxed = replace(FEW[0], target_box=(10.0, 20.0, 26.0, 60.0))  # 16 x 40 of pixels that are a sixteenth of a cell
    assert cached(many).collate([boxed]).pairs[0].target_side == 2.5


def test_a_split_smaller_than_a_batch_is_one_batch(many: FeatureStore) -> None:
    found = [names_of(batch) for batch in islice(cached(many, FEW).batches(size=50, seed=0), 3)]
    assert [len(batch) for batch in found] == [7, 7, 7]
    assert found[0] != found[1]
    assert sorted(found[0]) == sorted(found[1])


@pytest.mark.parametrize(("images", "most"), [(2, 110), (4, 60), (6, 40), (12, 12)])
def test_an_epoch_reads_few_images_however_small_the_cache(
    many: FeatureStore, reads: list[str], images: int, most: int
) -> None:
    """In random order the 132 pairs of 12 images read 264 * (1 - images / 12): 220, 176, 132 and, all held, 12."""
    pairs = cached(many, images=images)
    assert pairs.holds_all == (images == 12)
    assert len(list(islice(pairs.batches(size=1, seed=0), 132))) == 132
    assert 12 <= len(reads) <= most


def test_pairs_of_near_blocks_come_in_random_order(many: FeatureStore) -> None:
    """Locality chooses which images come together, not which pair of these is first."""
    first = [names for batch in batches(many, seed=0, count=20, size=1, images=6) for names in batch]
    assert first != sorted(first)
    assert len({name for names in first[:6] for name in names}) <= 3


class Stopped(Exception):
    pass


def running() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_a_failure_of_the_thread_reaches_the_caller(tmp_path: Path) -> None:
    store = numbered(tmp_path)
    before, found = running(), cached(store, [ALL[0], ALL[0]], images=0).batches(size=1, seed=0)
    next(found)
    with FeatureStore.create(str(store), store.spec, []) as other:
        other.withdraw(ALL[0].target)
    with pytest.raises(StoreError, match=f"does not hold image '{ALL[0].target}'. Run: matchkit extract"):
        list(islice(found, 3))
    assert running() == before
    assert list(found) == []


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_leaves_no_thread_and_reads_no_more(many: FeatureStore, reads: list[str], taken: int) -> None:
    before = running()
    found: Iterator[PairBatch] = cached(many, images=0).batches(size=2, seed=0)
    assert len(list(islice(found, taken))) == taken
    found.close()  # type: ignore[attr-defined]
    assert running() == before
    assert len(reads) <= 4 * (taken + 1)
    assert (taken == 0) == (not reads)


def test_a_caller_that_fails_leaves_no_thread(many: FeatureStore) -> None:
    def use() -> None:
        for _ in cached(many).batches(size=2, seed=0):
            raise Stopped

    before = running()
    with pytest.raises(Stopped):
        use()
    assert running() == before


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Three images with their mirrored copies; all values of the n-th in alphabetical order are n."""
    ids = sorted(name for base in (A, B, C) for name in (base, f"{base}@flip"))
    spec = FeatureSpec("pixels", "none", LAYERS, (460, -1), (48, 32), "stretch", "fp16")
    with FeatureStore.create(tmp_path_factory.mktemp("mirrored") / "m.zarr", spec, ids) as store:
        for number, name in enumerate(ids):
            store.write(
                name, {layer.name: torch.full((2, layer.channels, *layer.grid), float(number)) for layer in LAYERS}
            )
    return store


def flipped(store: FeatureStore, pairs: Sequence[Pair]) -> CachedPairs:
    flips = Flips(FlipWeights(single_flip=1.0, self_flip=0.25), IMAGES, {"cat": KeypointScheme(flips=(("0", "1"),))})
    maps = MapCache(store, layers=["up1.0"], timesteps=[460], limit=1 << 20)
    return CachedPairs(maps, pairs, IMAGES, grid=(4, 6), flips=flips)


def test_variants_point_at_the_mirrored_copies_and_share_the_images(mirrored: FeatureStore) -> None:
    batch = flipped(mirrored, FEW).collate([FEW[0], FEW[1]])  # ab, ba
    assert batch.maps["up1.0"].shape[0] == 4
    images = [round(maps.float().mean().item()) for maps in batch.maps["up1.0"]]
    assert images == [0, 2, 1, 3]  # a, b, a@flip, b@flip
    first, second = batch.pairs
    assert [(variant.source, variant.target, variant.weight) for variant in first.variants] == [
        (2, 1, 1.0),
        (2, 0, 0.25),
    ]
    assert [(variant.source, variant.target, variant.weight) for variant in second.variants] == [
        (3, 0, 1.0),
        (3, 1, 0.25),
    ]
    # keypoint 1 at x = 90 of 96 is, mirrored, keypoint 0 at x = 5: column 0 of row 3
    assert sorted(batch.pairs[0].variants[0].source_cells.tolist()) == [5, 18]


def test_an_epoch_of_variants_is_read_through_rooms_that_hold_them(mirrored: FeatureStore) -> None:
    for batch in islice(flipped(mirrored, FEW).batches(size=7, seed=0), 3):
        assert batch.maps["up1.0"].shape[0] == 6
        assert all(len(pair.variants) == 2 for pair in batch.pairs)


def test_missing_copies_are_asked_for_before_the_fit_begins(many: FeatureStore) -> None:
    with pytest.raises(StoreError, match="Run: matchkit extract --flip"):
        flipped(many, FEW)


def test_processes_share_every_batch_out(many: FeatureStore) -> None:
    pairs = cached(many)
    whole = [batch.number for batch in islice(pairs.batches(size=4, seed=0), 3)]
    shares = [
        [(batch.number, names_of(batch)) for batch in islice(pairs.batches(size=4, seed=0, share=(own, 2)), 3)]
        for own in range(2)
    ]
    together = batches(many, seed=0, count=3, size=4)
    for number, (first, second) in enumerate(zip(*shares, strict=True)):
        assert (first[0], second[0], whole[number]) == (2 * number, 2 * number + 1, number)
        assert [first[1][0], second[1][0], first[1][1], second[1][1]] == together[number]
    with pytest.raises(ConfigError, match="5 pairs a step cannot be shared out evenly to 2 processes"):
        next(pairs.batches(size=5, seed=0, share=(0, 2)))
