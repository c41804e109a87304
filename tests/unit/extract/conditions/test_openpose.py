"""What OpenPose writes of one person, and all that can be wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.openpose import read_json_pose, read_text_pose
from matchkit.extract.conditions.skeletons import OPENPOSE_18

SIZE = (100, 80)
CANDIDATE = "10 20 0.9 0\n30.5 40 0.8 1\n\n50 60 0.7 2\n"
SUBSET = " ".join(["0", "1", *["-1"] * 15, "2", "2.4", "3"])
"""The nose, the neck and the left ear."""


def text_pose(folder: Path, *, candidate: str = CANDIDATE, subset: str = SUBSET) -> np.ndarray:
    (folder / "a_candidate.txt").write_text(candidate)
    (folder / "a_subset.txt").write_text(subset)
    return read_text_pose(folder / "a_candidate.txt", folder / "a_subset.txt", size=SIZE)


def chosen(**changes: str) -> str:
    """A line of a subset with some joints on other candidates."""
    words = SUBSET.split()
    for joint, row in changes.items():
        words[OPENPOSE_18.joints.index(joint)] = row
    return " ".join(words)


def flat_of(joints: dict[int, tuple[float, float, float]], *, count: int = 18) -> list[Any]:
    rows = np.zeros((count, 3))
    for joint, row in joints.items():
        rows[joint] = row
    return [float(x) for x in rows.ravel()]


def json_pose(folder: Path, people: object) -> np.ndarray:
    (folder / "a.json").write_text(json.dumps({"version": 1.3, "people": people}))
    return read_json_pose(folder / "a.json", size=SIZE)


def test_joints_are_the_candidates_that_the_person_has(tmp_path: Path) -> None:
    joints = text_pose(tmp_path)
    assert joints.dtype == np.float32
    assert joints[[0, 1, 17]].tolist() == [[10, 20], [30.5, 40], [50, 60]]
    assert np.isnan(joints[2:17]).all()


def test_the_published_notation_is_read(tmp_path: Path) -> None:
    """Numbers as numpy writes them, and Windows' line ends."""
    text = "\r\n".join(" ".join(f"{float(word):.18e}" for word in line.split()) for line in CANDIDATE.split("\n"))
    subset = " ".join(f"{float(word):.18e}" for word in SUBSET.split())
    np.testing.assert_array_equal(text_pose(tmp_path, candidate=text, subset=subset + "\r\n"), text_pose(tmp_path))


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ("10 20 0.9\n", r"a_candidate\.txt: line 1 has 3 columns, not 4"),
        ("10 20 0.9 0\n\n1 2 3 4 5\n", r"a_candidate\.txt: line 3 has 5 columns, not 4"),
        ("10 20 0.9 0\n1 ten 0.9 1\n", r"a_candidate\.txt: line 2: y must be a number, not 'ten'"),
        ("10 20 0.9 0\nnan 2 0.9 1\n", r"a_candidate\.txt: line 2: x must be a finite number, not 'nan'"),
        ("10 20 0.9 0\n1 2 -inf 1\n", r"a_candidate\.txt: line 2: score must be a finite number"),
        ("10 20 0.9 0\n1 1e39 1 1\n", r"a_candidate\.txt: line 2: y must be a finite number"),
        ("101 20 .9 0\n1 2 .9 1\n1 2 .9 2", r"candidate\.txt: line 1: nose at \(101, 20\) lies outside .*100 x 80"),
        ("1 2 .9 0\n\n1 -0.5 .9 1\n1 2 .9 2", r"candidate\.txt: line 3: neck at \(1, -0\.5\) lies outside"),
        ("", r"nose is candidate 0, but .*a_candidate\.txt holds 0"),
    ],
)
def test_a_bad_candidate_file_is_named_with_its_line(tmp_path: Path, candidate: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        text_pose(tmp_path, candidate=candidate)


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ("1 2 3", r"a_subset\.txt: line 1 has 3 columns, not 20"),
        (chosen(nose="x"), r"a_subset\.txt: line 1: nose must be a number, not 'x'"),
        (f"\n{chosen(r_knee='3')}", r"a_subset\.txt: line 2: r_knee is candidate 3, but .*candidate\.txt holds 3"),
        (chosen(r_knee="-2"), "r_knee is candidate -2"),
        (chosen(r_knee="0.5"), r"r_knee is candidate 0\.5"),
        (chosen(r_knee="nan"), "r_knee must be a finite number"),
        (chosen(nose="-1", neck="-1", l_ear="-1"), r"a_subset\.txt: line 1: its person has no joint"),
        ("", r"a_subset\.txt holds no person"),
        (f"{SUBSET}\n{SUBSET}\n", r"a_subset\.txt holds 2 persons, and a pose is of one: leave the one line"),
        (f"{SUBSET}\n" * 3, "holds 3 persons"),
    ],
)
def test_a_bad_subset_file_is_named_with_its_line(tmp_path: Path, subset: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        text_pose(tmp_path, subset=subset)


def test_a_candidate_that_is_not_taken_may_lie_outside(tmp_path: Path) -> None:
    assert text_pose(tmp_path, candidate=f"{CANDIDATE}999 999 0.1 3\n")[0].tolist() == [10, 20]


def test_missing_and_unreadable_text_files_are_named(tmp_path: Path) -> None:
    text_pose(tmp_path)
    (tmp_path / "a_subset.txt").write_bytes(b"\xff\xfe0 1")
    with pytest.raises(DatasetError, match=r"a_subset\.txt is not a readable text file"):
        read_text_pose(tmp_path / "a_candidate.txt", tmp_path / "a_subset.txt", size=SIZE)
    with pytest.raises(DatasetError, match=r"b_candidate\.txt is not a readable text file"):
        read_text_pose(tmp_path / "b_candidate.txt", tmp_path / "a_subset.txt", size=SIZE)


def test_json_of_18_joints(tmp_path: Path) -> None:
    joints = json_pose(tmp_path, [{"pose_keypoints_2d": flat_of({0: (10, 20, 0.9), 17: (50.5, 60, 0.1)})}])
    assert joints.dtype == np.float32
    assert joints[[0, 17]].tolist() == [[10, 20], [50.5, 60]]
    assert np.isnan(joints[1:17]).all()


def test_json_of_25_joints_leaves_out_the_hips_middle_and_the_feet(tmp_path: Path) -> None:
    body = flat_of({n: (n + 1, n + 30, 1) for n in range(25)}, count=25)
    joints = json_pose(tmp_path, [{"pose_keypoints_2d": body}])
    assert joints[:, 0].tolist() == [*range(1, 9), *range(10, 20)]
    assert joints[OPENPOSE_18.joints.index("r_hip")].tolist() == [10, 39]
    assert joints[OPENPOSE_18.joints.index("l_ear")].tolist() == [19, 48]


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (None, "field 'people' must be a list, not None"),
        ({}, "field 'people' must be a list"),
        ([], "holds no person"),
        ([{}, {}], "holds 2 persons, and a pose is of one"),
        ([[1]], r"field 'people\[0\]\.pose_keypoints_2d' must be a list of numbers, not None"),
        ([{"pose_keypoints_2d": "1 2 3"}], "must be a list of numbers, not '1 2 3'"),
        ([{"pose_keypoints_2d": [0] * 51}], r"holds 51 numbers; a body of 18 joints has 54 .*one of 25 has 75"),
        ([{"pose_keypoints_2d": [0] * 54}], "holds no joint that was found: every confidence is 0"),
        ([{"pose_keypoints_2d": [1, 2, True, *[0] * 51]}], r"pose_keypoints_2d\[2\]' must be a number, not True"),
        ([{"pose_keypoints_2d": [1, None, 1, *[0] * 51]}], r"pose_keypoints_2d\[1\]' must be a number, not None"),
        ([{"pose_keypoints_2d": [1, float("nan"), 1, *[0] * 51]}], r"\[1\]' must be a finite number, not nan"),
        ([{"pose_keypoints_2d": [1, 10**400, 1, *[0] * 51]}], r"\[1\]' must be a number, not 1000.*\.\.\."),
        ([{"pose_keypoints_2d": [*[0] * 3, 1, 81, 1, *[0] * 48]}], r"\[3\]': neck at \(1, 81\) lies outside"),
    ],
)
def test_a_bad_json_file_is_named_with_its_field(tmp_path: Path, people: object, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"a\.json.*{message}"):
        json_pose(tmp_path, people)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"people": [' + b"9" * 5000 + b"]}", b"[1]"])
def test_what_is_no_json_of_openpose_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.json"):
        read_json_pose(tmp_path / "a.json", size=SIZE)
    with pytest.raises(DatasetError, match=r"b\.json is not a readable JSON file"):
        read_json_pose(tmp_path / "b.json", size=SIZE)


SCRAPS = [b"-1", b"nan", b"1e999", b"\xff", b"\0", b"[", b"]", b"{", b"null", b" ", b"\n", b",", b'"', b"1_0", b"999"]
SCRAPS += [b"%d" % digit for digit in range(10)] * 2


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with something put in, taken out, doubled, or changed."""
    at, length = (int(n) for n in random.integers(0, (len(data), 20)))
    scrap = SCRAPS[random.integers(len(SCRAPS))]
    return [
        data[:at] + scrap + data[at:],
        data[:at] + data[at + length :],
        data[:at] + data[at : at + length] * 2 + data[at + length :],
        data[:at] + scrap + data[at + len(scrap) :],
        data[:at],
    ][random.integers(5)]


def loads_or_is_refused(read: Callable[[], np.ndarray], path: Path) -> bool:
    """Whether a mutated file loads; joints are then inside, and the message names the file else."""
    try:
        joints = read()
    except DatasetError as error:
        assert path.name in str(error)  # noqa: PT017 - either is right
        return False
    assert joints.shape == (18, 2)
    seen = joints[np.isfinite(joints).all(axis=1)]
    assert len(seen)
    assert ((seen >= 0) & (seen <= SIZE)).all()
    return True


@pytest.mark.parametrize("file", ["a_candidate.txt", "a_subset.txt", "a.json"])
def test_a_mutated_file_loads_or_is_refused(tmp_path: Path, file: str) -> None:
    text_pose(tmp_path)
    json_pose(tmp_path, [{"pose_keypoints_2d": flat_of({0: (10, 20, 0.9), 17: (50.5, 60, 0.1)})}])
    path, random = tmp_path / file, np.random.default_rng(7)
    texts = tmp_path / "a_candidate.txt", tmp_path / "a_subset.txt"

    def read() -> np.ndarray:
        return read_json_pose(path, size=SIZE) if file == "a.json" else read_text_pose(*texts, size=SIZE)

    whole, loaded = path.read_bytes(), []
    for _ in range(150):
        path.write_bytes(mutated(whole, random))
        loaded.append(loads_or_is_refused(read, path))
    assert 5 < sum(loaded) < 145
