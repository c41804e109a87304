"""What a power cut would leave: bytes are on the disk before a name or a line of the ledger tells of them."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.cache.places.durable import append, make_folder, patch, sync, write
from matchkit.cache.store import FeatureStore
from matchkit.core.spec import FeatureSpec

Draw = Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files cannot be told here")


class Cache:
    """What would be lost: files whose bytes, and folders whose names have changed and were not synced since."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lost: set[Path] = set()
        self.told: list[str] = []

    def needed(self) -> set[Path]:
        """What would be missed: neither what readers and locks need while they live, nor what is written beside."""
        return {path for path in self.lost if path.name not in ("pulse", "claims") and "tmp." not in str(path)}

    def open(self, path: Path | str, flags: int, *rest: int) -> int:
        new = bool(flags & os.O_CREAT) and not Path(path).exists()
        descriptor = _os["open"](path, flags, *rest)
        if new:
            self.lost |= {_name(descriptor), _name(descriptor).parent}
        return descriptor

    def write(self, file: int, data: bytes) -> int:
        if _name(file).name.startswith("journal."):
            self.told += [f"{path} when told" for path in self.needed() - {_name(file), _name(file).parent}]
        self.lost.add(_name(file))
        return _os["write"](file, data)

    def sendfile(self, out: int, *rest: int) -> int:
        self.lost.add(_name(out))
        return _os["sendfile"](out, *rest)

    def fsync(self, file: int) -> None:
        self.lost.discard(_name(file))
        _os["fsync"](file)

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        _os["mkdir"](path, mode)
        self.lost.add(path.parent)

    def replace(self, path: Path, to: Path) -> None:
        self.told += [f"{path} when renamed"] * (path in self.lost)
        _os["replace"](path, to)
        self.lost |= {path.parent, to.parent}


_os: dict[str, Any] = {name: getattr(os, name) for name in ("open", "write", "sendfile", "fsync", "mkdir", "replace")}


def _name(file: int) -> Path:
    return Path(f"/proc/self/fd/{file}").readlink()


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`with cut():` finds what a power cut would take during the block or after it."""

    @contextmanager
    def watched() -> Iterator[Cache]:
        cache = Cache(tmp_path)
        with monkeypatch.context() as patched:
            for name in _os:
                patched.setattr(os, name, getattr(cache, name))
            yield cache
        assert cache.told == []
        assert cache.needed() == set()

    return watched


def test_files_are_written_patched_and_appended(tmp_path: Path, cut: Callable[..., Any]) -> None:
    with cut() as cache:
        make_folder(tmp_path / "a/b/c")
        make_folder(tmp_path / "a/b")
        path = tmp_path / "a/b/file"
        write(path, [b"one", b"two"])
        assert cache.lost == {path, path.parent}
        sync(path)
        sync(path.parent)
        patch(path, {1: b"NE", 8: b"!"})
        append(path, b"line\n")
        assert cache.lost == set()
    assert path.read_bytes() == b"oNEtwo\0\0!line\n"
    write(path, [])
    assert path.read_bytes() == b""


def test_an_image_is_on_the_disk_before_it_is_told_of(
    tmp_path: Path, spec: FeatureSpec, sharing: None, random_maps: Draw, cut: Callable[..., Any]
) -> None:
    with cut():
        store = FeatureStore.create(tmp_path / "F.zarr", spec, ["a", "b"])
    for number, image_id in enumerate("abaab"):
        with cut():
            store.write(image_id, random_maps(spec, number))
        if number == 2:
            with cut():
                store.finalize()
    with cut():
        store.withdraw("a")
    with cut():
        FeatureStore.create(tmp_path / "F.zarr", spec, ["c"]).close()
    store.close()
