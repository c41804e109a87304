"""The maintainer's command: `python -m matchkit.pipelines.train_tiny --out DIR --phase all --resume`."""

import json
import logging
import sys
from pathlib import Path

import click
import torch

from matchkit.core.errors import MatchkitError
from matchkit.pipelines.train_tiny.recipe import PHASES, Recipe, run

_DEFAULT = Recipe()


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the two folders of weights go.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("runs/tiny"),
    show_default=True,
    help="Renders, checkpoints, logs.",
)
@click.option("--phase", type=click.Choice([*PHASES, "all"]), default="all", show_default=True, help="What to train.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the renders, the first weights and every batch."
)
@click.option(
    "--pairs",
    type=click.IntRange(1),
    default=_DEFAULT.pairs,
    show_default=True,
    help="Objects rendered, two views each.",
)
@click.option("--vae-steps", type=click.IntRange(1), default=_DEFAULT.steps["vae"], show_default=True)
@click.option("--unet-steps", type=click.IntRange(1), default=_DEFAULT.steps["unet"], show_default=True)
@click.option("--vit-steps", type=click.IntRange(1), default=_DEFAULT.steps["vit"], show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Cores that torch may use.")
@click.option(
    "--resume/--afresh", default=True, show_default=True, help="Take up checkpoints that are there, or begin again."
)
def main(
    *,
    out: Path,
    work: Path,
    phase: str,
    seed: int,
    pairs: int,
    vae_steps: int,
    unet_steps: int,
    vit_steps: int,
    threads: int,
    resume: bool,
) -> None:
    """Trains the embedded default on rendered toy objects and writes its folders."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(threads)
    recipe = Recipe(pairs=pairs, seed=seed, steps={"vae": vae_steps, "unet": unet_steps, "vit": vit_steps})
    try:
        summary = run(recipe, phases=PHASES if phase == "all" else (phase,), work=work, out=out, resume=resume)
    except MatchkitError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(summary))


if __name__ == "__main__":
    main()
