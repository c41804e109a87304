"""The `.pth` files of DIFT's evaluation: `<category>.pth`, {"<image>.jpg": (1, c, h, w) in single precision}.

Source: DIFT (Tang et al., NeurIPS 2023), its `eval_spair.py`: Stable Diffusion 2.1 at timestep 261, the output of up
block 1, the photograph stretched to 768 x 768 pixels, which is 1 x 1280 x 48 x 48 an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from matchkit.cache.interchange.maps import to_map
from matchkit.cache.interchange.torch_files import check_bytes, load_tensors
from matchkit.cache.reader import ImageMaps
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType


@dataclass(frozen=True, slots=True)
class DiftParams:
    """What the files do not say of themselves; the defaults are the published script's.

    Attributes:
        timestep: the diffusion step, its `--t`.
        block: the up block whose output it is, its `--up_ft_index`.
        input_size: (width, height) in pixels, its `--img_size`.
    """

    timestep: int = 261
    block: int = 1
    input_size: tuple[int, int] = (768, 768)

    def __post_init__(self) -> None:
        if min(self.input_size) < 1:
            raise ConfigError(f"input_size must be two positive numbers, not {list(self.input_size)}")


class DiftFolder:
    """The images of a folder of `.pth` files (see `matchkit.cache.interchange.Source`); ids are `<category>/<stem>`.

    Args:
        root: the folder.
        params: what the files do not say.
        weights: what is known of the network's weights.
        dtype: of the store that the maps go into.

    Raises:
        StoreError: no such folder, or no map in it; the first map says what shape all have.
    """

    def __init__(self, root: Path, params: DiftParams, *, weights: str, dtype: StoredType) -> None:
        self._root = root
        self._names: dict[str, tuple[Path, str]] = {}
        self._open: tuple[Path, Mapping[object, object]] | None = None
        self._damaged: dict[Path, StoreError] = {}
        self.refused: list[str] = []
        self._layer = self._look(f"up{params.block}")
        self.ids: Sequence[str] = list(self._names)
        self.notes: Mapping[str, Any] = {"imported": {"format": "dift", "from": str(root.resolve())}}
        self.spec = FeatureSpec(
            backbone="dift-import",
            weights=weights,
            layers=(self._layer,),
            timesteps=(params.timestep,),
            input_size=params.input_size,
            fit="stretch",
            dtype=dtype,
            options={"source": "dift"},
        )

    def _look(self, name: str) -> LayerSpec:
        """Lists every file's images, and finds the layer's shape."""
        files = sorted(self._root.glob("*.pth")) if self._root.is_dir() else []
        if not files:
            raise StoreError(f"{self._root} holds no <category>.pth. Give the folder that DIFT saved its features into")
        layer: LayerSpec | None = None
        for path in files:
            try:
                maps = _maps_of(path)
            except StoreError as error:
                self.refused.append(str(error))
                continue
            for key, values in maps.items():
                layer = layer or _layer(name, values)
                self._add(path, key)
        if layer is None:
            reasons = "; ".join(self.refused) or "every file is empty"
            raise StoreError(f"no map can be read from {self._root}: {reasons}")
        return layer

    def _add(self, path: Path, key: object) -> None:
        image_id = f"{path.stem}/{PurePosixPath(str(key)).stem}"
        if image_id in self._names:
            self.refused.append(f"{path}: '{self._names[image_id][1]}' and '{key}' would both be image '{image_id}'")
        elif isinstance(key, str):
            self._names[image_id] = (path, key)
        else:
            self.refused.append(f"{path}: key {key!r} is no image's name")

    def image_crc32c(self, image_id: str) -> int:
        """Not known."""
        return 0

    def read(self, image_id: str) -> ImageMaps:
        """The map of one image; the file of its category stays mapped for the next."""
        path, key = self._names[image_id]
        values = self._category(path).get(key)
        return {self._layer.name: to_map(values, self._layer, dtype=self.spec.dtype, where=f"{path}, '{key}',")}

    def _category(self, path: Path) -> Mapping[object, object]:
        """A file's maps. Its bytes are compared once: it is gigabytes long, and so is one that is damaged."""
        if path in self._damaged:
            raise self._damaged[path]
        if self._open is None or self._open[0] != path:
            self.close()
            try:
                check_bytes(path)
            except StoreError as error:
                self._damaged[path] = error
                raise
            self._open = (path, _maps_of(path))
        return self._open[1]

    def close(self) -> None:
        """Lets go of the file that is mapped."""
        self._open = None


def _maps_of(path: Path) -> Mapping[object, object]:
    found = load_tensors(path)
    if not isinstance(found, dict):
        raise StoreError(f"{path} is no dict of images' maps. Is it of another program?")
    return found


def _layer(name: str, values: object) -> LayerSpec | None:
    if isinstance(values, torch.Tensor) and values.ndim == 4:
        return LayerSpec(name, values.shape[1], (values.shape[2], values.shape[3]))
    return None
