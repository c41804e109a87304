"""Writes the pairs of a split as a manifest, and says whether those of an older one are still the same."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matchkit.core.errors import DatasetError
from matchkit.core.manifest import OWN_LIST, PairRule, RuledPairs, digest, read_manifest, write_manifest
from matchkit.core.names import safe_name
from matchkit.core.records import Pair, PairDataset
from matchkit.extract.datasets import open_dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Manifested:
    """A manifest on the disk: its path, what is in it, and the SHA-256 of its pairs."""

    path: Path
    pairs: int
    images: int
    keypoints: int
    sha256: str


def manifest_path(dataset: str, split: str) -> Path:
    """The manifest of a split."""
    return Path("manifests") / safe_name(dataset) / f"{safe_name(split)}.jsonl"


def pair_rule(data: PairDataset, split: str) -> PairRule:
    """How the pairs of a split came about; where the dataset does not say, they are its own list."""
    return data.pair_rule(split) if isinstance(data, RuledPairs) else OWN_LIST


def manifest(dataset: str, split: str, *, root: Path | None = None, out: Path | None = None) -> Manifested:
    """Writes the manifest of a split; one of other pairs stays as it is.

    Args:
        dataset: name in the table of datasets.
        split: one of the dataset's.
        root: the dataset's tree.
        out: the manifest's path, by default `manifests/<dataset>/<split>.jsonl`.

    Raises:
        DatasetError: no such split, a malformed tree, or `out` holds other pairs, or a manifest that was changed.
    """
    data = open_dataset(dataset, root)
    pairs = data.pairs(split)
    path = out or manifest_path(dataset, split)
    if path.exists():
        _require_same(path, pairs)
    header = write_manifest(path, pairs, dataset=dataset, split=split, rule=pair_rule(data, split))
    log.info("%s %s: %s", dataset, split, header.rule.text)
    return Manifested(path, header.pairs, header.images, header.keypoints, header.sha256)


def _require_same(path: Path, pairs: Sequence[Pair]) -> None:
    held = read_manifest(path)
    if digest(pairs) == held.header.sha256:
        return
    before, now = ({pair.id: pair for pair in side} for side in (held.pairs, pairs))
    if before.keys() == now.keys():
        changed = next(name for name in sorted(now) if digest([now[name]]) != digest([before[name]]))
        how = f"pair '{changed}' has other keypoints or boxes"
    else:
        first = min(before.keys() ^ now.keys())
        how = f"pair '{first}' is only in {'the file' if first in before else 'the dataset'}"
    raise DatasetError(f"{path} holds other pairs ({held.header.sha256}): {how}. Write beside it: --out FILE")
