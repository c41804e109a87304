"""DistillDIFT's HDF5 caches: a group a layer, images by their files' names, categories from a dataset."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from matchkit.cache.interchange import Source
from matchkit.cache.interchange.distilldift import DistillDiftFile, DistillDiftParams
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.records import ImageRecord
from matchkit.core.spec import LayerSpec

TOLD = DistillDiftParams(input_size=(840, 840))
IMAGES = {
    image_id: ImageRecord(image_id, Path(f"JPEGImages/{image_id}.jpg"), (40, 30))
    for image_id in ("cat/1", "cat/2", "dog/2", "dog/3")
}


def written(path: Path, layers: dict[str, tuple[int, ...]], keys: list[str]) -> Path:
    """As DistillDIFT's cache_dataset writes it: a group a layer, a dataset an image."""
    with h5py.File(path, "w") as file:
        for layer, shape in layers.items():
            group = file.create_group(layer) if layer else file
            for number, key in enumerate(keys):
                group.create_dataset(key, data=np.full(shape, number, np.float32))
    return path


def opened(path: Path, params: DistillDiftParams = TOLD) -> DistillDiftFile:
    return DistillDiftFile(path, params, IMAGES, weights="unknown", dtype="fp16")


def test_layers_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "dinov2_b14_SPair-71k.h5", {"11": (4, 2, 3), "2": (1, 6, 5, 5)}, ["1.jpg", "3.jpg"])
    source = opened(path)
    assert isinstance(source, Source)
    assert (source.ids, source.refused) == (["cat/1", "dog/3"], [])
    assert source.spec.layers == (LayerSpec("layer2", 6, (5, 5)), LayerSpec("layer11", 4, (2, 3)))
    assert (source.spec.input_size, source.spec.fit, source.spec.timesteps) == ((840, 840), "stretch", (0,))
    maps = source.read("dog/3")
    assert {name: tuple(values.shape) for name, values in maps.items()} == {
        "layer2": (1, 6, 5, 5),
        "layer11": (1, 4, 2, 3),
    }
    assert all((values == 1).all() for values in maps.values())
    source.close()


def test_without_groups_and_without_endings(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.h5", {"": (4, 2, 3)}, ["1", "3"]))
    assert source.ids == ["cat/1", "dog/3"]
    assert source.spec.layers == (LayerSpec("features", 4, (2, 3)),)
    assert source.read("cat/1")["features"].shape == (1, 4, 2, 3)


def test_one_name_in_two_categories(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", {"11": (4, 2, 3)}, ["1.jpg", "2.jpg"])
    source = opened(path)
    assert source.ids == ["cat/1"]
    assert len(source.refused) == 1
    assert "'2.jpg' may be cat/2 or dog/2, for the file does not keep the category" in source.refused[0]
    source.close()
    shared = opened(path, DistillDiftParams(input_size=(840, 840), category_free=True))
    assert (shared.ids, shared.refused) == (["cat/1", "cat/2", "dog/2"], [])
    assert (shared.read("dog/2")["layer11"] == shared.read("cat/2")["layer11"]).all()


def test_what_is_lacking_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", {"2": (4, 2, 3), "11": (4, 2, 3)}, ["1.jpg", "3.jpg", "other.jpg"])
    with h5py.File(path, "a") as file:
        del file["11/3.jpg"]
    source = opened(path)
    assert source.ids == ["cat/1"]
    assert source.refused == [
        f"{path}: '3.jpg' is not in layer11",
        f"{path}: no image of the dataset is called 'other.jpg'",
    ]


def test_maps_of_other_shapes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", {"11": (4, 2, 3)}, ["1.jpg", "3.jpg"])
    with h5py.File(path, "a") as file:
        del file["11/3.jpg"]
        file["11/3.jpg"] = np.zeros((4, 3, 2), np.float32)
    with pytest.raises(StoreError, match=r"a\.h5, '/11/3\.jpg', is 4 x 3 x 2, not 1 x 4 x 2 x 3"):
        opened(path).read("dog/3")
    flat = written(tmp_path / "b.h5", {"11": (6, 4)}, ["1.jpg"])
    with pytest.raises(StoreError, match=r"b\.h5: '/11/1\.jpg' is 6 x 4, not channels x height x width"):
        opened(flat)


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", {"11": (64, 20, 30)}, ["1.jpg"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"a\.h5 is cut short or damaged: .*truncated file"):
        opened(path)
    path.write_bytes(b"none of ours")
    with pytest.raises(StoreError, match=r"a\.h5 is no HDF5 file"):
        opened(path)
    with pytest.raises(StoreError, match=r"b\.h5 is no file"):
        opened(tmp_path / "b.h5")
    with pytest.raises(StoreError, match=r"c\.h5 is empty"):
        opened(written(tmp_path / "c.h5", {}, []))
    with pytest.raises(StoreError, match=r"d\.h5 holds no map in '/11'"):
        opened(written(tmp_path / "d.h5", {"11": (4, 2, 3)}, []))


def test_the_size_of_the_images_must_be_told() -> None:
    with pytest.raises(ConfigError, match="does not say how large its images were"):
        DistillDiftParams()
