"""`matchkit cache`: look after feature stores."""

import json
from collections.abc import Sequence
from typing import Any

import click

from matchkit.cli.verb import Line, verb

WIDTH = 200
"""Characters of a note or an error that are shown in a line."""


@click.group()
def cache() -> None:
    """Look after feature stores."""


@cache.command("ls")
@click.argument("root", default="features")
@verb
def cache_ls(root: str) -> tuple[Any, Line]:
    """List all feature stores below ROOT, a folder, or the one at ROOT, a path or URL."""
    from matchkit.pipelines.caches import ls

    def table(stores: Any) -> str:
        titles = ("store", "images", "layers x timesteps", "type", "size", "digest", "derived from")
        rows = [
            (x.store, *"-----", _short(x.problem))
            if x.problem
            else (
                *(x.store, f"{x.images:,}/{x.rows:,}", f"{x.layers} x {x.timesteps}", x.dtype),
                *(_size(x.bytes), x.digest, x.derived_from or "-"),
            )
            for x in stores
        ]
        return _aligned([titles, *rows]) if rows else f"no feature store below {root}"

    return ls(root), table


@cache.command("info")
@click.argument("store")
@verb
def cache_info(store: str) -> tuple[Any, Line]:
    """Say what a feature STORE holds and what made it."""
    from matchkit.pipelines.caches import info

    return info(store), _info


def _info(x: Any) -> str:
    spec = x.spec
    lines = [
        ("store", x.store),
        ("digest", x.digest),
        ("derived from", " < ".join(reversed(spec["lineage"])) or "-"),
        ("backbone", f"{spec['backbone']}, weights {spec['weights']}, revision {spec['revision']}"),
        ("options", ", ".join(f"{key}={value}" for key, value in spec["options"].items()) or "-"),
        ("input", f"{spec['input_size'][0]} x {spec['input_size'][1]} pixels, {spec['fit']}"),
        ("layers", ", ".join(map(_layer, spec["layers"]))),
        ("timesteps", ", ".join(map(str, spec["timesteps"]))),
        ("type", f"{spec['dtype']}{', compressed' if x.compressed else ''}, {_size(x.bytes_an_image)} an image"),
        ("images", f"{x.images:,} of {x.rows:,}"),
        ("size", f"{_size(x.bytes)} in {x.files:,} files"),
        ("written", "; ".join(x.writers) or "by nobody at present"),
        *((f"note: {name}", _short(json.dumps(note))) for name, note in x.notes.items()),
    ]
    return _aligned(lines)


def _layer(layer: Any) -> str:
    return f"{layer['name']} {layer['channels']} x {layer['grid'][0]} x {layer['grid'][1]}"


@cache.command("du")
@click.argument("store")
@verb
def cache_du(store: str) -> tuple[Any, Line]:
    """Say what each layer of a feature STORE takes, in all and an image."""
    from matchkit.pipelines.caches import du

    def table(x: Any) -> str:
        rows = [
            (part.name, f"{part.files:,}", _size(part.bytes), _size(part.bytes_an_image))
            for part in (*x.parts, x.total)
        ]
        return _aligned([("layer", "files", "size", "an image"), *rows])

    return du(store), table


@cache.command("verify")
@click.argument("store")
@click.option("--repair", is_flag=True, help="Undo damage; images that cannot be kept are to be extracted again.")
@verb
def cache_verify(store: str, *, repair: bool) -> tuple[Any, Line]:
    """Read a feature STORE back and compare every byte. Exit code 1 where something is wrong."""
    from matchkit.pipelines.caches import verify

    def line(x: Any) -> str:
        absent = f", {x.rows - x.images:,} absent" if x.rows > x.images else ""
        repaired = f"; repaired: {len(x.repaired):,}" if x.repaired else ""
        again = f"; withdrawn: {len(x.withdrawn):,}. Run: matchkit extract" if x.withdrawn else ""
        return f"{x.store}: {x.images:,} images intact{absent}{repaired}{again}"

    return verify(store, repair=repair), line


@cache.command("gc")
@click.argument("store")
@click.option("--break-claims", is_flag=True, help="In a bucket: its writers are dead, take from them what they hold.")
@verb
def cache_gc(store: str, *, break_claims: bool) -> tuple[Any, Line]:
    """Remove from a feature STORE what belongs to no complete image and what killed writers have left."""
    from matchkit.pipelines.caches import gc

    return gc(store, break_claims=break_claims), lambda x: f"{x.store}: {_size(x.bytes)} in {x.files:,} files freed"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each, one below the other; the last column is as wide as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows)


def _size(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size} B"


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}... (--json shows all)"
