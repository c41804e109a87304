"""Files of torch.save: no code of theirs runs, and what is wrong with them is said by name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from matchkit.cache.interchange.torch_files import check_bytes, is_whole, load_tensors, save_tensors
from matchkit.core.errors import StoreError


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._marker),)


def test_tensors_of_a_gpu_are_read_without_one(tmp_path: Path, save_as_cuda: Callable[[object, Path], None]) -> None:
    values = torch.arange(6.0).view(2, 3)
    save_as_cuda({"a": values}, tmp_path / "a.pt")
    found = load_tensors(tmp_path / "a.pt")
    assert isinstance(found, dict)
    assert found["a"].device.type == "cpu"
    assert torch.equal(found["a"], values)


def test_a_file_is_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    torch.save({"a": torch.zeros(1000), "b": torch.zeros(1000)}, path)
    found = load_tensors(path)
    assert isinstance(found, dict)
    assert str(path) in Path("/proc/self/maps").read_text()
    del found
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_code_is_not_run(tmp_path: Path) -> None:
    path, marker = tmp_path / "a.pt", tmp_path / "harm"
    torch.save({"a": torch.ones(1), "b": Code(marker)}, path)
    with pytest.raises(StoreError, match=r"a\.pt holds '(posix|nt)\.mkdir', which only running code"):
        load_tensors(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_file_of_torch_save(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert not is_whole(path)
    with pytest.raises(StoreError, match=r"a\.pt is cut short or no file of torch\.save"):
        load_tensors(path)


def test_a_file_cut_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.ones(100), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert not is_whole(path)
        with pytest.raises(StoreError, match=r"a\.pt is cut short"):
            load_tensors(path)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.arange(1000.0), path)
    check_bytes(path)
    content = bytearray(path.read_bytes())
    content[content.find(torch.tensor(500.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.pt is damaged: its record .*data/0 does not have its checksum"):
        check_bytes(path)


def test_another_zip_file(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("text", "none of ours")
    with pytest.raises(StoreError, match=r"a\.pt is a zip file, but none of torch\.save"):
        load_tensors(tmp_path / "a.pt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a\.pt is missing"):
        load_tensors(tmp_path / "a.pt")


def test_saving_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.pt"
    save_tensors(torch.ones(3), path)
    assert is_whole(path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"file/a\.pt cannot be written"):
        save_tensors(torch.ones(3), tmp_path / "file" / "a.pt")
    assert sorted(x.name for x in tmp_path.rglob("*")) == ["a.pt", "file", "new"]
