"""The analyses of predictions under a protocol. No network; what was not kept when matching is not told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.analyses import Analyses, Trust, WayBack
from matchkit.evaluate.confidence import percent, trust
from matchkit.evaluate.evidence import Evidence
from matchkit.evaluate.measured import Measured, measure, verdicts
from matchkit.evaluate.pck import averages, with_keypoints
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.subsets import chosen
from matchkit.evaluate.symmetry import kinds, shares
from matchkit.evaluate.visibility import VARIANTS, itself_nearest, kap, seen, visibility

Correct = Mapping[Reference, Bool[np.ndarray, "n a"]]


def analyse(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    protocol: EvalProtocol,
    schemes: Mapping[str, KeypointScheme],
) -> Analyses:
    """What the predictions of the pairs tell that the protocol scores.

    Errors are split by symmetry where there is a scheme of every category. Trust and the way back need the
    predictions' evidence, KAP their presences; its radii are those that were kept, whatever the protocol's alphas.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: the dataset has not what the protocol needs.
    """
    keypoints = measure(chosen(with_keypoints(pairs), protocol), images, predictions)
    correct: Correct = {reference: verdicts(keypoints, protocol, reference) for reference in protocol.references}
    nearest = itself_nearest(keypoints)[:, None]
    found = Analyses(
        dagger={
            reference: averages(told & nearest, keypoints.pair, keypoints.category, names=protocol.names)
            for reference, told in correct.items()
        }
    )
    if set(keypoints.categories) <= set(schemes):
        found = _with_symmetry(found, keypoints, images, schemes, protocol)
    if predictions.evidence:
        found = _with_evidence(found, together(keypoints, predictions), correct, protocol)
    if predictions.presences.of_pair:
        all_shown = seen(keypoints, predictions.presences)
        names = replace(protocol, alphas=predictions.presences.alphas).names
        found = replace(
            found,
            kap={variant: kap(all_shown, variant, names=names) for variant in VARIANTS},
            visibility=visibility(all_shown),
        )
    return found


def together(keypoints: Measured, predictions: Predictions) -> Evidence:
    """The evidence of all keypoints, one pair after another."""
    held = [predictions.evidence[pair.id] for pair in keypoints.pairs]
    names = ("similarity", "margin", "probability", "cycle", "mutual")
    return Evidence(**{name: np.concatenate([getattr(entry, name) for entry in held]) for name in names})


def _with_symmetry(
    found: Analyses,
    keypoints: Measured,
    images: Mapping[str, ImageRecord],
    schemes: Mapping[str, KeypointScheme],
    protocol: EvalProtocol,
) -> Analyses:
    told = {
        reference: kinds(keypoints, images, schemes, protocol=protocol, reference=reference)
        for reference in protocol.references
    }
    columns = list(enumerate(protocol.names))
    return replace(
        found,
        symmetry={
            reference: {name: shares(kind[:, column]) for column, name in columns} for reference, kind in told.items()
        },
        categories={
            reference: {
                category: {name: shares(kind[keypoints.category == row, column]) for column, name in columns}
                for row, category in enumerate(keypoints.categories)
            }
            for reference, kind in told.items()
        },
    )


def _with_evidence(found: Analyses, evidence: Evidence, correct: Correct, protocol: EvalProtocol) -> Analyses:
    columns = list(enumerate(protocol.names))
    trusted: dict[str, dict[str, dict[str, Trust]]] = {
        reference: {name: trust(told[:, column], evidence) for column, name in columns}
        for reference, told in correct.items()
    }
    mutual = evidence.mutual
    of_mutual: dict[str, dict[str, float]] = {
        reference: {name: percent(told[mutual, column].mean()) for column, name in columns}
        for reference, told in correct.items()
        if mutual.any()
    }
    way_back = WayBack(
        cycle=round(float(evidence.cycle.mean()), 4),
        mutual=percent(mutual.mean()),
        pck=of_mutual,
    )
    return replace(found, trust=trusted, way_back=way_back)
