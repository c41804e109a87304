"""Exemplars of a split: the nearest ones of other groups, the same thing's photographs, or the dataset's own list."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jaxtyping import Bool, Float

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import ConfigError, DatasetError, StoreError
from matchkit.core.exemplars import Exemplars, read_exemplars
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.pipelines import conditions as corridor
from matchkit.pipelines import pairs as module
from matchkit.pipelines.pairs import PairsParams, directions, nearest, pairs

PHOTOS = {
    # id: (group, category, angle in degrees of its cells)
    "cat/1": ("tom", "cat", 0),
    "cat/2": ("tom", "cat", 5),
    "cat/3": ("mia", "cat", 20),
    "cat/4": ("leo", "cat", 60),
    "dog/1": ("rex", "dog", 10),
    "dog/2": ("bo", "dog", 180),
    "dog/3": ("bo", "dog", 200),
    "dog/4": ("odd", "dog", 230),
}


@dataclass
class Menagerie:
    """A dataset with conditions, as far as exemplars go; `val` has all images but the last one."""

    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = "folder"
    splits: tuple[str, ...] = ()
    kinds: tuple[ConditionKind, ...] = ()

    @property
    def images(self) -> Mapping[str, ImageRecord]:
        return {name: ImageRecord(name, Path(name), (8, 8), category) for name, (_, category, _) in PHOTOS.items()}

    def pairs(self, split: str) -> Sequence[Pair]:
        raise NotImplementedError

    def scheme(self, category: str) -> KeypointScheme:
        raise NotImplementedError

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        raise NotImplementedError

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        raise NotImplementedError

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        raise NotImplementedError

    def group(self, image_id: str) -> str:
        return PHOTOS[image_id][0]

    def of_split(self, split: str) -> tuple[str, ...]:
        if split not in ("trn", "val"):
            raise DatasetError(f"no split '{split}'")
        return tuple(reversed(list(PHOTOS)))[split == "val" :]

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        if not self.own:
            raise DatasetError("folder has no list of exemplars")
        return self.own


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut here: syncs would only wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def menagerie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Menagerie:
    """The dataset in place of any other one, and its features where they are looked for."""
    data = Menagerie()
    monkeypatch.setattr(corridor, "open_dataset", lambda name, root: data)
    monkeypatch.chdir(tmp_path)
    fill(Path("features/folder/geoaware.zarr"), ("sd.s3", "dino", "vit"))
    return data


def fill(where: Path, layers: tuple[str, ...]) -> None:
    """Cells of the angles told; in the other layers those of the negative ones, seen from the mirror."""
    spec = FeatureSpec(
        "pixels", "none", tuple(LayerSpec(name, 2, (2, 2)) for name in layers), (0,), (16, 16), "stretch", "fp32"
    )
    with FeatureStore.create(where, spec, list(PHOTOS)) as store:
        for name, (_, _, angle) in PHOTOS.items():
            maps = {}
            for layer in layers:
                turned = math.radians(angle if layer == "dino" else 7 * angle)
                direction = torch.tensor([math.cos(turned), math.sin(turned)])
                maps[layer] = direction.view(1, 2, 1, 1).expand(1, 2, 2, 2) * torch.tensor([[1.0, 2], [3, 4]])
            store.write(name, maps)


def expected(split: tuple[str, ...], image: str, count: int, *, within: bool = True) -> list[tuple[str, float]]:
    """By hand: other groups' images in falling order of the cosine from the mean of the split."""
    points = {name: np.exp(1j * np.radians(PHOTOS[name][2])) for name in split}
    mean = np.mean(list(points.values()))
    seen = {name: (point - mean) / abs(point - mean) for name, point in points.items()}
    others = [name for name in split if PHOTOS[name][0] != PHOTOS[image][0]]
    others = [name for name in others if not within or PHOTOS[name][1] == PHOTOS[image][1]]
    cosines = {name: float((seen[name] * seen[image].conjugate()).real) for name in others}
    return sorted(cosines.items(), key=lambda entry: -entry[1])[:count]


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("split", ["trn", "val"])
def test_the_nearest_of_other_groups(menagerie: Menagerie, split: str, within: bool) -> None:  # noqa: FBT001
    done = pairs("folder", split, count=2, settings=(f"within_category={within}",))
    assert (done.path, done.layer) == (Path(f"exemplars/folder/{split}.jsonl"), "dino")
    lists, images = read_exemplars(done.path), tuple(sorted(menagerie.of_split(split)))
    assert tuple(lists) == images
    assert done.images == len(images)
    for image, entry in lists.items():
        wanted = expected(images, image, 2, within=within)
        assert list(entry.nearest) == [name for name, _ in wanted]
        assert entry.similarities == pytest.approx([cosine for _, cosine in wanted], abs=2e-6)


def test_photographs_of_the_same_thing(menagerie: Menagerie) -> None:
    lists = read_exemplars(pairs("folder", "trn").path)
    same = {image: entry.same for image, entry in lists.items() if entry.same}
    assert same == {"cat/1": ("cat/2",), "cat/2": ("cat/1",), "dog/2": ("dog/3",), "dog/3": ("dog/2",)}
    assert not any(set(entry.same) & set(entry.nearest) for entry in lists.values())


def test_the_layer(menagerie: Menagerie) -> None:
    by_dino, by_vit = (read_exemplars(pairs("folder", "trn", layer=layer).path) for layer in ("dino", "vit"))
    assert dict(by_dino) != dict(by_vit)
    fill(Path("without.zarr"), ("sd.s3", "vit"))
    without = pairs("folder", "trn", store="without.zarr")
    assert without.layer == "vit"
    assert dict(read_exemplars(without.path)) == dict(by_vit)
    with pytest.raises(StoreError, match="no layer 'clip'"):
        pairs("folder", "trn", layer="clip")


def test_images_without_an_exemplar_like_them_are_told(menagerie: Menagerie, caplog: pytest.LogCaptureFixture) -> None:
    firsts = [expected(tuple(PHOTOS), image, 1)[0][1] for image in PHOTOS]
    floor = sorted(firsts)[1] + 1e-3  # above two of them
    done = pairs("folder", "trn", settings=(f"floor={floor}",))
    assert done.unlike == sum(first < floor for first in firsts) == 2
    assert "2 of 8 images have no exemplar of similarity" in caplog.text
    caplog.clear()
    assert pairs("folder", "trn", settings=("floor=-1",)).unlike == 0
    assert caplog.text == ""


def test_an_image_alone_in_its_category_has_none(menagerie: Menagerie, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {**menagerie.images, "cat/4": replace(menagerie.images["cat/4"], category="lion")}
    monkeypatch.setattr(Menagerie, "images", images)
    done = pairs("folder", "trn", settings=("floor=-1",))
    assert read_exemplars(done.path)["cat/4"] == Exemplars("cat/4", ())
    assert done.unlike == 1


def test_the_own_list(menagerie: Menagerie, caplog: pytest.LogCaptureFixture) -> None:
    menagerie.own = {"cat/1": ("dog/1", "cat/4"), "dog/2": ("cat/3",)}
    done = pairs("folder", "val", own=True, out=Path("lists/own.jsonl"))
    assert list(read_exemplars(Path("lists/own.jsonl")).values()) == [
        Exemplars("cat/1", ("dog/1", "cat/4"), (), ("cat/2",)),
        Exemplars("dog/2", ("cat/3",), (), ("dog/3",)),
    ]
    assert (done.images, done.layer, done.unlike) == (2, "", 5)
    assert "no exemplar of 5 of 7 images" in caplog.text


def test_what_is_refused(menagerie: Menagerie) -> None:
    with pytest.raises(ConfigError, match="--own takes the dataset's list as it is"):
        pairs("folder", "trn", own=True, count=3)
    with pytest.raises(DatasetError, match="no list of exemplars"):
        pairs("folder", "trn", own=True)
    with pytest.raises(DatasetError, match="no split 'tst'"):
        pairs("folder", "tst")
    with pytest.raises(ConfigError, match="no parameter 'k'"):
        pairs("folder", "trn", settings=("k=3",))
    with pytest.raises(ConfigError, match="count must be at least 1"):
        PairsParams(count=0)
    FeatureStore.open("features/folder/geoaware.zarr").withdraw("dog/3")
    with pytest.raises(StoreError, match=r"7 of 8 images.*matchkit extract --dataset folder --backbone geoaware"):
        pairs("folder", "trn")
    assert not Path("exemplars").exists()


def test_the_section_of_the_parameters(menagerie: Menagerie) -> None:
    fill(Path("features/folder/other.zarr"), ("vit",))
    Path("params.yaml").write_text("pairs:\n  folder: {features: other, count: 1}\n")
    done = pairs("folder", "trn", settings=("floor=-1",))
    assert done.layer == "vit"
    assert {len(entry.nearest) for entry in read_exemplars(done.path).values()} == {1}
    assert {len(x.nearest) for x in read_exemplars(pairs("folder", "trn", count=2).path).values()} == {2}
    Path("params.yaml").write_text("pairs:\n  folders: {count: 1}\n")
    with pytest.raises(ConfigError, match=r"params\.yaml pairs: no parameter 'folders'"):
        pairs("folder", "trn")


def test_the_verb(menagerie: Menagerie) -> None:
    told = ["pairs", "--dataset", "folder", "--split", "trn"]
    result = CliRunner().invoke(main, [*told, "--count", "2", "--layer", "vit"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "exemplars/folder/trn.jsonl: exemplars of 8 images, by layer vit" in result.stdout
    menagerie.own = dict.fromkeys(PHOTOS, ("dog/4",))
    result = CliRunner().invoke(main, [*told, "--own", "--out", "own.jsonl", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == {"path": "own.jsonl", "images": 8, "layer": "", "unlike": 0}
    assert CliRunner().invoke(main, [*told, "--count", "0"]).exit_code == 2


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_ranking_is_that_of_all_pairs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(0)
    units, groups = directions(rng.normal(size=(41, 7)).astype(np.float32) + 5), rng.integers(0, 12, 41)
    places, similarities = nearest(units, groups, count=6)
    for row in range(41):
        cosines = np.where(groups == groups[row], -np.inf, units @ units[row])
        assert places[row].tolist() == np.argsort(-cosines)[:6].tolist()
        np.testing.assert_allclose(similarities[row], cosines[places[row]], atol=1e-6)


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_of_equal_ones_the_first_comes_first(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies differ in the last bits of their products with the same row, according to how a matrix is cut."""
    monkeypatch.setattr(module, "BLOCK", block)
    three = directions(np.random.default_rng(1).normal(size=(3, 384)).astype(np.float32))
    places, similarities = nearest(np.tile(three, (30, 1)), np.arange(90), count=29)
    for row in range(90):
        assert places[row].tolist() == [other for other in range(row % 3, 90, 3) if other != row]
    assert (similarities == 1).all()


def test_where_there_are_too_few_the_rest_is_empty() -> None:
    units = directions(np.eye(4, dtype=np.float32))
    places, similarities = nearest(units, np.array([0, 0, 0, 1]), count=5)
    assert places.shape == (4, 4)
    assert places[:3].tolist() == [[3, -1, -1, -1]] * 3
    assert places[3].tolist() == [0, 1, 2, -1]
    np.testing.assert_array_equal(np.isnan(similarities), places < 0)


def test_directions_are_seen_from_the_mean() -> None:
    units = directions(np.array([[10, 1], [10, -1], [10, 0]], np.float32))
    np.testing.assert_array_equal(units, np.array([[0, 1], [0, -1], [0, 0]], np.float32))
