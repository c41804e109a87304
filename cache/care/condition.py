"""What is wrong with a store beside its maps: its ledger, its metadata, and files that nobody needs."""

from collections.abc import Collection, Iterator

import numpy as np
from jaxtyping import Bool, UInt32

from matchkit.cache.care.findings import Finding, finding
from matchkit.cache.care.survey import Survey, is_ledger_file, shard_number, temporary_folders
from matchkit.cache.care.views import group_findings, parse, views
from matchkit.cache.journal import CHUNK, FOLDER, JOURNAL
from matchkit.cache.layout import ArrayLayout
from matchkit.cache.ledger import CHECKSUMS, COMPLETE, ROWS, VERSION, ledger_metadata
from matchkit.cache.places.local import PARTIAL, LocalPlace

MOST_VERSIONS = 1 << 31
"""No image was written or withdrawn that often."""


def condition(survey: Survey, *, claimed: Collection[int]) -> list[Finding]:
    """All that is wrong but for the maps and the shards' indices.

    Args:
        survey: of the store.
        claimed: the groups of images that other writers are at, whose files are passed over.
    """
    readable, wrong = views(survey)
    found = [*group_findings(survey), *wrong, *ledger_findings(survey), *_journal_findings(survey)]
    for array in survey.arrays:
        if readable.get(array.name) in ("bytes", "frames"):
            found += _file_findings(survey, array, claimed=claimed)
    unknown = sorted(name for name in survey.place.sizes(FOLDER) if not is_ledger_file(name) and name[0] != ".")
    found += [finding("orphan", f"{FOLDER}/{name}", url=survey.place.url) for name in unknown]
    found += _temporary_findings(survey)
    if not survey.ledger.rows and sum(each.kind == "orphan" for each in found) > len(survey.arrays):
        found.append(finding("ledger", FOLDER, url=survey.place.url, detail="it knows of no image"))
    return found if any(each.kind == "ledger" for each in found) else [*found, *_manifest_findings(survey)]


def torn_chunks(survey: Survey) -> list[Finding]:
    """The parts of the ledger that have a wrong length: with one of them nothing can be compared."""
    return [
        finding(
            "ledger", f"{FOLDER}/{name}", url=survey.place.url, detail=f"{size:,} bytes, not {survey.chunk_bytes:,}"
        )
        for name, size in sorted(survey.place.sizes(FOLDER).items())
        if CHUNK.fullmatch(name) and size != survey.chunk_bytes
    ]


def ledger_findings(survey: Survey) -> Iterator[Finding]:
    """Parts of the ledger that are gone, and rows in it that no writer wrote."""
    url, sizes = survey.place.url, survey.place.sizes(FOLDER)
    numbers = sorted(int(found[1]) for name in sizes if (found := CHUNK.fullmatch(name)))
    ids = survey.layout.ids
    for number in numbers:
        for position in np.flatnonzero(impossible_rows(survey, number, read_chunk(survey, number))).tolist():
            row = number * ROWS + position
            image_id = ids[row] if row < len(ids) else None
            yield finding("ledger", f"{FOLDER}/c.{number}.0", url=url, image_id=image_id, detail=f"row {row}")
    described = parse(survey.place.read_all([f"{FOLDER}/zarr.json"])[0])
    shape = described.get("shape")
    rows = shape[0] if isinstance(shape, list) and shape else len(ids)
    expected = parse(ledger_metadata(rows=rows, chunks=survey.columns - CHECKSUMS))
    is_right = described == expected and _last_row(survey, numbers) < rows <= len(ids)
    if ("zarr.json" in sizes or numbers) and not is_right:
        yield finding("metadata", f"{FOLDER}/zarr.json", url=url)
    if _told_images(survey) > sum(survey.ledger.version(row) > 0 for row in range(len(ids))):
        gone = set(range(-(-len(ids) // ROWS))) - set(numbers)
        yield from (finding("ledger", f"{FOLDER}/c.{number}.0", url=url, detail="gone") for number in sorted(gone))


def read_chunk(survey: Survey, number: int) -> UInt32[np.ndarray, "rows columns"]:
    """A part of the ledger as it stands, cut or filled up to its length."""
    data = survey.place.read(f"{FOLDER}/c.{number}.0")[: survey.chunk_bytes].ljust(survey.chunk_bytes, b"\0")
    return np.frombuffer(data, "<u4").reshape(ROWS, survey.columns).copy()


def impossible_rows(
    survey: Survey, number: int, chunk: UInt32[np.ndarray, "rows columns"]
) -> Bool[np.ndarray, " rows"]:
    """Which rows of a part of the ledger say what no writer says."""
    version, complete, told = chunk[:, VERSION], chunk[:, COMPLETE], chunk[:, COMPLETE:].any(axis=1)
    beyond = np.arange(ROWS) + number * ROWS >= len(survey.layout.ids)
    impossible: np.ndarray = (
        (complete > 1)
        | (version >= MOST_VERSIONS)
        | (told & ((version == 0) | (complete == 0)))
        | ((complete == 1) & ~chunk[:, CHECKSUMS:].any(axis=1))
        | (beyond & (version > 0))
    )
    return impossible


def _last_row(survey: Survey, numbers: list[int]) -> int:
    """The last row that the folded ledger knows of, -1 for none."""
    for number in reversed(numbers):
        known = np.flatnonzero(read_chunk(survey, number)[:, VERSION])
        if len(known):
            return number * ROWS + int(known[-1])
    return -1


def _journal_findings(survey: Survey) -> Iterator[Finding]:
    living = survey.place.held("writer")
    for name, lines in journal_lines(survey).items():
        bad = [number for number, line in enumerate(lines, 1) if not is_line(survey, line)]
        if bad and bad[-1] == len(lines) and not lines[-1].endswith(b"\n") and int(name.split(".")[1]) in living:
            del bad[-1]  # not finished yet
        for number in bad:
            yield finding("journal", f"{FOLDER}/{name}", url=survey.place.url, detail=f"line {number}")


def journal_lines(survey: Survey) -> dict[str, list[bytes]]:
    """The lines of every journal, by its name, each with its end."""
    names = sorted(name for name in survey.place.sizes(FOLDER) if JOURNAL.fullmatch(name))
    texts = survey.place.read_all([f"{FOLDER}/{name}" for name in names])
    return {name: text.splitlines(keepends=True) for name, text in zip(names, texts, strict=True)}


def is_line(survey: Survey, line: bytes) -> bool:
    """Whether a line of a journal is whole, and says what a writer of this store can have said."""
    told, ids = parse(line), survey.layout.ids
    complete = {"row", "id", "version", "image", "crc32c"}
    if not line.endswith(b"\n") or told.keys() not in (complete, complete - {"image", "crc32c"}):
        return False
    checksums = told.get("crc32c", [0] * (survey.columns - CHECKSUMS))
    if not isinstance(checksums, list) or len(checksums) != survey.columns - CHECKSUMS:
        return False
    numbers = [told["row"], told["version"], told.get("image", 0), *checksums]
    return (
        all(isinstance(number, int) and 0 <= number < 1 << 32 for number in numbers)
        and 0 < told["version"] < MOST_VERSIONS
        and told["row"] < len(ids)
        and told["id"] == ids[told["row"]]
    )


def _file_findings(survey: Survey, array: ArrayLayout, *, claimed: Collection[int]) -> Iterator[Finding]:
    """Files in an array's folder that belong to no complete image, or that nobody completes."""
    names, is_alone = survey.place.sizes(array.name), not survey.writers()
    for name in sorted(names):
        number = shard_number(array, name)
        if name == "zarr.json" or name.startswith("."):  # hidden ones are the file system's or the desktop's
            continue
        if number is not None and survey.group_of(number * array.images) in claimed:
            continue
        where = f"{array.name}/{name}"
        is_spare = name.endswith(PARTIAL) and name.removesuffix(PARTIAL) in names
        if number is None or is_spare or not any(survey.present(array, number)):
            yield finding("orphan", where, url=survey.place.url)
        elif name.endswith(PARTIAL) and is_alone:
            yield finding("partial", where, url=survey.place.url)


def _temporary_findings(survey: Survey) -> Iterator[Finding]:
    place = survey.place
    if isinstance(place, LocalPlace):
        living = place.held("writer")
        for number, folder in sorted(temporary_folders(place).items()):
            if number not in living and any(folder.iterdir()):
                yield finding("temporary", f"{FOLDER}/{folder.name}", url=place.url)


def _manifest_findings(survey: Survey) -> Iterator[Finding]:
    """None while a writer lives: it writes the manifest when it is done."""
    if survey.writers():
        return
    sizes = survey.place.sizes(FOLDER)
    is_finished = "manifest.json" in sizes or any(CHUNK.fullmatch(name) for name in sizes)
    found = parse(survey.place.read_all([f"{FOLDER}/manifest.json"])[0])
    expected = survey.ledger.manifest(spec_digest=survey.layout.spec.digest(), ids=survey.layout.ids)
    if is_finished and found != expected:
        yield finding("manifest", f"{FOLDER}/manifest.json", url=survey.place.url)


def _told_images(survey: Survey) -> int:
    """How many images the manifest tells of."""
    told = parse(survey.place.read_all([f"{FOLDER}/manifest.json"])[0]).get("images", 0)
    return told if isinstance(told, int) else 0
