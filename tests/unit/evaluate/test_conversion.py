"""Many protocols from one file of predictions."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.conversion import Conversion, Row, convert
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.protocols import PRESETS, build_protocol

NAMES = [str(n) for n in range(8)]
IMAGES = {name: ImageRecord(name, Path("x.jpg"), (200, 100 + 20 * n)) for n, name in enumerate(NAMES)}
PROTOCOLS = [build_protocol(PRESETS.params(name) | {"resamples": 400}, where=name) for name in PRESETS.table()]


def case(*, boxes: bool = True) -> tuple[list[Pair], Predictions]:
    """Pairs of 2 to 4 keypoints whose predictions are some pixels off."""
    generator = np.random.default_rng(0)
    pairs, found = [], {}
    for n in range(40):
        count = int(generator.integers(2, 5))
        points = generator.integers(0, 100, (count, 2)).astype(np.float32)
        source, target = generator.choice(NAMES, 2, replace=False)
        box = (0.0, 0.0, 90.0, 80.0) if boxes else None
        ids = tuple(map(str, range(count)))
        turn = {"viewpoint_variation": n % 2}
        made = Pair(f"p{n}", str(source), str(target), "cd"[n % 2], points, points, ids, box, box, turn)
        pairs.append(made)
        found[made.id] = points + generator.normal(0, 6, (count, 2)).astype(np.float32)
    return pairs, Predictions(found, {"split": "test"})


def test_a_row_is_what_the_protocol_scores_alone() -> None:
    pairs, found = case()
    rows = convert(pairs, IMAGES, found, PROTOCOLS).rows
    assert len(rows) == len(PROTOCOLS) + 2  # two of them have two references
    for row in rows:
        if row.protocol.name == "probe3d-view-2":
            continue
        reference = row.protocol.references[0]
        alone = score(pairs, IMAGES, found, row.protocol)
        assert row.scores == alone.scores[reference]
        assert row.counts == alone.counts
        assert row.headline == alone.scores[reference][row.protocol.average]
        if row.protocol.average == "keypoint":
            assert row.intervals == alone.intervals[reference]


def test_intervals_are_of_the_protocols_own_average() -> None:
    """With as many keypoints in every pair, the averages over pairs and over keypoints have one interval."""
    pairs, found = case()
    even = [replace(pair, **{key: getattr(pair, key)[:2] for key in CUT}) for pair in pairs]
    cut = Predictions({name: points[:2] for name, points in found.points.items()}, {})
    plain = EvalProtocol(references=("box",), resamples=400)
    a_keypoint, an_image, weighted = convert(
        even, IMAGES, cut, [replace(plain, average=average) for average in ("keypoint", "image", "pair-weighted")]
    ).rows
    assert weighted.intervals == {}
    for alpha, ends in a_keypoint.intervals.items():
        assert an_image.intervals[alpha] == pytest.approx(ends, abs=1e-4)
        assert ends[0] < a_keypoint.headline[alpha] < ends[1]
    a_keypoint, an_image = convert(
        pairs, IMAGES, found, [replace(plain, average=average) for average in ("keypoint", "image")]
    ).rows
    assert a_keypoint.intervals["0.10"] != an_image.intervals["0.10"]
    assert an_image.intervals["0.10"][0] < an_image.headline["0.10"] < an_image.intervals["0.10"][1]


CUT = ("source_points", "target_points", "keypoint_ids")


def test_a_protocol_that_cannot_be_served_says_why_and_the_others_are_scored() -> None:
    pairs, found = case(boxes=False)
    rows = {
        (row.protocol.name, row.protocol.references[0]): row for row in convert(pairs, IMAGES, found, PROTOCOLS).rows
    }
    assert "pair 'p0' has no target box" in rows["dift", "box"].missing
    assert rows["dift", "box"].scores == {}
    assert rows["original", "image"].headline
    assert rows["pf-willow-keypoints", "keypoints"].headline
    assert "no pair has the viewpoint_variation 2" in rows["probe3d-view-2", "box"].missing
    boxed = [protocol for protocol in PROTOCOLS if protocol.references == ("box",)]
    with pytest.raises(DatasetError, match="no protocol can be scored: pair 'p0' has no target box"):
        convert(pairs, IMAGES, found, boxed)


def test_predictions_of_a_subset_serve_the_protocol_of_that_subset() -> None:
    pairs, found = case()
    few = [pair.id for pair in pairs if pair.variations["viewpoint_variation"] == 1]
    some = Predictions({name: found.points[name] for name in few}, {})
    whole, one = convert(pairs, IMAGES, some, [EvalProtocol(), EvalProtocol(viewpoint=1)]).rows[::2]
    assert "the predictions lack pair 'p0'" in whole.missing
    assert one.counts["pairs"] == len(few)


def test_the_table_has_a_row_a_protocol_and_a_column_an_alpha() -> None:
    strict = EvalProtocol((0.05, 0.1), ("image",), "<", frame="letterbox", side=840, average="image", name="strict")
    told = Row(
        strict, {"pairs": 1234}, {"image": {"0.05": 10.0, "0.10": 60.04}}, {"0.05": (1.0, 20.0), "0.10": (58.0, 62.16)}
    )
    loose = EvalProtocol((0.1, 0.125), ("box",), average="category", name="loose")
    without = Row(loose, {"pairs": 7}, {"category": {"0.10": 1.0, "0.125": 2.0}, "image": {"0.10": 99.0}})
    nothing = Row(replace(loose, name="none"), missing="pair 'a|b' has no target box. Score it with: --set this")
    table = Conversion((told, without, nothing), {}).table()
    assert table.splitlines() == [
        "| protocol | frame | reference | comparison | average | PCK@0.05 | PCK@0.10 | PCK@0.125 | pairs |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| strict | letterbox 840 | image | `<` | image | 10.0 | 60.0 (58.0 to 62.2) | - | 1,234 |",
        "| loose | original | box | `<=` | category | - | 1.0 | 2.0 | 7 |",
        "| none: not scored, pair 'a\\|b' has no target box | original | box | `<=` | category | - | - | - | - |",
    ]


def test_all_facts_stand_in_the_file(tmp_path: Path) -> None:
    pairs, found = case()
    conversion = convert(pairs, IMAGES, found, PROTOCOLS)
    conversion.save(tmp_path / "a" / "all.json")
    data = json.loads((tmp_path / "a" / "all.json").read_text())
    assert data["made_by"] == {"split": "test"}
    assert [row["protocol"]["name"] for row in data["rows"]] == [row.protocol.name for row in conversion.rows]
    assert data["rows"][0]["protocol"].keys() == asdict(EvalProtocol()).keys()
    assert data["rows"][0]["scores"] == conversion.rows[0].scores
