"""The page's text: templates filled in, styles and scripts put inside, and everything else forbidden."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from matchkit import __version__
from matchkit.pipelines.page.board import Board
from matchkit.pipelines.page.charts import COLOURS, curves, interval_bars
from matchkit.pipelines.page.conversions import ConversionTable
from matchkit.pipelines.page.evidence import Evidence
from matchkit.pipelines.page.tables import breakdown_tables, category_panels, further_tables

PACKAGE = "matchkit.pipelines.page"
STYLES = ("page.css", "charts.css", "explorer.css")
SCRIPTS = ("theme.js", "tables.js", "descriptors.js", "colours.js", "explorer.js")
"""Put together in this order into one module."""

ORDER = {"pairs": 0, "images": 1, "keypoints": 2}
"""How counts are read; JSON has them by the alphabet."""
LENGTHS = {
    "box": "the longer edge of the target's box",
    "image": "the longer edge of the target image",
    "keypoints": "the longer edge of the extent of the target's keypoints",
}
AVERAGES = {
    "keypoint": "over all keypoints at once",
    "image": "a mean over pairs of each pair's own share",
    "category": "a mean over categories of each one's mean over pairs",
}


def render(
    dataset: str,
    board: Board,
    evidence: Evidence,
    *,
    conversions: Sequence[ConversionTable] = (),
    head: str | None,
    seed: int,
) -> str:
    """The whole page. The same reports and files give the same text.

    Nothing is loaded: a content security policy lets only the script run that stands in the page, by its digest, and
    only pictures show that do. All texts of the data are escaped.
    """
    environment = Environment(
        loader=PackageLoader(PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["grouped"] = "{:,}".format
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": True}
    script = _asset(SCRIPTS)
    panels = category_panels(board)
    bars, bars_end = interval_bars(board)
    return environment.get_template("page.html").render(
        dataset=dataset,
        board=board,
        bars=bars,
        bars_end=bars_end,
        curves=curves(board),
        counts=sorted(board.most.counts.items(), key=lambda entry: ORDER.get(entry[0], len(ORDER))),
        panels=panels,
        whiskers=any(score.low is not None for panel in panels for _, score in panel.bars),
        breakdowns=breakdown_tables(board),
        further=further_tables(board),
        made_by={method.name: _texts(method.report["made_by"]) for method in board.methods},
        evidence=evidence,
        head=head,
        conversions=conversions,
        lengths=LENGTHS,
        averages=AVERAGES,
        seed=seed,
        colours=COLOURS,
        style=_asset(STYLES),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
    )


def _asset(names: tuple[str, ...]) -> str:
    """Files of the package, one after the other."""
    folder = files(PACKAGE) / "assets"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _texts(made_by: Mapping[str, Any]) -> dict[str, str]:
    """What made a report, each value as text."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in made_by.items()}
