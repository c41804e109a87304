"""Fits of heads between two domains by name: the toy's, and CoCosNet's as its code trains them, one a dataset.

Source: CoCosNet §1 to §3 of its re-implementation notes. The published domain weight of 10 is of a mean over 256
channels; here a mean is times the root of the width, so it is 10 / 16.
"""

from typing import Any

BATCH = 32
"""Targets a step, over eight GPUs."""
ADE20K_IMAGES, CELEBA_IMAGES, DEEPFASHION_IMAGES = 20_000, 30_000, 52_712
"""Training photographs, about: give `steps` your own list's."""
DOMAIN = 10 / 256**0.5

MATCHER: dict[str, Any] = {
    "adapters": "paper",
    "grid": 64,
    "width": 256,
    "out": 256,
    "temperature": 0.01,
    "annealed": 0.0,
    "domain": DOMAIN,
    "semantic": 0.0,
    "same": 0.0,
    "cycle": 0.0,
    "parts": 0.0,
    "contrast": 0.0,
}
"""The correspondence network of 256 pixels; its side is 256."""
TRANSLATOR: dict[str, Any] = {
    "head": "translator",
    "joint": True,
    "base": False,
    "detour": False,
    "generator": {"width": 64, "ups": 5, "middle": 2, "attention": True, "modulation": 128},
    "gain": 0.02,
    "same": 0.0,
    "feature": 10.0,
    "perceptual": 0.001,
    "perceptual_layer": "r42",
    "context": 10.0,
    "adversarial": 10.0,
    "gan_feature": 10.0,
    "generator_rate": 0.5,
    "judge_rate": 2.0,
    "beta1": 0.0,
    "beta2": 0.9,
    "epsilon": 1e-3,
    "lr": 2e-4,
    "schedule": "linear-decay",
    "pairs": BATCH,
    "same_share": 0.3,
    "easy_share": 0.5,
    "hard_share": 0.2,
    "validate_every": 1000,
}
"""TTUR: 1e-4 for generator and matcher, 4e-4 for the discriminator. Half of the steps at that rate, then down to 0."""


def _epochs(count: int, images: int) -> int:
    return count * images // BATCH


TOLD: dict[str, tuple[str, dict[str, Any]]] = {
    "cross-domain-toy": (
        "the head at the size of a toy: 0.4 M parameters, about 20 minutes of a core",
        {
            "head": "cross-domain",
            "width": 48,
            "out": 48,
            "steps": 1000,
            "pairs": 6,
            "lr": 1e-3,
            "schedule": "one-cycle",
            "validate_every": 250,
        },
    ),
    "cocosnet-ade20k": (
        "CoCosNet as its code trains it on ADE20k, 200 epochs",
        TRANSLATOR
        | {"conditions": "mask", "feature": 1.0, "perceptual": 0.01, "perceptual_layer": "r52"}
        | {"matcher": MATCHER | {"mix": "own", "parts": 100.0}, "steps": _epochs(200, ADE20K_IMAGES)},
    ),
    "cocosnet-celeba-mask": (
        "CoCosNet as its code trains it on CelebAMask-HQ's masks, 60 epochs",
        TRANSLATOR
        | {"conditions": "mask", "steps": _epochs(60, CELEBA_IMAGES)}
        | {"matcher": MATCHER | {"kernel": 4, "mix": "own", "parts": 100.0, "cycle": 0.1}},
    ),
    "cocosnet-celeba-edge": (
        "CoCosNet as its code trains it on CelebAMask-HQ's edges, 60 epochs",
        TRANSLATOR
        | {"conditions": "edge", "steps": _epochs(60, CELEBA_IMAGES)}
        | {"matcher": MATCHER | {"kernel": 4, "mix": "own", "cycle": 1.0}},
    ),
    "cocosnet-deepfashion": (
        "CoCosNet as its code trains it on DeepFashion's poses, 100 epochs of the same garment",
        TRANSLATOR
        | {"conditions": "pose", "steps": _epochs(100, DEEPFASHION_IMAGES)}
        | {"matcher": MATCHER | {"kernel": 4, "same": 100.0}}
        | {"same_share": 1.0, "easy_share": 0.0, "hard_share": 0.0},
    ),
}
"""What each is, and its parameters."""
