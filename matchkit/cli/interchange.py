"""`matchkit cache export` and `matchkit cache import`: features in the files of other programs."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, root_option, verb

PATH = click.Path(path_type=Path)


@click.command("import")
@click.option(
    "--format",
    "kind",
    required=True,
    type=click.Choice(["geoaware", "dift", "distilldift", "hdf5"]),
    help="Whose files they are; hdf5 are those of `cache export`.",
)
@click.argument("files", metavar="IN", type=PATH)
@click.argument("store")
@click.option("--weights-label", help="What made the features, e.g. sd-1.5+dinov2_vitb14. [default: unknown]")
@click.option(
    "--dtype",
    type=click.Choice(["fp16", "fp32", "bf16", "int8", "int4"]),
    help="Type of the maps in the store. [default: fp16]",
)
@click.option("--dataset", help="Whose images a distilldift file holds: spair, folder.")
@root_option
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="What the files do not say. Repeatable; see the docs."
)
@verb
def cache_import(kind: Any, files: Path, store: str, **told: Any) -> tuple[Any, Line]:
    """Copy the features of IN, files of another program, into a feature STORE. Takes up where it stopped."""
    from matchkit.pipelines.interchange import Foreign, import_features

    foreign = Foreign(
        weights=told["weights_label"] or "",
        dtype=told["dtype"] or "",
        dataset=told["dataset"] or "",
        root=told["root"],
        settings=told["settings"],
    )
    return (
        import_features(kind, files, store, foreign),
        lambda x: f"{x.store}: {x.done:,} images imported, {x.present:,} were there, spec {x.digest}",
    )


@click.command("export")
@click.option(
    "--format", "kind", required=True, type=click.Choice(["geoaware", "hdf5"]), help="A GeoAware-SC tree, or one file."
)
@click.argument("store")
@click.argument("out", type=PATH)
@click.option("--compression", type=click.Choice(["gzip", "lzf"]), help="Of an hdf5 file's chunks. [default: none]")
@verb
def cache_export(kind: Any, store: str, out: Path, **options: Any) -> tuple[Any, Line]:
    """Copy a STORE's features into files for other programs, OUT. Takes up where it stopped."""
    from matchkit.pipelines.interchange import export_features

    return (
        export_features(kind, store, out, **options),
        lambda x: f"{x.out}: {x.done:,} images exported, {x.present:,} were there",
    )
