"""Matching with a fitted head: alone, of pairs, and from the source's aligned pose."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from matchkit.cache.pairs import MapCache
from matchkit.cli import main
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.geometry import posed_points
from matchkit.core.manifest import manifest_digest
from matchkit.core.poses import Pose
from matchkit.evaluate.evidence import Presences
from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.align import PoseChoice
from matchkit.pipelines.evaluate import evaluate
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match
from matchkit.pipelines.report import report


def test_a_head_of_pairs_is_fitted_and_matched(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu")
    fitted = fit_head("spair", "co-pca", root=spair_tree, settings=("features=pixels", "rank=3"), device="cpu")
    assert 0 <= fitted.validation <= 100
    written = match("spair", "co-pca", root=spair_tree, settings=("split=trn",), device="cpu")
    points = Predictions.load(written.predictions).points
    pairs = open_dataset("spair", spair_tree).pairs("trn")
    assert points.keys() == {pair.id for pair in pairs}
    (itself, *_) = [pair for pair in pairs if pair.source == pair.target]
    np.testing.assert_allclose(points[itself.id], itself.source_points, atol=5)  # of 36 pixels, by colour alone


def test_a_part_of_the_pairs_is_marked_scored_and_left_out_of_the_summary(fitted: Path) -> None:
    whole = match("spair", "raw-layer", root=fitted, settings=("split=trn",), device="cpu")
    told = Predictions.load(whole.predictions)
    pairs = open_dataset("spair", fitted).pairs("trn")
    assert told.made_by["manifest"] == manifest_digest("spair", "trn", pairs)
    assert "limit" not in told.made_by
    evaluate("spair", "raw-layer", root=fitted)
    some = match("spair", "raw-layer", root=fitted, called="some", settings=("split=trn", "limit=1"), device="cpu")
    assert some.pairs == 1
    part = Predictions.load(some.predictions)
    assert (part.made_by["limit"], part.made_by["manifest"]) == (1, told.made_by["manifest"])
    evaluated = evaluate("spair", "some", root=fitted)
    assert evaluated.report.partial
    assert evaluated.report.counts["pairs"] == 1
    assert "Partial" in evaluated.card.with_suffix(".md").read_text()
    text = report().text
    assert "raw-layer" in text
    assert "some" not in text
    with pytest.raises(ConfigError, match="limit must be 0"):
        match("spair", "raw-layer", root=fitted, settings=("split=trn", "limit=-1"), device="cpu")


ALIGNED = ("poses=[hflip]", "masks=box", "split=trn")


@pytest.fixture
def fitted(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree, beside it features of all images and of their mirrored copies, and a fitted head of their raw layer."""
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu", poses=("hflip",))
    fit_head("spair", "raw-layer", root=spair_tree, settings=("features=pixels",), device="cpu")
    return spair_tree


def test_aligned_and_plain_predictions_stand_side_by_side(fitted: Path) -> None:
    told = ["--dataset", "spair", "--root", str(fitted), "--head"]
    settings = [part for setting in ALIGNED for part in ("--set", setting)]
    plain = CliRunner().invoke(main, ["match", *told, "raw-layer", "--set", "split=trn", "--json"])
    assert json.loads(plain.stdout)["poses"] == {}
    aligned = CliRunner().invoke(main, ["match", *told, "raw-layer", "--as", "turned", *settings, "--json"])
    written = json.loads(aligned.stdout)
    assert written["predictions"] == "predictions/spair/turned.npz"
    assert sum(written["poses"].values()) == 2
    made_by = Predictions.load(Path(written["predictions"])).made_by
    assert made_by["method"] == "turned"
    assert made_by["alignment"]["masks"] == "box"
    assert made_by["alignment"]["pairs_by_pose"] == written["poses"]
    assert "alignment" not in Predictions.load(Path("predictions/spair/raw-layer.npz")).made_by
    scored = CliRunner().invoke(main, ["evaluate", *told, "turned"])
    assert scored.stdout.startswith("reports/spair/turned.json: PCK@0.05")


@pytest.mark.parametrize("settings", [("split=trn",), ALIGNED], ids=["plain", "aligned"])
def test_evidence_lies_beside_the_points_and_changes_none(fitted: Path, settings: tuple[str, ...]) -> None:
    for file in fitted.glob("ImageAnnotation/*/*.json"):
        shown = {"0": [5, 6], "3": [2, 9], "7": [20, 10], "11": [16, 20]}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"kps": shown}))
    told = match("spair", "raw-layer", root=fitted, settings=settings, called="told", device="cpu")
    bare = match("spair", "raw-layer", root=fitted, settings=(*settings, "evidence=false"), device="cpu")
    found, without = (Predictions.load(written.predictions) for written in (told, bare))
    assert without.evidence == {}
    assert without.presences == Presences()
    assert found.presences.reference == "box"
    for pair in open_dataset("spair", fitted).pairs("trn"):
        np.testing.assert_array_equal(found.points[pair.id], without.points[pair.id])
        evidence = found.evidence[pair.id]
        assert np.isfinite(evidence.cycle).all()
        assert (np.abs(evidence.similarity) <= 1 + 1e-5).all()
        assert (evidence.margin >= 0).all()
        # 3 is in no pair, but both images show it
        assert found.presences.of_pair[pair.id].near.shape == (3, 3)


def test_a_radius_of_nothing_is_refused(spair_tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"presence_alphas must be above 0, not \[0.1, 0.0\]"):
        match("spair", "raw-layer", root=spair_tree, settings=("presence_alphas=[0.1, 0]",))


def test_a_source_that_stays_as_it_is_is_matched_as_without_alignment(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoseChoice, "__call__", lambda self, pair: "none")
    plain = match("spair", "raw-layer", root=fitted, settings=("split=trn",), device="cpu")
    told = match("spair", "raw-layer", root=fitted, settings=ALIGNED, called="turned", device="cpu")
    before, after = (Predictions.load(written.predictions).points for written in (plain, told))
    assert list(before) == list(after)
    for name, points in before.items():
        np.testing.assert_array_equal(points, after[name])


def test_the_published_rule_of_points(fitted: Path) -> None:
    centre, patch = (
        match("spair", "raw-layer", root=fitted, settings=("split=trn", f"points={rule}", "upsample=1"), device="cpu")
        and Predictions.load(Path("predictions/spair/raw-layer.npz"))
        for rule in ("centre", "patch")
    )
    assert (centre.made_by["points"], patch.made_by["points"]) == ("centre", "patch")
    moved = [patch.points[name] - centre.points[name] for name in centre.points]
    assert all(np.isclose(shift, 0.5, atol=1e-4).any() for shift in moved)


def test_mirrored_copies_that_are_not_there_are_asked_for(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu")
    fit_head("spair", "raw-layer", root=spair_tree, settings=("features=pixels",), device="cpu")
    with pytest.raises(StoreError, match=r"holds 0 of 2 images .*@flip.* Run: matchkit extract --flip"):
        match("spair", "raw-layer", root=spair_tree, settings=ALIGNED, device="cpu")


def test_a_head_of_pairs_has_no_alignment(fitted: Path) -> None:
    fit_head("spair", "co-pca", root=fitted, settings=("features=pixels", "rank=3"), device="cpu")
    with pytest.raises(ConfigError, match="CoPCA describes pairs, not images"):
        match("spair", "co-pca", root=fitted, settings=ALIGNED, device="cpu")


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "two words"])
def test_predictions_have_plain_names(name: str, spair_tree: Path) -> None:
    with pytest.raises(ConfigError, match="plain name"):
        match("spair", "raw-layer", root=spair_tree, called=name)


def test_every_image_and_copy_is_described_once(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[str] = []
    batch = MapCache.batch

    def counted(self: MapCache, ids: list[str]) -> Any:
        described.extend(ids)
        return batch(self, ids)

    monkeypatch.setattr(MapCache, "batch", counted)
    match("spair", "raw-layer", root=fitted, settings=ALIGNED, device="cpu")
    assert sorted(described) == sorted(set(described))
    assert {"cat/2007_000001", "cat/2007_000001@flip", "cat/2007_000002"} <= set(described)


@pytest.mark.parametrize("pose", ["hflip", "rot90", "rot270"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_a_photograph_is_found_in_its_own_posed_copy(
    pose: Pose,
    fit: str,
    tmp_path: Path,
    draw: Callable[[tuple[int, int], int], Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    size, points = (64, 40), np.asarray([[10, 12], [50, 30]], np.float32)
    image, moved = draw(size, 3), posed_points(points, size, pose)
    turned = {"hflip": Image.Transpose.FLIP_LEFT_RIGHT, "rot90": Image.Transpose.ROTATE_90}
    (tmp_path / "folder").mkdir()
    image.save("folder/a.png")
    image.transpose(turned.get(pose, Image.Transpose.ROTATE_270)).save("folder/b.png")
    rows = [f"a,b,{x:g},{y:g},{u:g},{v:g}" for (x, y), (u, v) in zip(points, moved, strict=True)]
    Path("folder/pairs.csv").write_text("\n".join(["source,target,source_x,source_y,target_x,target_y", *rows]) + "\n")
    # a point of the middle is its own partner, so in the mirrored copy it is looked up at its own mirrored place
    Path("folder/keypoints.yaml").write_text("flips: []\n")
    poses: tuple[Pose, ...] = ("hflip", "rot90", "rot270")
    root = Path("folder")
    extract("folder", "pixels", root=root, settings=("input_size=64", f"fit={fit}"), device="cpu", poses=poses)
    told = ("features=pixels", "validation=test")
    fit_head("folder", "raw-layer", root=root, settings=told, device="cpu")
    settings = ("poses=[hflip, rot90, rot270]", "masks=none")
    # colours are the same in every pose, and so is a distance of sets of them
    untold = match("folder", "raw-layer", root=root, settings=settings, device="cpu")
    assert untold.poses == {"none": 1, "hflip": 0, "rot90": 0, "rot270": 0}
    monkeypatch.setattr(PoseChoice, "__call__", lambda self, pair: pose)
    written = match("folder", "raw-layer", root=root, settings=settings, device="cpu")
    (found,) = Predictions.load(written.predictions).points.values()
    np.testing.assert_allclose(found, moved, atol=2)
