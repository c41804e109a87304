"""Frozen networks that give feature maps: one file each, one line each in the table.

An entry is a class with a frozen dataclass `Params`; `Class(params, device=device)` is a `Backbone`.
"""

from matchkit.core.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "sd-inversion": "matchkit.extract.backbones.sd_inversion:SDInversion",
        "dinov2": "matchkit.extract.backbones.dinov2:DINOv2",
        "pixels": "matchkit.extract.backbones.pixels:Pixels",
    },
)
