"""Maps as their principal components: the codec `pca-<r>`, and the fit of its basis through dask."""

from collections.abc import Mapping, Sequence

import dask.array as da
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Shaped

from matchkit.cache.codecs.codec import Part, in_order, work
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

Basis = tuple[Float32[torch.Tensor, "t r c"], Float32[torch.Tensor, "t c"]]
"""Orthonormal rows and the mean, for each stored timestep."""


class Pca:
    """Half-precision coefficients on a basis of each layer and timestep; as many as there are channels at most.

    A value is the mean plus the coefficients times the basis in single precision, rounded to half precision. The sum
    runs in the order that the machine's matrix product takes, so the last bit may differ between machines.

    Args:
        rank: how many components are kept.
        statics: `<layer>.basis` (t,r,c) and `<layer>.mean` (t,c) of each layer; only `parts` does without.
    """

    version = 1
    plain = False
    decoded = torch.float16

    def __init__(self, rank: int, statics: Mapping[str, torch.Tensor]) -> None:
        self.name = f"pca-{rank}"
        self._rank = rank
        self._statics = statics

    def parts(self, layer: LayerSpec) -> tuple[Part, ...]:
        """The coefficients."""
        return (Part("", np.dtype(np.float16), (*layer.grid, min(self._rank, layer.channels))),)

    def encode(
        self, layer: LayerSpec, values: Shaped[torch.Tensor, "t gh gw c"]
    ) -> tuple[Shaped[torch.Tensor, "t ..."], ...]:
        """The coefficients.

        Raises:
            StoreError: the layer's basis is not there, or a coefficient is NaN or beyond half precision.
        """
        basis, mean = self._basis(layer, values.device)
        steps = in_order(values).flatten(1, 2)
        coefficients = steps.new_empty((*steps.shape[:2], basis.shape[1]), dtype=torch.float16)
        for step, rows in enumerate(steps):
            for block, x in work(rows, layer.channels):
                coefficients[step, block] = x.copy_(rows[block]).sub_(mean[step]) @ basis[step].T
        if not bool(coefficients.isfinite().all()):
            raise StoreError(
                f"{self.name} cannot hold layer '{layer.name}': it has values that are NaN or infinite, or "
                "coefficients beyond 65,504. Store it as fp32 or bf16"
            )
        return (coefficients.unflatten(1, layer.grid),)

    def decode(
        self,
        layer: LayerSpec,
        parts: Sequence[Shaped[torch.Tensor, "t ..."]],
        steps: Sequence[int],
        *,
        out: Shaped[torch.Tensor, "t gh gw c"] | None = None,
    ) -> Shaped[torch.Tensor, "t gh gw c"]:
        """The means plus the coefficients times the bases of the given steps.

        Raises:
            StoreError: the layer's basis is not there.
        """
        basis, mean = self._basis(layer, parts[0].device)
        coefficients = parts[0].flatten(1, 2)
        shape = (*coefficients.shape[:2], layer.channels)
        maps = coefficients.new_empty(shape) if out is None else out.flatten(1, 2)
        for into, rows, step in zip(maps, coefficients, steps, strict=True):
            for block, x in work(rows, layer.channels):
                torch.addmm(mean[step], rows[block].float(), basis[step], out=x)
                into[block] = x.clamp_(-65504, 65504)
        return maps.view(parts[0].shape[0], *layer.grid, layer.channels)

    def _basis(self, layer: LayerSpec, device: torch.device) -> Basis:
        names = (f"{layer.name}.basis", f"{layer.name}.mean")
        if not all(name in self._statics for name in names):
            raise StoreError(
                f"the store lacks its basis: {self.name} needs '{names[0]}' and '{names[1]}'. It is fitted when the "
                "store is derived: derive it again from the store with the whole maps"
            )
        basis, mean = (self._statics[name].to(device) for name in names)
        return basis, mean


def fit_pca(maps: da.Array, rank: int, *, sample: int | None = None, seed: int = 0) -> Basis:
    """The mean and the directions of largest variance over all positions of all images, for each timestep.

    One pass over the maps: each chunk gives its sums of x and of x x' in double precision, which are added up as they
    come, so that no more is in memory than a few chunks and (t, c, c) sums.

    Args:
        maps: of one layer, (image, t, h, w, c).
        rank: how many directions; the number of channels at most.
        sample: how many images to look at, drawn at random; all where None or where there are fewer.
        seed: of the drawing.

    Returns:
        The basis: unit vectors by falling variance, each with its component of largest magnitude positive. The mean.

    Raises:
        StoreError: there are no images, or a value is NaN or infinite.
    """
    if sample is not None and sample < len(maps):
        maps = maps[np.sort(np.random.default_rng(seed).choice(len(maps), sample, replace=False))]
    if not len(maps):
        raise StoreError("no images to fit a PCA on. Run: matchkit extract")
    moments = _moments(maps)
    if not np.isfinite(moments).all():
        raise StoreError("the maps to fit a PCA on have values that are NaN or infinite. Extract them again")
    mean, products = moments[:, -1], moments[:, :-1]
    basis = _directions(products - mean[:, :, None] * mean[:, None, :], rank)
    return torch.from_numpy(basis.astype(np.float32)), torch.from_numpy(mean.astype(np.float32))


def _moments(maps: da.Array) -> Float64[np.ndarray, "t _ c"]:
    """The mean of x x' (c rows), and below it of x, over all positions of all images."""
    count, _, height, width, channels = maps.shape
    # fewer positions than channels would give more to add up than there is in the maps
    together = max(maps.chunksize[0], -(-channels // (height * width)))
    maps = da.rechunk(maps, {0: together})
    sums = da.map_blocks(  # which joins the chunks of a dropped axis
        _sums,
        maps,
        dtype=np.float64,
        chunks=((1,) * maps.numblocks[0], maps.chunks[1], (channels + 1,), (channels,)),
        drop_axis=[2, 3, 4],
        new_axis=[2, 3],
        meta=np.empty((0, 0, 0, 0)),
    )
    moments: np.ndarray = sums.sum(axis=0, split_every=2).compute()
    moments /= count * height * width
    return moments


def _sums(chunk: Shaped[np.ndarray, "n t h w c"]) -> Float64[np.ndarray, "1 t _ c"]:
    """The sum of x x' (c rows), and below it of x, over all positions of the images of a chunk."""
    channels = chunk.shape[4]
    sums = np.empty((1, chunk.shape[1], channels + 1, channels))
    for step, into in enumerate(sums[0]):
        x = chunk[:, step].reshape(-1, channels).astype(np.float64)
        np.matmul(x.T, x, out=into[:-1])
        x.sum(axis=0, out=into[-1])
    return sums


def _directions(covariance: Float[np.ndarray, "t c c"], rank: int) -> Float[np.ndarray, "t r c"]:
    """The eigenvectors of the largest eigenvalues as rows, with signs that do not depend on the machine."""
    vectors: np.ndarray = np.linalg.eigh(covariance).eigenvectors[:, :, ::-1].swapaxes(1, 2)[:, :rank]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=2)[:, :, None], axis=2)
    vectors *= np.sign(largest)
    return vectors
