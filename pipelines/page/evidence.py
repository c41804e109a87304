"""What the page shows of one head, as far as its files are there: mixing weights, pairs, and their descriptors."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.errors import MatchkitError
from matchkit.core.geometry import KeypointRuleName
from matchkit.core.records import PairDataset
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import Reference
from matchkit.extract.datasets import open_dataset
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.frames import Frames
from matchkit.pipelines.match import describer
from matchkit.pipelines.page.board import Board
from matchkit.pipelines.page.cards import Card, cards
from matchkit.pipelines.page.choose import Judged, Share, draw, judged
from matchkit.pipelines.page.explore import Explorer, explorer
from matchkit.pipelines.page.mixing import Mixing, mixing
from matchkit.pipelines.page.photos import Album, Photo
from matchkit.pipelines.prompted import promptable
from matchkit.pipelines.settings import features_path, predictions_path, weights_path

LIMIT = 1_000_000_000
"""Bytes of descriptors that are held at a time."""
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose evidence is wanted, and where it lies.

    Attributes:
        dataset: its name.
        head: the name of the predictions, and of the weights if `weights` does not say where they are.
        reference: to which errors are relative.
        pairs: how many are shown.
        seed: of their choice.
        root: of the dataset's tree.
        store: of the features.
        weights: of the head.
        predictions: of the head.
        device: on which descriptors are computed.
    """

    dataset: str
    head: str
    reference: Reference
    pairs: int
    seed: int
    root: Path | None = None
    store: Path | str | None = None
    weights: Path | None = None
    predictions: Path | None = None
    device: str = "auto"

    @property
    def weights_file(self) -> Path:
        """Where the weights lie."""
        return self.weights or weights_path(self.dataset, self.head)

    @property
    def predictions_file(self) -> Path:
        """Where the predictions lie."""
        return self.predictions or predictions_path(self.dataset, self.head)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found of a head.

    Attributes:
        mixing: its weights over layers and timesteps, of a head that has them.
        cards: the chosen pairs.
        explorer: the same pairs with their descriptors.
        photos: of the pairs.
        shares: where they were drawn from.
        scored: how many pairs were scored.
        notes: what is missing and why, and what does not fit together.
    """

    mixing: Mixing | None = None
    cards: tuple[Card, ...] = ()
    explorer: Explorer | None = None
    photos: tuple[Photo, ...] = ()
    shares: tuple[Share, ...] = ()
    scored: int = 0
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Notes:
    """What went wrong so far, and a way on."""

    told: list[str] = field(default_factory=list)

    def attempt(self, what: str, action: Callable[[], T]) -> T | None:
        """The result of an action, or None and a note on what the page lacks without it."""
        try:
            return action()
        except MatchkitError as error:
            self.add(f"{what}: {error}")
            return None

    def add(self, note: str) -> None:
        """Keeps a note, and logs it."""
        self.told.append(note)
        log.warning("%s", note)


def gather(wanted: Wanted, board: Board) -> Evidence:
    """Collects what there is of a head; what is missing is a note, not an error."""
    notes, album = _Notes(), Album()
    kept = notes.attempt("No mixing weights and no explorer", lambda: HeadWeights.load(wanted.weights_file))
    mixed = notes.attempt("No mixing weights", lambda: mixing(kept)) if kept else None
    found = notes.attempt("No matches and no explorer", lambda: Predictions.load(wanted.predictions_file))
    if found is None:
        return Evidence(mixing=mixed, notes=tuple(notes.told))
    for note in _unlike(board, wanted.head, found, kept):
        notes.add(note)
    data = notes.attempt("No matches and no explorer", lambda: open_dataset(wanted.dataset, wanted.root))
    rows = notes.attempt("No matches and no explorer", partial(_judged, data, found, wanted, board)) if data else None
    if data is None or not rows:
        return Evidence(mixing=mixed, notes=tuple(notes.told))
    shares = draw(rows, wanted.pairs, seed=wanted.seed)
    drawn = notes.attempt("No matches and no explorer", lambda: cards(shares, data.images, album))
    explored = None
    if drawn and kept:
        explored = notes.attempt(
            "No explorer",
            lambda: _explored(
                kept,
                data,
                [row for share in shares for row in share.rows],
                drawn,
                wanted,
                found.made_by.get("points", "centre"),
            ),
        )
    return Evidence(
        mixing=mixed,
        cards=tuple(drawn or ()),
        explorer=explored,
        photos=tuple(album.photos),
        shares=tuple(shares),
        scored=len(rows),
        notes=tuple(notes.told),
    )


def _judged(data: PairDataset, found: Predictions, wanted: Wanted, board: Board) -> list[Judged]:
    """All pairs that the head's report scored; without a report, those that most reports did."""
    own = next((method for method in board.methods if method.name == wanted.head), board.most)
    pairs = data.pairs(str(found.made_by.get("split")))
    alpha = float(board.alpha)
    return judged(pairs, data.images, found, own.protocol, reference=wanted.reference, alpha=alpha)


def _explored(
    kept: HeadWeights,
    data: PairDataset,
    rows: list[Judged],
    drawn: list[Card],
    wanted: Wanted,
    rule: KeypointRuleName,
) -> Explorer:
    where = wanted.store or features_path(wanted.dataset, str(kept.fit.get("features")))
    store = FeatureStore.open(where, kept.spec)
    store.require(
        sorted({name for row in rows for name in (row.pair.source, row.pair.target)}), remedy="Run: matchkit extract"
    )
    device = choose_device(wanted.device)
    head = kept.build(device=device, backbones=partial(promptable, device=device, where=f"head '{wanted.head}'"))
    maps = MapCache(store, layers=head.layers, timesteps=head.timesteps, limit=0)
    frames = Frames(data.images, store.spec, head.grid, rule)
    return explorer(rows, drawn, describer(head, maps, limit=LIMIT), frames)


def _unlike(board: Board, name: str, found: Predictions, kept: HeadWeights | None) -> list[str]:
    """What does not belong together: a report, predictions and weights of one name."""
    notes = []
    reported = next((method.report["made_by"] for method in board.methods if method.name == name), None)
    if reported is None:
        notes.append(f"{name} has predictions and no report. Run: matchkit evaluate --head {name}")
    elif dict(reported) != dict(found.made_by):
        notes.append(f"The report on {name} was made from other predictions. Run: matchkit evaluate --head {name}")
    if kept and (found.made_by.get("fit"), found.made_by.get("config")) != (dict(kept.fit), dict(kept.config)):
        notes.append(f"The weights are not those that the predictions of {name} were made with. Run: matchkit match")
    if found.made_by.get("alignment"):
        notes.append(f"{name} was matched from aligned poses; the explorer compares the photographs as they are.")
    return notes
