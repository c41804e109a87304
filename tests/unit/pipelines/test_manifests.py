"""Writing manifests by their verb: what is written and said, and that a manifest of other pairs is kept."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from matchkit.cli.datasets import datasets
from matchkit.core.errors import DatasetError
from matchkit.core.manifest import OWN_LIST, digest, manifest_digest, read_manifest
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.manifests import Manifested, manifest, manifest_path

GOLDEN = "82f7168f08ae2f31b877e5daf2f27cd3233942896157c8b7d00a5a78bf06135e"
"""Of the drawn tree's two training pairs."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_split_is_written_where_its_names_say(spair_tree: Path) -> None:
    written = manifest("spair", "trn", root=spair_tree)
    assert written == Manifested(Path("manifests/spair/trn.jsonl"), 2, 3, 6, GOLDEN)
    held = read_manifest(written.path)
    assert (held.header.dataset, held.header.split, held.header.rule) == ("spair", "trn", OWN_LIST)
    pairs = open_dataset("spair", spair_tree).pairs("trn")
    assert [pair.id for pair in held.pairs] == [pair.id for pair in pairs]
    assert digest(pairs) == GOLDEN
    assert manifest_digest("spair", "trn", pairs) == f"spair/trn/{GOLDEN}"


def test_a_tree_without_colons_has_the_same(spair_tree: Path) -> None:
    for path in list((spair_tree / "PairAnnotation" / "trn").iterdir()):
        path.rename(path.with_name(path.name.replace(":", "_")))
    assert manifest("spair", "trn", root=spair_tree).sha256 == GOLDEN


def test_no_part_of_the_tree_stands_in_it(spair_tree: Path) -> None:
    text = manifest("spair", "test", root=spair_tree).path.read_text(encoding="utf-8")
    assert str(spair_tree) not in text
    names = [
        json.loads(line)[key] for line in text.splitlines()[1:] for key in ("pair", "source", "target", "category")
    ]
    assert names
    assert not any(set(name) & set(':*?"<>|\\') for name in names)


def test_a_dataset_with_a_rule_says_it(project: Path) -> None:
    tree = project / "ap-10k"
    species, other = ({"id": n, "name": name, "supercategory": "Felidae"} for n, name in enumerate(("cat", "lion")))
    told = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 1, 9, 9], "keypoints": [3, 4, 2] * 17}
    image = {"id": 1, "file_name": "1.jpg", "width": 20, "height": 20}
    (tree / "data").mkdir(parents=True)
    (tree / "annotations").mkdir()
    for number, part in enumerate(("train", "val", "test"), start=1):
        numbers = {"id": number, "image_id": number}
        held = {"images": [image | numbers], "annotations": [told | numbers], "categories": [species, other]}
        (tree / "annotations" / f"ap10k-{part}-split1.json").write_text(json.dumps(held))
    header = read_manifest(manifest("ap10k", "test", root=tree).path).header
    assert (header.pairs, header.rule.seed) == (3, 42)
    assert header.rule.text.startswith("GeoAware-SC's preparation of AP-10K, sorted and seeded")


def test_again_the_same_bytes(spair_tree: Path) -> None:
    path = manifest("spair", "test", root=spair_tree).path
    before = path.read_bytes()
    manifest("spair", "test", root=spair_tree)
    assert path.read_bytes() == before


def test_a_manifest_of_other_pairs_is_kept(spair_tree: Path, project: Path) -> None:
    path = manifest("spair", "trn", root=spair_tree).path
    before = path.read_bytes()
    layout = spair_tree / "Layout" / "large" / "trn.txt"
    names = layout.read_text().split()
    layout.write_text(names[0])
    with pytest.raises(
        DatasetError, match=rf"{path} holds other pairs \({GOLDEN}\): pair '{names[1]}' is only in the file"
    ):
        manifest("spair", "trn", root=spair_tree)
    layout.write_text("\n".join(names))
    annotation = spair_tree / "PairAnnotation" / "trn" / f"{names[1]}.json"
    annotation.write_text(json.dumps(json.loads(annotation.read_text()) | {"trg_bndbox": [3, 4, 31, 31]}))
    with pytest.raises(DatasetError, match=rf"pair '{names[1]}' has other keypoints or boxes\. Write beside it: --out"):
        manifest("spair", "trn", root=spair_tree)
    assert path.read_bytes() == before
    assert manifest("spair", "trn", root=spair_tree, out=project / "new.jsonl").sha256 != GOLDEN


def test_a_manifest_that_was_changed_is_kept_too(spair_tree: Path) -> None:
    path = manifest("spair", "trn", root=spair_tree).path
    path.write_bytes(path.read_bytes().replace(b"cat", b"dog", 1))
    with pytest.raises(DatasetError, match=f"{path}, line 2 was changed"):
        manifest("spair", "trn", root=spair_tree)


def test_any_name_makes_a_path() -> None:
    assert manifest_path("my:set", "a/b?") == Path("manifests/my%3Aset/a/b%3F.jsonl")


def test_the_verb_says_what_it_wrote(spair_tree: Path) -> None:
    run = CliRunner().invoke(datasets, ["manifest", "spair", "--split", "trn", "--root", str(spair_tree)])
    assert run.exit_code == 0, run.output
    line = f"manifests/spair/trn.jsonl: 2 pairs, 3 images, 6 keypoints; SHA-256: {GOLDEN}"
    assert run.stdout.splitlines()[-1] == line
    told = ["manifest", "spair", "--root", str(spair_tree), "--out", "here.jsonl", "--json"]
    run = CliRunner().invoke(datasets, told)
    assert json.loads(run.stdout.splitlines()[-1])["path"] == "here.jsonl"
    assert read_manifest(Path("here.jsonl")).header.split == "test"


def test_a_split_that_is_not_there(spair_tree: Path) -> None:
    run = CliRunner().invoke(datasets, ["manifest", "spair", "--split", "no-such", "--root", str(spair_tree)])
    assert run.exit_code == 1
    assert "Error: spair has no split 'no-such'" in run.output
    assert not Path("manifests").exists()
