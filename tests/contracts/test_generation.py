"""Painting from prompts on the embedded weights: a picture and its maps depend on its id and its prompt alone."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.pipelines.generate import Generated, generate

PROMPTS = {f"car/{number}": f"a {colour} car" for number, colour in enumerate(("red", "blue", "green", "black"))}
PROMPTS |= {"dog/0": "a dog that runs", "chair/0": "a chair"}
SETTINGS = ("steps=3", "keys=[2, 0]", 'layers=["up1.0", "up3.2"]', "dtype=fp32", "input_size=64")
Paint = Callable[..., Generated]


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Paints some of the prompts into a folder of their own."""

    def painted(out: str, ids: list[str], *settings: str) -> Generated:
        told = tmp_path / f"{out}.csv"
        told.write_text("id,prompt\n" + "".join(f"{name},{PROMPTS[name]}\n" for name in ids))
        return generate(told, out=tmp_path / out, settings=(*SETTINGS, *settings), device="cpu")

    return painted


def pixels(made: Generated, image_id: str) -> np.ndarray:
    with Image.open(made.images / f"{image_id}.png") as picture:
        return np.asarray(picture).astype(int)


def test_one_result_whatever_the_order(paint: Paint) -> None:
    ids = list(PROMPTS)
    shuffled = random.Random(1).sample(ids, len(ids))
    assert shuffled != ids
    plain, other = paint("plain", ids), paint("shuffled", shuffled)
    one, two = (FeatureStore.open(made.store) for made in (plain, other))
    assert set(one.ids) == set(two.ids) == set(ids)
    for image_id in ids:
        assert (plain.images / f"{image_id}.png").read_bytes() == (other.images / f"{image_id}.png").read_bytes()
        again = two.read(image_id)
        assert all(torch.equal(values, again[layer]) for layer, values in one.read(image_id).items())


@pytest.mark.parametrize("guidance", [1, 2])
def test_the_size_of_a_batch_changes_no_more_than_the_last_bits(paint: Paint, guidance: int) -> None:
    """In one call a step and in two; much guidance would multiply their difference and its last bits."""
    ids = list(PROMPTS)[1:]
    single, several = (paint(f"batch{n}", ids, f"guidance={guidance}", f"batch={n}") for n in (1, 4))
    one, four = (FeatureStore.open(made.store) for made in (single, several))
    for image_id in ids:
        assert np.abs(pixels(single, image_id) - pixels(several, image_id)).max() <= 1
        again = four.read(image_id)
        for layer, values in one.read(image_id).items():
            scale = float(values.abs().max())
            torch.testing.assert_close(again[layer], values, rtol=0, atol=1e-5 * scale)
