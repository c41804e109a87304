"""What the page says of all reports of a dataset: who leads, by how much, and which rows may be compared."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Report, middle

KNOWN = ("scores", "categories", "counts", "protocol", "made_by", "breakdowns", "intervals", "category_intervals")
"""Fields of a report that have a place of their own on the page; any other one is shown as it is."""

INTERVALS_OF = "keypoint"
"""The average that a report's intervals are of."""
DECIDES = ("comparison", "frame", "side", "floored", "pairs_a_category", "viewpoint", "subset", "subset_digest")
"""Fields of a protocol by which a verdict, or the pairs that count, differ."""


@dataclass(frozen=True, slots=True)
class Score:
    """A PCK in percent, with the ends of its 95 % interval where the report has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the leaderboard.

    Attributes:
        name: the report's.
        number: its place by the middle alpha, from 0 on, which gives it a colour.
        scores: by alpha; without those that the report lacks.
        others: by `reference, average`, the PCK at the middle alpha.
        counts: pairs, images and keypoints that were scored.
        alike: whether it was scored as most of the others were.
        protocol: what its numbers mean.
        report: all that the report holds, as plain values.
    """

    name: str
    number: int
    scores: Mapping[str, Score]
    others: Mapping[str, float]
    counts: Mapping[str, int]
    alike: bool
    protocol: EvalProtocol
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Board:
    """All methods of a dataset, the best first.

    Attributes:
        reference: the reference length of the scores.
        average: over what they average.
        alphas: of all reports, ascending.
        alpha: the middle one.
        methods: the rows.
        averages: every `reference, average` that some report has.
        most: protocol and counts of most methods.
        remarks: what forbids comparing some rows, and which files were left out.
    """

    reference: str
    average: str
    alphas: tuple[str, ...]
    alpha: str
    methods: tuple[Method, ...]
    averages: tuple[str, ...]
    most: Method
    remarks: tuple[str, ...]

    @property
    def best(self) -> dict[str, float]:
        """The highest PCK at each alpha among the rows that may be compared."""
        compared = [method.scores for method in self.methods if method.alike]
        return {
            alpha: max(scores[alpha].value for scores in compared if alpha in scores)
            for alpha in self.alphas
            if any(alpha in scores for scores in compared)
        }

    @property
    def methods_at_alpha(self) -> list[tuple[Method, Score]]:
        """The methods that have a score at the middle alpha, with it."""
        return [(method, method.scores[self.alpha]) for method in self.methods if self.alpha in method.scores]


def load_reports(folder: Path) -> tuple[dict[str, Report], list[str]]:
    """The reports of a dataset's folder by name, and why other files of it are none.

    Raises:
        MatchkitError: the folder holds no report.
    """
    reports: dict[str, Report] = {}
    refused = []
    for path in sorted(folder.glob("*.json")):
        try:
            reports[path.stem] = Report.load(path)
        except MatchkitError as error:
            refused.append(f"Left out: {error}")
    if not reports:
        raise MatchkitError(f"no reports in {folder}. Run: matchkit evaluate")
    return reports, refused


def board(reports: Mapping[str, Report], *, reference: str, average: str, refused: Sequence[str] = ()) -> Board:
    """Puts the reports of a dataset into rows, the best at the middle alpha first.

    Raises:
        MatchkitError: no report has the reference and the average.
    """
    plain = {name: dataclasses.asdict(report) for name, report in reports.items()}
    alphas = _alphas(plain, reference, average)
    if not alphas:
        raise MatchkitError(
            f"no report has the average '{average}' of the reference '{reference}'. Run: matchkit evaluate"
        )
    alpha = middle(alphas)
    keys = {name: _comparable(told) for name, told in plain.items()}
    common = Counter(keys.values()).most_common(1)[0][0]
    scores = {name: _scores(told, reference, average) for name, told in plain.items()}
    order = sorted(plain, key=lambda name: (-scores[name][alpha].value if alpha in scores[name] else 1.0, name))
    methods = tuple(
        Method(
            name=name,
            number=number,
            scores=scores[name],
            others=_others(plain[name], alpha),
            counts=plain[name]["counts"],
            alike=keys[name] == common,
            protocol=reports[name].protocol,
            report=plain[name],
        )
        for number, name in enumerate(order)
    )
    return Board(
        reference=reference,
        average=average,
        alphas=alphas,
        alpha=alpha,
        methods=methods,
        averages=tuple(dict.fromkeys(name for method in methods for name in method.others)),
        most=next(method for method in methods if method.alike),
        remarks=(*(_remark(method) for method in methods if not method.alike), *refused),
    )


def _alphas(plain: Mapping[str, Mapping[str, Any]], reference: str, average: str) -> tuple[str, ...]:
    found = {alpha for told in plain.values() for alpha in told["scores"].get(reference, {}).get(average, {})}
    return tuple(sorted(found, key=float))


def _scores(told: Mapping[str, Any], reference: str, average: str) -> dict[str, Score]:
    values = told["scores"].get(reference, {}).get(average, {})
    of_alphas = told["intervals"].get(reference, {}) if average == INTERVALS_OF else {}
    return {alpha: score_of(value, of_alphas.get(alpha, ())) for alpha, value in values.items()}


def score_of(value: float, ends: Sequence[float]) -> Score:
    """A score with the ends of its interval, or without any."""
    return Score(float(value), *map(float, ends))


def _others(told: Mapping[str, Any], alpha: str) -> dict[str, float]:
    return {
        f"{reference}, {average}": float(values[alpha])
        for reference, averages in told["scores"].items()
        for average, values in averages.items()
        if alpha in values
    }


def _comparable(told: Mapping[str, Any]) -> tuple[object, ...]:
    """What must be equal for two rows to be compared: the split, what was scored of it, and how."""
    counts = tuple(sorted(told["counts"].items()))
    return told["made_by"].get("split"), counts, *(str(told["protocol"][name]) for name in DECIDES)


def _remark(method: Method) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in method.counts.items())
    protocol = method.protocol
    return (
        f"{method.name} was scored on other keypoints or under another protocol than most rows (split "
        f"{method.report['made_by'].get('split', 'unknown')}: {counts}; errors in the frame {protocol.frame}, "
        f"{protocol.comparison} alpha x reference): do not compare it with them."
    )
