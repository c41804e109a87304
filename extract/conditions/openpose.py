"""What OpenPose writes of one person, as joints of its body of 18.

Its text files are a `_candidate.txt`, a line a point that was found with x, y, score and index, and a `_subset.txt`,
a line a person with 18 numbers of lines of the former (-1: not found), a total score and a count. Its JSON files hold
`people[].pose_keypoints_2d`, 18 or 25 times x, y and confidence (0: not found). Source: CoCosNet §4.1.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.skeletons import OPENPOSE_18

COUNT = len(OPENPOSE_18.joints)
CANDIDATE = ("x", "y", "score", "index")
SUBSET = (*OPENPOSE_18.joints, "total score", "count")
BODY_25 = (*range(8), *range(9, 19))
"""Where the 18 joints stand in the body of 25, which has a middle of the hips and the feet besides."""
KEYPOINTS = "pose_keypoints_2d"
NOT_FOUND = -1
LARGEST = float(np.finfo(np.float32).max)
Size = tuple[int, int]
Joints = Float[np.ndarray, "18 2"]


def read_text_pose(candidate: Path, subset: Path, *, size: Size) -> Joints:
    """The joints (x, y) of one person in an image of (width, height) pixels, float32, NaN where not found.

    Raises:
        DatasetError: a file is missing or malformed, there is not one person, or a joint lies outside the image;
            names the file, and the line.
    """
    lines, points = _table(candidate, CANDIDATE)
    people, chosen = _table(subset, SUBSET)
    _require_one(len(people), subset, "line")
    rows = _rows(chosen[0, :COUNT], len(points), where=f"{subset}: line {people[0]}", candidate=candidate)
    joints = np.full((COUNT, 2), np.nan, np.float32)
    for joint in np.flatnonzero(rows != NOT_FOUND):
        joints[joint] = points[rows[joint], :2]
        _require_inside(joints, joint, size, where=f"{candidate}: line {lines[rows[joint]]}")
    return joints


def read_json_pose(path: Path, *, size: Size) -> Joints:
    """The joints (x, y) of one person in an image of (width, height) pixels, float32, NaN where not found.

    Raises:
        DatasetError: the file is missing or malformed, there is not one person, or a joint lies outside the image;
            names the file, and the field.
    """
    people = _people(path)
    _require_one(len(people), path, "element of people")
    field = f"people[0].{KEYPOINTS}"
    flat = people[0].get(KEYPOINTS) if isinstance(people[0], dict) else None
    if not isinstance(flat, list):
        raise DatasetError(f"{path}: field '{field}' must be a list of numbers, not {_short(flat)}")
    body = {3 * COUNT: range(COUNT), 3 * 25: BODY_25}.get(len(flat))
    if body is None:
        raise DatasetError(
            f"{path}: field '{field}' holds {len(flat)} numbers; a body of 18 joints has 54 (BODY_18, --model_pose "
            f"COCO), one of 25 has 75 (BODY_25), and no other can be read"
        )
    found = np.asarray([_number(value, f"{path}: field '{field}[{n}]'") for n, value in enumerate(flat)])
    joints = np.full((COUNT, 2), np.nan, np.float32)
    for joint, row in enumerate(body):
        x, y, confidence = found[3 * row : 3 * row + 3]
        if confidence > 0:
            joints[joint] = x, y
            _require_inside(joints, joint, size, where=f"{path}: field '{field}[{3 * row}]'")
    if np.isnan(joints).all():
        raise DatasetError(f"{path}: field '{field}' holds no joint that was found: every confidence is 0")
    return joints


def _people(path: Path) -> list[Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not a readable JSON file: {error}") from error
    people = held.get("people") if isinstance(held, dict) else None
    if not isinstance(people, list):
        raise DatasetError(f"{path}: field 'people' must be a list, not {_short(people)}: is it of OpenPose?")
    return people


def _table(path: Path, columns: tuple[str, ...]) -> tuple[list[int], Float[np.ndarray, "n w"]]:
    """The finite numbers of a text file with the numbers of their lines; blank lines do not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a readable text file: {error}") from error
    lines, rows = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != len(columns):
            raise DatasetError(f"{path}: line {number} has {len(words)} columns, not {len(columns)}")
        lines.append(number)
        rows.append(
            [_number(word, f"{path}: line {number}: {name}") for word, name in zip(words, columns, strict=True)]
        )
    return lines, np.asarray(rows, np.float64).reshape(-1, len(columns))


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{where} must be a number, not {_short(value)}") from error
    if not abs(number) <= LARGEST:
        raise DatasetError(f"{where} must be a finite number, not {_short(value)}")
    return number


def _rows(chosen: Float[np.ndarray, "18"], count: int, *, where: str, candidate: Path) -> Int[np.ndarray, "18"]:
    """The candidates of the joints; where none is, -1."""
    for name, row in zip(OPENPOSE_18.joints, chosen, strict=True):
        if row != int(row) or not NOT_FOUND <= row < count:
            raise DatasetError(f"{where}: {name} is candidate {row:g}, but {candidate} holds {count}, counted from 0")
    if (chosen == NOT_FOUND).all():
        raise DatasetError(f"{where}: its person has no joint that was found")
    return chosen.astype(np.int64)


def _require_one(people: int, path: Path, unit: str) -> None:
    if people == 0:
        raise DatasetError(f"{path} holds no person: leave its image out, or find its pose anew")
    if people > 1:
        raise DatasetError(f"{path} holds {people} persons, and a pose is of one: leave the one {unit} that counts")


def _require_inside(joints: Joints, joint: int | np.int64, size: Size, *, where: str) -> None:
    """Refuses a joint outside an image; as everywhere, one on the far side of its last pixel passes."""
    x, y = joints[joint]
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise DatasetError(
            f"{where}: {OPENPOSE_18.joints[joint]} at ({x:g}, {y:g}) lies outside the image of "
            f"{size[0]} x {size[1]} pixels"
        )


def _short(value: object) -> str:
    try:
        told = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists of thousands of lists
        told = type(value).__name__
    return told if len(told) <= 60 else f"{told[:57]}..."
