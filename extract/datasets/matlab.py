"""Matrices out of MATLAB's files, and nothing else: what a file holds beside them is neither read nor built.

Source: MathWorks, MAT-File Format, Level 5 (what MATLAB 5 to 7 write). A file is a header and elements of a type, a
size and that many bytes; a matrix is an element of elements: flags, dimensions, name and numbers, column by column.
scipy's reader knows all of the format, but some broken files end the whole process in it.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from matchkit.core.errors import DatasetError

MAGIC = b"MATLAB 5.0"
HEADER = 128
"""Bytes before the first element; the last two tell the order of bytes."""
ORDERS = {b"IM": "<", b"MI": ">"}
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""The types of elements that hold numbers. Whatever class a matrix has, it is stored as the smallest that does."""
CLASSES = range(6, 16)
"""Matrices of numbers: double, single, and integers of 8 to 64 bits; characters, structures and objects are none."""
COMPLEX, LOGICAL = 0x800, 0x200
LARGEST = 1 << 22
"""Bytes of an annotation's file, and of a matrix of it; a few thousand are usual."""
Matrix = Float64[np.ndarray, "rows columns"]


def read_matrices(path: Path, fields: Sequence[str]) -> Mapping[str, Matrix]:
    """The matrices of some fields of a MATLAB file; NaN and infinite numbers are handed out as they are.

    Raises:
        DatasetError: the file is missing or broken, or a field is missing or no matrix of real numbers.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        order = _order(data)
        held = {name: parts for name, parts in _named(data[HEADER:], order) if name in fields}
    except (OSError, ValueError, zlib.error, struct.error) as error:
        raise DatasetError(f"{path} is not a readable MATLAB file: {error}") from error
    missing = [field for field in fields if field not in held]
    if missing:
        raise DatasetError(f"{path}: field '{missing[0]}' is missing")
    matrices: dict[str, Matrix] = {}
    for field in fields:
        try:
            matrices[field] = _matrix(held[field], order)
        except (ValueError, struct.error) as error:
            raise DatasetError(f"{path}: field '{field}' must be a matrix of real numbers: {error}") from error
    return matrices


def _order(data: bytes) -> str:
    """`<` or `>`, as the bytes of the file's numbers are ordered."""
    mark = data[HEADER - 2 : HEADER]
    if not data.startswith(MAGIC) or mark not in ORDERS:
        raise ValueError(f"it does not begin like one of '{MAGIC.decode()}'")
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return ORDERS[mark]


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The elements that some bytes hold, as types and bytes."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # four bytes at most lie where the size would
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:  # all elements are filled up to eight bytes, except compressed ones
            start = place + 8
            end = start + size + (0 if kind == COMPRESSED else -size % 8)
        held = data[start : min(start + size, end)]
        if len(held) != size:
            raise ValueError(f"an element of {size:,} bytes is cut off")
        yield kind, held
        place = end


def _named(data: bytes, order: str) -> Iterator[tuple[str, Sequence[tuple[int, bytes]]]]:
    """The names of all matrices, with the elements that each is made of."""
    for kind, held in _elements(data, order):
        inner = _elements(_inflated(held), order) if kind == COMPRESSED else iter([(kind, held)])
        for inner_kind, content in inner:
            if inner_kind == MATRIX:
                parts = list(_elements(content, order))
                name = parts[2][1] if len(parts) > 2 else b""
                yield name.decode("ascii", errors="replace"), parts


def _inflated(held: bytes) -> bytes:
    inflated = zlib.decompressobj().decompress(held, LARGEST + 1)
    if len(inflated) > LARGEST:
        raise ValueError(f"a matrix has more than {LARGEST:,} bytes")
    return inflated


def _matrix(parts: Sequence[tuple[int, bytes]], order: str) -> Matrix:
    (_, flags), (_, dimensions), _, *numbers = parts
    told = struct.unpack_from(f"{order}I", flags)[0]
    shape = np.frombuffer(dimensions, f"{order}i4").tolist()
    kind, held = numbers[0] if numbers else (0, b"")
    if told & 0xFF not in CLASSES or told & (COMPLEX | LOGICAL) or kind not in NUMBERS:
        raise ValueError(f"it is of class {told & 0xFF}, flags {told >> 8 & 0xFF:#x} and type {kind}")
    values = np.frombuffer(held, f"{order}{NUMBERS[kind]}")
    if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] != len(values):
        raise ValueError(f"it is {' x '.join(map(str, shape))} and holds {len(values)} numbers")
    return values.astype(np.float64).reshape(shape, order="F")
