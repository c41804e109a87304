"""`matchkit match`: the pairs of a dataset with a fitted head, or points of one's own photographs."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from matchkit.cli.verb import Line, device_option, root_option, set_option, store_option, verb

OF_PAIRS = ("root", "store", "weights", "called")
OF_PHOTOS = ("at", "points", "show", "category", "out")
"""The options that only one of the two forms has."""


class PointType(click.ParamType[tuple[float, float]]):
    """A point as X,Y."""

    name = "X,Y"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Reads two numbers with a comma between them."""
        try:
            x, y = (float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a point: two numbers with a comma between them, as 120,80", param, ctx)
        return x, y


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path), metavar="[A B]")
@click.option("--dataset", help="Name of the dataset: toy, spair, folder. With photographs: whose head is meant.")
@click.option("--head", help="A fitted head, or same-relative-position. With photographs also a head's file.")
@root_option
@store_option
@click.option("--weights", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@click.option("--as", "called", metavar="NAME", help="What the predictions are called. [default: the head's name]")
@click.option("--at", multiple=True, type=PointType(), help="A point of A, in pixels from the upper left. Repeatable.")
@click.option("--points", type=click.Path(path_type=Path), help="Points of A: a CSV file with the columns x,y.")
@click.option("--out", type=click.Path(path_type=Path), help="The picture. [default: matched/A--B.png]")
@click.option(
    "--show", type=click.IntRange(min=1), default=1, help="Draw the similarity of the Nth point. [default: 1]"
)
@click.option("--category", default="", help="Of what A and B show, for networks whose prompt names it.")
@set_option
@device_option
@verb
def match(photos: tuple[Path, ...], **options: Any) -> tuple[Any, Line]:
    """Match the keypoints of a split's pairs with a fitted head, into a predictions file.

    Or, of one's own photographs, find points of A in B: matchkit match A.jpg B.jpg --at 120,80
    """
    _refuse(OF_PAIRS if photos else OF_PHOTOS, with_photos=bool(photos))
    kept = OF_PHOTOS if photos else OF_PAIRS
    options = {key: value for key, value in options.items() if key in (*kept, "dataset", "head", "settings", "device")}
    return _photos(photos, options) if photos else _pairs(**options)


def _refuse(names: tuple[str, ...], *, with_photos: bool) -> None:
    """Refuses options of the other form."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = next(param.opts[0] for param in context.command.params if param.name == name)
            why = "is of a dataset's pairs, not of photographs" if with_photos else "needs two photographs, A and B"
            raise click.UsageError(f"{option} {why}")


def _pairs(dataset: str | None, head: str | None, **options: Any) -> tuple[Any, Line]:
    from matchkit.pipelines.match import match as run

    for name, value in (("dataset", dataset), ("head", head)):
        if value is None:
            context = click.get_current_context()
            param = next(param for param in context.command.params if param.name == name)
            raise click.MissingParameter(ctx=context, param=param)
    return (
        run(str(dataset), str(head), **options),
        lambda x: f"{x.predictions}: {x.keypoints:,} keypoints of {x.pairs:,} pairs",
    )


def _photos(photos: tuple[Path, ...], options: dict[str, Any]) -> tuple[Any, Line]:
    if len(photos) != 2:
        raise click.UsageError(f"two photographs are matched, A and B, not {len(photos)}")
    if not options["at"] and not options["points"]:
        raise click.UsageError("which points of A? Say --at X,Y, or --points FILE.csv")
    if options["dataset"] and not options["head"]:
        raise click.UsageError("--dataset says whose head is meant: say which one, --head NAME")

    from matchkit.pipelines.match_photos import match_photos as run

    def lines(x: Any) -> str:
        told = [_told(number, found, photos[1].name) for number, found in enumerate(x.matches, 1)]
        return "\n".join([*told, f"{x.picture}: {len(told):,} point{'s' * (len(told) > 1)} by {x.by}"])

    return run(*photos, **options), lines


def _told(number: int, found: Any, target: str) -> str:
    """One point's line."""
    (x, y), (u, v) = found.source, found.target
    how = "mutual" if found.mutual else "not mutual"
    beside = "" if found.inside else f", outside of {target}"
    where = f"{number}  {x:g},{y:g} -> {u:.1f},{v:.1f}"
    return f"{where}  similarity {found.similarity:.2f}, {how}, {found.cycle:.1f} px from it on the way back{beside}"
