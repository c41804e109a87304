"""Descriptors to matches to numbers: matchers, predictions, PCK under a stated protocol, reports.

A matcher's entry is a class with a frozen dataclass `Params`, built as `Class(params)`.
"""

from matchkit.core.registry import Registry

MATCHERS = Registry(
    "matcher",
    {
        "nearest": "matchkit.evaluate.matchers:Nearest",
        "bilinear": "matchkit.evaluate.on_cells:Bilinear",
        "soft-argmax": "matchkit.evaluate.on_cells:SoftArgmax",
        "window-soft-argmax": "matchkit.evaluate.on_cells:WindowSoftArgmax",
        "kernel-soft-argmax": "matchkit.evaluate.on_cells:KernelSoftArgmax",
    },
)
