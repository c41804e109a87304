"""The page as a file: complete, harmless whatever names the data has, and plain about what is missing."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from matchkit.cli import main
from matchkit.core.errors import ConfigError, UnknownNameError
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Report
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.evaluate import evaluate
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match
from matchkit.pipelines.page.board import board
from matchkit.pipelines.page.evidence import Evidence
from matchkit.pipelines.page.explore import Agreement, Explorer
from matchkit.pipelines.page.render import render
from matchkit.pipelines.page.write import Page, write_page

HOSTILE = "\"'><script>alert(1)</script><svg onload=alert(1)>"


class Parts(HTMLParser):
    """What a page consists of: its tags, their attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self._within = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._within = tag == "script"
        if self._within:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.scripts[-1] += data


@pytest.fixture
def scored(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a store, a head, predictions and a report; the tree of its images."""
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu")
    fit_head("spair", "raw-layer", root=spair_tree, settings=("features=pixels",), device="cpu")
    match("spair", "raw-layer", root=spair_tree, settings=("split=trn",), device="cpu")
    evaluate("spair", "raw-layer", root=spair_tree, settings=("resamples=0",))
    return spair_tree


def written(root: Path, **changes: Any) -> Page:
    told: dict[str, Any] = {"head": "raw-layer", "root": root, "device": "cpu", **changes}
    return write_page(Path("page.html"), "spair", **told)


def report(**changes: Any) -> Report:
    scores = {"box": {"keypoint": {"0.10": 50.0}}}
    counts = {"pairs": 2, "images": 3, "keypoints": 9}
    plain = Report(scores, {"box": {"cat": scores["box"]}}, counts, EvalProtocol(alphas=(0.1,)), {"split": "test"})
    return dataclasses.replace(plain, **changes)


def test_the_page_is_complete_and_loads_nothing(scored: Path) -> None:
    page = written(scored)
    assert (page.methods, page.pairs, page.explored, page.notes) == (1, 2, 2, ())
    text = page.path.read_text()
    assert page.size == len(text.encode())
    parts = Parts(text)
    places = [value for name, value in parts.attributes if name in ("href", "src", "srcset", "action", "data")]
    assert places
    assert all(place.startswith(("#", "data:image/jpeg;base64,")) for place in places)
    assert "link" not in parts.tags
    assert "@import" not in text
    assert "url(" not in text


def test_only_the_script_of_the_page_may_run(scored: Path) -> None:
    parts = Parts(written(scored).path.read_text())
    policy = next(value for name, value in parts.attributes if value.startswith("default-src 'none'"))
    digest = base64.b64encode(hashlib.sha256(parts.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert len(parts.scripts) == 2


def test_what_the_script_reads_are_the_pairs(scored: Path) -> None:
    stored, _ = Parts(written(scored).path.read_text()).scripts
    pairs = json.loads(stored)
    data = open_dataset("spair", scored)
    by_size = {data.images[pair.source].size: pair for pair in data.pairs("trn")}
    assert len(pairs) == len(by_size) == 2
    for told in pairs:
        pair = by_size[told["source"]["width"], told["source"]["height"]]
        assert told["keypoints"] == list(pair.keypoint_ids)
        assert told["source"]["points"] == pair.source_points.tolist()
        small = np.frombuffer(base64.b64decode(told["source"]["cells"]), np.int8)
        assert small.shape == (np.prod(told["source"]["grid"]) * len(told["scales"]),)
        assert np.abs(small.astype(int)).max() == 127
        # a stretched image of width w lies on g cells: its first pixel's centre is half a pixel from the edge
        factor, shift, *_ = told["source"]["toGrid"]
        width, cells = told["source"]["width"], told["source"]["grid"][1]
        assert factor == pytest.approx(cells / width, rel=1e-4)
        assert shift == pytest.approx(0.5 * cells / width - 0.5, abs=1e-4)


def test_the_same_files_give_the_same_page(scored: Path) -> None:
    first = written(scored).path.read_bytes()
    assert written(scored).path.read_bytes() == first


def test_names_from_the_data_are_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = HOSTILE.replace("/", "")
    scores = {"box": {"keypoint": {"0.10": 50.0}}}
    hostile = report(
        categories={"box": {HOSTILE: scores["box"]}},
        made_by={"split": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}},
        counts={"pairs": 2, HOSTILE: 9},
        protocol=EvalProtocol(alphas=(0.1,), name=HOSTILE, source=HOSTILE),
    )
    hostile.save(Path("reports") / name / f"{name}.json")
    parts = Parts(write_page(Path("page.html"), name).path.read_text())
    assert len(parts.scripts) == 1
    assert not [attribute for attribute, _ in parts.attributes if attribute.startswith("on")]


def test_names_of_keypoints_cannot_leave_their_script() -> None:
    shown = board({"one": report()}, reference="box", average="keypoint")
    agreement = Agreement(dimensions=32, kept=1.0, same=1.0, near=1.0, keypoints=1.0)
    evidence = Evidence(explorer=Explorer(({"keypoints": [HOSTILE, "\u2028<!--"]},), agreement))
    text = render("toy", shown, evidence, head="one", seed=0)
    stored, _ = Parts(text).scripts
    assert json.loads(stored) == [{"keypoints": [HOSTILE, "\u2028<!--"]}]
    assert "<" not in stored


def test_without_a_head_the_page_says_how_to_see_matches(scored: Path) -> None:
    page = written(scored, head=None)
    assert (page.pairs, page.explored) == (0, 0)
    assert "add <code>--head raw-layer</code>" in page.path.read_text()


@pytest.mark.parametrize(
    ("missing", "note", "pairs"),
    [
        ("predictions/spair/raw-layer.npz", "no predictions at .* Run: matchkit match", 0),
        ("weights/spair/raw-layer.safetensors", "no head at .* Run: matchkit fit-head", 2),
        ("features/spair/pixels.zarr", "No explorer: .*pixels.zarr", 2),
        ("spair/JPEGImages/cat/2007_000001.jpg", "No matches and no explorer: .*2007_000001.jpg is missing", 0),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(missing: str, note: str, pairs: int, scored: Path) -> None:
    path = Path(missing)
    assert path.exists(), missing
    path.rename(path.with_name("moved"))
    page = written(scored)
    assert (page.pairs, page.explored) == (pairs, 0)
    assert any(re.search(note, told) for told in page.notes), page.notes
    assert 'id="leaderboard"' in page.path.read_text()


def test_what_does_not_belong_together_is_said(scored: Path) -> None:
    match("spair", "raw-layer", root=scored, settings=("split=trn", "upsample=1"), device="cpu")
    assert any("made from other predictions. Run: matchkit evaluate" in told for told in written(scored).notes)
    fit_head("spair", "raw-layer", root=scored, settings=("features=pixels", "validation=trn"), device="cpu")
    assert any("not those that the predictions" in told for told in written(scored).notes)


def test_a_head_that_nothing_is_known_of_is_refused(scored: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'raw-layers' on spair\. Did you mean 'raw-layer'"):
        written(scored, head="raw-layers")
    with pytest.raises(ConfigError, match="1 pair or more, not 0"):
        written(scored, settings=("pairs=0",))


def test_the_verb_writes_the_page_or_the_summary(scored: Path) -> None:
    told = ["report", "--html", "out/page.html", "--dataset", "spair", "--root", str(scored), "--device", "cpu"]
    ran = CliRunner().invoke(main, [*told, "--head", "raw-layer", "--set", "pairs=1"])
    assert re.fullmatch(r"out/page.html: 1 methods, 1 pairs drawn, 1 to explore, 0\.\d MB\n", ran.stdout), ran.output
    assert CliRunner().invoke(main, ["report"]).stdout == "reports/summary.md: 1 methods on 1 datasets\n"
    for wrong in (["report", "--dataset", "spair"], ["report", "--html", "page.html"], ["report", "--head", "x"]):
        assert CliRunner().invoke(main, wrong).exit_code == 2
