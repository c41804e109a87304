"""Maps in the caller's memory: the right ones, in the very memory that was given, by as few reads as can be."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from matchkit.cache import layout
from matchkit.cache.buffers import memory
from matchkit.cache.codecs.codec import codec
from matchkit.cache.places import local
from matchkit.cache.places.local import LocalPlace
from matchkit.cache.places.place import Piece
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]
PAGES = FeatureSpec("pixels", "none", (LayerSpec("up3.0", 64, (32, 32)),), (-1, 0, 100), (256, 256), "stretch", "fp16")
"""A layer whose chunks are 32 pages."""


@pytest.fixture
def recorded(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> list[list[Piece]]:
    """What the store asks its place for, read by read."""
    asked: list[list[Piece]] = []
    assert isinstance(store.place, LocalPlace)
    fill = store.place.fill

    def recording(pieces: list[Piece]) -> None:
        asked.append(pieces)
        fill(pieces)

    monkeypatch.setattr(store.place, "fill", recording)
    return asked


def decoded(spec: FeatureSpec, maps: Maps, dtype: str) -> Maps:
    """What a codec makes of maps."""
    encoding, found = codec(dtype), {}
    for layer in spec.layers:
        parts = encoding.encode(layer, maps[layer.name].permute(0, 2, 3, 1).contiguous())
        found[layer.name] = encoding.decode(layer, parts, range(len(spec.timesteps))).permute(0, 3, 1, 2)
    return found


def test_a_whole_image_is_one_piece_a_layer(store: FeatureStore, recorded: list[list[Piece]]) -> None:
    store.read("b")
    store.read("b", ["up1.0"], [-1, 60])
    store.read("b", ["up1.0"], [60, 460])
    assert [len(pieces) for pieces in recorded] == [2, 1, 2]


def test_memory_that_is_given_is_read_into(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    room = store.buffers()
    plain = dict(store.buffers())
    earlier = store.read("c")
    for out in (room, plain, earlier):
        for seed, image_id in ((0, "a"), (1, "b"), (0, "a")):
            read = store.read(image_id, out=out)
            assert same(read, random_maps(spec, seed))
            assert all(read[name].data_ptr() == out[name].data_ptr() for name in read)


def test_memory_of_another_order_or_type_is_filled_too(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    maps = random_maps(spec, 1)
    ordered = {name: torch.empty(values.shape, dtype=values.dtype) for name, values in maps.items()}
    assert same(store.read("b", out=ordered), maps)
    assert same(ordered, maps)
    wide = {name: torch.empty(values.shape, dtype=torch.float64) for name, values in maps.items()}
    assert same(store.read("b", out=wide), {name: values.double() for name, values in maps.items()})
    batch = {name: torch.zeros(2, *values.shape, dtype=values.dtype) for name, values in maps.items()}
    store.read("b", out={name: values[1] for name, values in batch.items()})
    assert same({name: values[1] for name, values in batch.items()}, maps)
    assert not any(values[0].any() for values in batch.values())


def test_memory_for_something_else_is_refused(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    written = random_maps(spec, 1)
    for room in (store.buffers(), dict(store.buffers())):
        with pytest.raises(StoreError, match=r"for layer 'up0\.0' .*F\.zarr is to be \(1, 5, 2, 3\), not \(3, 5"):
            store.read("b", timesteps=[60], out=room)
    with pytest.raises(StoreError, match=r"is to be \(3, 5, 2, 3\), not \(2, 5, 2, 3\)"):
        store.read("b", out=store.buffers(timesteps=[60, -1]))
    with pytest.raises(StoreError, match=r"memory for layer 'up1\.0' .* not nothing"):
        store.read("b", out=store.buffers(["up0.0"]))
    some = store.read("b", ["up1.0"], out=store.buffers())
    assert list(some) == ["up1.0"]
    assert torch.equal(some["up1.0"], written["up1.0"])
    others = store.buffers(timesteps=[-1, 60])
    assert torch.equal(store.read("b", timesteps=[60, 460], out=others)["up1.0"], written["up1.0"][[2, 0]])


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
def test_encoded_maps_are_read_into_memory_that_is_given(
    tmp_path: Path, spec: FeatureSpec, random_maps: Draw, same: Same, dtype: str
) -> None:
    maps = [random_maps(spec, seed) for seed in range(2)]
    expected = [decoded(spec, image, dtype) for image in maps]
    with FeatureStore.create(tmp_path / "F.zarr", dataclasses.replace(spec, dtype=dtype), ["a", "b"]) as store:
        for image_id, image in zip("ab", maps, strict=True):
            store.write(image_id, image)
        room = store.buffers()
        for out in (room, dict(room), {name: torch.empty_like(values) for name, values in expected[0].items()}):
            for image_id, image in zip("ab", expected, strict=True):
                read = store.read(image_id, out=out)
                assert same(read, image)
                assert all(read[name].data_ptr() == out[name].data_ptr() for name in read)
        step = store.read("b", ["up1.0"], [60], out=store.buffers(["up1.0"], [60]))
        assert torch.equal(step["up1.0"], expected[1]["up1.0"][2:])


@pytest.fixture(params=[1, 16], ids=["apart", "shared"])
def pages(
    tmp_path: Path, random_maps: Draw, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    """A store of two images whose chunks are whole pages, two of which one thread reads."""
    monkeypatch.setattr(layout, "SMALL_SHARD", 0 if request.param == 1 else 1 << 30)
    monkeypatch.setattr(local, "SPLIT", 2 * 32 * local.PAGE)
    monkeypatch.setattr(local, "THREADED", 2 * 32 * local.PAGE)
    with FeatureStore.create(tmp_path / "F.zarr", PAGES, ["a", "b"]) as store:
        for seed, image_id in enumerate("ab"):
            store.write(image_id, random_maps(PAGES, seed))
        store.finalize()
        yield store


def test_past_the_page_cache_the_same_is_read(
    pages: FeatureStore, random_maps: Draw, same: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(pages.place, LocalPlace)
    expected, flags, opened = random_maps(PAGES, 1), [], pages.place._open

    def watched(name: str, flag: int) -> int:
        flags.append(bool(flag & local.DIRECT))
        return opened(name, flag)

    monkeypatch.setattr(pages.place, "_open", watched)
    for direct in (False, True):
        pages.place.direct = direct
        flags.clear()
        block = memory((1 << 20,), np.dtype(np.uint8))[: expected["up3.0"].nbytes]
        out = {"up3.0": torch.from_numpy(block).view(torch.float16).view(3, 32, 32, 64).permute(0, 3, 1, 2)}
        assert same(pages.read("b", out=out), expected)
        assert len(flags) == 2
        assert torch.equal(pages.read("b", ["up3.0"], [0])["up3.0"], expected["up3.0"][1:2])
        assert (local.DIRECT == 0) or (flags[:2] == [direct] * 2)


def test_a_shard_that_cannot_be_read_is_said_to_be_one(
    store: FeatureStore, failing: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.preadv", broken)
    with pytest.raises(StoreError, match=r"F\.zarr cannot be read: Input/output error"):
        store.read("a")
    monkeypatch.undo()
    shard = Path(str(store)) / store._reader.arrays[0].file(0)
    for path in (shard, shard.with_name(f"{shard.name}{local.PARTIAL}")):
        if path.exists():
            path.unlink()
            path.mkdir()
    with pytest.raises(StoreError, match=r"up0\.0/c\.0\.0\.0\.0\.0 is damaged or gone\. Run: matchkit cache verify"):
        store.read("a")
