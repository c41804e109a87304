"""Reports and the table over several of them."""

from pathlib import Path

import pytest

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Report, category_table, counts_line, summary_table


def report(low: float, high: float) -> Report:
    scores = {"box": {"keypoint": {"0.05": low, "0.10": high}}}
    categories = {"box": {"cat": scores["box"], "dog": scores["box"]}}
    counts = {"pairs": 1200, "images": 40, "keypoints": 9000}
    protocol = EvalProtocol(alphas=(0.05, 0.1), references=("box",))
    return Report(scores, categories, counts, protocol, {"method": "x"})


def test_round_trip(tmp_path: Path) -> None:
    report(1.0, 2.0).save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report(1.0, 2.0)


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
