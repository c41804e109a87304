"""A byte of a store that changes is found, or refused when the store is opened, or does no harm."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matchkit.cache import layout
from matchkit.cache.care.survey import Survey
from matchkit.cache.care.verify import verify
from matchkit.cache.ledger import IMAGE, ROWS, VERSION
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 3, (2, 2)), LayerSpec("up1.0", 2, (1, 3)))
IDS = ("cat/a", "cat/b", "cat/c", "cat/d")
Held = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass
class Whole:
    """A store that is not damaged yet: three of four images, one of them withdrawn and another written twice.

    Attributes:
        path: of the store.
        files: the content of each file that is not empty.
        found: places of findings that are no damage.
        held: the maps of its images.
    """

    path: Path
    files: dict[str, bytes]
    found: set[str]
    held: Held


def held(path: Path) -> Held:
    store = FeatureStore.open(path)
    return {image_id: {name: maps.clone() for name, maps in store.read(image_id).items()} for image_id in store.ids}


@pytest.fixture(scope="module", params=["apart fp16", "shared int8", "unfinished int8", "compressed fp16"])
def whole(request: pytest.FixtureRequest) -> Iterator[Whole]:
    kind, dtype = request.param.split()
    folder = Path(tempfile.mkdtemp(prefix="matchkit-damage-"))
    spec = FeatureSpec("pixels", "none", LAYERS, (460, -1), (8, 8), "stretch", dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SMALL_SHARD", 0 if kind in ("apart", "compressed") else 1 << 20)
        with FeatureStore.create(folder / "F.zarr", spec, IDS, compressed=kind == "compressed") as store:
            for seed, image_id in enumerate(("cat/a", "cat/b", "cat/c", "cat/a")):
                generator = torch.Generator().manual_seed(seed)
                store.write(
                    image_id, {x.name: torch.randn(2, x.channels, *x.grid, generator=generator) for x in LAYERS}
                )
            store.withdraw("cat/b")
            store.note("measured", {"PCK": 52.5})
            if kind != "unfinished":
                store.finalize()
    path = folder / "F.zarr"
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    found = {finding.where for finding in verify(path)}
    yield Whole(path, {name: content for name, content in files.items() if content}, found, held(path))
    shutil.rmtree(folder)


def last_lines(journal: bytes) -> dict[str, object]:
    """What counts in a journal: the last line about each image, but for numbers that decide nothing else."""
    lines = (json.loads(line) for line in journal.splitlines())
    return {line["id"]: {**line, "image": 0, "version": 0} for line in lines}


def no_harm(whole: Whole, name: str, position: int, changed: bytes) -> str:
    """Why a changed byte does no harm; "" where there is no reason."""
    if name == "ledger/pulse":
        return "readers look at the ledger once more"
    if name.endswith(".json"):
        return "spaces of JSON mean nothing" if json.loads(changed) == json.loads(whole.files[name]) else ""
    survey = Survey.open(whole.path)
    if name == "ledger/c.0.0":
        row, column = divmod(position // 4, survey.columns)
        if column == VERSION:
            return "an image was written or withdrawn more often" if row < ROWS else ""
        return "the next extraction takes the photograph for changed, and does it again" if column == IMAGE else ""
    if name.startswith("ledger/journal."):
        return (
            "a later line counts, or only the photograph's checksum"
            if last_lines(changed) == last_lines(whole.files[name])
            else ""
        )
    if survey.layout.compressed:
        return "a bit that zstd does not look at: the maps, which are compared, are the same"
    array = next(array for array in survey.arrays if array.name == name.split("/")[0])
    row = position // array.image_bytes
    if array.images > 1 and row < array.images and not survey.ledger.is_complete(row):
        return "the place of an image that is not complete"
    if f"{array.name}/{Path(name).name}" in whole.found and not name.endswith(".partial"):
        return "the file of an image that is not complete"
    return ""


def is_store(group: Path) -> bool:
    """Whether the group's attribute is whole."""
    try:
        FeatureStore.open(group.parent)
    except StoreError:
        return False
    return True


@settings(max_examples=150)
@given(
    file=st.integers(0, 10**6),
    byte=st.integers(0, 10**6),
    change=st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]) | st.integers(1, 255),
)
def test_a_changed_byte_is_found_or_refused_or_does_no_harm(whole: Whole, file: int, byte: int, change: int) -> None:
    name = sorted(whole.files)[file % len(whole.files)]
    content = bytearray(whole.files[name])
    position = byte % (len(content) // ROWS * len(IDS) if name.startswith("ledger/c.") else len(content))
    content[position] ^= change
    path = whole.path / name
    path.write_bytes(content)
    try:
        if name == "zarr.json" and not is_store(path):
            refusals = r"Restore it from a copy|no feature store|is a zarr group but|has store format"
            with pytest.raises(StoreError, match=refusals):
                verify(whole.path)
            return
        findings = verify(whole.path)
        if all(finding.where in whole.found for finding in findings):
            assert no_harm(whole, name, position, bytes(content)), f"nobody notices byte {position} of {name}"
            read = held(whole.path)
            assert read.keys() == whole.held.keys()
            for image_id, maps in read.items():
                for layer in maps:
                    np.testing.assert_array_equal(maps[layer], whole.held[image_id][layer])
    finally:
        path.write_bytes(whole.files[name])
