"""Stage report: every report of a dataset in one table and one plot."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from matchkit.core.errors import MatchkitError
from matchkit.core.params import build
from matchkit.evaluate.analysis_tables import analysis_tables
from matchkit.evaluate.protocol import Average, Reference
from matchkit.evaluate.report import (
    Report,
    breakdown_table,
    category_table,
    counts_line,
    middle,
    summary_table,
)
from matchkit.evaluate.translation.report import TranslationReport, markdown_table
from matchkit.pipelines.settings import EXEMPLARS, told

SUMMARY = Path("reports/summary.md")
COMPARED = ("alphas", "frame", "side", "floored", "comparison", "pairs_a_category", "viewpoint", "subset")
"""What must be alike of the protocols of reports in one table."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReportParams:
    """What the summary shows.

    Attributes:
        reference: the reference length of its table.
        average: over what its table averages.
        methods: the rows' order by name; those that are not named follow in alphabetical order.
    """

    reference: Reference = "box"
    average: Average = "keypoint"
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """The file that holds the summary, its text, and how many methods and datasets it covers."""

    path: Path
    text: str
    methods: int
    datasets: int


def report(settings: Sequence[str] = (), *, folder: Path = SUMMARY.parent) -> Summary:
    """Writes `summary.md` over the reports of every dataset in `folder`, and a plot `<dataset>/pck.svg` of each.

    Reports on heads between two domains, in `<dataset>/exemplars`, have tables of their own.

    Raises:
        MatchkitError: there is no report, one without the reference or the average that is asked for, or two of a
            dataset with different alphas.
    """
    asked = told("report", settings)
    params = build(ReportParams, asked.values, where=asked.where)
    datasets = sorted({path.parent for path in folder.glob("*/*.json")})
    between = sorted({path.parent for path in folder.glob(f"*/{EXEMPLARS}/*.json")})
    if not datasets and not between:
        raise MatchkitError(f"no reports in {folder}. Run: matchkit evaluate")
    parts, methods = ["# Summary"], 0
    for dataset in datasets:
        reports = _load(dataset, params)
        methods += len(reports)
        parts.append(_section(dataset.name, reports, params))
        _plot(reports, dataset / "pck.svg", params)
    for dataset in between:
        translated = {path.stem: TranslationReport.load(path) for path in sorted(dataset.glob("*.json"))}
        methods += len(translated)
        parts += [f"## {dataset.parent.name}: exemplars across domains", markdown_table(translated)]
    path = folder / SUMMARY.name
    text = "\n\n".join(parts) + "\n"
    path.write_text(text)
    return Summary(path, text, methods, len({*datasets, *(dataset.parent for dataset in between)}))


def _order(dataset: Path, methods: Sequence[str]) -> list[str]:
    present = sorted(path.stem for path in dataset.glob("*.json"))
    return [name for name in methods if name in present] + [name for name in present if name not in methods]


def _load(dataset: Path, params: ReportParams) -> dict[str, Report]:
    """The reports of a dataset by method, in the order of the summary's rows."""
    loaded = {name: Report.load(dataset / f"{name}.json") for name in _order(dataset, params.methods)}
    reports = {name: entry for name, entry in loaded.items() if not entry.partial}
    for name in loaded.keys() - reports.keys():
        log.info("%s is of a part of its split, and left out", dataset / f"{name}.json")
    if not reports:
        raise MatchkitError(f"all reports in {dataset} are of a part of their split. Run: matchkit match without limit")
    first = next(iter(reports))
    for name, entry in reports.items():
        path = dataset / f"{name}.json"
        if params.average not in entry.scores.get(params.reference, {}):
            raise MatchkitError(
                f"{path} has no average '{params.average}' of reference '{params.reference}'. Run: matchkit evaluate"
            )
        differ = [of for of in COMPARED if getattr(entry.protocol, of) != getattr(reports[first].protocol, of)]
        if differ:
            raise MatchkitError(
                f"{path} has another protocol than {dataset / first}.json ({', '.join(differ)}). Run: matchkit evaluate"
            )
    return reports


def _section(name: str, reports: Mapping[str, Report], params: ReportParams) -> str:
    alpha = middle(list(next(iter(reports.values())).scores[params.reference][params.average]))
    breakdowns = sorted({breakdown for entry in reports.values() for breakdown in entry.breakdowns})
    return "\n\n".join(
        [
            f"## {name}",
            f"{counts_line(list(reports.values()))}. PCK in percent, reference: {params.reference}, "
            f"average: {params.average}, in original pixels.{_about_intervals(reports, params)}",
            summary_table(reports, reference=params.reference, average=params.average),
            *(
                breakdown_table(reports, told, reference=params.reference, average=params.average, alpha=alpha)
                for told in breakdowns
            ),
            *analysis_tables(reports, reference=params.reference, average=params.average, alpha=alpha),
            category_table(reports, reference=params.reference, alpha=alpha),
        ]
    )


def _about_intervals(reports: Mapping[str, Report], params: ReportParams) -> str:
    if params.average != "keypoint" or not any(entry.intervals for entry in reports.values()):
        return ""
    return " In brackets 95 % intervals over resamplings of the images."


def _plot(reports: Mapping[str, Report], path: Path, params: ReportParams) -> None:
    """PCK over alpha, one line a method. The same reports give the same bytes."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, entry in reports.items():
        scores = entry.scores[params.reference][params.average]
        axes.plot([float(alpha) for alpha in scores], list(scores.values()), marker="o", label=name)
    axes.set(xlabel="alpha", ylabel=f"PCK (%), {params.reference}, a {params.average}", ylim=(0, None))
    axes.legend()
    with mpl.rc_context({"svg.hashsalt": "matchkit"}):
        figure.savefig(path, metadata={"Date": None})
