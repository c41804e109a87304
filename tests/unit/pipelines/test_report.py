"""Stage report: one summary over the reports of every dataset."""

from dataclasses import replace
from pathlib import Path

import pytest

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Part, Report
from matchkit.pipelines.report import report


def scored(value: float) -> Report:
    scores = {"box": {"keypoint": {"0.05": 1.0, "0.10": value, "0.15": 90.0}}}
    part = Part({"keypoints": 7}, {"pairs": 50.0, "keypoints": 40.0}, {"box": {"keypoint": {"0.10": value / 2}}})
    counts = {"pairs": 2, "images": 3, "keypoints": 9}
    return Report(
        scores=scores,
        categories={"box": {"cat": scores["box"]}},
        counts=counts,
        protocol=EvalProtocol(references=("box",)),
        made_by={},
        breakdowns={"geometry": {"aware": part}},
        intervals={"box": {"0.05": (0.0, 2.0), "0.10": (value - 5, value + 5), "0.15": (80.0, 99.0)}},
    )


def plain(value: float) -> Report:
    return replace(scored(value), breakdowns={}, intervals={})


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder of reports on one dataset: `new` and `old`, which has scores alone."""
    monkeypatch.chdir(tmp_path)
    scored(50.0).save(Path("reports/toy/new.json"))
    plain(40.0).save(Path("reports/toy/old.json"))
    return Path("reports")


def test_the_summary_has_intervals_and_breakdowns_of_the_reports_that_have_them(reports: Path) -> None:
    lines = report(folder=reports).text.splitlines()
    assert lines[4].endswith(
        "average: keypoint, in original pixels. In brackets 95 % intervals over resamplings of the images."
    )
    assert lines[6:10] == [
        "| method | PCK@0.05 | PCK@0.10 | PCK@0.15 |",
        "|---|---:|---:|---:|",
        "| new | **1.0** | **50.0** (45.0 to 55.0) | **90.0** |",
        "| old | **1.0** | 40.0 | **90.0** |",
    ]
    assert lines[11:15] == [
        "| method (PCK@0.10, geometry) | aware |",
        "|---|---:|",
        "| new | 25.0 |",
        "| *keypoints* | 7 |",
    ]


def test_without_intervals_nothing_is_said_of_them(reports: Path) -> None:
    plain(50.0).save(reports / "toy" / "new.json")
    text = report(folder=reports).text
    assert "brackets" not in text
    assert "geometry" not in text


def test_the_same_reports_give_the_same_bytes(reports: Path) -> None:
    told = []
    for _ in range(2):
        report(folder=reports)
        told.append([(reports / "summary.md").read_bytes(), (reports / "toy" / "pck.svg").read_bytes()])
    assert told[0] == told[1]


def test_an_average_that_a_report_does_not_have_is_named(reports: Path) -> None:
    with pytest.raises(MatchkitError, match=r"new\.json has no average 'image' of reference 'box'\. Run: matchkit"):
        report(["average=image"], folder=reports)
    with pytest.raises(MatchkitError, match=r"no reports in nowhere\. Run: matchkit evaluate"):
        report(folder=Path("nowhere"))


def test_reports_of_other_alphas_do_not_share_a_table(reports: Path) -> None:
    replace(plain(40.0), protocol=EvalProtocol(alphas=(0.05, 0.1))).save(reports / "toy" / "old.json")
    with pytest.raises(MatchkitError, match=r"old\.json has another protocol than reports/toy/new\.json \(alphas\)"):
        report(folder=reports)


def test_a_part_of_a_split_has_no_row(reports: Path) -> None:
    replace(plain(99.0), made_by={"limit": 2}).save(reports / "toy" / "quick.json")
    assert "quick" not in report(folder=reports).text
    for name in ("new", "old"):
        (reports / "toy" / f"{name}.json").unlink()
    with pytest.raises(MatchkitError, match=r"all reports in reports/toy are of a part of their split"):
        report(folder=reports)
