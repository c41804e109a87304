"""PF-WILLOW: photographs of cars, ducks, motorbikes and wine bottles in ten folders, with ten keypoints each.

    PF-dataset/<class>/<stem>.png                 e.g. car(G), winebottle(woC)
    test_pairs.csv or test_pairs_pf.csv           two images a line, then 10 x and 10 y of each

The list lies in the root or in PF-dataset; the root may be PF-dataset itself. A list names images by their paths, whose
last two parts count.

Source: Ham et al., Proposal Flow, arXiv 1511.05065; the list: Rocco et al., arXiv 1703.05593; SD4Match §4.3.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.lists import read_rows
from matchkit.extract.conditions.pictures import stored_size
from matchkit.extract.datasets.annotations import Box
from matchkit.extract.datasets.proposal_flow import find_list, named_parts, require_near, unpacked

FOLDER = "PF-dataset"
LISTS = ("test_pairs.csv", "test_pairs_pf.csv")
POINTS = 10
"""Keypoints of every image."""
NUMBERS = 4 * POINTS
IDS = tuple(map(str, range(POINTS)))


def open_pf_willow(root: Path) -> "PFWillow":
    """Opens a PF-WILLOW tree."""
    return PFWillow(root)


class PFWillow:
    """A PF-WILLOW tree; there are only pairs to test with.

    The layout has no boxes: a pair's box is the extent of its ten keypoints, by whose longer edge the benchmark scores.
    (Some published code pads the keypoints with -1 before it takes the extent, which measures from the image's corner:
    a longer edge, and higher scores.)

    Args:
        root: the folder that holds PF-dataset and the list of pairs.

    Raises:
        DatasetError: the list is missing.
    """

    name = "pf-willow"
    splits = ("test",)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = unpacked(root, FOLDER)
        found = find_list((root, self._folder), LISTS)
        if not found:
            raise DatasetError(
                f"no pf-willow dataset in {root}: {' or '.join(LISTS)} missing. Give the folder that holds {FOLDER} "
                "with --root DIR"
            )
        self._list = found

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every photograph by its id `<class>/<stem>`, sorted; what keypoints it shows stands in the pairs.

        Sizes are read from the photographs' headers.
        """
        files = sorted(self._folder.glob("[!.]*/[!.]*.png"))
        if not files:
            raise DatasetError(f"no photographs (<class>/*.png) in {self._folder}")
        records = (
            ImageRecord(id=f"{path.parent.name}/{path.stem}", path=path, size=stored_size(path), category=category)
            for path in files
            for category in [path.parent.name]
        )
        return dict(sorted((record.id, record) for record in records))

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of `test` in the order of the list.

        Raises:
            DatasetError: another split, or a malformed list.
        """
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")
        _, *lines = read_rows(self._list, what="it lists the pairs")
        if not lines:
            raise DatasetError(f"{self._list} lists no pairs")
        return [
            self._pair(number, fields, f"{self._list}: line {line}")
            for number, (line, fields) in enumerate(lines, start=1)
        ]

    def scheme(self, category: str) -> KeypointScheme:
        """None: the list numbers keypoints and does not name them.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(
            f"{self.name}: category '{category}' has no flip table: its list does not say which keypoint is what"
        )

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """PF-WILLOW has no segmentations.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self.name} has no segmentations, so none of image '{image_id}'")

    def _pair(self, number: int, fields: Sequence[str], where: str) -> Pair:
        if len(fields) != 2 + NUMBERS:
            raise DatasetError(f"{where} must hold 2 images and {NUMBERS} coordinates, not {len(fields)} values")
        source, target = (self._image(name, where) for name in fields[:2])
        numbers = _numbers(fields[2:], where)
        # 10 x and 10 y of the source, then of the target
        source_points, target_points = (
            require_near(one.T, size=image.size, where=f"{where}: image '{image.id}'")
            for one, image in zip(numbers.reshape(2, 2, POINTS), (source, target), strict=True)
        )
        stems = (image.id.partition("/")[2] for image in (source, target))
        return Pair(
            id=f"{number:06d}-{'-'.join(stems)}:{source.category}",
            source=source.id,
            target=target.id,
            category=source.category,
            source_points=source_points,
            target_points=target_points,
            keypoint_ids=IDS,
            source_box=_extent(source_points, where),
            target_box=_extent(target_points, where),
        )

    def _image(self, name: str, where: str) -> ImageRecord:
        image = "/".join(named_parts(name, 2))
        if image not in self.images:
            raise DatasetError(f"{where} names image '{image[:200]}', which is not in {self._folder}")
        return self.images[image]


def _numbers(fields: Sequence[str], where: str) -> Float64[np.ndarray, " n"]:
    try:
        return np.asarray([float(field) for field in fields])
    except ValueError as error:
        raise DatasetError(f"{where}: coordinates must be numbers: {error}") from error


def _extent(points: Float[np.ndarray, "n 2"], where: str) -> Box:
    (xmin, ymin), (xmax, ymax) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if xmax <= xmin or ymax <= ymin:
        raise DatasetError(f"{where}: the keypoints' extent is an empty box: {xmin, ymin, xmax, ymax}")
    return xmin, ymin, xmax, ymax
