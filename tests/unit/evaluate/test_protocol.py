"""What a protocol refuses, the names of its alphas, and how it comes back from a report."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from matchkit.core.errors import ConfigError, MatchkitError
from matchkit.core.params import build
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Report


def test_alphas_are_named_with_two_digits_or_all_they_need() -> None:
    assert EvalProtocol(alphas=(0.1, 0.05, 0.125, 1.0)).names == ("0.10", "0.05", "0.125", "1.00")


@pytest.mark.parametrize("values", [{"alphas": ()}, {"alphas": (0.1, 0.1)}, {"alphas": (0.0, 0.1)}, {"references": ()}])
def test_a_protocol_that_scores_nothing_or_twice_is_refused(values: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError, match="positive, distinct alphas"):
        EvalProtocol(**values)  # type: ignore[arg-type]


def test_too_few_resamplings_are_refused_and_none_is_none() -> None:
    assert EvalProtocol(resamples=0).resamples == 0
    for few in (-1, 1, 99):
        with pytest.raises(ConfigError, match="0 or at least 100"):
            EvalProtocol(resamples=few)


def test_breakdowns_are_lists_in_params_yaml_and_known_by_name() -> None:
    told = build(EvalProtocol, {"breakdowns": ["azimuth", "geometry"]}, where="params.yaml evaluate")
    assert told.breakdowns == ("azimuth", "geometry")
    with pytest.raises(ConfigError, match=r"breakdowns\.0: Input should be 'geometry', 'azimuth'"):
        build(EvalProtocol, {"breakdowns": ["geometri"]}, where="params.yaml evaluate")


@pytest.mark.parametrize("values", [{"frame": "squash"}, {"side": 768}, {"frame": "letterbox", "side": -1}])
def test_a_square_needs_a_side_and_nothing_else_has_one(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="need a side in pixels"):
        EvalProtocol(**values)
    with pytest.raises(ConfigError, match="pairs_a_category must be 0"):
        EvalProtocol(pairs_a_category=-1)


def test_the_frame_has_its_side_in_its_name() -> None:
    assert EvalProtocol().frame_name == "original"
    assert EvalProtocol(frame="letterbox", side=840).frame_name == "letterbox 840"


EVERY_FACT = EvalProtocol(
    alphas=(0.1,),
    references=("keypoints",),
    comparison="<",
    breakdowns=("azimuth",),
    resamples=500,
    frame="squash",
    side=768,
    floored="frame",
    average="pair-weighted",
    pairs_a_category=20,
    viewpoint=1,
    subset="list.txt",
    subset_digest="0123456789ab",
    name="mine",
    source="here",
)


def test_every_fact_comes_back_from_a_report(tmp_path: Path) -> None:
    for field in fields(EvalProtocol):
        assert getattr(EVERY_FACT, field.name) != getattr(EvalProtocol(), field.name), field.name
    path = tmp_path / "r.json"
    Report({}, {}, {}, EVERY_FACT, {}).save(path)
    assert Report.load(path).protocol == EVERY_FACT


def test_a_report_from_before_there_were_frames_was_in_original_pixels(tmp_path: Path) -> None:
    told = {"alphas": [0.05, 0.1], "references": ["box"], "comparison": "<", "breakdowns": [], "resamples": 2000}
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"scores": {}, "categories": {}, "counts": {}, "made_by": {}, "protocol": told}))
    assert Report.load(path).protocol == EvalProtocol((0.05, 0.1), ("box",), "<")
    del told["comparison"]
    path.write_text(json.dumps({"scores": {}, "categories": {}, "counts": {}, "made_by": {}, "protocol": told}))
    with pytest.raises(MatchkitError, match=r"is not a report \('comparison'\)"):
        Report.load(path)
