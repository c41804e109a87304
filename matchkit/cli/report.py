"""`matchkit report`: all reports in one table, or as one page to look at."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, device_option, root_option, set_option, store_option, verb


@click.command()
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Write a page instead: one file to look at, which needs no server and no network.",
)
@click.option("--dataset", help="Whose reports the page shows.")
@click.option("--head", help="Whose matches the page shows as well. [default: the leaderboard alone]")
@root_option
@store_option
@click.option("--weights", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@click.option("--predictions", type=click.Path(path_type=Path), help="[default: predictions/<dataset>/<head>.npz]")
@set_option
@device_option
@verb
def report(html: Path | None, settings: tuple[str, ...], **options: Any) -> tuple[Any, Line]:
    """Put all reports into one table, reports/summary.md, or those of a dataset on a page."""
    if html is not None:
        return _page(html, settings, **options)
    given = [name for name, value in options.items() if value is not None and name != "device"]
    if given:
        raise click.UsageError(f"--{given[0]} is of the page: say where with --html PATH")
    from matchkit.pipelines.report import report as run

    return run(settings), lambda x: f"{x.path}: {x.methods} methods on {x.datasets} datasets"


def _page(html: Path, settings: tuple[str, ...], *, dataset: str | None, **options: Any) -> tuple[Any, Line]:
    if dataset is None:
        raise click.UsageError("a page shows one dataset: say which with --dataset NAME")
    from matchkit.pipelines.page.write import write_page as run

    def line(x: Any) -> str:
        pairs = f", {x.pairs} pairs drawn, {x.explored} to explore" if x.pairs else ""
        missing = f", {len(x.notes)} notes on what is missing" if x.notes else ""
        return f"{x.path}: {x.methods} methods{pairs}, {x.size / 1e6:.1f} MB{missing}"

    return run(html, dataset, settings=settings, **options), line
