"""The HDF5 caches of DistillDIFT: `<model>_<dataset>.h5`, a dataset (c, h, w) an image, in a group a layer.

    /11/2008_000008.jpg     where the model has layers: the group is the layer's number
    /2008_000008.jpg        where it has none

An image is named by its file's name alone, so its category is found in a dataset. The photograph was stretched.
Source: DistillDIFT (Fundel et al., WACV 2025), `cache_dataset` of its `train/utils/dataset.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import torch

from matchkit.cache.interchange.hdf5_files import damage_is_named, open_hdf5, read_whole
from matchkit.cache.interchange.maps import times, to_map
from matchkit.cache.reader import ImageMaps
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.records import ImageRecord
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType

ONLY_LAYER = "features"
"""The layer's name where the file has no groups."""


@dataclass(frozen=True, slots=True)
class DistillDiftParams:
    """What the file does not say of itself; it stands in DistillDIFT's `eval_config.yaml`.

    Attributes:
        input_size: (width, height) in pixels, its `image_size`.
        timestep: the diffusion step, its `step`; 0 for models without.
        category_free: whether the model never sees the category, as DINO does not: images of several categories that
            have one name then share its map.
    """

    input_size: tuple[int, int] = (0, 0)
    timestep: int = 0
    category_free: bool = False

    def __post_init__(self) -> None:
        if min(self.input_size) < 1:
            raise ConfigError(
                "a DistillDIFT file does not say how large its images were. Tell it, as the model's image_size in "
                "eval_config.yaml: --set 'input_size=[768, 768]'"
            )


class DistillDiftFile:
    """The images of one file (see `matchkit.cache.interchange.Source`) that a dataset knows.

    Args:
        path: the file.
        params: what it does not say.
        images: of the dataset, by id.
        weights: what is known of the network's weights.
        dtype: of the store that the maps go into.

    Raises:
        StoreError: no such file, cut short, or without maps; the first map of a layer says what shape all have.
    """

    def __init__(
        self,
        path: Path,
        params: DistillDiftParams,
        images: Mapping[str, ImageRecord],
        *,
        weights: str,
        dtype: StoredType,
    ) -> None:
        self._path = path
        self._file = open_hdf5(path)
        try:
            with damage_is_named(path):
                self._groups = _groups(self._file, path)
                layers = tuple(_layer(name, group, path) for name, group in self._groups.items())
                held = {name: set(group) for name, group in self._groups.items()}
        except StoreError:
            self._file.close()
            raise
        self.refused: list[str] = []
        self._keys = self._named(held, images, category_free=params.category_free)
        self.ids: Sequence[str] = sorted(self._keys)
        self.notes: Mapping[str, Any] = {"imported": {"format": "distilldift", "from": str(path.resolve())}}
        self.spec = FeatureSpec(
            backbone="distilldift-import",
            weights=weights,
            layers=layers,
            timesteps=(params.timestep,),
            input_size=params.input_size,
            fit="stretch",
            dtype=dtype,
            options={"source": "distilldift"},
        )

    def _named(
        self, held: Mapping[str, set[str]], images: Mapping[str, ImageRecord], *, category_free: bool
    ) -> dict[str, str]:
        """The key of every image that the file has in all its layers."""
        known: dict[str, list[str]] = {}
        for record in images.values():
            for name in {record.path.name, record.path.stem}:
                known.setdefault(name, []).append(record.id)
        keys: dict[str, str] = {}
        for key in sorted(set().union(*held.values())):
            ids = known.get(key, [])
            lacking = [name for name, there in held.items() if key not in there]
            if lacking:
                self.refused.append(f"{self._path}: '{key}' is not in {', '.join(lacking)}")
            elif not ids:
                self.refused.append(f"{self._path}: no image of the dataset is called '{key}'")
            elif len(ids) > 1 and not category_free:
                self.refused.append(
                    f"{self._path}: '{key}' may be {' or '.join(ids)}, for the file does not keep the category. "
                    "If the model never saw it, take the map for each of them: --set category_free=true"
                )
            else:
                keys |= dict.fromkeys(ids, key)
        return keys

    def image_crc32c(self, image_id: str) -> int:
        """Not known."""
        return 0

    def read(self, image_id: str) -> ImageMaps:
        """The maps of one image."""
        key, maps = self._keys[image_id], {}
        for layer, group in zip(self.spec.layers, self._groups.values(), strict=True):
            values = torch.from_numpy(read_whole(group[key], self._path))
            where = f"{self._path}, '{group[key].name}',"
            maps[layer.name] = to_map(values, layer, dtype=self.spec.dtype, where=where)
        return maps

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _groups(file: h5py.File, path: Path) -> dict[str, h5py.Group]:
    """The groups that hold maps, by the layer's name: `layer<number>` in the order of the numbers."""
    groups = {name: item for name, item in file.items() if isinstance(item, h5py.Group)}
    if not len(file):
        raise StoreError(f"{path} is empty. Is it a DistillDIFT cache?")
    if len(groups) < len(file):
        return {ONLY_LAYER: file}
    ordered = sorted(groups, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return {f"layer{name}": groups[name] for name in ordered}


def _layer(name: str, group: h5py.Group, path: Path) -> LayerSpec:
    """A layer as its first map is."""
    first = next((item for item in group.values() if isinstance(item, h5py.Dataset)), None)
    if first is None:
        raise StoreError(f"{path} holds no map in '{group.name}'. Is it a DistillDIFT cache?")
    shape = first.shape[1:] if first.ndim == 4 and first.shape[0] == 1 else first.shape
    if len(shape) != 3:
        raise StoreError(f"{path}: '{first.name}' is {times(first.shape)}, not channels x height x width")
    return LayerSpec(name, shape[0], (shape[1], shape[2]))
