"""A fit that is complete is kept, until what it learnt from changes."""

import json
from pathlib import Path

import pytest

from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head

SETTINGS = ("features=pixels", "projection=128", "steps=2", "validate_every=1")


def fitted(root: Path) -> bytes:
    return fit_head("spair", "aggregator", root=root, settings=SETTINGS, device="cpu").weights.read_bytes()


def prepare(root: Path) -> None:
    extract("spair", "pixels", root=root, settings=("input_size=32",), device="cpu")


def test_a_complete_fit_is_kept(
    spair_tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(spair_tree.parent)
    prepare(spair_tree)
    before = fitted(spair_tree)
    with caplog.at_level("INFO", logger="matchkit"):
        assert fitted(spair_tree) == before
    assert "complete already" in caplog.text


@pytest.mark.parametrize("changed", ["keypoint", "photograph"])
def test_other_data_is_another_fit(
    spair_tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, changed: str
) -> None:
    monkeypatch.chdir(spair_tree.parent)
    prepare(spair_tree)
    before = fitted(spair_tree)
    if changed == "keypoint":
        (annotation, *_) = sorted((spair_tree / "PairAnnotation" / "trn").glob("*cat.json"))
        fields = json.loads(annotation.read_text())
        annotation.write_text(json.dumps(fields | {"src_kps": [[15, 16], *fields["src_kps"][1:]]}))
    else:
        photos = spair_tree / "JPEGImages" / "cat"
        picture = (spair_tree / "JPEGImages" / "dog" / "2008_000003.jpg").read_bytes()
        (photos / "2007_000001.jpg").write_bytes(picture)
        record = spair_tree / "ImageAnnotation" / "cat" / "2007_000001.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"image_width": 36, "image_height": 36}))
        prepare(spair_tree)
    with caplog.at_level("INFO", logger="matchkit"):
        assert fitted(spair_tree) != before
    assert "complete already" not in caplog.text
