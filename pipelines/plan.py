"""What an extraction will cost, before it runs."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from matchkit.cache.layout import image_bytes
from matchkit.core.device import one_thread
from matchkit.core.interfaces import Backbone
from matchkit.core.poses import Pose
from matchkit.core.records import ImageRecord
from matchkit.core.spec import FeatureSpec
from matchkit.extract.run import feature_maps, inputs
from matchkit.pipelines.prepare import Prepared, images_of, prepare
from matchkit.pipelines.settings import features_path
from matchkit.pipelines.space import absent, free_bytes

Shape = Sequence[int]


def _attention_flops(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """Scores of every query with every key, and sums of values: shapes are (b, heads, tokens, width)."""
    return 2 * math.prod(query[:3]) * key[2] * (query[3] + value[3])


ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""What torch's own counter leaves out."""
QUICK = 5.0
"""Seconds below which a probe is run again: the first time pays for more than the images."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What was measured on this machine.

    Attributes:
        images: computed for it.
        device: on which.
        network: that takes most of the arithmetic.
        calls_an_image: of that network.
        flops_an_image: floating-point operations, a multiplication with its addition counted as two.
        seconds_an_image: of computing, with all threads at work.
        seconds_in_all: of computing what is missing.
    """

    images: int
    device: str
    network: str
    calls_an_image: int
    flops_an_image: int
    seconds_an_image: float
    seconds_in_all: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of an extraction.

    Attributes:
        store: where it will lie.
        images: of the dataset.
        missing: of them, not in the store yet.
        calls_an_image: of the network.
        bytes_an_image: at rest.
        bytes_in_all: of what is missing.
        bytes_free: on the store's disk; None for an object store.
        probe: what was measured; None where that was not wanted, or nothing is missing.
    """

    store: str
    images: int
    missing: int
    calls_an_image: int
    bytes_an_image: int
    bytes_in_all: int
    bytes_free: int | None
    probe: Probe | None


def plan(
    dataset: str,
    entry: str,
    *,
    root: Path | None = None,
    weights: str | None = None,
    prompt: Path | None = None,
    out: Path | str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    limit: int | None = None,
    poses: tuple[Pose, ...] = (),
    probe: bool = True,
) -> Plan:
    """Counts what `matchkit extract` would compute and write, and measures how long that takes here.

    Raises:
        DatasetError: one of the images for the probe cannot be decoded.
    """
    prepared = prepare(dataset, entry, weights=weights, settings=settings, device=device, prompt=prompt, root=root)
    records = images_of(dataset, root, limit=limit, poses=poses or prepared.params.poses)
    spec, where = prepared.backbone.spec, out or features_path(dataset, prompt.stem if prompt else entry)
    missing = set(absent(where, spec, [record.id for record in records]))
    todo = [record for record in records if record.id in missing]
    size = image_bytes(spec)
    measured = _probe(prepared, todo) if probe and todo else None
    return Plan(
        store=str(where),
        images=len(records),
        missing=len(todo),
        calls_an_image=measured.calls_an_image if measured else calls_an_image(spec),
        bytes_an_image=size,
        bytes_in_all=size * len(todo),
        bytes_free=free_bytes(where),
        probe=measured,
    )


def calls_an_image(spec: FeatureSpec) -> int:
    """Calls of the network as a spec tells them; the contract tests compare them with what is called.

    An inversion runs up to its noisiest kept timestep, noised latents are an ensemble a timestep, and an input that is
    larger than the network's goes through it in crops.
    """
    steps, ensemble, crop = (spec.options.get(name) for name in ("steps", "ensemble", "crop"))
    if isinstance(steps, int):
        last = max(spec.timesteps)
        return max(0, last) // (1000 // steps) + (2 if last >= 0 else 1)
    if isinstance(ensemble, int):
        return ensemble * len(spec.timesteps)
    return math.prod(-(-side // crop) for side in spec.input_size) if isinstance(crop, int) else 1


def _probe(prepared: Prepared, records: Sequence[ImageRecord]) -> Probe:
    arithmetic = measure_arithmetic(prepared.backbone, records[0])
    batch, threads = prepared.params.batch, min(2, prepared.threads)
    tried = records[: batch * threads]
    seconds = _seconds(prepared, tried, threads=threads)
    if seconds < QUICK:
        seconds = min(seconds, _seconds(prepared, tried, threads=threads))
    at_a_time = min(threads, -(-len(tried) // batch))  # batches: one alone where there are few images
    each = seconds / batch / at_a_time * min(1, at_a_time / prepared.threads)
    return Probe(len(tried), str(prepared.device), *arithmetic, each, each * len(records))


def measure_arithmetic(backbone: Backbone, record: ImageRecord) -> tuple[str, int, int]:
    """The network that takes most of the arithmetic of one image, its calls, and floating-point operations in all.

    A call with several latents of the image counts as several.
    """
    calls: Counter[str] = Counter()

    def count(module: nn.Module, taken: tuple[object, ...]) -> None:
        first = taken[0] if taken else None
        calls[type(module).__name__] += len(first) if isinstance(first, torch.Tensor) else 1

    first, *others = (image[None] for image in inputs(record, backbone.canvases))
    hook = register_module_forward_pre_hook(count)
    try:
        with one_thread(), FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            backbone(first, [record.id], *others)
    finally:
        hook.remove()
    outermost = {
        name: sum(by_kind.values())
        for name, by_kind in counter.get_flop_counts().items()
        if name != "Global" and "." not in name
    }
    network = max(outermost, key=outermost.__getitem__, default="none")
    return network, calls[network], int(counter.get_total_flops())


def _seconds(prepared: Prepared, records: Sequence[ImageRecord], *, threads: int) -> float:
    start = time.perf_counter()
    run = feature_maps(
        prepared.backbone, records, batch=prepared.params.batch, threads=threads, decoders=prepared.decoders
    )
    for extracted in run:
        if extracted.failure:
            raise extracted.failure
    return time.perf_counter() - start
