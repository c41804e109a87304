"""Reports and the table over several of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.analyses import Analyses, Trust, WayBack
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Part, Report, breakdown_table, category_table, counts_line, summary_table


def report(low: float, high: float) -> Report:
    scores = {"box": {"keypoint": {"0.05": low, "0.10": high}}}
    categories = {"box": {"cat": scores["box"], "dog": scores["box"]}}
    counts = {"pairs": 1200, "images": 40, "keypoints": 9000}
    protocol = EvalProtocol(alphas=(0.05, 0.1), references=("box",))
    return Report(scores, categories, counts, protocol, {"method": "x"})


def test_round_trip(tmp_path: Path) -> None:
    report(1.0, 2.0).save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report(1.0, 2.0)


def full() -> Report:
    """A report with everything in it."""
    plain = report(1.0, 2.0)
    return replace(
        plain,
        protocol=EvalProtocol((0.05, 0.1), ("box",), "<", breakdowns=("geometry",), resamples=500),
        breakdowns={"geometry": parts(aware=30.0, other=50.0)},
        intervals={"box": {"0.05": (0.5, 1.5), "0.10": (1.25, 3.0)}},
        analyses=Analyses(
            symmetry={"box": {"0.10": {"right part": 60.0, "elsewhere": 40.0}}},
            kap={"paper": {"image": {"0.10": 12.5}}},
            visibility=75.0,
            trust={"box": {"0.10": {"margin": Trust(10.0, None, 2.5, (1.0, 2.0))}}},
            way_back=WayBack(3.5, 40.0, {"box": {"0.10": 80.0}}),
        ),
    )


def parts(**scores: float) -> Mapping[str, Part]:
    return {
        name: Part({"keypoints": 1234}, {"pairs": 50.0}, {"box": {"keypoint": {"0.05": 0.0, "0.10": value}}})
        for name, value in scores.items()
    }


def test_breakdowns_and_intervals_come_back_as_they_were(tmp_path: Path) -> None:
    full().save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == full()
    assert json.loads((tmp_path / "r.json").read_text())["intervals"]["box"]["0.10"] == [1.25, 3.0]


def test_a_report_from_before_there_were_breakdowns_is_read(tmp_path: Path) -> None:
    full().save(tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    for field in ("breakdowns", "intervals", "analyses"):
        del data[field]
    for field in ("breakdowns", "resamples"):
        del data["protocol"][field]
    (tmp_path / "r.json").write_text(json.dumps(data))
    loaded = Report.load(tmp_path / "r.json")
    assert loaded == replace(
        full(),
        breakdowns={},
        intervals={},
        analyses=None,
        protocol=replace(full().protocol, breakdowns=(), resamples=0),
    )


def test_a_row_a_method_and_a_column_a_part() -> None:
    plain = report(1.0, 9.0)
    told = {
        "a": replace(plain, breakdowns={"azimuth": parts(**{"0": 40.0, "4": 10.06})}),
        "old": plain,
        "b": replace(plain, breakdowns={"azimuth": parts(**{"4": 20.0})}),
    }
    table = breakdown_table(told, "azimuth", reference="box", average="keypoint", alpha="0.10")
    assert table.splitlines() == [
        "| method (PCK@0.10, azimuth) | 0 | 4 |",
        "|---|---:|---:|",
        "| a | 40.0 | 10.1 |",
        "| b | - | 20.0 |",
        "| *keypoints* | 1,234 | 1,234 |",
    ]


def test_the_interval_stands_behind_the_middle_alpha_of_the_average_it_is_of() -> None:
    told = {"a": full(), "b": report(0.5, 1.0)}
    table = summary_table(told, reference="box", average="keypoint")
    assert table.splitlines()[2:] == ["| a | **1.0** | **2.0** (1.2 to 3.0) |", "| b | 0.5 | 1.0 |"]
    by_image = replace(full(), scores={"box": {"image": {"0.05": 1.0, "0.10": 2.0}}})
    assert " to " not in summary_table({"a": by_image}, reference="box", average="image")


def test_the_best_of_each_column_is_bold() -> None:
    table = summary_table({"a": report(1.0, 9.0), "b": report(2.0, 5.0)}, reference="box", average="keypoint")
    assert table.splitlines() == [
        "| method | PCK@0.05 | PCK@0.10 |",
        "|---|---:|---:|",
        "| a | 1.0 | **9.0** |",
        "| b | **2.0** | 5.0 |",
    ]


def test_a_column_a_category() -> None:
    table = category_table({"a": report(1.0, 9.0)}, reference="box", alpha="0.10")
    assert table.splitlines()[0] == "| method (PCK@0.10) | cat | dog |"
    assert table.splitlines()[2] == "| a | 9.0 | 9.0 |"


def test_counts() -> None:
    assert counts_line([report(1.0, 2.0)]) == "1,200 pairs, 40 images, 9,000 keypoints"


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"protocol": 3}')
    with pytest.raises(MatchkitError, match="Run: matchkit evaluate"):
        Report.load(tmp_path / "r.json")
