"""Stage evaluate: what it takes from the dataset, and what it says where the dataset has less."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from jaxtyping import Bool

from matchkit.cli import main
from matchkit.core.errors import ConfigError, DatasetError, UnknownNameError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocols import PRESETS
from matchkit.evaluate.report import Report
from matchkit.pipelines import evaluate as stage
from matchkit.pipelines.evaluate import evaluate, evaluate_all

POINTS = np.float32([[1, 1], [5, 5], [9, 9]])
BOX = (0.0, 0.0, 20.0, 20.0)


class Cats:
    """Two cats a quarter of a turn apart, whose front paws are of one kind."""

    name = "cats"
    splits = ("test",)

    @property
    def images(self) -> Mapping[str, ImageRecord]:
        shown = {"paw left": (1.0, 1.0), "paw right": (5.0, 5.0), "nose": (9.0, 9.0)}
        return {name: ImageRecord(name, Path("x.jpg"), (20, 20), "cat", turn, shown) for name, turn in self.turns}

    @property
    def turns(self) -> list[tuple[str, int]]:
        return [("one", 0), ("two", 6)]

    def pairs(self, split: str) -> Sequence[Pair]:
        assert split == "test"
        return [Pair("p", "one", "two", "cat", POINTS, POINTS, ("paw left", "paw right", "nose"), BOX, BOX)]

    def scheme(self, category: str) -> KeypointScheme:
        assert category == "cat"
        return KeypointScheme(groups=(("paw left", "paw right"),))

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        raise NotImplementedError(image_id)


class Unknown(Cats):
    """Cats of whose keypoints nothing is known."""

    def scheme(self, category: str) -> KeypointScheme:
        raise DatasetError(f"no table of the keypoints of '{category}'")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with predictions on the cats: the left paw is missed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "open_dataset", lambda name, root: Cats())
    found = Predictions({"p": POINTS + np.float32([[9, 9], [0, 0], [0, 0]])}, {"split": "test"})
    found.save(Path("predictions/cats/mine.npz"))
    return tmp_path


@pytest.mark.usefixtures("project")
def test_breakdowns_that_are_asked_for_stand_in_the_report() -> None:
    evaluated = evaluate("cats", "mine", settings=["breakdowns=[geometry, azimuth]"])
    assert Report.load(evaluated.path) == evaluated.report
    geometry, azimuth = (evaluated.report.breakdowns[name] for name in ("geometry", "azimuth"))
    assert geometry["aware"].scores["box"]["keypoint"]["0.10"] == 50.0
    assert geometry["other"].scores["box"]["keypoint"]["0.10"] == 100.0
    assert azimuth.keys() == {"2", "mirror"}
    assert evaluated.report.intervals["box"]["0.10"] == (0.0, 100.0)


@pytest.mark.usefixtures("project")
def test_the_same_predictions_give_the_same_bytes() -> None:
    told = [evaluate("cats", "mine", settings=["breakdowns=[azimuth]"]).path.read_bytes() for _ in range(2)]
    assert told[0] == told[1]


@pytest.mark.usefixtures("project")
def test_a_category_without_a_table_is_named_with_the_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "open_dataset", lambda name, root: Unknown())
    with pytest.raises(DatasetError, match=r"no table of the keypoints of 'cat'\. .*--set 'breakdowns=\[azimuth\]'"):
        evaluate("cats", "mine", settings=["breakdowns=[geometry, azimuth]"])
    assert evaluate("cats", "mine", settings=["breakdowns=[azimuth]"]).report.breakdowns.keys() == {"azimuth"}
    assert evaluate("cats", "mine").report.breakdowns == {}


def test_scoring_loads_no_torch() -> None:
    code = "import sys, matchkit.pipelines.evaluate; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


class Boxless(Cats):
    """Cats without boxes."""

    def pairs(self, split: str) -> Sequence[Pair]:
        return [replace(pair, source_box=None, target_box=None) for pair in super().pairs(split)]


@pytest.mark.usefixtures("project")
def test_a_named_protocol_is_scored_beside_the_plain_report() -> None:
    """The left paw is 12.7 pixels off, in a box of 20."""
    plain = evaluate("cats", "mine").path.read_bytes()
    strict = evaluate("cats", "mine", protocol="geoaware-image")
    assert strict.path == Path("reports/cats/protocols/mine/geoaware-image.json")
    assert Report.load(strict.path) == strict.report
    assert strict.report.protocol.name == "geoaware-image"
    assert strict.report.scores["box"]["image"]["0.10"] == pytest.approx(200 / 3, abs=1e-4)
    assert Path("reports/cats/mine.json").read_bytes() == plain
    changed = evaluate("cats", "mine", protocol="geoaware-image", settings=["alphas=[0.7]"]).report
    assert changed.protocol.name == "geoaware-image, but alphas"
    assert changed.scores["box"]["image"]["0.70"] == 100.0


@pytest.mark.usefixtures("project")
def test_a_named_protocol_takes_the_place_of_the_section_but_for_its_resamples() -> None:
    Path("params.yaml").write_text("evaluate: {alphas: [0.2], comparison: '<', resamples: 0}\n")
    told = evaluate("cats", "mine", protocol="dift").report.protocol
    assert (told.name, told.alphas, told.comparison, told.resamples) == ("dift", (0.1,), "<=", 0)
    Path("params.yaml").write_text("evaluate: {preset: dift, alphas: [0.2]}\n")
    evaluated = evaluate("cats", "mine")
    assert evaluated.report.protocol.name == "dift, but alphas"
    assert evaluated.path == Path("reports/cats/mine.json")


@pytest.mark.usefixtures("project")
def test_the_list_of_a_subset_has_its_digest_in_the_report() -> None:
    Path("list.txt").write_text("p\n")
    told = evaluate("cats", "mine", settings=["subset=list.txt"]).report.protocol
    assert told.subset_digest == hashlib.sha256(b"p\n").hexdigest()[:12]
    with pytest.raises(DatasetError, match="the protocol is of one with 0123456789ab"):
        evaluate("cats", "mine", settings=["subset=list.txt", "subset_digest=0123456789ab"])


@pytest.mark.usefixtures("project")
def test_all_protocols_stand_in_one_table_beside_the_report() -> None:
    plain = evaluate("cats", "mine").path.read_bytes()
    converted = evaluate_all("cats", "mine", settings=["resamples=100"])
    assert converted.path == Path("reports/cats/protocols/mine/all.json")
    assert converted.markdown == Path("reports/cats/protocols/mine/all.md")
    assert converted.conversion.table() in converted.markdown.read_text()
    assert Path("reports/cats/mine.json").read_bytes() == plain
    rows = {(row.protocol.name, row.protocol.references[0]): row for row in converted.conversion.rows}
    assert rows["dift", "box"].headline["0.10"] == pytest.approx(200 / 3, abs=1e-4)
    assert "no pair has the viewpoint_variation 0" in rows["probe3d-view-0", "box"].missing
    assert {name for name, _ in rows} == set(PRESETS.table())
    again = converted.path.read_bytes()
    assert evaluate_all("cats", "mine", settings=["resamples=100"]).path.read_bytes() == again


@pytest.mark.usefixtures("project")
def test_a_dataset_without_boxes_has_the_rows_of_other_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "open_dataset", lambda name, root: Boxless())
    rows = evaluate_all("cats", "mine", settings=["resamples=0"]).conversion.rows
    scored = {row.protocol.references[0] for row in rows if not row.missing}
    assert scored == {"image", "keypoints"}
    assert all("no target box" in row.missing or "viewpoint" in row.missing for row in rows if row.missing)


@pytest.mark.usefixtures("project")
def test_all_protocols_take_no_parameter_that_would_make_others_of_them() -> None:
    with pytest.raises(ConfigError, match=r"takes --set resamples=N alone: with another alphas they are not those"):
        evaluate_all("cats", "mine", settings=["alphas=[0.2]"])
    with pytest.raises(UnknownNameError, match=r"no preset 'difft'\. Did you mean 'dift'\?"):
        evaluate("cats", "mine", protocol="difft")


@pytest.mark.usefixtures("project")
def test_the_verb_prints_the_table_of_all_and_the_line_of_one() -> None:
    command = ["evaluate", "--dataset", "cats", "--head", "mine", "--set", "resamples=100", "--protocol"]
    found = CliRunner().invoke(main, [*command, "all"])
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert lines[0].startswith("| protocol | frame | reference | comparison | average | PCK@0.01 |")
    assert lines[-1] == "reports/cats/protocols/mine/all.md: 17 of 20 rows scored"
    found = CliRunner().invoke(main, [*command, "dift-image"])
    assert found.output == "reports/cats/protocols/mine/dift-image.json: PCK@0.10 66.7 (box, per image)\n"
    found = CliRunner().invoke(main, ["list", "presets"])
    assert "evaluate sd4match " in found.output
