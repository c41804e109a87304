"""Every backbone's extraction: one store whatever order, threads and interruptions, and a plan that holds."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.core.interfaces import Backbone
from matchkit.core.records import ImageRecord
from matchkit.extract.backbones import BACKBONES
from matchkit.pipelines.fill import fill
from matchkit.pipelines.plan import calls_an_image, measure_arithmetic
from matchkit.pipelines.tally import Tally

Build = Callable[..., Backbone]
SETTINGS: dict[str, dict[str, Any]] = {
    "sd-inversion": {"steps": 10, "keys": [8, 6], "layers": ["up1.0", "up3.2"]},
    "geoaware": {"crop": 128, "canvas": 192, "dino_canvas": 112},
}
"""What the embedded networks need in place of the smallest ones'."""
pytestmark = pytest.mark.parametrize("name", list(BACKBONES.table()))


@pytest.fixture
def records(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> list[ImageRecord]:
    """Seven photographs of several sizes and their mirrored copies' first."""
    found = []
    for number in range(7):
        path, size = tmp_path / f"{number}.png", (50 + number, 60 - number)
        draw(size, number).save(path)
        found.append(ImageRecord(f"cat/{number}", path, size))
    return found


@pytest.fixture
def build_embedded(build_backbone: Build) -> Build:
    """Builds any backbone on the embedded weights, where it has a choice.

    Their widths are multiples of 32, as everybody's are. In networks of odd widths the last numbers of a batch are
    computed by other instructions than the rest, and an image's last bits depend on its place.
    """

    def build(name: str, **changes: Any) -> Backbone:
        known = {field.name for field in dataclasses.fields(BACKBONES.load(name).Params)}
        embedded = {key: "tiny" for key in ("weights", "dino_weights") if key in known}
        return build_backbone(name, **embedded, **SETTINGS.get(name, {}), **changes)

    return build


def files(
    where: Path, backbone: Backbone, *runs: Sequence[ImageRecord], ids: Sequence[str], batch: int = 3, threads: int = 1
) -> dict[str, bytes]:
    """The shard files of a store that some runs, one after the other, have filled."""
    for part in runs:
        with FeatureStore.create(where, backbone.spec, ids) as store:
            with Tally(images=len(part), bytes_an_image=image_bytes(backbone.spec)) as tally:
                fill(store, backbone, part, batch=batch, threads=threads, decoders=2, tally=tally)
            assert (tally.written, tally.failures) == (len(part), [])
            store.finalize()
    return {
        path.relative_to(where).as_posix(): path.read_bytes()
        for path in where.glob("*/c.*")
        if path.parent.name != "ledger"
    }


def test_one_store_whatever_the_order_the_threads_and_the_interruptions(
    build_embedded: Build, name: str, records: list[ImageRecord], tmp_path: Path
) -> None:
    backbone = build_embedded(name, dtype="fp32")
    ids = [record.id for record in records]
    shuffled = random.Random(1).sample(records, len(records))
    plain = files(tmp_path / "plain", backbone, records, ids=ids)
    assert plain
    assert files(tmp_path / "shuffled", backbone, shuffled, ids=ids) == plain
    assert files(tmp_path / "threads", backbone, records, ids=ids, threads=2) == plain
    assert files(tmp_path / "resumed", backbone, records[:2], records[2:6], records[6:], ids=ids) == plain


def test_the_size_of_a_batch_changes_no_more_than_the_last_bits(
    build_embedded: Build, name: str, records: list[ImageRecord], tmp_path: Path
) -> None:
    backbone = build_embedded(name, dtype="fp32")
    ids = [record.id for record in records]
    for batch in (1, 4):
        files(tmp_path / str(batch), backbone, records, ids=ids, batch=batch)
    one, four = (FeatureStore.open(tmp_path / batch) for batch in "14")
    for image_id in ids:
        single, several = one.read(image_id), four.read(image_id)
        for layer, values in single.items():
            scale = float(values.abs().max())
            torch.testing.assert_close(several[layer], values, rtol=0, atol=1e-5 * scale)


def test_the_calls_of_the_network_are_those_of_the_spec(
    build_backbone: Build, name: str, records: list[ImageRecord]
) -> None:
    backbone = build_backbone(name)
    network, calls, flops = measure_arithmetic(backbone, replace(records[0], id="cat/1"))
    if network == "none":
        assert flops == 0
    else:
        assert calls == calls_an_image(backbone.spec)
        assert flops > 0
