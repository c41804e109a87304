"""`matchkit report --html`: all reports of a dataset, and what one head does on its pairs, as one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matchkit.core.errors import ConfigError, UnknownNameError, nearest_name
from matchkit.core.params import build, divide
from matchkit.pipelines.page.board import Board, board, load_reports
from matchkit.pipelines.page.conversions import conversion
from matchkit.pipelines.page.evidence import Evidence, Wanted, gather
from matchkit.pipelines.page.render import render
from matchkit.pipelines.report import SUMMARY, ReportParams
from matchkit.pipelines.settings import told


@dataclass(frozen=True, slots=True)
class PageParams:
    """What the page shows beside what `report` is told.

    Attributes:
        pairs: how many are drawn and can be explored.
        seed: of their choice.

    Raises:
        ConfigError: fewer pairs than one.
    """

    pairs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"a page shows 1 pair or more, not {self.pairs}")


@dataclass(frozen=True, slots=True)
class Page:
    """The page that was written.

    Attributes:
        path: of the file.
        methods: rows of its leaderboard.
        pairs: pairs that are drawn.
        explored: pairs that can be explored.
        size: of the file in bytes.
        notes: what is missing on it and why.
    """

    path: Path
    methods: int
    pairs: int
    explored: int
    size: int
    notes: tuple[str, ...]


def write_page(
    path: Path,
    dataset: str,
    *,
    head: str | None = None,
    root: Path | None = None,
    store: Path | str | None = None,
    weights: Path | None = None,
    predictions: Path | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    folder: Path = SUMMARY.parent,
) -> Page:
    """Writes the page of a dataset into one file that needs no other.

    The leaderboard needs reports alone. What there is of `head` is shown as well; what is missing for that is said on
    the page and in its notes.

    Args:
        path: of the page.
        dataset: its name.
        head: whose matches are shown; None for the leaderboard alone.
        root: of the dataset's tree.
        store: of the head's features.
        weights: of the head.
        predictions: of the head.
        settings: over `params.yaml`.
        device: on which descriptors are computed.
        folder: of the reports.

    Raises:
        MatchkitError: the dataset has no report, or none with the reference and average that are asked for.
        UnknownNameError: nothing of that name was reported on, matched or fitted.
    """
    asked = told("report", settings)
    of_report, of_page = divide(asked.values, (ReportParams, PageParams), where=asked.where)
    shown = build(ReportParams, of_report, where=asked.where)
    params = build(PageParams, of_page, where=asked.where)
    reports, refused = load_reports(folder / dataset)
    leaders = board(reports, reference=shown.reference, average=shown.average, refused=refused)
    evidence = Evidence()
    if head is not None:
        wanted = Wanted(
            dataset=dataset,
            head=head,
            reference=shown.reference,
            pairs=params.pairs,
            seed=params.seed,
            root=root,
            store=store,
            weights=weights,
            predictions=predictions,
            device=device,
        )
        _known(wanted, leaders)
        evidence = gather(wanted, leaders)
    converted = [table for method in leaders.methods if (table := conversion(folder / dataset, method.name))]
    text = render(dataset, leaders, evidence, conversions=converted, head=head, seed=params.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    explored = len(evidence.explorer.pairs) if evidence.explorer else 0
    return Page(path, len(leaders.methods), len(evidence.cards), explored, path.stat().st_size, evidence.notes)


def _known(wanted: Wanted, leaders: Board) -> None:
    """Refuses a name of which there is neither a report nor predictions nor weights."""
    names = [method.name for method in leaders.methods]
    if wanted.head in names or wanted.weights_file.exists() or wanted.predictions_file.exists():
        return
    hint = nearest_name(wanted.head, names) or f" There are: {', '.join(names)}."
    raise UnknownNameError(f"no report, predictions or weights of '{wanted.head}' on {wanted.dataset}.{hint}")
