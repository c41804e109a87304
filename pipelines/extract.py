"""Stage extract: a dataset's images through a frozen backbone into a feature store, once."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
from tqdm import tqdm

from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError, DatasetError, MatchkitError
from matchkit.core.interfaces import Backbone
from matchkit.core.params import build, divide
from matchkit.core.records import ImageRecord
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.datasets import open_dataset
from matchkit.extract.run import feature_maps
from matchkit.pipelines.settings import features_path, told_for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExtractParams:
    """How an extraction runs; none of this changes the features beyond the last bits.

    Attributes:
        backbone: name in the table of backbones; "" where the entry itself has that name.
        batch: images a batch.
        workers: threads that compute a batch each; 0 takes one a core.
    """

    backbone: str = ""
    batch: int = 2
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.workers < 0:
            raise ConfigError("batch must be at least 1 and workers at least 0")


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an extraction did: the store, its spec's digest, and images there were already and images done now."""

    store: Path
    digest: str
    present: int
    done: int


def prepare(
    dataset: str, entry: str, *, weights: str | None, settings: Sequence[str], device: str
) -> tuple[Backbone, ExtractParams]:
    """Builds the backbone that `extract.<dataset>.<entry>` of `params.yaml` describes.

    Raises:
        MatchkitError: an unknown backbone or parameter, or weights that are not there.
    """
    asked = told_for("extract", dataset, entry, settings)
    name = str(asked.values.get("backbone") or entry)
    kinds = (ExtractParams, BACKBONES.load(name).Params)
    values = dict(asked.values) | ({"weights": weights} if weights else {})
    run, params = divide(values, kinds, where=asked.where)
    backbone: Backbone = BACKBONES.build(name, params, where=asked.where, device=choose_device(device))
    return backbone, build(ExtractParams, run, where=asked.where)


def extract(
    dataset: str,
    entry: str,
    *,
    root: Path | None = None,
    weights: str | None = None,
    out: Path | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    limit: int | None = None,
) -> Extraction:
    """Extracts what is missing or stale; everything that can be decoded is done before a failure is raised.

    Raises:
        SpecMismatchError: the store was made under another spec.
        DatasetError: images that cannot be decoded, all of them named, after the others are done.
    """
    images = open_dataset(dataset, root).images
    records = list(images.values())[:limit]
    backbone, params = prepare(dataset, entry, weights=weights, settings=settings, device=device)
    store = FeatureStore.create(out or features_path(dataset, entry), backbone.spec, [record.id for record in records])
    checksums = {record.id: _checksum(record) for record in records if record.path.exists()}
    for image_id in store.stale(checksums):
        log.warning("%s: image '%s' has changed since it was extracted", store.path, image_id)
        store.withdraw(image_id)
    todo = [images[image_id] for image_id in store.missing(record.id for record in records)]
    failures = _fill(store, backbone, todo, checksums, params=params)
    store.write_manifest()
    if failures:
        listed = "; ".join(str(failure) for failure in failures)
        raise DatasetError(f"{len(failures)} of {len(records)} images cannot be extracted: {listed}")
    return Extraction(store.path, store.spec.digest(), present=len(records) - len(todo), done=len(todo))


def _checksum(record: ImageRecord) -> int:
    return int(google_crc32c.value(record.path.read_bytes()))


def _fill(
    store: FeatureStore,
    backbone: Backbone,
    records: Sequence[ImageRecord],
    checksums: dict[str, int],
    *,
    params: ExtractParams,
) -> list[MatchkitError]:
    failures: list[MatchkitError] = []
    workers = params.workers or os.cpu_count() or 1
    run = feature_maps(backbone, records, batch=params.batch, workers=workers)
    with tqdm(total=len(records), desc="extract", unit="image", disable=None) as progress:
        for extracted in run:
            if extracted.failure is None:
                store.write(extracted.record.id, extracted.maps, image_crc32c=checksums[extracted.record.id])
            else:
                failures.append(extracted.failure)
            progress.update()
    return failures
