"""Predictions at rest: one file a dataset and head, scored without a network under any protocol."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import MatchkitError


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predicted target keypoints of some pairs.

    Attributes:
        points: by pair id, (n, 2) float32, (x, y) in the target's image frame, in the order of the pair's keypoints.
        made_by: dataset, split, head and the digests of all that made them.
    """

    points: Mapping[str, Float[np.ndarray, "_ 2"]]
    made_by: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Writes an `.npz` of `pairs`, `offsets` (pair i has rows offsets[i]..offsets[i+1]), `points`, `made_by`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        offsets = np.cumsum([0, *(len(points) for points in self.points.values())])
        stacked = np.concatenate([np.zeros((0, 2), np.float32), *self.points.values()])
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(
            temporary,
            pairs=np.asarray(list(self.points), dtype=np.str_),
            offsets=offsets,
            points=stacked,
            made_by=np.asarray(json.dumps(dict(self.made_by), sort_keys=True)),
        )
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads what `save` wrote.

        Raises:
            MatchkitError: the file is missing or not of this form.
        """
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                offsets, points = file["offsets"], file["points"]
                named = {str(name): points[offsets[row] : offsets[row + 1]] for row, name in enumerate(file["pairs"])}
                return cls(named, json.loads(str(file["made_by"])))
        except FileNotFoundError as error:
            raise MatchkitError(f"no predictions at {path}. Run: matchkit match") from error
        except (KeyError, ValueError, EOFError, OSError, BadZipFile) as error:
            raise MatchkitError(f"{path} does not hold predictions ({error}). Run: matchkit match") from error
