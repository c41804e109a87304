"""`matchkit compare`: whether one head beats another on the same pairs."""

from typing import Any

import click

from matchkit.cli.verb import Line, dataset_option, root_option, set_option, verb


@click.command()
@click.argument("head_a")
@click.argument("head_b")
@dataset_option
@root_option
@click.option("--alpha", default=0.1, show_default=True, help="The threshold.")
@click.option("--reference", type=click.Choice(["box", "image", "keypoints"]), default="box", show_default=True)
@click.option("--average", type=click.Choice(["keypoint", "image"]), default="keypoint", show_default=True)
@set_option
@verb
def compare(dataset: str, head_a: str, head_b: str, **options: Any) -> tuple[Any, Line]:
    """Compare the predictions of HEAD_B with those of HEAD_A: the difference, its interval, and its p value."""
    from matchkit.pipelines.compare import compare as run
    from matchkit.pipelines.compare import line

    return run(dataset, head_a, head_b, **options), line
