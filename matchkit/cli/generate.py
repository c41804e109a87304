"""`matchkit generate`: pictures from prompts, with their features."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, device_option, set_option, verb


@click.command()
@click.option(
    "--prompts",
    required=True,
    type=click.Path(path_type=Path),
    help="A text file of a prompt a line, or a CSV file with the columns id,prompt.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("generated"),
    show_default=True,
    help="The pictures become OUT/images/<id>.png: open them with --dataset folder --root OUT/images.",
)
@click.option("--store", help="Where their features go, a path or a URL. [default: OUT/features.zarr]")
@click.option("--weights", help="Folder or hub id of a Stable Diffusion pipeline. [default: the embedded one]")
@set_option
@device_option
@verb
def generate(prompts: Path, **options: Any) -> tuple[Any, Line]:
    """Paint pictures from prompts with Stable Diffusion, and keep the features that made them."""
    from matchkit.pipelines.generate import generate as run

    return (
        run(prompts, **options),
        lambda x: (
            f"{x.images}: {x.done:,} pictures made, {x.present:,} were there; features in {x.store}, spec {x.digest}"
        ),
    )
