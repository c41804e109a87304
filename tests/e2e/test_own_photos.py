"""One's own photographs through the embedded networks, as the stages match them, and from a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import matchkit
from matchkit.cli import main
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match
from matchkit.pipelines.photo_heads import EMBEDDED

pytestmark = pytest.mark.slow
FITS = {
    "fusion": ("features=geoaware", "blocks=[[sd.s3], [dino]]"),
    "aggregator": ("features=sd-inversion", "projection=128", "steps=2", "pairs=1", "validate_every=2"),
    "post-processor": ("features=geoaware", "projection=128", "steps=2", "pairs=1", "validate_every=2"),
}
CLOSE = 0.51
"""Pixels, about two of the search: a batch of another size changes the last bits, and a tie then goes elsewhere."""


@pytest.fixture
def project(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of a drawn dataset by the embedded networks, where the test runs."""
    monkeypatch.chdir(spair_tree.parent)
    entries = {"geoaware": {"backbone": "geoaware", **EMBEDDED}, "sd-inversion": {"steps": 10, "keys": [8, 7]}}
    Path("params.yaml").write_text(yaml.safe_dump({"extract": {"spair": entries}}))
    for entry in entries:
        extract("spair", entry, root=spair_tree, device="cpu")
    return spair_tree


def test_files_are_matched_as_the_stages_match_them(project: Path) -> None:
    data = matchkit.open_dataset("spair", project)
    pairs = [pair for pair in data.pairs("trn") if len(pair.source_points)]
    found: dict[str, list[np.ndarray]] = {}
    for head, settings in FITS.items():
        fit_head("spair", head, root=project, settings=settings, device="cpu")
        written = match("spair", head, root=project, settings=("split=trn",), device="cpu")
        expected = matchkit.Predictions.load(written.predictions).points
        matcher = matchkit.PhotoMatcher(head, device="cpu")
        found[head] = [
            matcher.match(data.images[pair.source].path, data.images[pair.target].path, pair.source_points).points
            for pair in pairs
        ]
        for pair, points in zip(pairs, found[head], strict=True):
            np.testing.assert_allclose(points, expected[pair.id], atol=CLOSE)
    for pair, points in zip(pairs, found["fusion"], strict=True):  # what is taken where no head is told
        a, b = (data.images[name].path for name in (pair.source, pair.target))
        np.testing.assert_allclose(matchkit.match(a, b, pair.source_points, device="cpu").points, points, atol=CLOSE)


def test_a_head_goes_with_the_file_alone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_head("spair", "post-processor", root=project, settings=FITS["post-processor"], device="cpu")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy("weights/spair/post-processor.safetensors", elsewhere / "mine.safetensors")
    monkeypatch.chdir(elsewhere)
    photo = project / "JPEGImages/cat/2007_000001.jpg"
    told = ["match", str(photo), str(photo), "--at", "20,15", "--head", "mine.safetensors", "--json", "--device", "cpu"]
    result = CliRunner().invoke(main, told, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    ((entry),) = json.loads(result.stdout)["matches"]
    np.testing.assert_allclose(entry["target"], (20, 15), atol=1)


def test_without_a_head_in_a_process_of_its_own(tmp_path: Path, draw: Callable[..., Image.Image]) -> None:
    draw((64, 48), 0).save(tmp_path / "a.jpg")
    draw((48, 64), 0).convert("CMYK").save(tmp_path / "b.jpg")
    command = [sys.executable, "-m", "matchkit", "match", "a.jpg", "b.jpg", "--at", "10,10", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    first, last = done.stdout.splitlines()
    assert first.startswith("1  10,10 -> ")
    assert last == "matched/a--b.png: 1 point by a fusion of the embedded networks (sd.s3, dino), not fitted"
    assert "five kinds of rendered toys" in done.stderr
    assert (tmp_path / "matched/a--b.png").is_file()
