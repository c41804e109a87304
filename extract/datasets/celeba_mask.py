"""CelebAMask-HQ: faces with their parts, as masks or as edges.

    CelebA-HQ-img/<number>.jpg
    CelebAMask-HQ-mask-anno/all_parts_except_glasses/<5 digits>.png       the parts' indices: the masks
    CelebAMask-HQ-mask-anno/<number // 2000>/<5 digits>_<part>.png        a part, white: the edges, and the glasses
    train.txt, val.txt, test.txt (may be missing)                         the numbers of a split's images
    celebahq_ref.txt, celebahq_ref_test.txt (may be missing)              exemplars of trn, and of the other splits

A list of exemplars has lines `29922.jpg,<exemplar>.jpg,...`, the nearest first. Source: CoCosNet §4.1 and §4.2; Lee et
al., MaskGAN, arXiv 1907.11922. The photographs are for non-commercial research.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import DatasetError
from matchkit.core.geometry import letterboxed_size
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.answers import facing, no_pairs, no_scheme, photograph, require_kind
from matchkit.extract.conditions.edges import edge_spec, render_edges
from matchkit.extract.conditions.lists import read_exemplar_list, read_split
from matchkit.extract.conditions.masks import mask_spec, render_mask
from matchkit.extract.conditions.pictures import nearest, read_grey, read_indices, stored_size
from matchkit.extract.images import load_image

PHOTOS, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
INDEXED = "all_parts_except_glasses"
GLASSES, HAIR = "eye_g", "hair"
CLASSES = (
    *("background", "skin", HAIR, "l_brow", "r_brow", "l_eye", "r_eye", "l_ear", "r_ear", "nose", "u_lip", "mouth"),
    *("l_lip", "neck", "cloth", "hat", GLASSES, "ear_r", "neck_l"),
)
"""By their labels: `l_lip` is the lower lip, `ear_r` an earring, `neck_l` a necklace. Glasses are in files of their
own."""
PARTS = (
    *("skin", "l_brow", "r_brow", "l_eye", "r_eye", "l_ear", "r_ear", "nose", "u_lip", "mouth", "l_lip"),
    *(GLASSES, HAIR),
)
"""Of the edges, in the order of their channels."""
DRAWN = 256
"""Pixels of the longer side at which edges are drawn, as published: two pixels thick there."""
WHITE = 128
A_FOLDER = 2000
"""Photographs whose parts lie in one folder."""
SPECS: Mapping[ConditionKind, ConditionSpec] = {"mask": mask_spec(CLASSES), "edge": edge_spec(PARTS)}


def open_celeba_mask(root: Path) -> "CelebAMask":
    """Opens a CelebAMask-HQ tree."""
    return CelebAMask(root)


class CelebAMask:
    """Faces and their parts; an image's id is its number.

    A mask has one label a pixel, so glasses hide what is under them; the published one-hot has both.

    Args:
        root: the folder that holds the photographs and the masks.

    Raises:
        DatasetError: one of the two is missing.
    """

    name = "celeba-mask"
    splits: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [folder for folder in (PHOTOS, MASKS) if not (root / folder).is_dir()]
        if missing:
            raise DatasetError(
                f"no celeba-mask dataset in {root}: {', '.join(missing)} missing. Give its folder with --root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every photograph, sorted by id."""
        records: dict[str, ImageRecord] = {}
        for path in sorted((self.root / PHOTOS).glob("*.jpg")):
            if not (path.stem.isascii() and path.stem.isdecimal()):
                raise DatasetError(f"{path}: the name of a photograph of {self.name} must be its number")
            number = _number(path.stem)
            if number in records:
                raise DatasetError(f"{path} and {records[number].path} have one number; rename one of them")
            records[number] = ImageRecord(id=number, path=path, size=stored_size(path))
        if not records:
            raise DatasetError(f"no photograph (*.jpg) in {self.root / PHOTOS}")
        return dict(sorted(records.items()))

    @cached_property
    def kinds(self) -> tuple[ConditionKind, ...]:
        """Masks where the parts' indices are there, edges where folders of parts are."""
        folders = [path.name for path in (self.root / MASKS).iterdir() if path.is_dir()]
        masks: tuple[ConditionKind, ...] = ("mask",) if INDEXED in folders else ()
        return (*masks, "edge") if any(map(str.isdecimal, folders)) else masks

    def pairs(self, split: str) -> Sequence[Pair]:
        """None: there are no keypoints.

        Raises:
            DatasetError: always.
        """
        raise no_pairs(self.name, split)

    def scheme(self, category: str) -> KeypointScheme:
        """None: there are no keypoints.

        Raises:
            DatasetError: always.
        """
        raise no_scheme(self.name, category)

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image are not background.

        Raises:
            DatasetError: no such image, or its mask is missing or malformed.
        """
        return np.asarray(self.condition(image_id, "mask")[0] > 0)

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        """What a kind is made of: labels of 19 classes, or 15 channels of edges.

        Raises:
            DatasetError: there are none of the kind.
        """
        require_kind(kind, self.kinds, name=self.name)
        return SPECS[kind]

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        """The mask or the edges of an image, or of its mirrored copy `<image>@flip`.

        Either is brought to the photograph's size by the nearest pixel: masks are half as large, and edges are drawn
        at 256 pixels.

        Raises:
            DatasetError: no such image or kind, or a file of its parts is missing, malformed or of another shape.
        """
        spec = self.condition_spec(kind)
        record = photograph(self.images, image_id, name=self.name)
        return facing(self._mask(record) if kind == "mask" else self._edges(record), spec, image_id)

    def group(self, image_id: str) -> str:
        """The image's own id.

        Raises:
            DatasetError: no such image.
        """
        return photograph(self.images, image_id, name=self.name).id

    def of_split(self, split: str) -> tuple[str, ...]:
        """The images that the split's file lists, in its order.

        Raises:
            DatasetError: an unknown or empty split, or its file is missing or malformed.
        """
        return read_split(self.root, split, self._find, name=self.name)

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The exemplars of a split's images by the list in the root, the nearest first.

        Raises:
            DatasetError: no such split, or its list is missing or malformed.
        """
        return read_exemplar_list(self.root, "celebahq", split=split, images=self.of_split(split), find=self._find)

    def _mask(self, record: ImageRecord) -> Float[np.ndarray, "1 h w"]:
        path = self.root / MASKS / INDEXED / f"{record.id:0>5}.png"
        labels = _brought(read_indices(path), record, size=record.size, path=path)
        glasses = self._part(record, GLASSES, size=record.size)
        return render_mask(np.where(glasses, CLASSES.index(GLASSES), labels), SPECS["mask"], where=path)

    def _edges(self, record: ImageRecord) -> Float[np.ndarray, "c h w"]:
        side = min(DRAWN, max(record.size))
        size = letterboxed_size(record.size, (side, side))
        parts = np.stack([self._part(record, part, size=size) for part in PARTS])
        if not parts.any():
            raise DatasetError(f"no part of image '{record.id}' is there; the first looked for: {self._path(record)}")
        photo = np.array(load_image(record).resize(size, Image.Resampling.BILINEAR).convert("L"))
        return nearest(render_edges(parts, photo, open_parts=[PARTS.index(HAIR)]), record.size)

    def _part(self, record: ImageRecord, part: str, *, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """The pixels of a part at (width, height) pixels; none where it has no file."""
        path = self._path(record, part)
        if not path.exists():
            return np.zeros(size[::-1], np.bool_)
        return np.asarray(_brought(read_grey(path), record, size=size, path=path) >= WHITE)

    def _path(self, record: ImageRecord, part: str = PARTS[0]) -> Path:
        return self.root / MASKS / str(int(record.id) // A_FOLDER) / f"{record.id:0>5}_{part}.png"

    def _find(self, name: str) -> str | None:
        number = _number(PurePosixPath(name).name.removesuffix(".jpg"))
        return number if number in self.images else None


def _number(digits: str) -> str:
    """The number without the zeros that some files put before it."""
    return digits.lstrip("0") or "0"


def _brought(
    values: UInt8[np.ndarray, "h w"], record: ImageRecord, *, size: tuple[int, int], path: Path
) -> UInt8[np.ndarray, "H W"]:
    """The values of a file of an image's shape at (width, height) pixels."""
    height, width = values.shape
    if width * record.size[1] != height * record.size[0]:
        raise DatasetError(
            f"{path} is {width} x {height} pixels, which is not the shape of its photograph of "
            f"{record.size[0]} x {record.size[1]}"
        )
    return nearest(values, size)
