"""Stage compare: two files of predictions, the table they give, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from jaxtyping import Bool

from matchkit.cli import main
from matchkit.core.errors import ConfigError, DatasetError, MatchkitError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.predictions import Predictions
from matchkit.pipelines import compare as stage
from matchkit.pipelines.compare import compare

POINTS = np.float32([[1, 1], [5, 5], [9, 9], [15, 15]])
BOX = (0.0, 0.0, 20.0, 20.0)
FAR = np.float32([[9, 9]])
IMAGES = 8


class Animals:
    """Two categories of eight images each, of which every ordered pair has four keypoints."""

    name = "animals"
    splits = ("val", "test")

    @property
    def images(self) -> Mapping[str, ImageRecord]:
        return {
            f"{kind}{n}": ImageRecord(f"{kind}{n}", Path("x.jpg"), (60, 40), kind, n % 8)
            for kind in ("cat", "dog")
            for n in range(IMAGES)
        }

    def pairs(self, split: str) -> Sequence[Pair]:
        assert split in self.splits
        ends = [(s, t) for s in range(IMAGES) for t in range(IMAGES) if s != t]
        return [
            Pair(f"{kind}{s}-{t}", f"{kind}{s}", f"{kind}{t}", kind, POINTS, POINTS, ("a", "b", "c", "d"), BOX, BOX)
            for kind in ("cat", "dog")
            for s, t in ends
        ]

    def scheme(self, category: str) -> KeypointScheme:
        raise DatasetError(f"no table of the keypoints of '{category}'")

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        raise NotImplementedError(image_id)


def predictions(correct: Mapping[str, int], *, split: str = "test") -> Predictions:
    """So many keypoints of each pair are found, the others are missed."""
    points = {name: POINTS + FAR * (np.arange(4)[:, None] >= count) for name, count in correct.items()}
    return Predictions({name: told.astype(np.float32) for name, told in points.items()}, {"split": split})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of every pair A finds one keypoint, or two; B finds one more of each cat, and of the dogs what A finds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "open_dataset", lambda name, root: Animals())
    generator = np.random.default_rng(0)
    one = {pair.id: int(generator.integers(1, 3)) for pair in Animals().pairs("test")}
    two = {name: count + name.startswith("cat") for name, count in one.items()}
    for name, told in {"a": one, "b": two}.items():
        predictions(told).save(Path(f"predictions/animals/{name}.npz"))
    return tmp_path


@pytest.mark.usefixtures("project")
def test_what_differs_is_found_where_it_is() -> None:
    compared = compare("animals", "a", "b")
    cat, dog = (compared.comparison.categories[name] for name in ("cat", "dog"))
    assert (cat.difference, cat.low, cat.high) == (25, 25, 25)
    assert (cat.p, cat.adjusted) == (2 / 256, 4 / 256)  # all swaps of eight targets
    assert (dog.difference, dog.low, dog.high, dog.p, dog.adjusted) == (0, 0, 0, 1, 1)
    overall = compared.comparison.overall
    assert (overall.difference, overall.pairs, overall.keypoints) == (12.5, 112, 448)
    assert overall.after - overall.before == pytest.approx(12.5)


@pytest.mark.usefixtures("project")
def test_the_table_is_no_report_and_the_same_each_time() -> None:
    compared = compare("animals", "a", "b", settings=["breakdowns=[azimuth]"])
    assert compared.path == Path("reports/animals/compare-a-vs-b.md")
    text = compared.path.read_text()
    assert text == stage.markdown(compare("animals", "a", "b", settings=["breakdowns=[azimuth]"]))
    assert "# a and b on animals, test" in text
    assert "PCK@0.10 in percent, reference: box, average: keypoint." in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| dog")]
    assert rows[0][3:8] == ["+0.0", "+0.0 to +0.0", "1.00", "1.00", "0.0"]
    assert "| azimuth | first | second |" in text
    assert not list(Path("reports").glob("*/*.json"))


@pytest.mark.usefixtures("project")
def test_the_command_says_it_in_a_line_and_as_json() -> None:
    asked = ["compare", "a", "b", "--dataset", "animals", "--average", "image"]
    told = CliRunner().invoke(main, asked)
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("reports/animals/compare-a-vs-b.md: b less a +12.5 (+12.5 to +12.5), p 0.01")
    assert told.stdout.rstrip().endswith("detectable 0.0 (PCK@0.10, box, per image)")
    data = json.loads(CliRunner().invoke(main, [*asked, "--json"]).stdout)
    assert data["comparison"]["categories"]["cat"]["difference"] == 25
    assert (data["first"], data["second"], data["split"], data["average"]) == ("a", "b", "test", "image")


@pytest.mark.usefixtures("project")
def test_alpha_and_reference_are_those_asked_for() -> None:
    """What is missed lies 12.7 away: within half of the box, and within 0.22 of the image."""
    assert compare("animals", "a", "b", alpha=0.65).comparison.overall.before == 100
    assert compare("animals", "a", "b", alpha=0.22).comparison.overall.before < 100
    assert compare("animals", "a", "b", alpha=0.22, reference="image").comparison.overall.before == 100


@pytest.mark.usefixtures("project")
def test_predictions_of_other_pairs_and_splits_are_refused() -> None:
    whole = {pair.id: 1 for pair in Animals().pairs("test")}
    file = Path("predictions/animals/c.npz")
    with pytest.raises(MatchkitError, match=r"no predictions at predictions/animals/c\.npz"):
        compare("animals", "a", "c")
    predictions(whole, split="val").save(file)
    with pytest.raises(MatchkitError, match=r"a\.npz is of the split 'test' and .*c\.npz of 'val'"):
        compare("animals", "a", "c")
    predictions({name: 1 for name in list(whole)[2:]}).save(file)
    with pytest.raises(MatchkitError, match=r"c\.npz lacks 2 of the 112 pairs of animals, test, .* 'cat0-1'"):
        compare("animals", "a", "c")
    predictions(whole | {"cow": 1}).save(file)
    with pytest.raises(MatchkitError, match=r"c\.npz has 1 pairs that are none of animals, test, such as 'cow'"):
        compare("animals", "a", "c")
    short = predictions(whole)
    Predictions(dict(short.points) | {"dog0-1": POINTS[:3]}, short.made_by).save(file)
    with pytest.raises(MatchkitError, match=r"c\.npz has 3 keypoints of pair 'dog0-1', the dataset has 4"):
        compare("animals", "a", "c")


@pytest.mark.usefixtures("project")
def test_what_makes_no_comparison_is_refused() -> None:
    for heads, alpha in ((("a", "a"), 0.1), (("a", "b"), 0.0)):
        with pytest.raises(ConfigError, match="a comparison is of two heads at a positive alpha"):
            compare("animals", *heads, alpha=alpha)
    with pytest.raises(DatasetError, match="no table of the keypoints of 'cat'"):
        compare("animals", "a", "b", settings=["breakdowns=[geometry]"])


def test_comparing_loads_no_torch() -> None:
    code = "import sys, matchkit.pipelines.compare; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
