"""`matchkit datasets`: make and inspect datasets."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, root_option, set_option, verb


@click.group()
def datasets() -> None:
    """Make and inspect datasets."""


@datasets.command("make")
@click.argument("name", type=click.Choice(["toy", "toy-views"]))
@click.option("--root", type=click.Path(path_type=Path), help="The folder to make. [default: data/<name>]")
@click.option("--replace", is_flag=True, help="Make a dataset of other settings anew.")
@set_option
@verb
def datasets_make(name: str, root: Path | None, settings: tuple[str, ...], *, replace: bool) -> tuple[Any, Line]:
    """Render a dataset of toy objects: one with pairs, or one with conditions and several views an object."""
    from matchkit.pipelines.datasets import make

    return make(name, root, settings, replace=replace), _dataset_line


@datasets.command("info")
@click.argument("name")
@root_option
@verb
def datasets_info(name: str, root: Path | None) -> tuple[Any, Line]:
    """Read every annotation of a dataset and count it."""
    from matchkit.pipelines.datasets import count

    return count(name, root), _dataset_line


def _dataset_line(counts: Any) -> str:
    pairs = ", ".join(f"{number:,} {split}" for split, number in counts.pairs.items()) or "none"
    return f"{counts.root}: {counts.images:,} images; pairs: {pairs}"
