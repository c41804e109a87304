"""Features from the files of other programs into a store, and a store's features into such files."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from matchkit.cache.interchange import Source, Target
from matchkit.cache.interchange.dift import DiftFolder, DiftParams
from matchkit.cache.interchange.distilldift import DistillDiftFile, DistillDiftParams
from matchkit.cache.interchange.geoaware import GeoAwareFiles, GeoAwareParams, GeoAwareTree
from matchkit.cache.interchange.hdf5 import Compression, Hdf5File, Hdf5Target
from matchkit.cache.layout import image_bytes
from matchkit.cache.scan import scan
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.params import build, parse_overrides
from matchkit.core.spec import StoredType
from matchkit.extract.datasets import open_dataset

ImportFormat = Literal["geoaware", "dift", "distilldift", "hdf5"]
ExportFormat = Literal["geoaware", "hdf5"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foreign:
    """What is told of files that do not say it; "" and nothing where it is not told.

    Attributes:
        weights: what is known of the weights that made the features.
        dtype: the codec of the store.
        dataset: whose images they are.
        root: the dataset's tree.
        settings: the format's own parameters, `key=value`.
    """

    weights: str = ""
    dtype: StoredType | Literal[""] = ""
    dataset: str = ""
    root: Path | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: the store, its spec's digest, and images there were already and images done now."""

    store: str
    digest: str
    present: int
    done: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did: the files' place, and images there were already and images done now."""

    out: Path
    present: int
    done: int


def import_features(kind: ImportFormat, files: Path, store: str | Path, told: Foreign | None = None) -> Imported:
    """Copies features into a store, an image in memory at a time; images that are complete there are passed over.

    Everything that can be read is imported before a failure is raised.

    Raises:
        StoreError: nothing can be read, or some images cannot, all of them named.
        SpecMismatchError: the store holds features of another spec.
        ConfigError: something is told that the files say themselves, or lacks that they do not.
    """
    with contextlib.closing(_source(kind, files, told or Foreign())) as source:
        _require_readable(source, files)
        log.info("%s: %s images, %.2f GB in %s", files, f"{len(source.ids):,}", _gigabytes(source), source.spec.dtype)
        with FeatureStore.create(store, source.spec, source.ids) as target:
            todo = target.missing(source.ids)
            failures = [*source.refused, *_fill(target, source, todo)]
            for name, data in source.notes.items():
                if name not in target.notes:
                    target.note(name, data)
            target.finalize()
    if failures:
        raise StoreError(
            f"{target} holds {len(target.ids):,} images; the rest of {files} cannot be imported: {_listed(failures)}"
        )
    return Imported(str(target), source.spec.digest(), present=len(source.ids) - len(todo), done=len(todo))


def _source(kind: ImportFormat, files: Path, told: Foreign) -> Source:
    if told.dataset and kind != "distilldift":
        raise ConfigError(f"--dataset is for --format distilldift; files of {kind} name their images in full")
    if kind == "hdf5":
        if told.weights or told.dtype or told.settings:
            raise ConfigError(
                "a file of --format hdf5 says all of itself: leave --weights-label, --dtype and --set out"
            )
        return Hdf5File(files)
    values, where = parse_overrides(told.settings), f"--format {kind}"
    weights, dtype = told.weights or "unknown", told.dtype or "fp16"
    if kind == "geoaware":
        return GeoAwareTree(files, build(GeoAwareParams, values, where=where), weights=weights, dtype=dtype)
    if kind == "dift":
        return DiftFolder(files, build(DiftParams, values, where=where), weights=weights, dtype=dtype)
    if not told.dataset:
        raise ConfigError(
            "a DistillDIFT file lacks its images' categories. Say whose they are: --dataset spair --root DIR"
        )
    params = build(DistillDiftParams, values, where=where)
    images = open_dataset(told.dataset, told.root).images
    return DistillDiftFile(files, params, images, weights=weights, dtype=dtype)


def _require_readable(source: Source, files: Path) -> None:
    """Makes sure that there is something to import before a store is made for it."""
    failures = list(source.refused)
    for image_id in source.ids:
        try:
            source.read(image_id)
        except StoreError as error:
            failures.append(str(error))
        else:
            return
    raise StoreError(f"nothing in {files} can be imported: {_listed(failures) or 'it holds no image'}")


def _gigabytes(source: Source) -> float:
    return len(source.ids) * image_bytes(source.spec) / 1e9


def _fill(store: FeatureStore, source: Source, ids: Sequence[str]) -> list[str]:
    failures = []
    for image_id in tqdm(ids, desc="import", unit="image", disable=None):
        try:
            maps = source.read(image_id)
        except StoreError as error:
            failures.append(str(error))
        else:
            store.write(image_id, maps, image_crc32c=source.image_crc32c(image_id))
    return failures


def _listed(failures: Sequence[str]) -> str:
    """Each once: a damaged file may have failed many images."""
    return "; ".join(dict.fromkeys(failures))


def export_features(
    kind: ExportFormat, store: str | Path, out: Path, *, compression: Compression | None = None
) -> Exported:
    """Copies a store's complete images into files, an image at a time; files that are there and whole are passed over.

    Raises:
        StoreError: the format cannot hold this store, `out` holds something else, or the store changed meanwhile.
        ConfigError: compression of a format that has none.
    """
    source = FeatureStore.open(store)
    ids, content = source.ids, source.content
    if not ids:
        raise StoreError(f"{source} holds no complete image. Run: matchkit extract")
    with contextlib.closing(_target(kind, source, out, content=content, compression=compression)) as target:
        todo = target.missing(ids)
        images = scan(source, todo)
        for image_id, maps in tqdm(images, total=len(todo), desc="export", unit="image", disable=None):
            target.write(image_id, maps, image_crc32c=source.image_crc32c(image_id))
        source.refresh()
        if source.content != content:
            raise StoreError(f"{source} changed while it was exported. Run this again when its writer is done")
        target.finish()
    return Exported(out, present=len(ids) - len(todo), done=len(todo))


def _target(
    kind: ExportFormat, source: FeatureStore, out: Path, *, content: str, compression: Compression | None
) -> Target:
    if kind == "hdf5":
        return Hdf5Target(out, source.spec, source.ids, content=content, notes=source.notes, compression=compression)
    if compression:
        raise ConfigError("--compression is for --format hdf5; a .pt file has none")
    return GeoAwareFiles(out, source.spec)
