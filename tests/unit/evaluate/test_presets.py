"""Matchings by name."""

import pytest

from matchkit.core.params import build, divide
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.pose_alignment import PoseAlignmentParams
from matchkit.evaluate.presets import PRESETS


def dealt(name: str) -> tuple[object, PoseAlignmentParams]:
    """The matcher's parameters and those of the alignment; nothing but `points` is left over."""
    params = PRESETS.params(name)
    matcher = params.pop("matcher")
    params.pop("points", None)
    kind = MATCHERS.load(matcher).Params
    own, of_alignment = divide(params, (kind, PoseAlignmentParams), where=name)
    return build(kind, own, where=name), build(PoseAlignmentParams, of_alignment, where=name)


@pytest.mark.parametrize("name", PRESETS.table())
def test_every_preset_builds(name: str) -> None:
    matcher, _ = dealt(name)
    assert matcher is not None


def test_windows_and_alignments_of_telling_left_from_right() -> None:
    """Geoaware §4.2 and §4.4: 15 x 15 after training, 11 x 11 and a mirrored source without."""
    code, alignment = dealt("geoaware-code")
    assert (code.window, code.temperature, code.outside) == (7, 0.02, "zero")  # type: ignore[attr-defined]
    assert alignment.poses == ()
    zero_shot, alignment = dealt("geoaware-zero-shot")
    assert zero_shot.window == 5  # type: ignore[attr-defined]
    assert alignment.poses == ("hflip",)
    paper, _ = dealt("geoaware-paper")
    assert paper.outside == "nothing"  # type: ignore[attr-defined]
    assert all(PRESETS.params(f"geoaware-{kind}")["points"] == "patch" for kind in ("paper", "code", "zero-shot"))


def test_source_document_001() -> None:
    """Geoaware §9."""
    matcher, alignment = dealt("source-001")
    assert (matcher.window, matcher.temperature, matcher.outside) == (7, 1.0, "nothing")  # type: ignore[attr-defined]
    assert (alignment.poses, alignment.neighbour, alignment.power) == (("hflip", "rot90", "rot270"), "dot", "squared")
    assert not alignment.mask_target
