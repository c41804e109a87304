"""A fit that is complete is kept, until what it learnt from changes."""

import json
from pathlib import Path

import pytest
import torch

from matchkit.core.errors import StoreError, WeightsError
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head

SETTINGS = ("features=pixels", "projection=128", "steps=2", "validate_every=1")
WIDE = (*SETTINGS, "projection=256")


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


def test_a_fit_begins_with_the_weights_of_another(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spair_tree.parent)
    prepare(spair_tree)
    first = fit_head("spair", "aggregator", root=spair_tree, settings=SETTINGS, device="cpu").weights
    told = (*SETTINGS, "head=aggregator", f"start={first}", "lr=0", "seed=5")
    second = fit_head("spair", "second", root=spair_tree, settings=told, device="cpu").weights
    before, after = (HeadWeights.load(path) for path in (first, second))
    assert all(torch.equal(values, after.tensors[name]) for name, values in before.tensors.items())
    assert after.fit["start"] == before.fit["identity"]


@pytest.mark.parametrize(
    ("head", "settings", "message"),
    [
        ("raw-layer", ("features=pixels",), "holds the head 'raw-layer', not 'aggregator'"),
        ("aggregator", WIDE, "do not"),
    ],
)
def test_weights_of_another_head_or_width_are_no_beginning(
    spair_tree: Path, monkeypatch: pytest.MonkeyPatch, head: str, settings: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(spair_tree.parent)
    prepare(spair_tree)
    other = fit_head("spair", head, root=spair_tree, settings=settings, device="cpu").weights
    told = (*SETTINGS, "head=aggregator", f"start={other}")
    with pytest.raises(WeightsError, match=message):
        fit_head("spair", "second", root=spair_tree, settings=told, device="cpu")


def test_a_fit_with_flips_needs_the_mirrored_copies(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spair_tree.parent)
    prepare(spair_tree)
    told = (*SETTINGS, "single_flip=1")
    with pytest.raises(StoreError, match="Run: matchkit extract --flip"):
        fit_head("spair", "post-processor", root=spair_tree, settings=told, device="cpu")
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu", poses=("hflip",))
    plain, flipped = (
        fit_head("spair", "post-processor", root=spair_tree, settings=settings, device="cpu").weights.read_bytes()
        for settings in (SETTINGS, told)
    )
    assert plain != flipped
