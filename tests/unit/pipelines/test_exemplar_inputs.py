"""From files and ids to what a head is given: the same as lies in the stores, or a refusal."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from matchkit.cache.exemplars import as_given
from matchkit.cache.store import FeatureStore
from matchkit.core.conditions import ConditionKind, condition_spec_of
from matchkit.core.errors import ConfigError, DatasetError, SpecMismatchError
from matchkit.core.exemplar_batches import LATENT, PHOTO
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines import exemplar_inputs as module
from matchkit.pipelines.exemplar_inputs import ExemplarInputs

SIZE = (40, 30)
CHANNELS = {"mask": 3, "edge": 2, "pose": 20}


def made(
    kind: ConditionKind = "mask", *, category: str = "", timesteps: tuple[int, ...] = (0,), **changes: Any
) -> ExemplarInputs:
    fit = {"dataset": "folder", "features": "maps", "conditions": kind, "photos": "photos", "latents": "latents"}
    spec = replace(FeatureStore.open("features/folder/maps.zarr").spec, timesteps=timesteps)
    kept = HeadWeights("cross-domain", {}, spec, fit=fit)
    params = CrossDomainParams(**({"kind": kind, "channels": CHANNELS[kind], "side": 16} | changes))
    return ExemplarInputs(kept, params, dataset="folder", root=None, category=category, device="cpu")


def stored(store: str, image_id: str) -> torch.Tensor:
    return next(iter(FeatureStore.open(f"features/folder/{store}.zarr").read(image_id).values()))


@pytest.mark.parametrize("ending", ["mask/1.png", "edge/1.png", "pose/1.json"])
def test_a_condition_is_that_of_the_store(project: Path, ending: str) -> None:
    kind: Any = ending.partition("/")[0]
    inputs = made(kind)
    of_id = inputs.condition("1", canvas=(1, 1)).given(16)
    of_file = inputs.condition(f"data/folder/conditions/{ending}", canvas=SIZE).given(16)
    spec = condition_spec_of(FeatureStore.open(f"features/folder/{kind}.zarr").spec)
    expected = as_given(stored(kind, "1").float(), spec)
    assert torch.allclose(of_id, expected, atol=1e-3)  # kept in half precision
    assert torch.equal(of_file, of_id)
    assert of_id.shape == (1, CHANNELS[kind], 16, 16)


def test_without_the_store_the_dataset_tells_what_conditions_are(project: Path) -> None:
    expected = made().condition("2", canvas=(1, 1)).given(16)
    shutil.rmtree("features/folder/mask.zarr")
    found = made().condition("data/folder/conditions/mask/2.png", canvas=(1, 1))
    assert found.fit == "letterbox"  # as params.yaml says
    assert torch.equal(found.given(16), expected)
    shutil.rmtree("data")
    with pytest.raises(DatasetError, match="is not a folder"):
        made().condition("params.yaml", canvas=(1, 1))


@pytest.mark.parametrize("name", ["1", "1@flip"])
def test_an_exemplar_is_that_of_the_stores(project: Path, name: str) -> None:
    found = made().exemplar(name, own=None, latent=True)
    photographs = found.photographs
    if name == "1":
        assert torch.equal(photographs.maps["rgb"][0], stored("maps", "1"))
        assert torch.equal(photographs.payloads[PHOTO][0], stored("photos", "1")[0].float())
        assert torch.allclose(photographs.payloads[LATENT][0], stored("latents", "1")[0].float(), atol=2e-3)
    else:
        plain = made().exemplar("1", own=None, latent=False).photographs
        assert torch.allclose(photographs.maps["rgb"], plain.maps["rgb"].flip(4), atol=1e-2)
    assert (photographs.ids, photographs.condition.shape) == ((name,), (1, 0, 1, 1))
    assert torch.allclose(found.picture * 2 - 1, photographs.payloads[PHOTO], atol=1e-2)


def test_a_file_is_the_photograph_of_its_id(project: Path) -> None:
    inputs = made(category="cat")
    one, other = (inputs.exemplar(told, own=None, latent=False) for told in ("1", "data/folder/1.png"))
    assert torch.equal(one.photographs.maps["rgb"], other.photographs.maps["rgb"])
    assert other.photographs.ids == ("cat/1",)
    assert set(other.photographs.payloads) == {PHOTO}


def test_a_file_is_taken_upright(project: Path) -> None:
    with Image.open("data/folder/1.png") as picture:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown, it is turned by a quarter clockwise
        picture.transpose(Image.Transpose.ROTATE_90).save("sideways.png", exif=exif)
    inputs = made()
    assert inputs.size("sideways.png") == inputs.size("1") == SIZE
    one, other = (inputs.exemplar(told, own=None, latent=False) for told in ("1", "sideways.png"))
    assert torch.equal(one.picture, other.picture)


def test_the_timestep_of_the_head_is_taken(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"rgb": torch.arange(2.0).view(1, 2, 1, 1, 1)}
    monkeypatch.setattr(module, "_maps", lambda prepared, photo: two)
    monkeypatch.setattr(ExemplarInputs, "_require", lambda *_: None)
    inputs = made(timestep=3, timesteps=(7, 3))
    assert inputs.exemplar("1", own=None, latent=False).photographs.maps["rgb"].flatten().tolist() == [1]


def test_the_exemplars_own_condition(project: Path) -> None:
    inputs = made()
    own = inputs.condition("1", canvas=(1, 1))
    assert torch.equal(inputs.exemplar("1", own=own, latent=False).photographs.condition, own.given(16))


@pytest.mark.parametrize(("entry", "key", "value"), [("maps", "cell", 8), ("photos", "cell", 2)])
def test_an_entry_that_has_changed_since(project: Path, entry: str, key: str, value: int) -> None:
    told = yaml.safe_load(Path("params.yaml").read_text())
    told["extract"]["folder"][entry][key] = value
    Path("params.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(SpecMismatchError, match=rf"extract\.folder\.{entry} of params\.yaml .* fit the head again"):
        made().exemplar("1", own=None, latent=False)


def test_joints_in_text_files(project: Path) -> None:
    rng = np.random.default_rng(1)
    lines = [f"{x} {y} 0.9 {row}" for row, (x, y) in enumerate(rng.integers(2, 28, (18, 2)))]
    Path("a_candidate.txt").write_text("\n".join(lines))
    Path("a_subset.txt").write_text(" ".join(map(str, range(18))) + " 16.2 18")
    found = made("pose").condition("a_candidate.txt", canvas=SIZE)
    assert (found.id, found.values.shape) == ("a", (20, 30, 40))
    assert found.values[:3].any()
    with pytest.raises(DatasetError, match=r"no pose of OpenPose: give a \.json, or a \*_candidate\.txt"):
        made("pose").condition("a_subset.txt", canvas=SIZE)


def test_conditions_of_another_making(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes a mask of 4 channels, and .* of a mask of 3"):
        made(channels=4).condition("1", canvas=(1, 1))
    Path("data/folder/conditions/mask/classes.txt").write_text("background\nears\n")
    with pytest.raises(ConfigError, match=r"are others than those of 'folder'.* 2 channels, not 3"):
        made().condition("1", canvas=(1, 1))


def test_neither_file_nor_id(project: Path) -> None:
    for ask in (made().size, lambda told: made().condition(told, canvas=(1, 1))):
        with pytest.raises(DatasetError, match="'7' is neither a file nor an image of dataset 'folder'"):
            ask("7")
    shutil.rmtree("data")
    with pytest.raises(DatasetError, match="'7' is no file, and whether it is an image cannot be told"):
        made().size("7")
