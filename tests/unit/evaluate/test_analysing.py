"""The analyses of a few predictions, every number worked out here, and their tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.analyses import Analyses
from matchkit.evaluate.analysing import analyse
from matchkit.evaluate.analysis_tables import analysis_tables
from matchkit.evaluate.evidence import Evidence, Presence, Presences
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Report

BOX = (0.0, 0.0, 100.0, 50.0)
PLACES = {"left": (10.0, 10.0), "right": (60.0, 10.0), "nose": (35.0, 12.0)}
IMAGES = {name: ImageRecord(name, Path("x.jpg"), (200, 100), "dog", None, PLACES) for name in "ab"}
SCHEMES = {name: KeypointScheme(flips=(("left", "right"),)) for name in ("dog", "cat")}
PROTOCOL = EvalProtocol(alphas=(0.1, 0.3), references=("box",), resamples=0)
"""Within 10 and 30 pixels."""


def pair(name: str, category: str, *ids: str) -> Pair:
    points = np.asarray([PLACES[keypoint] for keypoint in ids], np.float32).reshape(-1, 2)
    return Pair(name, "a", "b", category, points, points, ids, BOX, BOX)


PAIRS = [pair("bare", "dog"), pair("one", "dog", "left", "right", "nose"), pair("two", "cat", "left")]
FOUND = {
    # the left one for the right one, the right one as it is, and the nose 22 pixels off, where left is nearer
    "one": [[60, 10], [60, 10], [15, 21]],
    "two": [[10, 19]],
    "bare": np.zeros((0, 2)),
}
PLAIN = Predictions({name: np.asarray(points, np.float32) for name, points in FOUND.items()}, {})
"""Right at 0.1: the second and the fourth; at 0.3 also the third."""


def evidence(similarity: list[float], mutual: list[bool], cycle: list[float]) -> Evidence:
    values = np.asarray(similarity, np.float32)
    return Evidence(values, -values, np.clip(values, 0, 1), np.asarray(cycle, np.float32), np.asarray(mutual, np.bool_))


WITH_EVIDENCE = replace(
    PLAIN,
    evidence={
        "bare": evidence([], [], []),
        "one": evidence([0.4, 0.9, 0.6], [False, True, True], [8.0, 0.0, 2.0]),
        "two": evidence([0.5], [True], [6.0]),
    },
)


def test_the_split_by_symmetry_of_all_and_of_each_category() -> None:
    found = analyse(PAIRS, IMAGES, PLAIN, PROTOCOL, SCHEMES)
    assert found.symmetry["box"] == {
        "0.10": {"right part": 50.0, "wrong side": 25.0, "other part": 0.0, "elsewhere": 25.0},
        "0.30": {"right part": 75.0, "wrong side": 25.0, "other part": 0.0, "elsewhere": 0.0},
    }
    assert found.categories["box"]["cat"]["0.10"]["right part"] == 100.0
    assert found.categories["box"]["dog"]["0.10"]["elsewhere"] == pytest.approx(100 / 3, abs=1e-4)


def test_the_right_part_is_the_pck() -> None:
    found, report = analyse(PAIRS, IMAGES, PLAIN, PROTOCOL, SCHEMES), score(PAIRS, IMAGES, PLAIN, PROTOCOL)
    for alpha, shares in found.symmetry["box"].items():
        assert shares["right part"] == report.scores["box"]["keypoint"][alpha]


def test_pck_dagger_takes_off_what_is_nearer_to_another_keypoint() -> None:
    """The nose at 0.3 is within 22 pixels of its place, and within 12.1 of the left one."""
    found = analyse(PAIRS, IMAGES, PLAIN, PROTOCOL, SCHEMES)
    assert found.dagger["box"]["keypoint"] == {"0.10": 50.0, "0.30": 50.0}
    assert found.dagger["box"]["image"] == {"0.10": pytest.approx(66.6667), "0.30": pytest.approx(66.6667)}


def test_without_schemes_evidence_and_presences_there_is_pck_dagger_alone() -> None:
    found = analyse(PAIRS, IMAGES, PLAIN, PROTOCOL, {"dog": SCHEMES["dog"]})
    assert found == Analyses(dagger=found.dagger)


def test_the_way_back() -> None:
    """Three of four are mutually nearest, of which two are right at 0.1, and all at 0.3."""
    told = analyse(PAIRS, IMAGES, WITH_EVIDENCE, PROTOCOL, {}).way_back
    assert told is not None
    assert (told.cycle, told.mutual) == (4.0, 75.0)
    assert told.pck == {"box": {"0.10": pytest.approx(66.6667), "0.30": 100.0}}


def test_without_a_mutual_match_there_is_no_pck_of_these() -> None:
    none = {name: replace(told, mutual=np.zeros_like(told.mutual)) for name, told in WITH_EVIDENCE.evidence.items()}
    told = analyse(PAIRS, IMAGES, replace(PLAIN, evidence=none), PROTOCOL, {}).way_back
    assert told is not None
    assert (told.mutual, told.pck) == (0.0, {})


def test_trust_at_each_alpha() -> None:
    """By similarity: .9 right, .6 wrong at 0.1, .5 right, .4 wrong. Two times two are ranked, one of them wrongly."""
    trusted = analyse(PAIRS, IMAGES, WITH_EVIDENCE, PROTOCOL, {}).trust["box"]
    similarity, margin = trusted["0.10"]["similarity"], trusted["0.10"]["margin"]
    assert (similarity.auroc, margin.auroc) == (75.0, 25.0)
    assert similarity.aurc == pytest.approx(100 * (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4, abs=1e-4)
    assert trusted["0.30"]["similarity"].auroc == 100.0
    # .9, .6, .5 and .4 lie in bins of their own
    assert trusted["0.10"]["probability"].ece == pytest.approx(100 * (0.1 + 0.6 + 0.5 + 0.4) / 4, abs=1e-3)
    # 0 right, 2 wrong, 6 right, 8 wrong
    assert trusted["0.10"]["cycle"].auroc == 75.0


def with_presences() -> Predictions:
    of_pair = {
        "bare": Presence(np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32), 0.0, 0.0),
        "one": Presence(np.asarray([[0.9], [0.2], [0.5]]), np.asarray([[0.8], [0.7], [0.1]]), 0.0, 1.0),
        "two": Presence(np.asarray([[0.4], [0.3]]), np.asarray([[0.6], [0.5]]), 0.0, 1.0),
    }
    return replace(WITH_EVIDENCE, presences=Presences((0.125,), "box", of_pair))


def test_kap_and_visibility_of_the_radii_that_were_kept() -> None:
    """Dog: + .9, .5, .2; - .8, .7, .1: 1, 2/4, 3/5. Cat: + .4; - .6, and .5 of the one that is not there: 1/3."""
    found = analyse(PAIRS, IMAGES, with_presences(), PROTOCOL, {})
    dog, cat = (1 + 2 / 4 + 3 / 5) / 3, 1 / 3
    assert found.kap["paper"]["image"] == {"0.125": pytest.approx(100 * (dog + cat) / 2, abs=1e-4)}
    assert found.kap["paper"]["keypoint"] == {"0.125": pytest.approx(100 * (3 * dog + 2 * cat) / 5, abs=1e-4)}
    # as positive ones .4 and .3 against .6 and .5
    assert found.kap["code"]["image"]["0.125"] == pytest.approx(100 * (dog + (1 / 3 + 2 / 4) / 2) / 2, abs=1e-4)
    # shown .9, .7, .5, .6 and not shown .5
    assert found.visibility == 87.5


def test_a_pair_without_a_box_is_told() -> None:
    with pytest.raises(DatasetError, match="no target box"):
        analyse([replace(PAIRS[1], target_box=None)], IMAGES, PLAIN, PROTOCOL, SCHEMES)


def reported(predictions: Predictions) -> Report:
    return replace(
        score(PAIRS, IMAGES, predictions, PROTOCOL), analyses=analyse(PAIRS, IMAGES, predictions, PROTOCOL, SCHEMES)
    )


def test_a_report_with_analyses_comes_back(tmp_path: Path) -> None:
    report = reported(with_presences())
    report.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report


def test_tables_have_a_row_for_each_report_that_tells() -> None:
    told = {
        "full": reported(with_presences()),
        "old": score(PAIRS, IMAGES, PLAIN, PROTOCOL),
        "plain": reported(PLAIN),
    }
    symmetry, trust, visibility = analysis_tables(told, reference="box", average="keypoint", alpha="0.10")
    assert symmetry.splitlines() == [
        "| method (within 0.10 of, box) | right part | wrong side | other part | elsewhere |",
        "|---|---:|---:|---:|---:|",
        "| full | 50.0 | 25.0 | 0.0 | 25.0 |",
        "| plain | 50.0 | 25.0 | 0.0 | 25.0 |",
    ]
    assert trust.splitlines()[0] == (
        "| method (AURC / AUROC at 0.10, box) | similarity | margin | probability | cycle | ECE | mutual % "
        "| PCK@0.10 of mutual | cycle (px) |"
    )
    assert trust.splitlines()[2:] == [
        "| full | 33.3 / 75.0 | 66.7 / 25.0 | 33.3 / 75.0 | 33.3 / 75.0 | 40.0 | 75.0 | 66.7 | 4.0 |"
    ]
    # KAP was kept within 0.125 alone
    assert visibility.splitlines()[2:] == ["| full | 50.0 | - | - | 87.5 |", "| plain | 50.0 | - | - | - |"]


def test_without_anything_to_tell_there_is_no_table() -> None:
    told = {"old": score(PAIRS, IMAGES, PLAIN, PROTOCOL)}
    assert analysis_tables(told, reference="box", average="keypoint", alpha="0.10") == []
