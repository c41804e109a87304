"""A list of pairs as a file that everyone can have the same of, and its SHA-256.

JSON lines in UTF-8, each ended by LF. The first is the header: format and version, dataset and split, numbers of pairs,
images and keypoints, the rule and the seed by which the pairs came about, and the SHA-256 of all other lines. A line a
pair follows, sorted by the pair's name (by code points):

    {"pair":"...","source":"...","target":"...","category":"...","keypoints":["0",...],
     "source_points":[[x,y],...],"target_points":[...],"source_box":[xmin,ymin,xmax,ymax],"target_box":null,"check":"..."}

without blanks, points and boxes in the image frame. A number is the shortest decimal that reads back as the same bits:
float32 for points, float64 for boxes; never with an exponent. Names are in Unicode's form NFC and could be files on
Windows (`safe_name`). `check` are the first eight digits of the SHA-256 of what stands before `,"check"`, so that a
changed line is found. Images' sizes and pairs' variations are left out.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from matchkit.core.errors import DatasetError
from matchkit.core.manifest_lines import encoded, pair_lines, parsed_pair
from matchkit.core.names import plain_name, safe_name
from matchkit.core.records import Pair

FORMAT, VERSION = "matchkit-manifest", 1
CR = b"\r"


@dataclass(frozen=True, slots=True)
class PairRule:
    """How a list of pairs came about: in words, and the seed of what was drawn."""

    text: str
    seed: int | None = None


OWN_LIST = PairRule("the pairs that the dataset lists")


@runtime_checkable
class RuledPairs(Protocol):
    """A `PairDataset` that knows how its pairs came about; of all others they are the dataset's own list."""

    def pair_rule(self, split: str) -> PairRule:
        """The rule of a split."""
        ...


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """What a manifest is of.

    Attributes:
        dataset: its name.
        split: of the dataset.
        pairs: how many.
        images: that stand in a pair.
        keypoints: of all pairs.
        rule: how the pairs came about.
        sha256: of the pairs' lines.
    """

    dataset: str
    split: str
    pairs: int
    images: int
    keypoints: int
    rule: PairRule
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest holds; the pairs are sorted by id and have no variations."""

    header: ManifestHeader
    pairs: tuple[Pair, ...]


def digest(pairs: Iterable[Pair]) -> str:
    """The SHA-256 of pairs in the form of a manifest, whatever order they are in.

    Raises:
        DatasetError: two pairs have one id, or one has no such form.
    """
    return hashlib.sha256(_body(pair_lines(_named(pairs)))).hexdigest()


def manifest_digest(dataset: str, split: str, pairs: Iterable[Pair]) -> str:
    """What names a list of pairs in predictions and reports: `<dataset>/<split>/<SHA-256 of its manifest>`.

    Raises:
        DatasetError: two pairs have one id, or one has no such form.
    """
    return f"{safe_name(dataset)}/{safe_name(split)}/{digest(pairs)}"


def write_manifest(
    path: Path, pairs: Iterable[Pair], *, dataset: str, split: str, rule: PairRule = OWN_LIST
) -> ManifestHeader:
    """Writes pairs in their canonical form, whole or not at all.

    Raises:
        DatasetError: two pairs have one id, or one has no such form.
    """
    named = _named(pairs)
    body = _body(pair_lines(named))
    header = ManifestHeader(dataset, split, *_counts(named.values()), rule, hashlib.sha256(body).hexdigest())
    data = encoded(_header_line(header)) + b"\n" + body
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
    return header


def read_manifest(path: Path) -> Manifest:
    """Reads what `write_manifest` wrote, to the bit.

    Raises:
        DatasetError: no such file, or one that was changed; the message names the line.
    """
    first, *lines = _read_lines(path)
    header = _parsed_header(first, where=f"{path}, line 1")
    named = _parsed_pairs(lines, path=path)
    try:
        canonical = pair_lines(named)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    for number, (told, built) in enumerate(zip(lines, canonical, strict=True), start=2):
        if told != built:
            raise DatasetError(f"{path}, line {number} is not in a manifest's canonical form. Get the manifest anew")
    said = (header.pairs, header.images, header.keypoints)
    for what, count, found in zip(("pairs", "images", "keypoints"), said, _counts(named.values()), strict=True):
        if count != found:
            raise DatasetError(f"{path}, line 1 says {count} {what}, but there are {found}. Get the manifest anew")
    sha256 = hashlib.sha256(_body(lines)).hexdigest()
    if sha256 != header.sha256:
        raise DatasetError(
            f"{path}, line 1 says that the pairs' SHA-256 is {header.sha256}, but it is {sha256}. Get the manifest anew"
        )
    return Manifest(header, tuple(named.values()))


def _named(pairs: Iterable[Pair]) -> dict[str, Pair]:
    """Pairs by their safe names, sorted."""
    by_name: dict[str, Pair] = {}
    for pair in pairs:
        name = safe_name(pair.id)
        if name in by_name:
            raise DatasetError(f"two pairs have the id '{pair.id}', so that nobody could tell them apart in a manifest")
        by_name[name] = pair
    return dict(sorted(by_name.items()))


def _counts(pairs: Collection[Pair]) -> tuple[int, int, int]:
    images = {image for pair in pairs for image in (pair.source, pair.target)}
    return len(pairs), len(images), sum(len(pair.keypoint_ids) for pair in pairs)


def _body(lines: Iterable[str]) -> bytes:
    return encoded("".join(f"{line}\n" for line in lines))


def _header_line(header: ManifestHeader) -> str:
    fields: Mapping[str, object] = {
        **{
            "format": FORMAT,
            "version": VERSION,
            "dataset": safe_name(header.dataset),
            "split": safe_name(header.split),
        },
        **{"pairs": header.pairs, "images": header.images, "keypoints": header.keypoints},
        **{"rule": header.rule.text, "seed": header.rule.seed, "sha256": header.sha256},
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _read_lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(f"no manifest at {path}. Run: matchkit datasets manifest NAME --split SPLIT") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if CR in data:
        raise DatasetError(
            f"{path}, line {_line_at(data, data.index(CR))} ends in CR LF, but a manifest's lines end in LF alone. "
            "Get it anew; for Git, put `*.jsonl -text` into .gitattributes"
        )
    try:
        *lines, rest = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}, line {_line_at(data, error.start)} is not in UTF-8. Get the manifest anew"
        ) from error
    if rest or not lines:
        raise DatasetError(f"{path}, line {len(lines) + 1} has no end: the file was cut off. Get the manifest anew")
    return lines


def _line_at(data: bytes, place: int) -> int:
    return data[:place].count(b"\n") + 1


def _parsed_header(line: str, *, where: str) -> ManifestHeader:
    try:
        told = json.loads(line)
        form = (told["format"], told["version"])
        pairs, images, keypoints = (int(told[name]) for name in ("pairs", "images", "keypoints"))
        dataset, split = (plain_name(str(told[name])) for name in ("dataset", "split"))
        rule = PairRule(str(told["rule"]), None if told["seed"] is None else int(told["seed"]))
        header = ManifestHeader(dataset, split, pairs, images, keypoints, rule, str(told["sha256"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{where} is no header of a manifest: {error!r}") from error
    if form != (FORMAT, VERSION):
        raise DatasetError(f"{where} is of format {form[0]!r}, version {form[1]!r}; read are: {FORMAT!r}, {VERSION}")
    return header


def _parsed_pairs(lines: Iterable[str], *, path: Path) -> dict[str, Pair]:
    """The pairs by their safe names; each must stand behind the one before."""
    named: dict[str, Pair] = {}
    before = ""
    for number, line in enumerate(lines, start=2):
        pair = parsed_pair(line, where=f"{path}, line {number}")
        name = safe_name(pair.id)
        if named and name <= before:
            raise DatasetError(
                f"{path}, line {number}: pair '{name}' must not stand behind '{before}'. Get the manifest anew"
            )
        named[name], before = pair, name
    return named
