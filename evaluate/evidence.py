"""What a match tells of itself beside the point it found: how alike, how much more than elsewhere, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.evaluate.protocol import Reference

Arrays = Mapping[str, np.ndarray]
"""The arrays of a file by name."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of the keypoints of one pair.

    Attributes:
        similarity: the cosine of the keypoint's descriptor with the target's at the found place, from -1 to 1.
        margin: by how much the greatest cosine is above the greatest one away from it, from 0 to 2.
        probability: how much of the matcher's softmax over the target lies about its peak; NaN of one without softmax.
        cycle: how far from the keypoint the way back from the found place ends, in pixels of the source image.
        mutual: whether, of the source's cells, the keypoint's own is the one most like the found place.
    """

    similarity: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    cycle: Float[np.ndarray, " n"]
    mutual: Bool[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Presence:
    """Of the m keypoints that the source of one pair shows: those of the pair in their order, then all others.

    Attributes:
        near: the greatest cosine within each of a radii of the keypoint's true place; the row's least, where no cell
            is. A keypoint that the target does not show is held to be where the published code puts it, in the upper
            left corner of the network's input.
        far: the greatest cosine outside of each radius.
        lowest: the least cosine of all keypoints and cells.
        highest: the greatest one.
    """

    near: Float[np.ndarray, "m a"]
    far: Float[np.ndarray, "m a"]
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Presences:
    """Those of some pairs.

    Attributes:
        alphas: the radii, as shares of the reference length; rising.
        reference: the length.
        of_pair: by pair id.
    """

    alphas: tuple[float, ...] = ()
    reference: Reference = "box"
    of_pair: Mapping[str, Presence] = field(default_factory=dict)


def packed_evidence(evidence: Mapping[str, Evidence], pairs: Sequence[str]) -> dict[str, np.ndarray]:
    """The evidence of all pairs, one after another, as arrays for a file; none where there is none."""
    if not evidence:
        return {}
    return {
        f"evidence_{entry.name}": np.concatenate([getattr(evidence[pair], entry.name) for pair in pairs])
        for entry in fields(Evidence)
    }


def unpacked_evidence(arrays: Arrays, pairs: Sequence[str], offsets: Int[np.ndarray, " _"]) -> dict[str, Evidence]:
    """What `packed_evidence` packed; nothing of a file without evidence."""
    if "evidence_similarity" not in arrays:
        return {}
    columns = {entry.name: arrays[f"evidence_{entry.name}"] for entry in fields(Evidence)}
    return {
        pair: Evidence(**{name: column[offsets[row] : offsets[row + 1]] for name, column in columns.items()})
        for row, pair in enumerate(pairs)
    }


def packed_presences(presences: Presences, pairs: Sequence[str]) -> dict[str, np.ndarray]:
    """The presences of all pairs as arrays for a file; none where there are none."""
    if not presences.of_pair:
        return {}
    held = [presences.of_pair[pair] for pair in pairs]
    return {
        "presence_offsets": np.cumsum([0, *(len(entry.near) for entry in held)]),
        "presence_near": np.concatenate([entry.near for entry in held]),
        "presence_far": np.concatenate([entry.far for entry in held]),
        "presence_range": np.asarray([(entry.lowest, entry.highest) for entry in held], np.float32),
        "presence_alphas": np.asarray(presences.alphas, np.float64),
        "presence_reference": np.asarray(presences.reference),
    }


def unpacked_presences(arrays: Arrays, pairs: Sequence[str]) -> Presences:
    """What `packed_presences` packed; those of no pair where a file has none."""
    if "presence_offsets" not in arrays:
        return Presences()
    near, far, ends = (arrays[f"presence_{name}"] for name in ("near", "far", "offsets"))
    of_pair = {
        pair: Presence(
            near[ends[row] : ends[row + 1]], far[ends[row] : ends[row + 1]], *arrays["presence_range"][row].tolist()
        )
        for row, pair in enumerate(pairs)
    }
    alphas = tuple(float(alpha) for alpha in arrays["presence_alphas"])
    reference: Reference = "box" if str(arrays["presence_reference"]) == "box" else "image"
    return Presences(alphas, reference, of_pair)
