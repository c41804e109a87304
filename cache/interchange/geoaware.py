"""The `.pt` tree of GeoAware-SC, which SemAlign3D and Shape-of-You read too.

    <root>/<category>/<name>_sd.pt      {"s5": 1 x 1280 x 15 x 15, "s4": 1 x 1280 x 30 x 30, "s3": 1 x 640 x 60 x 60}
    <root>/<category>/<name>_dino.pt    1 x 768 x 60 x 60
    ..._sd_flip.pt, ..._dino_flip.pt    the same of the mirrored photograph

A turned copy has no name there that others know: it keeps that of its id, `<name>@rot90_sd.pt`.

All in single precision, at Stable Diffusion's timestep 50, of a photograph letterboxed to 960 x 960 pixels (to
840 x 840 for DINOv2: the same 60 x 60 cells). Source: GeoAware-SC (Zhang et al., CVPR 2024), its `preprocess_map.py`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from matchkit.cache.interchange.maps import times, to_map
from matchkit.cache.interchange.torch_files import check_bytes, is_whole, load_tensors, save_tensors
from matchkit.cache.places.durable import make_folder
from matchkit.cache.reader import ImageMaps
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.poses import ENDINGS, pose_of
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType

DIFFUSION, DINO = "sd", "dino"
CHANNELS = {"s5": 1280, "s4": 1280, "s3": 640}
DINO_CHANNELS = 768
CELL = 16
"""Input pixels of Stable Diffusion a cell of `s3`."""
FILE = re.compile(r"(?P<name>.+)_(?P<kind>sd|dino)(?P<flip>_flip)?\.pt")
MIRRORED = ENDINGS["hflip"]
RECORD = ".matchkit.json"
"""Says whose export a tree is."""


@dataclass(frozen=True, slots=True)
class GeoAwareParams:
    """What the files do not say of themselves.

    Attributes:
        patches: cells along an edge of `s3` and of DINOv2's map; the published script's NUM_PATCHES.
        timestep: the diffusion step.
    """

    patches: int = 60
    timestep: int = 50

    def __post_init__(self) -> None:
        if self.patches < 1:
            raise ConfigError(f"patches must be at least 1, not {self.patches}")


def tree_layers(patches: int) -> tuple[LayerSpec, ...]:
    """The layers of a tree: `sd.s5`, `sd.s4` and `sd.s3` of Stable Diffusion, then `dino`."""
    edges = {"s5": -(-patches // 4), "s4": -(-patches // 2), "s3": patches}
    diffusion = [LayerSpec(f"{DIFFUSION}.{key}", CHANNELS[key], (edge, edge)) for key, edge in edges.items()]
    return *diffusion, LayerSpec(DINO, DINO_CHANNELS, (patches, patches))


class GeoAwareTree:
    """The images of a tree (see `matchkit.cache.interchange.Source`); a mirrored one has `@flip` after its id.

    Args:
        root: the folder that holds the categories' folders.
        params: what the files do not say.
        weights: what is known of the networks' weights.
        dtype: of the store that the maps go into.

    Raises:
        StoreError: no such folder, or no file of a tree below it.
    """

    def __init__(self, root: Path, params: GeoAwareParams, *, weights: str, dtype: StoredType) -> None:
        files = _tree_files(root)
        self._files = {image_id: both for image_id, both in files.items() if len(both) == 2}
        self.ids: Sequence[str] = list(self._files)
        self.refused: Sequence[str] = [_lacking(root, image_id) for image_id, both in files.items() if len(both) < 2]
        self.notes: Mapping[str, Any] = {"imported": {"format": "geoaware", "from": str(root.resolve())}}
        self.spec = FeatureSpec(
            backbone="geoaware-import",
            weights=weights,
            layers=tree_layers(params.patches),
            timesteps=(params.timestep,),
            input_size=(CELL * params.patches, CELL * params.patches),
            fit="letterbox",
            dtype=dtype,
            options={"source": "geoaware"},
        )

    def image_crc32c(self, image_id: str) -> int:
        """Not known."""
        return 0

    def read(self, image_id: str) -> ImageMaps:
        """The maps of one image, its files' checksums compared."""
        both = self._files[image_id]
        found = {kind: load_tensors(path) for kind, path in both.items()}
        for path in both.values():
            check_bytes(path)
        diffusion = found[DIFFUSION]
        if not isinstance(diffusion, dict) or not diffusion.keys() >= CHANNELS.keys():
            raise StoreError(f"{both[DIFFUSION]} is no dict with the keys s5, s4 and s3. Is it of another program?")
        values = {f"{DIFFUSION}.{key}": diffusion[key] for key in CHANNELS} | {DINO: found[DINO]}
        return {
            layer.name: to_map(values[layer.name], layer, dtype=self.spec.dtype, where=_where(both, layer))
            for layer in self.spec.layers
        }

    def close(self) -> None:
        """Nothing is open."""


def _where(both: Mapping[str, Path], layer: LayerSpec) -> str:
    kind, _, key = layer.name.partition(".")
    return f"{both[kind]}, '{key}'," if key else str(both[kind])


def _tree_files(root: Path) -> dict[str, dict[str, Path]]:
    """The files of every image by kind, in the order of the ids."""
    if not root.is_dir():
        raise StoreError(f"{root} is not a folder. Give the one that holds <category>/<name>_sd.pt")
    files: dict[str, dict[str, Path]] = {}
    for path in root.rglob("*.pt"):
        named = FILE.fullmatch(path.name)
        if named:
            folder = PurePosixPath(path.parent.relative_to(root).as_posix())
            image_id = f"{folder / named['name']}{MIRRORED if named['flip'] else ''}"
            files.setdefault(image_id, {})[named["kind"]] = path
    if not files:
        raise StoreError(f"{root} holds no <category>/<name>_sd.pt or _dino.pt. Give the folder of the categories")
    return dict(sorted(files.items()))


def tree_file(root: Path, image_id: str, kind: str) -> Path:
    """The file of an image for `sd` or `dino`.

    Raises:
        StoreError: an id that would leave the tree.
    """
    suffix = "_flip" if pose_of(image_id) == "hflip" else ""
    plain = image_id.removesuffix(MIRRORED)
    if ".." in PurePosixPath(plain).parts or PurePosixPath(plain).is_absolute():
        raise StoreError(f"image '{image_id}' cannot be a file below {root}")
    return root / f"{plain}_{kind}{suffix}.pt"


def _lacking(root: Path, image_id: str) -> str:
    absent = next(path for kind in (DIFFUSION, DINO) if not (path := tree_file(root, image_id, kind)).is_file())
    return f"{absent} is missing"


class GeoAwareFiles:
    """A tree that is written (see `matchkit.cache.interchange.Target`): CPU tensors in single precision.

    Args:
        root: the folder, new or of an earlier export of the same features.
        spec: of the store; it must have the layers of a tree and one timestep.

    Raises:
        StoreError: other layers, several timesteps, or a folder that holds something else.
    """

    def __init__(self, root: Path, spec: FeatureSpec) -> None:
        self._root = root
        self._spec = spec
        _require_tree(spec)
        record = root / RECORD
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is a file. Take another OUT")
        if record.is_file():
            told = record.read_text(encoding="utf-8")
            if told != self._record():
                raise StoreError(f"{root} holds an export of other features ({told.strip()}). Take another OUT")
        elif root.is_dir() and any(root.iterdir()):
            raise StoreError(
                f"{root} holds something that is no export of these features. Take another OUT, or empty it"
            )

    def _record(self) -> str:
        return json.dumps({"format": "geoaware", "digest": self._spec.digest()}) + "\n"

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` of which a file is not there to its end."""
        kinds = (DIFFUSION, DINO)
        return [name for name in ids if not all(is_whole(tree_file(self._root, name, kind)) for kind in kinds)]

    def write(self, image_id: str, maps: ImageMaps, *, image_crc32c: int) -> None:
        """Writes the two files of an image; the photograph's checksum has no place in them."""
        if not (self._root / RECORD).exists():
            make_folder(self._root)
            (self._root / RECORD).write_text(self._record(), encoding="utf-8")
        diffusion = {key: _whole(maps[f"{DIFFUSION}.{key}"]) for key in CHANNELS}
        save_tensors(diffusion, tree_file(self._root, image_id, DIFFUSION))
        save_tensors(_whole(maps[DINO]), tree_file(self._root, image_id, DINO))

    def finish(self) -> None:
        """Every file has its name already."""

    def close(self) -> None:
        """Nothing is open."""


def _whole(values: torch.Tensor) -> torch.Tensor:
    """A tensor of its own memory: torch saves all that a view is a part of."""
    return values.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def _require_tree(spec: FeatureSpec) -> None:
    dino = next((layer for layer in spec.layers if layer.name == DINO), None)
    wanted = tree_layers(dino.grid[0] if dino else GeoAwareParams().patches)
    lacking = [layer for layer in wanted if layer not in spec.layers]
    if lacking:
        listed = ", ".join(f"{layer.name} ({times((layer.channels, *layer.grid))})" for layer in lacking)
        raise StoreError(
            f"these features of {spec.backbone} lack layers of a GeoAware-SC tree: {listed}. Try --format hdf5"
        )
    if len(spec.timesteps) != 1:
        raise StoreError(
            f"a GeoAware-SC tree holds one timestep, this store {len(spec.timesteps)}. "
            "Keep one first, run: matchkit cache convert"
        )
