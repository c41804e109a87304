"""Photographs matched from the command line and by one call."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import matchkit
from matchkit.cli import main
from matchkit.core.errors import ConfigError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines import match_photos
from matchkit.pipelines.photo_matcher import PhotoMatcher

SPEC = FeatureSpec("pixels", "none", (LayerSpec("rgb", 3, (8, 8)),), (0,), (32, 32), "letterbox", "fp16")
HEAD = "weights/toy/colours.safetensors"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., Image.Image]) -> Path:
    """Two photographs and a head, where the test runs."""
    monkeypatch.chdir(tmp_path)
    HeadWeights("fusion", {}, SPEC, fit={"dataset": "toy", "features": "pixels"}).save(Path(HEAD))
    draw((40, 30), 0).save("a.png")
    draw((48, 64), 1).save("b.png")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["match", *arguments], catch_exceptions=False)


def matched(*arguments: str) -> Result:
    result = run("a.png", "b.png", "--head", "colours", "--device", "cpu", *arguments)
    assert result.exit_code == 0, result.output
    return result


def test_a_line_a_point_and_a_picture() -> None:
    told = matched("--at", "5,6.5", "--at", "30,20").stdout.splitlines()
    expected = PhotoMatcher(HEAD, device="cpu").match("a.png", "b.png", [(5, 6.5), (30, 20)])
    (x, y), similarity, back = expected.points[0], expected.similarity[0], expected.cycle[0]
    how = "mutual" if expected.mutual[0] else "not mutual"
    assert told[0].startswith(f"1  5,6.5 -> {x:.1f},{y:.1f}  similarity {similarity:.2f}, {how}, {back:.1f} px from it")
    assert told[1].startswith("2  30,20 -> ")
    assert told[2:] == [f"matched/a--b.png: 2 points by the head {HEAD}"]
    with Image.open("matched/a--b.png") as picture:
        assert picture.height > 400


def test_points_of_a_file_follow_those_that_are_told() -> None:
    Path("points.csv").write_text("x,y\n1,2\n3,4\n")
    told = json.loads(matched("--at", "9,9", "--points", "points.csv", "--out", "deep/out.jpg", "--json").stdout)
    assert [entry["source"] for entry in told["matches"]] == [[9, 9], [1, 2], [3, 4]]
    assert told["picture"] == "deep/out.jpg"
    assert Path("deep/out.jpg").is_file()
    assert {type(entry["mutual"]) for entry in told["matches"]} == {bool}
    assert set(told["matches"][0]) == {"source", "target", "similarity", "margin", "cycle", "mutual", "inside"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.png", "--at", "1,1"), "two photographs are matched, A and B, not 1"),
        (("a.png", "b.png", "a.png", "--at", "1,1"), "two photographs are matched, A and B, not 3"),
        (("a.png", "b.png"), "which points of A? Say --at X,Y, or --points FILE.csv"),
        (("a.png", "b.png", "--at", "1;1"), "'1;1' is not a point"),
        (("a.png", "b.png", "--at", "1,1", "--root", "data"), "--root is of a dataset's pairs"),
        (("a.png", "b.png", "--at", "1,1", "--store", "x.zarr"), "--store is of a dataset's pairs"),
        (("a.png", "b.png", "--at", "1,1", "--weights", HEAD), "--weights is of a dataset's pairs"),
        (("a.png", "b.png", "--at", "1,1", "--as", "mine"), "--as is of a dataset's pairs"),
        (("a.png", "b.png", "--at", "1,1", "--dataset", "toy"), "say which one, --head NAME"),
        (("--dataset", "toy", "--head", "colours", "--at", "1,1"), "--at needs two photographs"),
        (("--dataset", "toy", "--head", "colours", "--points", "x.csv"), "--points needs two photographs"),
        (("--dataset", "toy", "--head", "colours", "--out", "x.png"), "--out needs two photographs"),
        (("--dataset", "toy", "--head", "colours", "--show", "1"), "--show needs two photographs"),
        (("--dataset", "toy", "--head", "colours", "--category", "cat"), "--category needs two photographs"),
        (("--head", "colours"), "Missing option '--dataset'"),
        (("--dataset", "toy"), "Missing option '--head'"),
        ((), "Missing option '--dataset'"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--at", "40,1"), "point 1, (40, 1), lies outside a.png, which is 40 x 30 pixels"),
        (
            ("--at", "1,1", "--out", "out.txt"),
            "--out takes the name of a picture, .png, .jpg, .jpeg, .webp, not out.txt",
        ),
        (("--at", "1,1", "--show", "2"), "--show takes the number of a point, 1..1, not 2"),
        (("--points", "none.csv"), "no points at none.csv"),
        (("--at", "1,1", "--set", "poses=[hflip]"), "without pose alignment"),
    ],
)
def test_what_is_refused_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = run("a.png", "b.png", "--head", "colours", "--device", "cpu", *arguments)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}") or message in result.stderr.splitlines()[-1]
    assert not result.stdout


def test_one_call() -> None:
    found = matchkit.match("a.png", Path("b.png"), [(5, 6)], head="colours", device="cpu")
    assert isinstance(found, matchkit.Matches)
    expected = matchkit.PhotoMatcher(HEAD, device="cpu").match("a.png", "b.png", [(5, 6)])
    np.testing.assert_array_equal(found.points, expected.points)
    with pytest.raises(ConfigError, match="points are"):
        matchkit.match("a.png", "b.png", [(5, 6, 7)], head="colours", device="cpu")


def test_networks_are_kept_until_the_head_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path | None] = []

    class Counted(PhotoMatcher):
        def __init__(self, head: Path | None, *, settings: tuple[str, ...], device: str) -> None:
            made.append(head)
            super().__init__(head, settings=settings, device=device)

    monkeypatch.setattr(match_photos, "PhotoMatcher", Counted)
    match_photos._matcher.cache_clear()
    for _ in range(3):
        matchkit.match("a.png", "b.png", [(5, 6)], head="colours", device="cpu")
    assert made == [Path(HEAD).absolute()]
    matchkit.match("a.png", "b.png", [(5, 6)], head=HEAD, device="cpu")
    assert len(made) == 1
    matchkit.match("a.png", "b.png", [(5, 6)], head=HEAD, device="cpu", settings=["upsample=1"])
    assert len(made) == 2
    os.utime(HEAD, ns=(1, 1))
    matchkit.match("a.png", "b.png", [(5, 6)], head=HEAD, device="cpu")
    assert len(made) == 3
    match_photos._matcher.cache_clear()


def test_the_package_itself_stays_free() -> None:
    code = "import sys, matchkit; print({'torch', 'PIL', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "set()"
