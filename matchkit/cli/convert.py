"""`matchkit cache convert`: derive a store from another, and measure what that costs."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, root_option, verb


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


def _steps(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(context, parameter, value))
    except ValueError as error:
        raise click.BadParameter("whole numbers with commas between them, e.g. 0,100,200") from error


@click.command("convert")
@click.argument("store")
@click.argument("out")
@click.option("--codec", default="", help="fp16, fp32, bf16, int8, int4, pca-<r>. [default: as it is]")
@click.option("--layers", callback=_names, help="Layers to keep, e.g. up1.2,up2.1. [default: all]")
@click.option("--timesteps", callback=_steps, help="Timesteps to keep, e.g. 0,100. [default: all]")
@click.option(
    "--keep", type=click.FloatRange(0, 1, min_open=True), help="Keep this share of --weights' mixing weights."
)
@click.option("--weights", type=click.Path(path_type=Path), help="A fitted aggregator, for --keep.")
@click.option("--pool", type=click.Choice(["mean"]), help="Keep one vector a layer and timestep.")
@click.option("--zstd", is_flag=True, help="Compress losslessly, for archives: 0 to 8 % smaller, and slow to read.")
@click.option("--keypoints", is_flag=True, help="Keep the descriptors at --dataset's keypoints alone.")
@click.option("--measure", is_flag=True, help="Compare with the parent on --dataset: error, agreement, PCK.")
@click.option("--dataset", help="For --keypoints and --measure.")
@root_option
@click.option("--split", default="test", show_default=True, help="For --measure.")
@verb
def convert(
    store: str,
    out: str,
    *,
    keypoints: bool,
    measure: bool,
    dataset: str | None,
    root: Path | None,
    split: str,
    **how: Any,
) -> tuple[Any, Line]:
    """Derive a store at OUT from STORE: other codec, fewer layers or timesteps, pooled, or a keypoint table.

    An image is in memory at a time; run it again after an interruption. With --measure, prints a row a layer and keeps
    the table with the store (`matchkit cache info`).
    """
    from matchkit.pipelines import convert as run

    if (keypoints or measure) and not dataset:
        raise click.UsageError("--keypoints and --measure need --dataset")
    if keypoints and (measure or any(how.values())):
        raise click.UsageError("--keypoints keeps every layer and timestep as it is, and takes no other option")
    if measure and how["pool"]:
        raise click.UsageError("--measure compares maps, and --pool leaves none")
    if keypoints:
        assert dataset is not None
        return run.keypoint_table(store, out, dataset=dataset, root=root), _line
    converted = run.convert(store, out, run.derivation(**how))
    if not measure:
        return converted, _line
    assert dataset is not None
    rows = run.measure(store, out, dataset=dataset, root=root, split=split)
    return {"store": converted, "rows": rows}, lambda x: f"{_table(x['rows'])}\n\n{_line(x['store'])}"


def _line(converted: Any) -> str:
    before, after = converted.bytes_before, converted.bytes_after
    return (
        f"{converted.store}: {converted.images:,} images, {after / 1e6:.3f} MB an image instead of {before / 1e6:.3f} "
        f"({before / after:.2f} times fewer), spec {converted.digest}"
    )


def _table(rows: Any) -> str:
    lines = [
        f"{'layer':12} {'error':>7} {'agreement':>10} {'cells':>7} {'PCK before':>11} {'after':>6}   difference [95 %]"
    ]
    for row in rows:
        lost = row.loss
        maps = f"{lost.error:7.4f} {lost.agreement:10.4f} {lost.cells:7.4f}" if lost else " " * 26
        pck = row.pck
        lines.append(
            f"{row.name:12} {maps} {pck.before:11.2f} {pck.after:6.2f}   "
            f"{pck.difference:+.2f} [{pck.low:+.2f}, {pck.high:+.2f}]"
        )
    return "\n".join(lines)
