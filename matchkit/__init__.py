"""Semantic correspondence from the frozen features of Stable Diffusion and DINOv2.

    import matchkit
    store = matchkit.FeatureStore.open("features/toy/sd-inversion.zarr")
    maps = store.read(store.ids[0], layers=["up2.1"])          # {layer: (t, c, gh, gw)}

The public names are imported when they are first used; `import matchkit` itself is free.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matchkit.cache.store import FeatureStore as FeatureStore
    from matchkit.core.errors import MatchkitError as MatchkitError
    from matchkit.core.records import ImageRecord as ImageRecord
    from matchkit.core.records import Pair as Pair
    from matchkit.core.spec import FeatureSpec as FeatureSpec
    from matchkit.evaluate.pck import score as score
    from matchkit.evaluate.predictions import Predictions as Predictions
    from matchkit.evaluate.protocol import EvalProtocol as EvalProtocol
    from matchkit.extract.datasets import open_dataset as open_dataset
    from matchkit.pipelines.match_photos import match as match
    from matchkit.pipelines.photo_matcher import Matches as Matches
    from matchkit.pipelines.photo_matcher import PhotoMatcher as PhotoMatcher

__version__ = "0.1.0"

_PUBLIC = {
    "EvalProtocol": "matchkit.evaluate.protocol",
    "FeatureSpec": "matchkit.core.spec",
    "FeatureStore": "matchkit.cache.store",
    "ImageRecord": "matchkit.core.records",
    "Matches": "matchkit.pipelines.photo_matcher",
    "MatchkitError": "matchkit.core.errors",
    "Pair": "matchkit.core.records",
    "PhotoMatcher": "matchkit.pipelines.photo_matcher",
    "Predictions": "matchkit.evaluate.predictions",
    "match": "matchkit.pipelines.match_photos",
    "open_dataset": "matchkit.extract.datasets",
    "score": "matchkit.evaluate.pck",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the public names are of several kinds
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'matchkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
