"""Protocols by name, as publications and their code score: what each lab's number means, as data.

`matchkit evaluate --protocol NAME` scores under one, `--protocol all` under every one. A preset says nothing of the
features, the matcher or the weights that a publication's number is of, and its subset is not a published list: see
`matchkit.evaluate.subsets`.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from matchkit.core.params import build
from matchkit.core.presets import Presets
from matchkit.evaluate.protocol import EvalProtocol

NO_OTHER_NUMBER = ("resamples", "breakdowns", "source")
"""Fields by which a protocol stays the one that it is called."""

ORIGINAL: dict[str, Any] = {"frame": "original", "comparison": "<=", "alphas": [0.05, 0.10, 0.15]}
HYPERFEATURES: dict[str, Any] = {
    **ORIGINAL,
    **{"alphas": [0.10], "references": ["box", "image"], "average": "keypoint", "pairs_a_category": 20},
    "source": "Hyperfeatures §6.2 and §6.3: 18 categories x 20 pairs",
}
DIFT: dict[str, Any] = {
    **ORIGINAL,
    **{"alphas": [0.10], "references": ["box"]},
    "source": "SD4Match §4.2; eval_spair.py of github.com/Tsingularity/dift",
}
GEOAWARE: dict[str, Any] = {
    **{"frame": "letterbox", "side": 840, "references": ["box"], "comparison": "<", "alphas": [0.01, 0.05, 0.10]},
    "source": "GeoAware-SC §5.1",
}
SD4MATCH: dict[str, Any] = {
    **{"frame": "squash", "side": 768, "comparison": "<=", "alphas": [0.05, 0.10, 0.15], "average": "image"},
    "source": "SD4Match §4.2",
}
PROBE3D: dict[str, Any] = {
    **{"frame": "letterbox", "side": 800, "floored": "frame", "references": ["box"], "comparison": "<"},
    **{"alphas": [0.10], "average": "category-keypoint", "pairs_a_category": 200},
    "source": "evaluate_spair_correspondence.py and evals/datasets/spair.py of github.com/mbanani/probe3d",
}
PROPOSAL_FLOW: dict[str, Any] = {
    **ORIGINAL,
    "average": "image",
    "source": "the loaders and model/evaluation.py of github.com/juhongm999/hpf",
}
TOLD: dict[str, tuple[str, dict[str, Any]]] = {
    "original": (
        "matchkit's own: per point, in original pixels, by the box and by the image",
        ORIGINAL | {"references": ["box", "image"], "average": "keypoint", "source": "matchkit"},
    ),
    "dhf-360": ("Diffusion Hyperfeatures, per point, on 20 pairs a category", HYPERFEATURES),
    "dift": ("DIFT, per point", DIFT | {"average": "keypoint"}),
    "dift-image": ("DIFT, per image", DIFT | {"average": "image"}),
    "geoaware-image": ("Telling Left from Right, per image", GEOAWARE | {"average": "image"}),
    "geoaware-keypoint": (
        "Telling Left from Right, per point, as in its table of unsupervised methods",
        GEOAWARE | {"average": "keypoint"},
    ),
    "geoaware-pf-pascal": (
        "Telling Left from Right on PF-PASCAL, per image, by the side of the square",
        GEOAWARE | {"references": ["image"], "alphas": [0.05, 0.10, 0.15], "average": "image"},
    ),
    "sd-dino": (
        "A Tale of Two Features: per point in each category, weighted by its pairs",
        GEOAWARE | {"average": "pair-weighted", "source": "GeoAware-SC §5.1; pck_spair_pascal.py of Junyi42/sd-dino"},
    ),
    "sd4match": ("SD4Match on SPair-71k, per image, image and box squashed", SD4MATCH | {"references": ["box"]}),
    "sd4match-pf-pascal": ("SD4Match on PF-PASCAL, by the side of the square", SD4MATCH | {"references": ["image"]}),
    "sd4match-pf-willow": (
        "SD4Match on PF-WILLOW, by the squashed extent of the keypoints",
        SD4MATCH | {"references": ["keypoints"]},
    ),
    "probe3d": ("Probe3D's recall: per point in each category, on 200 pairs of each", PROBE3D),
    "probe3d-view-0": ("Probe3D's recall of pairs of about one viewpoint", PROBE3D | {"viewpoint": 0}),
    "probe3d-view-1": ("Probe3D's recall of pairs of other viewpoints", PROBE3D | {"viewpoint": 1}),
    "probe3d-view-2": ("Probe3D's recall of pairs of opposite viewpoints", PROBE3D | {"viewpoint": 2}),
    "pf-pascal": (
        "PF-PASCAL since Hyperpixel Flow: per image, by the image",
        PROPOSAL_FLOW | {"references": ["image"]},
    ),
    "pf-willow": ("PF-WILLOW, per image, by the given box", PROPOSAL_FLOW | {"references": ["box"]}),
    "pf-willow-keypoints": (
        "PF-WILLOW since Hyperpixel Flow: per image, by the extent of the keypoints",
        PROPOSAL_FLOW | {"references": ["keypoints"]},
    ),
}
"""What each is, and its parameters."""

PRESETS = Presets("evaluate", "frame", {name: (title, {"name": name} | told) for name, (title, told) in TOLD.items()})
"""Protocols by name."""


def build_protocol(values: Mapping[str, Any], *, where: str) -> EvalProtocol:
    """The protocol of some parameters; one that differs from the preset of its name says in what.

    Raises:
        ConfigError: a parameter that no protocol has, or a value that does not fit.
    """
    made = build(EvalProtocol, values, where=where)
    if made.name not in TOLD:
        return made
    published = build(EvalProtocol, PRESETS.params(made.name), where=f"protocol {made.name}")
    names = [field.name for field in fields(made) if field.name not in NO_OTHER_NUMBER]
    changed = [name for name in names if getattr(made, name) != getattr(published, name)]
    return replace(made, name=f"{made.name}, but {', '.join(changed)}") if changed else made
