"""DIFT's files: a category each, whole images in them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from matchkit.cache.interchange import Source
from matchkit.cache.interchange.dift import DiftFolder, DiftParams
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.spec import LayerSpec

Save = Callable[[object, Path], None]


@pytest.fixture
def folder(tmp_path: Path, save_as_cuda: Save) -> Path:
    """Two categories as eval_spair.py saves them, 8 x 3 x 3 instead of 1280 x 48 x 48."""
    for number, category in enumerate(("cat", "dog")):
        maps = {f"2008_00000{n}.jpg": torch.full((1, 8, 3, 3), 10.0 * number + n) for n in range(3)}
        save_as_cuda(maps, tmp_path / f"{category}.pth")
    return tmp_path


def opened(root: Path, params: DiftParams | None = None) -> DiftFolder:
    return DiftFolder(root, params or DiftParams(), weights="sd-2.1", dtype="fp16")


def test_every_image_of_every_category(folder: Path) -> None:
    source = opened(folder)
    assert isinstance(source, Source)
    assert source.ids == [f"{category}/2008_00000{n}" for category in ("cat", "dog") for n in range(3)]
    assert source.refused == []
    assert source.read("dog/2008_000002")["up1"].unique().item() == 12
    assert source.read("cat/2008_000000")["up1"].shape == (1, 8, 3, 3)
    source.close()


def test_the_spec_is_the_published_setting_or_what_is_told(folder: Path) -> None:
    spec = opened(folder).spec
    assert (spec.backbone, spec.weights, spec.fit) == ("dift-import", "sd-2.1", "stretch")
    assert (spec.timesteps, spec.input_size, spec.layers) == ((261,), (768, 768), (LayerSpec("up1", 8, (3, 3)),))
    told = opened(folder, DiftParams(timestep=101, block=2, input_size=(512, 384))).spec
    assert (told.timesteps, told.input_size, told.layers[0].name) == ((101,), (512, 384), "up2")
    with pytest.raises(ConfigError, match="input_size must be two positive numbers"):
        DiftParams(input_size=(0, 0))


def test_a_map_of_another_shape_is_named(folder: Path) -> None:
    torch.save({"a.jpg": torch.zeros(1, 8, 3, 4), "b.jpg": "text"}, folder / "eel.pth")
    source = opened(folder)
    with pytest.raises(StoreError, match=r"eel\.pth, 'a\.jpg', is 1 x 8 x 3 x 4, not 1 x 8 x 3 x 3"):
        source.read("eel/a")
    with pytest.raises(StoreError, match=r"eel\.pth, 'b\.jpg', is no dense tensor"):
        source.read("eel/b")


def test_files_that_cannot_be_read_are_named_and_the_rest_is_there(folder: Path) -> None:
    (folder / "ant.pth").write_bytes((folder / "cat.pth").read_bytes()[:-50])
    torch.save([1], folder / "bee.pth")
    torch.save({"a.jpg": torch.zeros(1, 8, 3, 3), "a.png": torch.zeros(1), 7: 0}, folder / "eel.pth")
    source = opened(folder)
    assert len(source.ids) == 7
    short, no_dict, twice, no_name = source.refused
    assert "ant.pth is cut short" in short
    assert "bee.pth is no dict of images' maps" in no_dict
    assert "eel.pth: 'a.jpg' and 'a.png' would both be image 'eel/a'" in twice
    assert "eel.pth: key 7 is no image's name" in no_name


def test_damage_is_named_once_for_all_images_of_the_file(folder: Path) -> None:
    path = folder / "dog.pth"
    content = bytearray(path.read_bytes())
    content[content.find(torch.full((4,), 11.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    source = opened(folder)
    with pytest.raises(StoreError, match=r"dog\.pth is damaged") as first:
        source.read("dog/2008_000000")
    with pytest.raises(StoreError) as second:
        source.read("dog/2008_000001")
    assert second.value is first.value
    assert source.read("cat/2008_000001")["up1"].unique().item() == 1


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no <category>\.pth"):
        opened(tmp_path)
    torch.save({}, tmp_path / "cat.pth")
    with pytest.raises(StoreError, match=r"no map can be read from .*every file is empty"):
        opened(tmp_path)
    (tmp_path / "cat.pth").write_bytes(b"")
    with pytest.raises(StoreError, match=r"no map can be read from .*cat\.pth is cut short"):
        opened(tmp_path)
