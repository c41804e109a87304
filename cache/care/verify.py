"""Whether a store still is what was written: every byte of it compared, beside writers if need be."""

import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from matchkit.cache import group
from matchkit.cache.care.condition import condition, torn_chunks
from matchkit.cache.care.findings import Finding, finding
from matchkit.cache.care.payload import Progress, Suspect, index_damage, suspects
from matchkit.cache.care.survey import Survey
from matchkit.cache.care.views import views

TRIES = 40
PAUSE = 0.05
"""How often a store is looked at whose layout is being changed, and the seconds between."""


def verify(where: str | Path, *, progress: Progress = lambda done, total: None) -> list[Finding]:
    """Reads a store back and says all that is wrong with it. An image that is absent is nothing wrong.

    It asks for no permission to write, and holds no writer up. What writers do meanwhile is no finding: what they have
    written since is passed over, and so is what they are at.

    Where a part of the ledger has a wrong length, nothing can be compared, and that is all it says: repair it first.

    Args:
        where: the store's path or URL.
        progress: called with the bytes of maps compared so far, and in all.

    Raises:
        StoreError: no store there, or its `zarr.json` is damaged.
    """
    survey = Survey.open(where)
    torn = torn_chunks(survey)
    if torn:
        return torn
    readable, _ = views(survey)
    suspected = list(suspects(survey, readable, progress=progress))
    beside = _beside_maps(survey, [suspect for suspect in suspected if suspect.image is None])
    can_be_written = "zarr" not in readable.values()
    unread = [
        suspect.finding(survey, replaceable=can_be_written)
        for suspect in suspected
        if suspect.image is not None and survey.ledger.version(suspect.image.row) == suspect.image.version
    ]
    return [*unread, *beside]


def _beside_maps(survey: Survey, suspected: Sequence[Suspect]) -> list[Finding]:
    """What is wrong beside the maps, with the indices that are suspected too, as of a new look at the ledger.

    Something that a writer is just changing is not seen twice. Of the metadata nothing is said where it never rests.
    """
    seen: list[list[Finding]] = []
    for _ in range(TRIES):
        is_alone = not survey.writers()
        claimed = set(survey.place.held("images"))
        survey.refresh()
        layout = survey.layout
        claimed |= set(survey.place.held("images"))
        found = [*condition(survey, claimed=claimed), *_index_findings(survey, suspected, claimed=claimed)]
        if not found or (is_alone and not survey.writers()):
            return found
        if not survey.place.held("layout") and group.read_layout(survey.place) == layout:
            seen.append(found)
        if len(seen) == 2:
            return [each for each in seen[0] if each in seen[1]]
        time.sleep(PAUSE)
    return [each for each in found if each.kind != "metadata"]


def _index_findings(survey: Survey, suspected: Sequence[Suspect], *, claimed: Collection[int]) -> Iterator[Finding]:
    for shard in (suspect.shard for suspect in suspected):
        if survey.group_of(shard.number * shard.array.images) not in claimed:
            kind = index_damage(survey.place, shard.array, shard.name, survey.present(shard.array, shard.number))
            if kind is not None:
                yield finding(kind, shard.name, url=survey.place.url)
