"""TSS: pairs of photographs with where every pixel of the object goes, in three sets.

    {FG3DCar,JODS,PASCAL}/<pair>/image1.png, image2.png
    {FG3DCar,JODS,PASCAL}/<pair>/mask1.png, mask2.png          the objects, white
    {FG3DCar,JODS,PASCAL}/<pair>/flow1.flo, flow2.flo          at each pixel of an image, where it is in the other one
    {FG3DCar,JODS,PASCAL}/<pair>/flip_gt.txt (may be missing)  1 where the objects face opposite ways

Source: Taniai et al., Joint Recovery of Dense Correspondence and Cosegmentation in Two Images, CVPR 2016, and its
evaluation kit; categories: Zhang et al., arXiv 2305.15347.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.pictures import stored_size
from matchkit.extract.datasets.masks import read_marked

SETS = ("FG3DCar", "JODS", "PASCAL")
CATEGORIES = {"busd": "bus", "bike": "bicycle", "plane": "aeroplane", "suv": "car"}
"""PASCAL VOC's names for what the folders call otherwise."""
MAGIC = np.float32(202021.25)
"""How a flow's file begins."""
HEADER = 12
UNKNOWN = 1e9
"""What a flow holds where it knows nothing."""
MOST = 1000
"""Points of a pair."""
IDS = tuple(map(str, range(MOST)))


def open_tss(root: Path) -> "TSS":
    """Opens a TSS tree."""
    return TSS(root)


class TSS:
    """A TSS tree; there are only pairs to test with, each in both directions.

    The benchmark scores every pixel of the object whose place in the other image is known. Here a pair's points are
    those of them on a square grid: x and y leave the remainder s // 2 when divided by s, the least whole number from 1
    on that leaves at most 1,000 points. A point whose place is not inside the target is left out.

    A pair's category is its set, as results are reported; an image's is what it shows. The benchmark's reference is the
    target image's longer edge; there are no boxes.

    Args:
        root: the folder that holds FG3DCar, JODS and PASCAL.

    Raises:
        DatasetError: one of the three is missing.
    """

    name = "tss"
    splits = ("test",)

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [folder for folder in SETS if not (root / folder).is_dir()]
        if missing:
            raise DatasetError(
                f"no tss dataset in {root}: {', '.join(missing)} missing. Give the folder that holds "
                f"{', '.join(SETS)} with --root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every photograph by the id `<set>/<pair>/image<1 or 2>` of its first file, sorted.

        Files of the same bytes are one photograph. Sizes are read from headers.
        """
        firsts = {image_id: path for path, image_id in self._ids.items() if image_id == _id(path)}
        records = {
            image_id: ImageRecord(id=image_id, path=path, size=stored_size(path), category=_category(path.parent))
            for image_id, path in firsts.items()
        }
        return dict(sorted(records.items()))

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of `test`, from the first image to the second and back, by set and name.

        Raises:
            DatasetError: another split, or a file that is missing or malformed.
        """
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")
        return [self._pair(folder, *way) for folder in self._folders for way in ((1, 2), (2, 1))]

    def scheme(self, category: str) -> KeypointScheme:
        """None: the points are pixels.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self.name}: category '{category}' has no flip table: its points are pixels, not parts")

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image show the object, by the mask beside its first file.

        Raises:
            DatasetError: no such image, or its mask is missing or of another size.
        """
        if image_id not in self.images:
            raise DatasetError(f"{self.name} has no image '{image_id}' in {self.root}")
        return _mask(self.images[image_id])

    @cached_property
    def _folders(self) -> Sequence[Path]:
        folders = [path for name in SETS for path in sorted((self.root / name).glob("[!.]*")) if path.is_dir()]
        empty = [name for name in SETS if not any(folder.parent.name == name for folder in folders)]
        if empty:
            raise DatasetError(f"no pairs (folders) in {self.root / empty[0]}")
        return folders

    @cached_property
    def _ids(self) -> Mapping[Path, str]:
        """What photograph an image's file is."""
        paths = [folder / f"image{n}.png" for folder in self._folders for n in (1, 2)]
        sizes = [_bytes(path) for path in paths]
        often = Counter(sizes)
        first: dict[tuple[int, bytes], str] = {}
        return {
            path: first.setdefault((size, _digest(path) if often[size] > 1 else b""), _id(path))
            for path, size in zip(paths, sizes, strict=True)
        }

    def _pair(self, folder: Path, one: int, other: int) -> Pair:
        source, target = (self.images[self._ids[folder / f"image{n}.png"]] for n in (one, other))
        flow = read_flow(folder / f"flow{one}.flo", size=source.size)
        known = (np.abs(flow) < UNKNOWN).all(axis=2)
        inside = _inside(flow, target.size)
        marked = read_marked(folder / f"mask{one}.png", size=source.size)
        points = on_grid(marked & known & inside, most=MOST)
        places = points + flow[points[:, 1], points[:, 0]].astype(np.float64)
        return Pair(
            id=f"{folder.parent.name}/{folder.name}_{one}to{other}",
            source=source.id,
            target=target.id,
            category=folder.parent.name,
            source_points=points.astype(np.float32),
            target_points=places.astype(np.float32),
            keypoint_ids=IDS[: len(points)],
            variations=_flip(folder / "flip_gt.txt"),
        )


def read_flow(path: Path, *, size: tuple[int, int]) -> Float32[np.ndarray, "h w 2"]:
    """Where each pixel of an image of (width, height) pixels goes, as (x, y) less its own place, by a .flo file.

    Raises:
        DatasetError: the file is missing, no such file, or of another size.
    """
    width, height = size
    expected = HEADER + 8 * width * height
    try:
        found = path.stat().st_size
        held = path.read_bytes() if found == expected else b""
    except OSError as error:
        raise DatasetError(f"{path} is not a readable flow: {error}") from error
    if not held:
        raise DatasetError(
            f"{path} has {found:,} bytes; the flow of its image of {width} x {height} pixels has {expected:,}"
        )
    told = tuple(np.frombuffer(held, "<i4", 2, offset=4).tolist())
    if np.frombuffer(held, "<f4", 1)[0] != MAGIC or told != size:
        raise DatasetError(f"{path} must begin with {MAGIC} and the size of its image, {width} x {height}, not {told}")
    return np.frombuffer(held, "<f4", offset=HEADER).reshape(height, width, 2).astype(np.float32)


def on_grid(marked: Bool[np.ndarray, "h w"], *, most: int) -> Int[np.ndarray, "n 2"]:
    """The marked pixels (x, y) on the finest square grid that holds at most so many of them, row by row."""
    stride = 1
    while np.count_nonzero(marked[stride // 2 :: stride, stride // 2 :: stride]) > most:
        stride += 1
    rows, columns = np.nonzero(marked[stride // 2 :: stride, stride // 2 :: stride])
    return np.stack([columns, rows], 1) * stride + stride // 2


def _inside(flow: Float32[np.ndarray, "h w 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Which pixels go to a place between the centres of the outermost pixels of an image of (width, height) pixels."""
    rows, columns = np.indices(flow.shape[:2])
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray((x >= 0) & (x <= size[0] - 1) & (y >= 0) & (y <= size[1] - 1))


def _mask(record: ImageRecord) -> Bool[np.ndarray, "h w"]:
    return read_marked(record.path.with_name(record.path.name.replace("image", "mask")), size=record.size)


def _id(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.parent.name}/{path.stem}"


def _category(folder: Path) -> str:
    if folder.parent.name == "FG3DCar":
        return "car"
    name = folder.name.partition("_")[0].lower()
    return CATEGORIES.get(name, name)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path} is missing: an image of a pair") from error


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _flip(path: Path) -> Mapping[str, int]:
    """Whether the objects of a pair face opposite ways, where the tree says it."""
    try:
        told = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return {}
    if told not in ("0", "1"):
        raise DatasetError(f"{path} must hold 0 or 1, not '{told[:40]}'")
    return {"flip": int(told)}
