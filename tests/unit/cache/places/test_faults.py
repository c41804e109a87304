"""Full disks, read-only folders and stores copied by half: nothing else is lost, and nothing wrong is ever read."""

import errno
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import torch

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]
Failing = Callable[..., Any]
SEEDS = {"a": 0, "b": 20, "c": 2, "d": 3}
SMALL_DISK = """if True:
    import sys
    from pathlib import Path

    import torch

    from matchkit.cache.store import FeatureStore
    from matchkit.core.errors import StoreError
    from matchkit.core.spec import FeatureSpec, LayerSpec

    root, readonly = map(Path, sys.argv[1:])
    layers = (LayerSpec("up0.0", 16, (8, 8)), LayerSpec("up1.0", 8, (16, 16)))
    spec = FeatureSpec("pixels", "none", layers, (-1, 60), (128, 128), "stretch", "fp16")
    ids = [str(number) for number in range(99)]

    def maps(number):
        return {x.name: torch.full((2, x.channels, *x.grid), number, dtype=torch.float16) for x in layers}

    def check():
        for reader in (store, FeatureStore.open(root / "F.zarr")):
            assert all((reader.read(x)[y] == int(x)).all() for x in reader.ids for y in reader.layers)
        return store.ids

    ballast = root / "ballast"
    ballast.write_bytes(bytes(160 << 10))
    store = FeatureStore.create(root / "F.zarr", spec, ids)
    for number in range(99):
        try:
            store.write(str(number), maps(number))
        except StoreError as error:
            print(error)
            break
    assert check() == ids[:number]
    for attempt in (store.finalize, lambda: store.write("0", maps(0))):
        try:
            attempt()
        except StoreError:
            pass
    left = check()
    assert left in (ids[:number], ids[1:number])
    ballast.unlink()
    for again in sorted({"0", str(number)} - set(left)):
        store.write(again, maps(int(again)))
    store.finalize()
    assert check() == ids[: number + 1]
    store.close()
    held = FeatureStore.open(readonly)
    for path in (readonly, readonly / "other"):
        try:
            FeatureStore.create(path, held.spec, ids)
        except StoreError as error:
            print(error)
    print(held.ids, sorted({float(x.mean()) for x in held.read("a").values()}))
"""


def refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except StoreError as error:
        return str(error)
    return ""


def as_some_seed(store: FeatureStore, image_id: str, draw: Draw, same: Same, *seeds: int) -> bool:
    read = store.read(image_id)
    return any(same(read, draw(store.spec, seed)) for seed in seeds)


@pytest.mark.parametrize(
    ("spec", "image_id", "finalized"),
    [("fp16", "b", False), ("fp16", "d", True), ("fp32", "d", False), ("fp32", "b", True)],
    indirect=["spec"],
)
def test_a_full_disk_loses_nothing_else_wherever_it_is_met(
    store: FeatureStore, random_maps: Draw, same: Same, failing: Failing, *, image_id: str, finalized: bool
) -> None:
    """The image itself is the old one, the new one or absent: it was being written."""
    last = 1
    for number in range(100):
        if finalized:
            store.finalize()
        maps = random_maps(store.spec, 100 + number)
        with failing(number, errno.ENOSPC) as failed:
            refused = refusal(lambda: store.write(image_id, maps))  # noqa: B023
        assert ("the disk is full. What is complete is kept" in refused) == bool(failed)
        for reader in (store, FeatureStore.open(str(store))):
            assert as_some_seed(reader, "a", random_maps, same, 0)
            assert as_some_seed(reader, "c", random_maps, same, 2)
            if not reader.missing([image_id]):
                assert as_some_seed(reader, image_id, random_maps, same, last, 100 + number)
        store.write(image_id, random_maps(store.spec, number))
        last = number
        assert as_some_seed(FeatureStore.open(str(store)), image_id, random_maps, same, last)
        if not failed:
            break
    assert 10 < number < 99


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_a_full_disk_while_finalizing_loses_nothing(
    store: FeatureStore, random_maps: Draw, same: Same, failing: Failing
) -> None:
    for number in range(100):
        store.write("d", random_maps(store.spec, number))
        with failing(number, errno.ENOSPC) as failed:
            refused = refusal(store.finalize)
        assert ("the disk is full" in refused) == bool(failed)
        for seed, image_id in ((0, "a"), (1, "b"), (2, "c"), (number, "d")):
            for reader in (store, FeatureStore.open(str(store))):
                assert as_some_seed(reader, image_id, random_maps, same, seed)
        if not failed:
            break
    assert 10 < number < 99


def test_a_file_that_may_not_grow(store: FeatureStore, random_maps: Draw, same: Same) -> None:
    maps, limits = random_maps(store.spec, 3), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        refused = refusal(lambda: store.write("d", maps))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "F.zarr cannot be written: File too large" in refused
    assert FeatureStore.open(str(store)).ids == store.ids == ["a", "b", "c"]
    store.write("d", maps)
    for seed, image_id in enumerate("abcd"):
        assert as_some_seed(FeatureStore.open(str(store)), image_id, random_maps, same, seed)


def test_a_folder_that_cannot_be_written_is_read(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same, failing: Failing
) -> None:
    """As told by the calls; on a real one see the next test."""
    store.close()
    reader = FeatureStore.open(str(store))
    with failing(-1, errno.EROFS) as failed:
        failed.append("from the first call on")
        assert as_some_seed(FeatureStore.open(str(store)), "a", random_maps, same, 0)
        attempts: list[Callable[[], object]] = [
            lambda: FeatureStore.create(str(store), spec, ["a"]),
            lambda: FeatureStore.create(Path(str(store)).with_name("G.zarr"), spec, ["a"]),
            lambda: reader.write("d", random_maps(spec, 3)),
            lambda: reader.withdraw("a"),
            lambda: reader.note("x", 1),
            reader.finalize,
        ]
        for attempt in attempts:
            assert "zarr cannot be written: Read-only file system" in refusal(attempt)
    assert as_some_seed(reader, "a", random_maps, same, 0)


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_a_small_disk_and_a_read_only_one(store: FeatureStore, spec: FeatureSpec, tmp_path: Path) -> None:
    """Mounted for one process: nothing is left mounted, whatever becomes of it."""
    ones = {layer.name: torch.ones(3, layer.channels, *layer.grid) for layer in spec.layers}
    store.write("a", ones)
    store.close()
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts = f"mount -t tmpfs -o size=480k none {disk} && mount --bind {store} {store}"
    readonly = f"{mounts} && mount -o remount,ro,bind {store}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", readonly], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    command = ["unshare", "-rm", "sh", "-c", f'{readonly} && exec "$@"', "sh"]
    program = [sys.executable, "-P", "-c", SMALL_DISK, str(disk), str(store)]
    done = subprocess.run([*command, *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    full, taken, other, held = done.stdout.splitlines()
    assert full == f"{disk}/F.zarr: the disk is full. What is complete is kept; free some space and run again"
    assert taken == f"{store} cannot be written: Read-only file system"
    assert other == f"{store}/other cannot be written: Read-only file system"
    assert held == "['a', 'b', 'c'] [1.0]"


def sums(store: FeatureStore, image_id: str) -> tuple[int, ...]:
    """CRC-32C of all chunks as they are read."""
    read = store.read(image_id)
    return tuple(
        google_crc32c.value(step.permute(1, 2, 0).contiguous().numpy()) for name in store.layers for step in read[name]
    )


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_half_a_copy_is_refused_or_found_out(
    store: FeatureStore, random_maps: Draw, same: Same, failing: Failing
) -> None:
    """Each file and each folder missing in turn, of a store with all kinds of them."""
    store.finalize()
    for image_id, seed in (("b", 20), ("d", 3)):
        store.write(image_id, random_maps(store.spec, seed))
    with failing(6, errno.EIO):
        assert refusal(lambda: store.write("c", random_maps(store.spec, 30)))  # withdrawn, and perhaps half of it new
    assert store.missing("abcd") == ["c"]
    store.close()
    paths = [path for path in Path(str(store)).rglob("*") if not path.name.startswith("tmp.")]
    kinds = {path.name.split(".")[0] for path in paths}
    assert kinds >= {"journal", "c", "zarr", "pulse", "claims", "folded", "manifest", "ledger", "up0"}
    for path in paths:
        copy = Path(str(store)).with_name("copy.zarr")
        shutil.copytree(str(store), copy)
        missing = copy / path.relative_to(str(store))
        shutil.rmtree(missing) if missing.is_dir() else missing.unlink()
        for ids in ("", "dcbae"):
            look(copy, store.spec, ids, random_maps, same)
        shutil.rmtree(copy)


def look(copy: Path, spec: FeatureSpec, ids: str, draw: Draw, same: Same) -> None:
    """Whatever is read and has its checksums is right; `ids` are those of a writer, who writes the first of them."""
    try:
        store = FeatureStore.create(copy, spec, list(ids)) if ids else FeatureStore.open(copy)
    except StoreError as error:
        assert "copy.zarr" in str(error)  # noqa: PT017 - not everything is missed at once
        return
    with store:
        if ids:
            refusal(lambda: store.write(ids[0], draw(spec, 40)))
        for image_id in store.ids:
            refused = refusal(lambda: store.read(image_id))  # noqa: B023
            if not refused and sums(store, image_id) == store._ledger.checksums(store._rows[image_id]):
                assert as_some_seed(store, image_id, draw, same, 40 if image_id == ids[:1] else SEEDS[image_id])
            else:
                assert "copy.zarr" in refused or not refused
