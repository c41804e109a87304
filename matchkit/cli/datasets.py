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


@datasets.command("download")
@click.argument("name")
@root_option
@click.option("--replace", is_flag=True, help="Fetch one anew that was downloaded before.")
@click.option(
    "--sha256", "pinned", multiple=True, metavar="[FILE=]HEX", help="The hash that a file must have. Repeatable."
)
@click.option("--mirror", metavar="URL", help="Where the files lie, each under its own name. [default: their makers]")
@click.option(
    "--archives",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with files that you have.",
)
@verb
def datasets_download(
    name: str, root: Path | None, mirror: str | None, archives: Path | None, **options: Any
) -> tuple[Any, Line]:
    """Download a dataset from its makers, checked and unpacked to where it opens. Goes on where it was stopped."""
    from matchkit.pipelines.download import Ways, download

    def line(downloaded: Any) -> str:
        hashes = ", ".join(f"{name} {digest}" for name, digest in downloaded.sha256.items())
        return f"{downloaded.root}: {downloaded.files:,} files; SHA-256: {hashes}"

    return download(name, root, ways=Ways(mirror=mirror, archives=archives), **options), line


@datasets.command("info")
@click.argument("name")
@root_option
@verb
def datasets_info(name: str, root: Path | None) -> tuple[Any, Line]:
    """Read every annotation of a dataset and count it."""
    from matchkit.pipelines.datasets import count

    return count(name, root), _dataset_line


@datasets.command("manifest")
@click.argument("name")
@click.option("--split", default="test", show_default=True, help="Whose pairs.")
@root_option
@click.option("--out", type=click.Path(path_type=Path), help="The file. [default: manifests/<name>/<split>.jsonl]")
@verb
def datasets_manifest(name: str, split: str, root: Path | None, out: Path | None) -> tuple[Any, Line]:
    """Write the pairs of a split in the one form that everyone gets, with its SHA-256; one of other pairs is kept."""
    from matchkit.pipelines.manifests import manifest

    def line(written: Any) -> str:
        counts = f"{written.pairs:,} pairs, {written.images:,} images, {written.keypoints:,} keypoints"
        return f"{written.path}: {counts}; SHA-256: {written.sha256}"

    return manifest(name, split, root=root, out=out), line


def _dataset_line(counts: Any) -> str:
    pairs = ", ".join(f"{number:,} {split}" for split, number in counts.pairs.items()) or "none"
    return f"{counts.root}: {counts.images:,} images; pairs: {pairs}"
