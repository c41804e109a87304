"""A pair as a line of a manifest, and the pair that a line holds. `matchkit.core.manifest` says what the form is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import DatasetError
from matchkit.core.names import plain_name, safe_name
from matchkit.core.records import Pair

CHECK = ',"check":'
CHECK_DIGITS = 8
Box = tuple[float, float, float, float]
Points = Float[np.ndarray, "_ 2"]
quoted = json.JSONEncoder(ensure_ascii=False).encode
"""JSON's text of a string."""


def encoded(text: str) -> bytes:
    """The text in UTF-8.

    Raises:
        DatasetError: it holds what is no character: a file's name that is not in UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"a name holds {text[error.start]!r}, which is no character: rename its file") from error


def pair_lines(named: Mapping[str, Pair]) -> list[str]:
    """The lines of pairs by their safe names, in their order.

    Raises:
        DatasetError: a pair has no such form.
    """
    pairs = list(named.values())
    _refuse_misfits(pairs)
    sources = _point_texts([pair.source_points for pair in pairs])
    targets = _point_texts([pair.target_points for pair in pairs])
    told_names = {name for pair in pairs for name in (pair.source, pair.target, pair.category)}
    names = {name: quoted(safe_name(name)) for name in told_names}
    ids = {held: ",".join(map(quoted, held)) for held in {pair.keypoint_ids for pair in pairs}}
    boxes = {box: _box_text(box) for box in {box for pair in pairs for box in (pair.source_box, pair.target_box)}}
    lines: list[str] = []
    for (name, pair), source, target in zip(named.items(), sources, targets, strict=True):
        told = (
            f'{{"pair":{quoted(name)},"source":{names[pair.source]},"target":{names[pair.target]},'
            f'"category":{names[pair.category]},"keypoints":[{ids[pair.keypoint_ids]}],"source_points":[{source}],'
            f'"target_points":[{target}],"source_box":{boxes[pair.source_box]},"target_box":{boxes[pair.target_box]}'
        )
        lines.append(f'{told}{CHECK}"{_check(told)}"}}')
    return lines


def parsed_pair(line: str, *, where: str) -> Pair:
    """The pair of a line; `where` it stands is for the error.

    Raises:
        DatasetError: the line was changed, or is no pair.
    """
    told, _, check = line.rpartition(CHECK)
    if check != f'"{_check(told)}"}}':
        raise DatasetError(f"{where} was changed: its check does not fit. Get the manifest anew")
    try:
        fields = json.loads(line)
        pair, source, target, category = (
            plain_name(str(fields[name])) for name in ("pair", "source", "target", "category")
        )
        return Pair(
            id=pair,
            source=source,
            target=target,
            category=category,
            source_points=np.asarray(fields["source_points"], np.float32).reshape(-1, 2),
            target_points=np.asarray(fields["target_points"], np.float32).reshape(-1, 2),
            keypoint_ids=tuple(map(str, fields["keypoints"])),
            source_box=_parsed_box(fields["source_box"]),
            target_box=_parsed_box(fields["target_box"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{where} is no pair of a manifest: {error!r}") from error


def _check(told: str) -> str:
    return hashlib.sha256(encoded(told)).hexdigest()[:CHECK_DIGITS]


def _refuse_misfits(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        if not len(pair.source_points) == len(pair.target_points) == len(pair.keypoint_ids):
            raise DatasetError(f"pair '{pair.id}' has not as many points as keypoints")
    stacked = _stacked([points for pair in pairs for points in (pair.source_points, pair.target_points)])
    if not np.isfinite(stacked).all():
        name = next(x.id for x in pairs if not np.isfinite([x.source_points, x.target_points]).all())
        raise DatasetError(f"pair '{name}' has a keypoint whose place is no finite number")


def _stacked(points: Sequence[Points]) -> Float[np.ndarray, "n 2"]:
    """All points; a zero has no sign, since it would stand in the line."""
    return np.concatenate([np.zeros((0, 2), np.float32), *points]).astype(np.float32) + np.float32(0)


def _point_texts(points: Sequence[Points]) -> list[str]:
    """`[x,y],[x,y]` of every pair; each value is put into digits once, however often it stands there."""
    values, places = np.unique(_stacked(points), return_inverse=True)
    digits = [_decimal(value) for value in values]
    flat = [digits[place] for place in places.reshape(-1).tolist()]
    rows = [f"[{x},{y}]" for x, y in zip(flat[::2], flat[1::2], strict=True)]
    ends = np.cumsum([len(of_pair) for of_pair in points], dtype=np.int64).tolist()
    return [",".join(rows[end - len(of_pair) : end]) for of_pair, end in zip(points, ends, strict=True)]


def _box_text(box: Box | None) -> str:
    if box is None:
        return "null"
    if not all(map(isfinite, box)):
        raise DatasetError(f"a pair has the box {box}, whose edges are no finite numbers")
    return f"[{','.join(_decimal(float(edge) + 0.0) for edge in box)}]"


def _decimal(value: np.float32 | float) -> str:
    """The shortest decimal of the same bits, without an exponent."""
    return str(np.format_float_positional(value, unique=True, trim="-"))


def _parsed_box(held: Sequence[int | float] | None) -> Box | None:
    if held is None:
        return None
    xmin, ymin, xmax, ymax = (float(edge) for edge in held)
    return xmin, ymin, xmax, ymax
