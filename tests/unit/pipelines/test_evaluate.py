"""Stage evaluate: what it takes from the dataset, and what it says where the dataset has less."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Bool

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.report import Report
from matchkit.pipelines import evaluate as stage
from matchkit.pipelines.evaluate import evaluate

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
