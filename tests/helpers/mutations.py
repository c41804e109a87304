"""Files that went wrong: bytes that flipped or got lost, fields of another type, numbers that are none.

`mutated` changes a file's bytes in one way, by its ending: any file as bytes; JSON, CSV, MATLAB, flows and text also as
what they hold. The same draw makes the same change.
"""

import csv
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import io as matlab

Mutation = Callable[[bytes, random.Random], bytes]
NUMBERS = (0, -1, 1, 7, 255, 2**31, -(2**63), 2**64, 10**400, 0.5, 1e39, -1e308, float("inf"), float("nan"))
REAL = tuple(float(number) for number in NUMBERS if number != 10**400)
TEXTS = (
    *("", " ", "0", "-1", "1e999", "nan", "NaN", "inf", "0x10", "1_0", "१", "true", "null", "[]", "{}", "'", '"'),
    *("../../etc/passwd", "/etc/passwd", "a/b", "..", "\\", "C:\\x", "a\0b", "\ud800", "\ufeff", "\u202e", "a" * 300),
    *(
        "!!python/object/apply:os.system [false]",
        "cos\nsystem\n(S'false'\ntR.",
        "$(false)",
        "%s%n",
        "=1+1",
        "a" * 70_000,
    ),
)
"""Text that some reader or other takes for something else; none of it does harm if one should run it."""
DEEP = 1100
"""Brackets, one in the other: more than a reader may descend by itself."""


def mutated(data: bytes, *, ending: str, draw: random.Random) -> bytes:
    """The bytes of a file with one change; `ending` is that of its name, such as `.json`."""
    ways = (*BYTES, *HELD.get(ending, (text,)) * 2)
    return draw.choice(ways)(data, draw)


def flip(data: bytes, draw: random.Random) -> bytes:
    """Some bits change."""
    held = bytearray(data or b"\0")
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        held[draw.randrange(len(held))] ^= 1 << draw.randrange(8)
    return bytes(held)


def cut(data: bytes, draw: random.Random) -> bytes:
    """The end is missing, or a part in the middle, or all."""
    start, end = sorted(draw.choices(range(len(data) + 1), k=2))
    return draw.choice((data[:start], data[:start] + data[end:], b""))


def insert(data: bytes, draw: random.Random) -> bytes:
    """Bytes come in between, foreign ones or the file's own; or take the place of others."""
    place, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 8, 64))
    new = draw.choice((b"\0" * size, b"\xff" * size, draw.randbytes(size), data[place : place + size], data))
    return data[:place] + new + data[draw.choice((place, place + len(new))) :]


def replace(data: bytes, draw: random.Random) -> bytes:
    """Another file altogether."""
    pickled = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05false\x85R."
    texts = (draw.choice(TEXTS).encode("utf-8", "surrogatepass"), b"[" * DEEP, b'{"a":' * DEEP, b"\n" * 9)
    return draw.choice((pickled, b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", draw.randbytes(200), *texts))


def text(data: bytes, draw: random.Random) -> bytes:
    """A word or a number becomes another one, a line is missing or stands twice."""
    words = list(re.finditer(rb"[^\s,;:\"\[\]{}]+", data))
    if words and draw.random() < 0.7:
        word = draw.choice(words)
        new = str(draw.choice((*NUMBERS, *TEXTS))).encode("utf-8", "surrogatepass")
        return data[: word.start()] + new + data[word.end() :]
    lines = data.splitlines(keepends=True)
    return b"".join(_edited(lines, draw))


def json_fields(data: bytes, draw: random.Random) -> bytes:
    """A value somewhere in the structure becomes another one, is missing, stands twice, or is wrapped."""
    root = [json.loads(data)]
    parent, key = draw.choice(list(_places(root)))
    value = parent[key]
    way = draw.randrange(4)
    if way == 0 and parent is not root:
        del parent[key]
    elif way == 1 and isinstance(parent, list) and parent is not root:
        parent.insert(key, value)
    else:
        others = (*NUMBERS, *TEXTS, None, True, [], {}, [[]], [value], {"0": value}, [value] * 3, str(value))
        parent[key] = draw.choice(others)
    return json.dumps(root[0]).encode("utf-8", "surrogatepass")


def csv_fields(data: bytes, draw: random.Random) -> bytes:
    """A field becomes another one, or fields or lines are missing, stand twice, or change places."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = draw.choice([row for row in rows if row])
    if draw.random() < 0.6:
        row[draw.randrange(len(row))] = str(draw.choice((*NUMBERS, *TEXTS)))
    elif draw.random() < 0.5:
        row[:] = _edited(row, draw)
    else:
        rows = _edited(rows, draw)
    out = io.StringIO()
    csv.writer(out, quoting=draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def matrices(data: bytes, draw: random.Random) -> bytes:
    """A field of a MATLAB file is of another class or shape, holds other numbers, or is missing."""
    held = {name: value for name, value in matlab.loadmat(io.BytesIO(data)).items() if not name.startswith("__")}
    name = draw.choice(list(held))
    value = held[name]
    number = draw.choice(REAL)
    others: tuple[Any, ...] = (
        *(None, number, "text", [], [[number] * 4], {"kps": value}, [value, "text"], value[..., None], value.T),
        *(np.zeros((0, 2)), np.zeros((400, 400)), np.full(value.shape, number) if value.dtype.kind in "fiu" else 1),
        *(np.array([["a", "b"]], object), value == value, np.ones((2, 2), np.complex128), np.ones((3, 2), np.int8)),
    )
    other = draw.choice(others)
    changed = held | {name: other} if other is not None else {key: held[key] for key in held if key != name}
    if draw.random() < 0.3 and value.dtype.kind == "f":
        value = value.copy()
        value.flat[draw.randrange(value.size)] = number
        changed = held | {name: value}
    out = io.BytesIO()
    matlab.savemat(
        out, changed, do_compression=draw.random() < 0.5, format="5" if other is not None else draw.choice("45")
    )
    return out.getvalue()


def flow(data: bytes, draw: random.Random) -> bytes:
    """A number of a .flo file, or of its header, becomes another one."""
    values = np.frombuffer(data[: len(data) // 4 * 4], draw.choice(("<f4", "<i4"))).copy()
    place = draw.randrange(3) if draw.random() < 0.5 else draw.randrange(len(values))
    with np.errstate(over="ignore"):
        values[place] = draw.choice((0, -1, 1, 255, 2**31 - 1) if values.dtype.kind == "i" else REAL)
    return values.tobytes()


BYTES: Sequence[Mutation] = (flip, cut, insert, replace)
HELD: dict[str, Sequence[Mutation]] = {
    ".json": (json_fields, json_fields, text),
    ".csv": (csv_fields, csv_fields, text),
    ".mat": (matrices, flip),
    ".flo": (flow, flow),
    ".yaml": (text,),
}


def _places(value: Any) -> Any:
    """Every place of a JSON structure, as what holds it and under which key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in list(pairs):
        yield value, key
        yield from _places(held)


def _edited(items: list[Any], draw: random.Random) -> list[Any]:
    """One is missing or stands twice, or two have changed places."""
    if not items:
        return items
    one, other = draw.choices(range(len(items)), k=2)
    swapped = [*items]
    swapped[one], swapped[other] = items[other], items[one]
    return draw.choice((items[:one] + items[one + 1 :], [*items[:one], items[one], *items[one:]], swapped))
