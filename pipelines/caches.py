"""Looking after feature stores: what is in them, and whether it is still what was written."""

from pathlib import Path
from typing import Any

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError


def info(path: Path) -> dict[str, Any]:
    """What a store holds: its spec and digest, complete images, and bytes on the disk."""
    store = FeatureStore.open(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"digest": store.spec.digest(), "images": len(store.ids), "bytes": size, "spec": store.spec.to_json()}


def verify(path: Path, *, repair: bool) -> dict[str, Any]:
    """Reads a store back; `repair` withdraws what is damaged, so that an extraction makes it again.

    Raises:
        StoreError: images are damaged, with their names and what to run.
    """
    store = FeatureStore.open(path)
    damaged = store.verify()
    if damaged:
        if repair:
            for image_id in damaged:
                store.withdraw(image_id)
        remedy = "They are withdrawn; run: matchkit extract" if repair else "Run: matchkit cache verify --repair"
        raise StoreError(f"{path}: {len(damaged)} damaged images: {', '.join(damaged)}. {remedy}")
    return {"images": len(store.ids)}
