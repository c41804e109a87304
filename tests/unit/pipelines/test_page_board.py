"""The page's leaderboard, tables and charts, from reports alone."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Part, Report
from matchkit.pipelines.page.board import Board, Score, board, load_reports
from matchkit.pipelines.page.charts import HEIGHT, LINE, curves, interval_bars, spread
from matchkit.pipelines.page.conversions import conversion
from matchkit.pipelines.page.tables import breakdown_tables, category_panels, further_tables


def scored(value: float, **changes: Any) -> Report:
    averages = {"keypoint": {"0.05": value / 2, "0.10": value}, "image": {"0.05": 1.0, "0.10": value - 1}}
    part = Part(
        {"keypoints": 7}, {"pairs": 50.0}, {"box": {"keypoint": {"0.10": value / 4}}}, {"box": {"0.10": (1.0, 9.0)}}
    )
    report = Report(
        scores={"box": averages, "image": averages},
        categories={"box": {"cat": averages, "dog": averages}},
        counts={"pairs": 2, "images": 3, "keypoints": 9},
        protocol=EvalProtocol(alphas=(0.05, 0.1)),
        made_by={"split": "test"},
        breakdowns={"geometry": {"aware": part}},
        intervals={"box": {"0.10": (value - 5, value + 5)}},
        category_intervals={"cat": {"box": {"0.10": (value - 9, value + 9)}}},
    )
    return dataclasses.replace(report, **changes)


def boarded(**reports: Report) -> Board:
    return board(reports, reference="box", average="keypoint")


def test_the_best_method_leads_and_has_its_interval() -> None:
    shown = boarded(low=scored(20.0), high=scored(40.0))
    assert [method.name for method in shown.methods] == ["high", "low"]
    assert shown.methods[0].scores == {"0.05": Score(20.0), "0.10": Score(40.0, 35.0, 45.0)}
    assert (shown.alpha, shown.best) == ("0.10", {"0.05": 20, "0.10": 40})
    assert shown.methods[1].others["image, image"] == 19
    assert shown.remarks == ()


def test_intervals_are_of_the_average_over_keypoints() -> None:
    of_image = board({"one": scored(40.0)}, reference="box", average="image")
    assert of_image.methods[0].scores["0.10"] == Score(39.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": {"pairs": 1, "images": 2, "keypoints": 4}},
        {"protocol": EvalProtocol(alphas=(0.05, 0.1), comparison="<")},
        {"protocol": EvalProtocol(alphas=(0.05, 0.1), frame="squash", side=768)},
        {"made_by": {"split": "val"}},
    ],
)
def test_a_row_that_may_not_be_compared_is_told_and_never_the_best(changes: dict[str, Any]) -> None:
    shown = boarded(one=scored(20.0), two=scored(30.0), other=scored(90.0, **changes))
    assert [method.name for method in shown.methods if not method.alike] == ["other"]
    assert shown.best["0.10"] == 30
    assert "other was scored on other keypoints or under another protocol" in shown.remarks[0]


def test_a_report_without_the_average_has_a_row_without_scores() -> None:
    shown = boarded(one=scored(20.0), bare=scored(90.0, scores={"image": {"keypoint": {"0.10": 1.0}}}))
    assert [(method.name, len(method.scores)) for method in shown.methods] == [("one", 2), ("bare", 0)]
    assert [curve.method.name for curve in curves(shown).curves] == ["one"]
    with pytest.raises(MatchkitError, match="no report has the average 'category' of the reference 'box'"):
        board({"one": scored(20.0)}, reference="box", average="category")


def test_files_that_are_no_reports_are_left_out_and_named(tmp_path: Path) -> None:
    with pytest.raises(MatchkitError, match=r"no reports in .*\. Run: matchkit evaluate"):
        load_reports(tmp_path)
    scored(20.0).save(tmp_path / "good.json")
    (tmp_path / "bad.json").write_text('{"rows": []}')
    reports, refused = load_reports(tmp_path)
    assert list(reports) == ["good"]
    assert "bad.json is not a report" in refused[0]


def test_parts_and_categories_are_at_the_middle_alpha() -> None:
    shown = boarded(low=scored(20.0), high=scored(40.0, breakdowns={}))
    (table,) = breakdown_tables(shown)
    assert table.columns == ("method", "aware")
    assert [(name, cells[0].text, cells[0].note) for name, cells in table.rows] == [("low", "5.0", "1 to 9")]
    assert table.foot == ("keypoints", "7")
    panels = category_panels(shown)
    assert [panel.name for panel in panels] == ["cat", "dog"]
    assert [(method.name, score) for method, score in panels[0].bars] == [
        ("high", Score(40.0, 31.0, 49.0)),
        ("low", Score(20.0, 11.0, 29.0)),
    ]
    assert panels[1].bars[0][1] == Score(40.0)


def further(told: object) -> list[tuple[str, tuple[str, ...], list[str]]]:
    """The tables of a field that the page does not know, of one method."""
    shown = boarded(one=scored(20.0))
    (method,) = shown.methods
    extended = dataclasses.replace(method, report={**method.report, "analyses": told, "nothing": None})
    tables = further_tables(dataclasses.replace(shown, methods=(extended,)))
    return [(table.title, table.columns, [cell.text for cell in table.rows[0][1]]) for table in tables]


def test_what_the_page_does_not_know_is_shown_at_what_the_leaderboard_shows() -> None:
    kinds = {"right": 60.0, "wrong_side": 40.0}
    told = {
        "visibility": 71.25,
        "symmetry": {"box": {"0.05": {}, "0.10": kinds}, "image": {"0.10": {"right": 1.0}}},
        "kap": {"paper": {"keypoint": {"0.05": 3, "0.10": 4}, "image": {"0.10": 5}}},
        "tests": [{"against": "two", "p": 0.031254}, {"against": "three", "p": None}],
    }
    assert further(told) == [
        ("analyses", ("method", "visibility", "tests"), ["71.25", "against: two, p: 0.03125, against: three, p: -"]),
        ("symmetry at 0.10", ("method", "right", "wrong side"), ["60", "40"]),
        ("kap / paper", ("method", "0.05", "0.10"), ["3", "4"]),
    ]


def test_many_numbers_are_a_line() -> None:
    shown = boarded(one=scored(20.0))
    method = shown.methods[0]
    extended = dataclasses.replace(method, report={"curve": {"risks": (0.0, 1.0, 2.0, 3.0, 4.0)}})
    (table,) = further_tables(dataclasses.replace(shown, methods=(extended,)))
    cell = table.rows[0][1][0]
    assert cell.text == "0 to 4"
    assert cell.line == "0.0,18.0 25.0,14.0 50.0,10.0 75.0,6.0 100.0,2.0"


def test_curves_rise_with_the_score_and_names_do_not_cover_each_other() -> None:
    shown = boarded(one=scored(20.0), two=scored(20.1), three=scored(20.2))
    drawn = curves(shown)
    first = drawn.curves[0]
    (left, low), (right, high) = first.points
    assert left < right
    assert low > high
    assert first.band.count(",") == 2
    labels = sorted(curve.label for curve in drawn.curves)
    assert min(b - a for a, b in pairwise(labels)) >= LINE
    assert all(0 <= label <= HEIGHT for label in labels)


def test_names_that_have_room_stay() -> None:
    assert spread([50.0, 10.0], least=14.0, low=0.0, high=100.0) == [50.0, 10.0]
    assert spread([99.0, 98.0], least=14.0, low=0.0, high=100.0) == [100.0, 86.0]


def test_interval_bars_share_a_scale() -> None:
    bars, end = interval_bars(boarded(low=scored(20.0), high=scored(40.0), none=scored(10.0, intervals={})))
    assert end == 50
    assert (bars["high"].low, bars["high"].value, bars["high"].high) == (70, 80, 90)
    assert "none" not in bars


def test_a_conversion_table_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert conversion(tmp_path, "one") is None
    file = tmp_path / "protocols" / "one" / "all.json"
    file.parent.mkdir(parents=True)
    protocol = {"name": "x", "frame": "squash", "side": 768, "references": ["box"], "comparison": "<"}
    row = {
        "protocol": {**protocol, "average": "image"},
        "scores": {"image": {"0.10": 59.94}},
        "intervals": {"0.10": [55.0, 65.0]},
        "counts": {"pairs": 1200},
        "missing": "",
    }
    file.write_text(json.dumps({"rows": [row]}))
    told = conversion(tmp_path, "one")
    assert told is not None
    assert told.rows[0].facts == ("x", "squash 768", "box", "<", "image")
    assert told.rows[0].scores == {"0.10": "59.9 (55.0 to 65.0)"}
    assert told.rows[0].pairs == "1,200"
    file.write_text("[]")
    assert conversion(tmp_path, "one") is None
