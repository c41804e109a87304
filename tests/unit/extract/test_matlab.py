"""MATLAB's matrices as scipy writes them, and everything that is none."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import io

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.matlab import LARGEST, read_matrices

POINTS = np.array([[1.5, -2], [np.nan, np.inf], [3e300, 4]])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">f8", ">i4"])
def test_numbers_of_every_type(tmp_path: Path, dtype: str, *, compressed: bool) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    held = {"a name of its own": {"x": [1, "y"]}, "text": "kps", "kps": values, "one": 7, "empty": np.zeros((0, 2))}
    path = tmp_path / "a.mat"
    io.savemat(path, {name.replace(" ", "_"): value for name, value in held.items()}, do_compression=compressed)
    read = read_matrices(path, ("kps", "one", "empty"))
    np.testing.assert_array_equal(read["kps"], values)
    assert read["kps"].dtype == np.float64
    assert read["one"].tolist() == [[7]]
    assert read["empty"].shape == (0, 2)


def test_special_numbers_are_handed_out(tmp_path: Path) -> None:
    io.savemat(tmp_path / "a.mat", {"kps": POINTS})
    np.testing.assert_array_equal(read_matrices(tmp_path / "a.mat", ("kps",))["kps"], POINTS)


@pytest.mark.parametrize(
    "value",
    [
        *("text", {"x": 1.0}, [1, "text"], np.ones((2, 2), np.complex128), np.ones((2, 2), np.bool_)),
        *(np.ones((2, 2, 2)), np.array([["a", 1.0]], object)),
    ],
)
def test_what_is_no_matrix_of_real_numbers(tmp_path: Path, value: Any) -> None:
    io.savemat(tmp_path / "a.mat", {"kps": value})
    with pytest.raises(DatasetError, match=r"a\.mat: field 'kps' must be a matrix of real numbers"):
        read_matrices(tmp_path / "a.mat", ("kps",))


def test_a_missing_field(tmp_path: Path) -> None:
    io.savemat(tmp_path / "a.mat", {"kps": POINTS})
    with pytest.raises(DatasetError, match=r"a\.mat: field 'bbox' is missing"):
        read_matrices(tmp_path / "a.mat", ("kps", "bbox"))


def bomb(path: Path) -> bytes:
    """A file whose one compressed element is larger than a matrix may be."""
    content = struct.pack("<II", 14, 2 * LARGEST) + bytes(2 * LARGEST)
    deflated = zlib.compress(content)
    return path.read_bytes()[:128] + struct.pack("<II", 15, len(deflated)) + deflated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.read_bytes()[:-9], "is cut off"),
        (lambda _: b"", "does not begin like one"),
        (lambda path: b"\0" * 4 + path.read_bytes()[4:], "does not begin like one"),
        (lambda path: path.read_bytes() + bytes(LARGEST), "has more than 4,194,304 bytes"),
        (bomb, "a matrix has more than 4,194,304 bytes"),
    ],
)
def test_a_broken_file(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a.mat"
    io.savemat(path, {"kps": POINTS})
    path.write_bytes(change(path))
    with pytest.raises(DatasetError, match=rf"a\.mat is not a readable MATLAB file: .*{message}"):
        read_matrices(path, ("kps",))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.mat is not a readable MATLAB file: .*No such file"):
        read_matrices(tmp_path / "a.mat", ("kps",))
