"""Files as other programs write them, small."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

PATCHES = 4
SHAPES = {"s5": (1, 1280, 1, 1), "s4": (1, 1280, 2, 2), "s3": (1, 640, 4, 4)}
Saved = torch.Tensor | Mapping[str, torch.Tensor]


@pytest.fixture
def save_as_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[Saved, Path], None]:
    """`torch.save` as it is on a machine with a GPU: the tensors' storages say that they are on cuda:0."""

    def save(values: Saved, path: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
            torch.save(values, path)

    return save


def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Single precision whose values half precision has too."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().float()


@pytest.fixture
def tree(tmp_path: Path, save_as_cuda: Callable[[Saved, Path], None]) -> Path:
    """Two images, both also mirrored, as GeoAware-SC's preprocess_map.py saves them: on the GPU, with gradients."""
    root = tmp_path / "SPair-71k" / "features"
    for number, name in enumerate(("cat/2008_000001", "dog/2009_001225")):
        (root / name).parent.mkdir(parents=True)
        for flip in (False, True):
            seed, suffix = 10 * number + 100 * flip, "_flip" if flip else ""
            weight = torch.ones((), requires_grad=True)
            diffusion = {key: drawn(shape, seed + n) for n, (key, shape) in enumerate(SHAPES.items())}
            save_as_cuda(diffusion, root / f"{name}_sd{suffix}.pt")
            dino = drawn((1, 768, 4, 4), seed + 3) * weight
            save_as_cuda(dino, root / f"{name}_dino{suffix}.pt")
        (root / f"{name}_mask.png").write_bytes(b"none of ours")
    return root
