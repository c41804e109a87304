"""`matchkit import-head`: a head that another program trained."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, dataset_option, set_option, store_option, verb


@click.command("import-head")
@click.argument("file", type=click.Path(path_type=Path))
@dataset_option
@click.option("--head", required=True, help="Entry of params.yaml, preset or head that FILE has the parameters of.")
@store_option
@click.option("--out", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@set_option
@verb
def import_head(file: Path, dataset: str, head: str, **options: Any) -> tuple[Any, Line]:
    """Take the parameters in FILE, which torch.save wrote, as those of a fitted head. Nothing in FILE is executed."""
    from matchkit.pipelines.import_head import import_head as run

    return run(file, dataset, head, **options), lambda x: f"{x.weights}: {x.parameters:,} parameters of {file.name}"
