"""Predictions at rest: one file a dataset and head, scored without a network under any protocol."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.evidence import (
    Evidence,
    Presences,
    packed_evidence,
    packed_presences,
    unpacked_evidence,
    unpacked_presences,
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predicted target keypoints of some pairs.

    Attributes:
        points: by pair id, (n, 2) float32, (x, y) in the target's image frame, in the order of the pair's keypoints.
        made_by: dataset, split, head and the digests of all that made them.
        evidence: by pair id, of the same pairs, or of none.
        presences: of the same pairs, or of none.
    """

    points: Mapping[str, Float[np.ndarray, "_ 2"]]
    made_by: Mapping[str, Any]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    presences: Presences = field(default_factory=Presences)

    def save(self, path: Path) -> None:
        """Writes an `.npz` of `pairs`, `offsets` (pair i has rows offsets[i]..offsets[i+1]), `points`, `made_by`.

        Beside them stand an array `evidence_*` a field of `Evidence`, with the rows of `points`, and `presence_*` with
        rows by `presence_offsets`, where there are any.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        offsets = np.cumsum([0, *(len(points) for points in self.points.values())])
        stacked = np.concatenate([np.zeros((0, 2), np.float32), *self.points.values()])
        temporary = path.with_suffix(".tmp.npz")
        arrays = {
            "pairs": np.asarray(list(self.points), dtype=np.str_),
            "offsets": offsets,
            "points": stacked,
            "made_by": np.asarray(json.dumps(dict(self.made_by), sort_keys=True)),
            **packed_evidence(self.evidence, list(self.points)),
            **packed_presences(self.presences, list(self.points)),
        }
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads what `save` wrote, and files from before there was evidence.

        Raises:
            MatchkitError: the file is missing or not of this form.
        """
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
                offsets, points = arrays["offsets"], arrays["points"]
                pairs = [str(name) for name in arrays["pairs"]]
                return cls(
                    {name: points[offsets[row] : offsets[row + 1]] for row, name in enumerate(pairs)},
                    json.loads(str(arrays["made_by"])),
                    unpacked_evidence(arrays, pairs, offsets),
                    unpacked_presences(arrays, pairs),
                )
        except FileNotFoundError as error:
            raise MatchkitError(f"no predictions at {path}. Run: matchkit match") from error
        except (KeyError, IndexError, ValueError, EOFError, OSError, BadZipFile) as error:
            raise MatchkitError(f"{path} does not hold predictions ({error}). Run: matchkit match") from error
