"""Frozen networks that give feature maps: one file each, one line each in the table.

An entry is a class with a frozen dataclass `Params`; `Class(params, device=device)` is a `Backbone`.
One that can be given a learned prompt takes it as a further argument `prompts`.
"""

from matchkit.core.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "sd-inversion": "matchkit.extract.backbones.sd_inversion:SDInversion",
        "sd-noise": "matchkit.extract.backbones.sd_noise:SDNoise",
        "sd-latents": "matchkit.extract.backbones.sd_latents:SDLatents",
        "geoaware": "matchkit.extract.backbones.geoaware:GeoAware",
        "dinov2": "matchkit.extract.backbones.dinov2:DINOv2",
        "vit": "matchkit.extract.backbones.vit:ViT",
        "timm": "matchkit.extract.backbones.timm_vit:TimmViT",
        "hog": "matchkit.extract.backbones.hog:HOG",
        "pixels": "matchkit.extract.backbones.pixels:Pixels",
    },
)
