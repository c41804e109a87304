"""The result card: what another lab needs beside a number."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.card import ALPHAS, privileged, result_card
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol

BOX = (0.0, 0.0, 100.0, 50.0)
POINTS = np.float32([[10, 10], [60, 20]])
SPEC = {
    **{"backbone": "sd-inversion", "weights": "sha256:0", "input_size": [128, 96], "fit": "letterbox", "dtype": "fp16"},
    **{"layers": [{"name": "up1", "channels": 8, "grid": [6, 8]}], "timesteps": [0, 90], "lineage": []},
    "options": {"prompt": "a photo of a {category}", "seed": 3},
}
MADE_BY: dict[str, Any] = {
    **{"dataset": "cats", "split": "test", "method": "mine", "manifest": "cats/test/0123", "features": "abc"},
    **{"spec": SPEC, "head": "aggregator", "fit": {"train": "trn", "dataset": "cats"}, "matcher": {"name": "nearest"}},
}


def card_of(made_by: dict[str, Any]) -> Any:
    images = {name: ImageRecord(name, Path("x.jpg"), (100, 50), "cat") for name in ("a", "b")}
    pairs = [Pair("p", "a", "b", "cat", POINTS, POINTS, ("0", "1"), BOX, BOX)]
    found = Predictions({"p": POINTS + np.float32([[0, 2], [0, 12]])}, made_by)
    report = score(pairs, images, found, EvalProtocol(comparison="<"))
    return result_card(report, score(pairs, images, found, replace(report.protocol, alphas=ALPHAS)))


def test_it_says_what_made_a_number(tmp_path: Path) -> None:
    card = card_of(MADE_BY)
    card.save(tmp_path / "cards" / "mine.json")
    held = json.loads((tmp_path / "cards" / "mine.json").read_text())
    assert held["data"] == {
        **{"dataset": "cats", "split": "test", "manifest": "cats/test/0123", "pairs": 1, "images": 2, "keypoints": 2},
    }
    assert held["scores"]["box"]["keypoint"] == {"0.01": 0, "0.05": 50, "0.10": 50, "0.15": 100, "0.20": 100}
    assert (held["scoring"]["comparison"], held["scoring"]["frame"]) == ("<", "original")
    assert held["features"]["input"] == "128 x 96 pixels, letterbox"
    assert held["features"]["layers"] == {"up1": "8 channels, 6 x 8 cells"}
    assert held["features"]["options"]["seed"] == 3
    assert held["method"]["matcher"] == {"name": "nearest"}
    page = (tmp_path / "cards" / "mine.md").read_text()
    assert page.startswith("# mine on cats, test\n")
    assert "| box, a keypoint | 0.00 | 50.00 | 50.00 | 100.00 | 100.00 |" in page
    assert "- a photo" not in page.split("## Given")[0].split("## Features")[0]
    assert "Partial" not in page


def test_a_part_of_a_split_is_marked() -> None:
    assert "**Partial: 1 pairs, by --set limit=1." in card_of(MADE_BY | {"limit": 1}).markdown()


@pytest.mark.parametrize(
    ("made_by", "told"),
    [
        ({}, ()),
        ({"method": "same-relative-position"}, ("the boxes of both objects",)),
        ({"fit": {"train": "trn", "dataset": "x"}}, ("keypoints of split trn of x, which it was trained on",)),
        ({"spec": SPEC}, ("the object's category, in the prompt 'a photo of a {category}'",)),
        (
            {"alignment": {"poses": ["hflip"], "masks": "segmentation", "mask_target": True}},
            (
                "the source in other poses: hflip",
                "which keypoints mirror each other",
                "the object's segmentation in both photographs",
            ),
        ),
        ({"alignment": {"poses": ["rot90"], "masks": "none"}}, ("the source in other poses: rot90",)),
    ],
)
def test_what_a_method_was_given_besides(made_by: dict[str, Any], told: tuple[str, ...]) -> None:
    assert privileged(made_by) == told
