"""`matchkit conditions`, `pairs` and `translate`: what pictures are translated from, and after which photographs."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, dataset_option, device_option, root_option, set_option, store_option, verb


@click.command()
@dataset_option
@click.option("--kind", required=True, help="pose, mask or edge, or an entry of params.yaml that says which.")
@root_option
@click.option("--out", help="A path or a URL. [default: features/<dataset>/<kind>.zarr]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images, for a trial.")
@click.option("--flip", is_flag=True, help="Also of the images' mirrored copies, with ids that end in @flip.")
@click.option("--force", is_flag=True, help="Begin on a disk without room for all of it.")
@set_option
@verb
def conditions(dataset: str, kind: str, **options: Any) -> tuple[Any, Line]:
    """Render the poses, masks or edges of a dataset's images, once, into a feature store."""
    from matchkit.pipelines.conditions import conditions as run

    return (
        run(dataset, kind, **options),
        lambda x: f"{x.store}: {x.done:,} conditions rendered, {x.present:,} were there, spec {x.digest}",
    )


@click.command()
@dataset_option
@click.option("--split", required=True, help="Whose images: trn, val, test.")
@root_option
@store_option
@click.option("--layer", help="By which images are compared. [default: dino, or the last one of the store]")
@click.option("--count", type=click.IntRange(min=1), help="Exemplars an image, at most. [default: 5]")
@click.option("--own", is_flag=True, help="Take the dataset's own list instead.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: exemplars/<dataset>/<split>.jsonl]")
@set_option
@verb
def pairs(dataset: str, split: str, **options: Any) -> tuple[Any, Line]:
    """List for each image of a split the photographs it may be translated after, the most similar ones first."""
    from matchkit.pipelines.pairs import pairs as run

    def line(x: Any) -> str:
        by = f"by layer {x.layer}" if x.layer else "as the dataset lists them"
        return f"{x.path}: exemplars of {x.images:,} images, {by}; {x.unlike:,} have none that is like them"

    return run(dataset, split, **options), line


@click.command("evaluate-exemplars")
@dataset_option
@click.option("--head", required=True, help="A fitted head between two domains.")
@root_option
@click.option("--weights", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@click.option("--as", "called", metavar="NAME", help="What the report is called. [default: the head's name]")
@set_option
@device_option
@verb
def evaluate_exemplars(dataset: str, head: str, **options: Any) -> tuple[Any, Line]:
    """Score how a head between two domains warps and translates, beside what needs no training."""
    from matchkit.pipelines.evaluate_exemplars import evaluate_exemplars as run

    def line(x: Any) -> str:
        shown = ("pck@0.05", "part_agreement", "psnr")
        scores = ", ".join(f"{name} {x.report.scores[name]:.3g}" for name in shown if name in x.report.scores)
        return f"{x.path}: {scores}"

    return run(dataset, head, **options), line


@click.command()
@click.option("--condition", required=True, help="A file of the head's kind of conditions, or an image's id.")
@click.option("--exemplar", required=True, help="A photograph's file, or an image's id.")
@click.option("--head", required=True, help="A fitted head between two domains.")
@click.option("--dataset", help="Whose head and images are meant. [default: that of the one head of the name]")
@root_option
@click.option("--weights", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@click.option("--translator", help="warp, sd, or a fitted translator. [default: what the head itself does]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A PNG; OUT.warp.png and OUT.picture.png lie beside it. [default: below translated/]",
)
@set_option
@device_option
@verb
def translate(condition: str, exemplar: str, head: str, **options: Any) -> tuple[Any, Line]:
    """Translate one condition after one exemplar, and show side by side how."""
    from matchkit.pipelines.translate import translate as run

    return (
        run(condition, exemplar, head, **options),
        lambda x: (
            f"{x.sheet}: translated by {x.translator}; confidence {x.confidence:.2f} of 1, {x.returned:.0%} of the "
            "matches lead back"
        ),
    )
