"""Stores derived from a store: another codec, fewer layers or timesteps, pooled vectors. Each names its parents."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from matchkit.cache import group
from matchkit.cache.codecs.codec import codec
from matchkit.cache.codecs.pca import fit_pca
from matchkit.cache.lazy import lazy
from matchkit.cache.places.place import open_place
from matchkit.cache.reader import ImageMaps
from matchkit.cache.scan import scan
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

POOLED = ".mean-pooled"
"""What follows a layer's name in a store of pooled vectors."""
PCA_IMAGES = 200
"""Images, drawn at random, that a basis is fitted on."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """What is changed on the way from one store to another.

    Attributes:
        dtype: the codec, e.g. `int8` or `pca-64`; "" keeps the parent's.
        layers: those that are kept; none named keeps all.
        timesteps: those that are kept; none named keeps all.
        pool: `mean` keeps one vector a layer and timestep, the mean over the cells.
        compressed: whether chunks are zstd frames; the numbers stay as they are.
        seed: of the images that a basis is fitted on.
    """

    dtype: str = ""
    layers: tuple[str, ...] = ()
    timesteps: tuple[int, ...] = ()
    pool: Literal["", "mean"] = ""
    compressed: bool = False
    seed: int = 0

    def spec(self, parent: FeatureSpec) -> FeatureSpec:
        """The spec of what is derived from features of `parent`; the parent's own where no number changes.

        Raises:
            StoreError: no such layer.
            ConfigError: no such timestep.
        """
        layers = tuple(parent.layer(name) for name in dict.fromkeys(self.layers)) or parent.layers
        unknown = [step for step in self.timesteps if step not in parent.timesteps]
        if unknown:
            raise ConfigError(f"no timestep {unknown[0]}; there are: {', '.join(map(str, parent.timesteps))}")
        if self.pool:
            layers = tuple(LayerSpec(f"{layer.name}{POOLED}", layer.channels, (1, 1)) for layer in layers)
        timesteps = tuple(dict.fromkeys(self.timesteps)) or parent.timesteps
        changed = replace(parent, dtype=self.dtype or parent.dtype, layers=layers, timesteps=timesteps)
        if changed == parent:
            return parent
        options = {**parent.options, "basis_seed": self.seed} if changed.dtype.startswith("pca-") else parent.options
        return parent.derive(dtype=changed.dtype, layers=layers, timesteps=changed.timesteps, options=options)


def derive(
    parent: FeatureStore, where: str | Path, derivation: Derivation, *, done: Callable[[], object] = lambda: None
) -> FeatureStore:
    """Writes the store derived from all complete images of `parent`; takes up where it was interrupted.

    Two images are in memory at a time. `done` is called after each image. Images that were extracted again from another
    photograph since are derived again.

    Raises:
        StoreError: the place is taken, the parent is empty, an image of it is damaged, or no such layer or codec.
        ConfigError: no such timestep, or vectors that are pooled and projected.
    """
    spec = derivation.spec(parent.spec)
    codec(spec.dtype)
    if derivation.pool and spec.dtype.startswith("pca-"):
        raise ConfigError("pooled vectors are not projected; take another codec")
    ids = parent.ids
    if not ids:
        raise StoreError(f"{parent} holds no complete image. Run: matchkit extract")
    begun = _begun(parent, where, derivation)
    layers = list(dict.fromkeys(derivation.layers)) or list(parent.layers)
    statics = None if begun or not spec.dtype.startswith("pca-") else _basis(parent, spec, layers, derivation.seed)
    with FeatureStore.create(where, spec, ids, compressed=derivation.compressed, statics=statics) as store:
        todo = outdated(parent, store, ids)
        for _ in range(len(ids) - len(todo)):
            done()
        for image_id, maps in scan(parent, todo, layers, spec.timesteps):
            changed = _pooled(maps) if derivation.pool else maps
            store.write(image_id, changed, image_crc32c=parent.image_crc32c(image_id))
            done()
        store.finalize()
    return store


def _begun(parent: FeatureStore, where: str | Path, derivation: Derivation) -> bool:
    """Whether there is a store already, which this conversion then goes on with."""
    if Path(str(where)).resolve() == Path(str(parent)).resolve():
        raise StoreError(f"{parent} cannot be converted into itself. Take another path")
    place = open_place(where)
    if not group.exists(place):
        return False
    if group.read_layout(place).compressed != derivation.compressed:
        raise StoreError(f"{where} is there, {'un' if derivation.compressed else ''}compressed. Take another path")
    return True


def outdated(parent: FeatureStore, derived: FeatureStore, ids: Iterable[str]) -> list[str]:
    """Those of `ids`, in their order, that a derived store lacks or that show another photograph in the parent now."""
    photographs = {image_id: parent.image_crc32c(image_id) for image_id in ids}
    lacking = {*derived.missing(photographs), *derived.stale(photographs)}
    return [image_id for image_id in photographs if image_id in lacking]


def _pooled(maps: ImageMaps) -> ImageMaps:
    return {
        f"{name}{POOLED}": values.float().mean(dim=(2, 3), keepdim=True).to(values.dtype)
        for name, values in maps.items()
    }


def _basis(parent: FeatureStore, spec: FeatureSpec, layers: Sequence[str], seed: int) -> dict[str, torch.Tensor]:
    """Each layer's principal components at each timestep, fitted on some of the images."""
    steps = [parent.timesteps.index(step) for step in spec.timesteps]
    statics: dict[str, torch.Tensor] = {}
    for name in layers:
        maps, rank = lazy(parent, name)[:, steps], int(spec.dtype.removeprefix("pca-"))
        basis, mean = fit_pca(maps, rank, sample=PCA_IMAGES, seed=seed)
        statics |= {f"{name}.basis": basis, f"{name}.mean": mean}
    return statics
