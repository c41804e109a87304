"""Reports of translated pictures and the table over several."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matchkit.core.errors import ConfigError, MatchkitError
from matchkit.evaluate.translation.report import MEASURES, TranslationReport, markdown_table

SETTINGS: dict[str, dict[str, Any]] = {
    "psnr": {"where": "figure"},
    "swd": {"seed": 0, "patches": 128},
    "pck": {"reference": "longer edge"},
}
COPY = {"psnr": 9.96, "pck@0.05": 17.9}


def report(**scores: float) -> TranslationReport:
    return TranslationReport(
        scores={"psnr": 14.0, "pck@0.05": 79.04, "swd": 12.0} | scores,
        counts={"pictures": 40, "cells": 1200},
        settings=SETTINGS,
        made_by={"head": "cross-domain", "digest": "0123456789ab"},
        baselines={"copied": COPY},
    )


def test_round_trip(tmp_path: Path) -> None:
    report().save(tmp_path / "deep" / "r.json")
    assert TranslationReport.load(tmp_path / "deep" / "r.json") == report()


def test_the_same_report_is_the_same_bytes(tmp_path: Path) -> None:
    turned = replace(
        report(),
        scores=dict(reversed(list(report().scores.items()))),
        settings={name: dict(reversed(list(values.items()))) for name, values in reversed(list(SETTINGS.items()))},
    )
    report().save(tmp_path / "a.json")
    turned.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_what_is_not_finite_comes_back_and_the_file_is_json(tmp_path: Path) -> None:
    report(**{"psnr": math.inf, "pck@0.10": math.nan}).save(tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert told["scores"]["psnr"] == "inf"
    loaded = TranslationReport.load(tmp_path / "r.json")
    assert loaded.scores["psnr"] == math.inf
    assert math.isnan(loaded.scores["pck@0.10"])


@pytest.mark.parametrize("value", [math.nan, Path("x")])
def test_settings_that_json_cannot_hold_are_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain JSON"):
        replace(report(), made_by={"head": value}).save(tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("settings", [{}, {"psnr": {}}])
def test_a_score_without_settings_is_refused(settings: dict[str, dict[str, int]]) -> None:
    with pytest.raises(ConfigError, match=r"score 'psnr' needs settings\['psnr'\]"):
        TranslationReport({"psnr": 1.0}, {}, settings, {}, {})


def test_a_baseline_needs_settings_too() -> None:
    with pytest.raises(ConfigError, match="score 'fid'"):
        replace(report(), baselines={"copied": {"fid": 3.0}})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scores": {"psnr": 1}, "baselines": {}}'])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(MatchkitError, match=r"r\.json is not a report"):
        TranslationReport.load(tmp_path / "r.json")


def test_a_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MatchkitError, match="Run: matchkit translate"):
        TranslationReport.load(tmp_path / "r.json")


def test_the_table() -> None:
    weak = report(**{"pck@0.05": 50.0, "swd": 40.0, "psnr@48": 1.0, "psnr": 15.0})
    table = markdown_table({"good": report(), "weak": weak})
    assert table.splitlines()[:5] == [
        "| method | pck@0.05 | psnr | psnr@48 | swd |",
        "|---|---:|---:|---:|---:|",
        "| good | **79.0** | 14.00 | - | **12.0** |",
        "| weak | 50.0 | **15.00** | **1.00** | 40.0 |",
        "| *copied* | 17.9 | 9.96 | - | - |",
    ]


def test_settings_stand_beneath_the_table_once_or_by_report() -> None:
    other = replace(report(), settings=SETTINGS | {"swd": {"seed": 1, "patches": 128}}, counts={"pictures": 39})
    assert markdown_table({"a": report(), "b": other}).splitlines()[5:] == [
        "",
        "- pck: reference longer edge",
        "- psnr: where figure",
        "- swd (a): patches 128, seed 0",
        "- swd (b): patches 128, seed 1",
        "- counts (a): cells 1200, pictures 40",
        "- counts (b): pictures 39",
    ]


def test_a_baseline_of_which_reports_disagree_has_a_row_each() -> None:
    other = replace(report(), baselines={"copied": COPY | {"psnr": 20.0}})
    names = [line.split(" | ")[0] for line in markdown_table({"a": report(), "b": other}).splitlines()[4:6]]
    assert names == ["| *copied* (a)", "| *copied* (b)"]
    assert "**20.00**" in markdown_table({"a": report(), "b": other})


def test_lower_is_better_where_it_is_and_some_measures_have_no_better() -> None:
    settings = {name: {"seed": 0} for name in MEASURES}
    low, high = (TranslationReport(dict.fromkeys(MEASURES, value), {}, settings, {}, {}) for value in (1.0, 2.0))
    rows = [line.split(" | ")[1:] for line in markdown_table({"low": low, "high": high}).splitlines()[2:4]]
    best = {name: [cell.startswith("**") for cell in cells] for name, *cells in zip(MEASURES, *rows, strict=True)}
    assert best["psnr"] == best["pck"] == best["texture"] == [False, True]
    assert best["swd"] == best["fid"] == best["cycle_error"] == [True, False]
    assert best["entropy"] == best["copy_score"] == [False, False]


def test_unknown_measures_come_last_and_what_could_not_be_measured_is_a_dash() -> None:
    told = {"lpips": 0.5, "fid": math.nan, "ssim": 0.25}
    table = markdown_table({"a": TranslationReport(told, {}, {name: {"seed": 0} for name in told}, {}, {})})
    assert table.splitlines()[0] == "| method | ssim | fid | lpips |"
    assert table.splitlines()[2] == "| a | **0.250** | - | 0.500 |"


def test_no_report_is_no_table() -> None:
    with pytest.raises(ConfigError, match="no report"):
        markdown_table({})
