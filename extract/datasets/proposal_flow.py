"""What PF-PASCAL and PF-WILLOW have in common: where archives and lists were unpacked to, and points near an edge.

Source: Ham et al., Proposal Flow, arXiv 1703.07144.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, Float64

from matchkit.core.errors import DatasetError

BEYOND = 10.0
"""Pixels that a keypoint may lie beyond the edge of its image. Published loaders take such points as they are, or move
them inside; here they stay."""


def unpacked(root: Path, folder: str) -> Path:
    """Where an archive's own folder lies: in `root`, unless `root` is that folder."""
    return root / folder if (root / folder).is_dir() else root


def find_list(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first list of pairs that there is, by folder and then by name."""
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def named_parts(name: str, count: int) -> tuple[str, ...]:
    """The last parts of an image's path as a list has it, without the ending; fewer where it has fewer."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (*path.parts[:-1], path.stem)[-count:]


def require_near(points: Float64[np.ndarray, "n 2"], *, size: tuple[int, int], where: str) -> Float[np.ndarray, "n 2"]:
    """The points (x, y), if all lie in an image of (width, height) pixels or at most `BEYOND` pixels off it.

    Raises:
        DatasetError: one does not, or is no number.
    """
    off = ~((points >= -BEYOND) & (points <= np.asarray(size) + BEYOND)).all(axis=1)
    if off.any():
        n = int(np.flatnonzero(off)[0])
        x, y = points[n]
        raise DatasetError(
            f"{where}: keypoint {n} at ({x:g}, {y:g}) lies outside the image of {size[0]} x {size[1]} pixels"
        )
    return points.astype(np.float32)
