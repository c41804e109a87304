"""Stage compare: whether one head's predictions beat another's on the same pairs. No network, no torch."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matchkit.core.errors import ConfigError, MatchkitError
from matchkit.core.records import Pair, PairDataset
from matchkit.evaluate.breakdown import Parts, parts
from matchkit.evaluate.comparison import Compared, Comparison
from matchkit.evaluate.comparison import compare as compare_verdicts
from matchkit.evaluate.pck import hits, with_keypoints
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.protocols import build_protocol
from matchkit.evaluate.resampling import RESAMPLES
from matchkit.evaluate.subsets import chosen
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.settings import predictions_path, report_path, told

COLUMNS = ("first", "second", "difference", "95 % interval", "p", "p (Holm)", "detectable", "pairs", "keypoints")


@dataclass(frozen=True, slots=True)
class HeadsCompared:
    """What a comparison of two heads found, what it is of, and the file that holds its tables."""

    path: Path
    first: str
    second: str
    dataset: str
    split: str
    alpha: float
    reference: Reference
    average: Literal["keypoint", "image"]
    comparison: Comparison


def compare(
    dataset: str,
    first: str,
    second: str,
    *,
    root: Path | None = None,
    alpha: float = 0.1,
    reference: Reference = "box",
    average: Literal["keypoint", "image"] = "keypoint",
    settings: Sequence[str] = (),
) -> HeadsCompared:
    """Compares the predictions of two heads, the second less the first, into `reports/<dataset>/compare-*-vs-*.md`.

    Args:
        dataset: its name.
        first: whose predictions.
        second: whose predictions they are compared with.
        root: of the dataset's tree.
        alpha: the threshold.
        reference: the length that it is relative to.
        average: over all keypoints at once, or over pairs of each pair's own share.
        settings: over the section `evaluate` of `params.yaml`, whose frame, comparison, subset, breakdowns and
            resamples count.

    Raises:
        ConfigError: an alpha that is not positive, or one head twice.
        MatchkitError: no predictions, or predictions of other pairs or splits.
        DatasetError: the dataset does not tell what the protocol needs.
    """
    if alpha <= 0 or first == second:
        raise ConfigError(f"a comparison is of two heads at a positive alpha, not of {first} and {second} at {alpha:g}")
    asked = told("evaluate", settings)
    protocol = build_protocol(asked.values, where=asked.where)
    files = [predictions_path(dataset, name) for name in (first, second)]
    found = [Predictions.load(file) for file in files]
    split, data = _split(files, found), open_dataset(dataset, root)
    everything = data.pairs(split)
    pairs = with_keypoints(chosen(everything, protocol))
    known = {pair.id for pair in everything}
    for file, predictions in zip(files, found, strict=True):
        _check(pairs, known, file, predictions, what=f"{dataset}, {split}")
    before, after = (
        hits(pairs, data.images, predictions, alpha=alpha, reference=reference, protocol=protocol)
        for predictions in found
    )
    comparison = compare_verdicts(
        before,
        after,
        pairs,
        breakdowns=_masks(data, pairs, protocol),
        average=average,
        resamples=protocol.resamples or RESAMPLES,
    )
    path = report_path(dataset, first).with_name(f"compare-{first}-vs-{second}.md")
    compared = HeadsCompared(path, first, second, dataset, split, alpha, reference, average, comparison)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(compared))
    return compared


def _split(files: Sequence[Path], found: Sequence[Predictions]) -> str:
    first, second = (str(predictions.made_by.get("split")) for predictions in found)
    if first != second:
        raise MatchkitError(
            f"{files[0]} is of the split '{first}' and {files[1]} of '{second}'. "
            f"Run: matchkit match --set split={first}"
        )
    return first


def _check(pairs: Sequence[Pair], known: Set[str], file: Path, predictions: Predictions, *, what: str) -> None:
    missing = [pair.id for pair in pairs if pair.id not in predictions.points]
    if missing:
        raise MatchkitError(
            f"{file} lacks {len(missing):,} of the {len(pairs):,} pairs of {what}, the first is '{missing[0]}'. "
            "Run: matchkit match"
        )
    others = predictions.points.keys() - known
    if others:
        raise MatchkitError(
            f"{file} has {len(others):,} pairs that are none of {what}, such as '{min(others)}'. Run: matchkit match"
        )
    for pair in pairs:
        points = predictions.points[pair.id]
        if len(points) != len(pair.target_points):
            raise MatchkitError(
                f"{file} has {len(points)} keypoints of pair '{pair.id}', the dataset has {len(pair.target_points)}. "
                "Run: matchkit match"
            )


def _masks(data: PairDataset, pairs: Sequence[Pair], protocol: EvalProtocol) -> dict[str, Parts]:
    """The parts of the protocol's breakdowns."""
    categories = sorted({pair.category for pair in pairs}) if "geometry" in protocol.breakdowns else []
    schemes = {category: data.scheme(category) for category in categories}
    return {name: parts(name, pairs, data.images, schemes) for name in protocol.breakdowns}


def line(compared: HeadsCompared) -> str:
    """The comparison in one line."""
    row = compared.comparison.overall
    return (
        f"{compared.path}: {compared.second} less {compared.first} {row.difference:+.1f} "
        f"({row.low:+.1f} to {row.high:+.1f}), p {_p(row.p)}, detectable {row.detectable:.1f} "
        f"(PCK@{compared.alpha:.2f}, {compared.reference}, per {compared.average})"
    )


def markdown(compared: HeadsCompared) -> str:
    """The tables of a comparison."""
    comparison = compared.comparison
    title = f"# {compared.first} and {compared.second} on {compared.dataset}, {compared.split}"
    about = (
        f"PCK@{compared.alpha:.2f} in percent, reference: {compared.reference}, average: {compared.average}. "
        "The difference is the second less the first, with its 95 % interval over resamplings of the images; p is by "
        "swapping the predictions on a target image; `detectable` is the least true difference that a test at 5 % "
        "finds with 80 % probability on pairs like these. See docs/statistics.md."
    )
    tables = [_table("", {"all": comparison.overall}), _table("category", comparison.categories)]
    tables += [_table(name, row) for name, row in comparison.breakdowns.items()]
    return "\n\n".join([title, f"First: {compared.first}. Second: {compared.second}. {about}", *tables]) + "\n"


def _table(kind: str, rows: Mapping[str, Compared]) -> str:
    header = f"| {' | '.join([kind, *COLUMNS])} |"
    ruled = "|---|" + "---:|" * len(COLUMNS)
    return "\n".join([header, ruled, *(f"| {' | '.join([name, *_cells(row)])} |" for name, row in rows.items())])


def _cells(row: Compared) -> list[str]:
    return [
        f"{row.before:.1f}",
        f"{row.after:.1f}",
        f"{row.difference:+.1f}",
        f"{row.low:+.1f} to {row.high:+.1f}",
        _p(row.p),
        _p(row.adjusted),
        f"{row.detectable:.1f}",
        f"{row.pairs:,}",
        f"{row.keypoints:,}",
    ]


def _p(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.2f}"
