"""What can be wrong with a store, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "chunk",
    "shard",
    "index",
    "slot",
    "orphan",
    "partial",
    "temporary",
    "journal",
    "ledger",
    "manifest",
    "metadata",
    "lost",
]
REPAIR = "Run: matchkit cache verify --repair {url}"
GC = "Run: matchkit cache gc {url}"
KINDS: Mapping[Kind, tuple[str, str]] = {
    "chunk": ("is not what was written", REPAIR),
    "shard": ("is gone or cut short", REPAIR),
    "index": ("has a damaged index, or a wrong length, around undamaged maps", REPAIR),
    "slot": ("tells zarr of an image that is not complete", REPAIR),
    "orphan": ("belongs to no complete image", GC),
    "partial": ("waits for images that nobody is writing", "Run: matchkit extract. Or: matchkit cache gc {url}"),
    "temporary": ("was left by a writer that is dead", GC),
    "journal": ("has a line that cannot be read", REPAIR),
    "ledger": (
        "is damaged or gone",
        f"Restore it from a copy; without one, the images it told of are to be extracted again. {REPAIR}",
    ),
    "manifest": ("does not say what the ledger says", REPAIR),
    "metadata": ("does not describe what lies there", REPAIR),
    "lost": ("is damaged or gone, and nothing here can replace it", "Restore it from a copy, or make the store anew"),
}
"""What is wrong by its kind, and the remedy. A chunk is one timestep of an image, a slot an image's part of a shard."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a store.

    Attributes:
        kind: a key of `KINDS`.
        where: the file or folder under the store's root.
        image_id: of the image that cannot be read for it; None where it is of no particular one.
        detail: what else is known, e.g. which timesteps.
        remedy: what to do, with the command.
    """

    kind: Kind
    where: str
    image_id: str | None
    detail: str
    remedy: str

    @property
    def told(self) -> str:
        """What is wrong, without the remedy."""
        image = "" if self.image_id is None else f" (image '{self.image_id}')"
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.where}{image} {KINDS[self.kind][0]}{detail}"

    def __str__(self) -> str:
        return f"{self.told}. {self.remedy}"


def finding(kind: Kind, where: str, *, url: str, image_id: str | None = None, detail: str = "") -> Finding:
    """A finding in the store at `url`, with the remedy of its kind."""
    return Finding(kind, where, image_id, detail, KINDS[kind][1].format(url=url))
