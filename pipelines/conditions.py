"""Conditions rendered into a store: the poses, masks or edges of a dataset's photographs, where these lie."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from tqdm import tqdm

from matchkit.cache.store import FeatureStore
from matchkit.core.conditions import (
    CONDITION,
    KINDS,
    ConditionedDataset,
    ConditionKind,
    ConditionSpec,
    condition_features,
)
from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.geometry import Fit, place
from matchkit.core.params import build
from matchkit.core.poses import posed
from matchkit.core.records import ImageRecord
from matchkit.core.spec import FeatureSpec
from matchkit.extract.conditions.place import place_condition
from matchkit.extract.datasets import open_dataset
from matchkit.extract.run import checksum
from matchkit.pipelines.prepare import DECODERS, cores
from matchkit.pipelines.settings import features_path, told_for
from matchkit.pipelines.space import absent, require_space

log = logging.getLogger(__name__)
Rendered = tuple[int, Float[torch.Tensor, "1 c side side"]]
"""CRC-32C of a photograph's file, and the photograph's condition."""


@dataclass(frozen=True, slots=True)
class ConditionsParams:
    """How conditions are rendered and kept.

    Attributes:
        kind: `pose`, `mask` or `edge`; "" where the entry itself has that name.
        side: pixels of the input, in which they lie as the photographs do.
        fit: how a photograph is put into the input.
        dtype: the number type at rest.
        flip: whether the photographs' mirrored copies are rendered too, as `--flip` asks for.
    """

    kind: Literal["", "pose", "mask", "edge"] = ""
    side: int = 64
    fit: Fit = "stretch"
    dtype: Literal["fp16", "fp32"] = "fp16"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ConfigError(f"side must be at least 1, not {self.side}")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a rendering did: the store, its spec's digest, conditions there were already and conditions done now."""

    store: str
    digest: str
    present: int
    done: int


def open_conditioned(dataset: str, root: Path | None) -> ConditionedDataset:
    """Opens a dataset that has conditions.

    Raises:
        DatasetError: it has none, or its tree is missing or malformed.
    """
    data = open_dataset(dataset, root)
    if not isinstance(data, ConditionedDataset):
        raise DatasetError(f"dataset '{dataset}' has no poses, masks or edges to translate from")
    return data


def conditions(
    dataset: str,
    entry: str,
    *,
    root: Path | None = None,
    out: Path | str | None = None,
    settings: Sequence[str] = (),
    limit: int | None = None,
    flip: bool = False,
    force: bool = False,
) -> Conditions:
    """Renders what is missing or stale; everything that can be rendered is done before a failure is raised.

    Stale is what was rendered beside another photograph: a dataset does not tell which files its conditions are read
    from. Where these alone have changed, delete the store.

    Args:
        dataset: name in the table of datasets, of one with conditions.
        entry: of `params.yaml`, or a kind of conditions.
        root: the dataset's tree.
        out: the store's path or URL.
        settings: `key=value`, over `params.yaml`.
        limit: only so many photographs, the first ones by id.
        flip: also those of the mirrored photographs, with ids that end in `@flip`.
        force: whether to begin on a disk without room for all of it.

    Raises:
        SpecMismatchError: the store was made under another spec.
        StoreError: there is no room on the disk, or it cannot be written.
        DatasetError: no such conditions, or some are missing or malformed: all of them named, after the others.
    """
    asked = told_for("conditions", dataset, entry, settings)
    params = build(ConditionsParams, asked.values, where=asked.where)
    kind = _kind(params.kind or entry)
    data = open_conditioned(dataset, root)
    described = data.condition_spec(kind)
    spec = condition_features(described, side=params.side, fit=params.fit, dtype=params.dtype)
    records = list(data.images.values())[:limit]
    if flip or params.flip:
        records += [posed(record, "hflip") for record in records]
    where = out or features_path(dataset, entry)
    if not force:
        require_space(where, spec, images=len(absent(where, spec, [record.id for record in records])))
    with FeatureStore.create(where, spec, [record.id for record in records]) as store:
        todo = _todo(store, records)
        failures = _fill(store, partial(_render, data, described, spec), todo)
        store.finalize()
    if failures:
        listed = "; ".join(failures)
        raise DatasetError(f"{len(failures)} of {len(records)} conditions cannot be rendered: {listed}")
    return Conditions(str(store), spec.digest(), present=len(records) - len(todo), done=len(todo))


def _kind(name: str) -> ConditionKind:
    for kind in KINDS:
        if name == kind:
            return kind
    raise ConfigError(
        f"'{name}' is no kind of conditions; there are: {', '.join(KINDS)}. "
        f"An entry of another name in params.yaml says which with kind, or give --set kind={KINDS[0]}"
    )


def _todo(store: FeatureStore, records: Sequence[ImageRecord]) -> list[ImageRecord]:
    missing = set(store.missing(record.id for record in records))
    there = {record.id: checksum(record) for record in records if record.id not in missing and record.path.exists()}
    for image_id in store.stale(there):
        log.warning("%s: image '%s' has changed since its condition was rendered", store, image_id)
        store.withdraw(image_id)
        missing.add(image_id)
    return [record for record in records if record.id in missing]


def _fill(store: FeatureStore, render: Callable[[ImageRecord], Rendered], records: Sequence[ImageRecord]) -> list[str]:
    """Writes conditions in the order of the images; returns why some cannot be rendered."""
    failures: list[str] = []
    bar = tqdm(total=len(records), desc="conditions", unit="image", disable=None)
    with bar as progress, closing(_ahead(render, records)) as run:
        for record, rendered in run:
            try:
                image_crc32c, values = rendered.result()
            except DatasetError as error:
                failures.append(str(error))
            else:
                store.write(record.id, {CONDITION: values}, image_crc32c=image_crc32c)
            progress.update()
    return failures


def _ahead(
    render: Callable[[ImageRecord], Rendered], records: Sequence[ImageRecord]
) -> Generator[tuple[ImageRecord, Future[Rendered]], None, None]:
    """Images with what becomes of them, two a thread ahead of the one that is waited for."""
    threads = min(cores(), DECODERS)
    pending: deque[tuple[ImageRecord, Future[Rendered]]] = deque()
    with ThreadPoolExecutor(threads, "matchkit-render") as pool:
        for record in records:
            pending.append((record, pool.submit(render, record)))
            if len(pending) > 2 * threads:
                yield pending.popleft()
        yield from pending


def _render(data: ConditionedDataset, described: ConditionSpec, spec: FeatureSpec, record: ImageRecord) -> Rendered:
    """Renders the condition of an image where the spec puts the image; first the checksum, as an extraction does."""
    image_crc32c = checksum(record)
    placement = place(record.size, spec.input_size, fit=spec.fit)
    try:
        values = place_condition(data.condition(record.id, described.kind), described, placement)
    except ConfigError as error:
        raise DatasetError(f"{described.kind} of image '{record.id}': {error}") from error
    return image_crc32c, torch.from_numpy(values)[None]
