"""Images one after the other, read ahead into memory that is used again."""

import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from matchkit.cache.reader import ImageMaps
from matchkit.cache.scan import scan
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
Read = Callable[..., ImageMaps]


@pytest.fixture(scope="module", params=["fp16", "bf16", "int8"])
def six(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Six complete images, and a row for one that is absent."""
    spec = FeatureSpec("pixels", "none", LAYERS, (460, -1, 60), (48, 32), "stretch", request.param)
    return filled(tmp_path_factory.mktemp("six") / "F.zarr", spec)


def filled(where: Path, spec: FeatureSpec) -> FeatureStore:
    generator = torch.Generator().manual_seed(0)
    shapes = {layer.name: (len(spec.timesteps), layer.channels, *layer.grid) for layer in spec.layers}
    with FeatureStore.create(where, spec, [*"abcdef", "absent"]) as store:
        for image_id in "abcdef":
            store.write(image_id, {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})
    return store


def test_maps_stay_right_while_the_next_image_is_read(six: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    order, ready, places = "fbbace", threading.Semaphore(0), set()
    fresh = {image_id: six.read(image_id, ["up1.0", "up0.0"], [60, 460]) for image_id in order}
    read: Read = six.read

    def telling(*arguments: object, **options: object) -> ImageMaps:
        maps = read(*arguments, **options)
        ready.release()
        return maps

    monkeypatch.setattr(six, "read", telling)
    ready.release()  # after the last image there is no next one
    for number, (image_id, maps) in enumerate(scan(six, order, ["up1.0", "up0.0"], [60, 460])):
        for _ in range(2 if number == 0 else 1):
            assert ready.acquire(timeout=20)
        assert image_id == order[number]
        assert list(maps) == ["up1.0", "up0.0"]
        assert all(torch.equal(maps[name], fresh[image_id][name]) for name in maps)
        places.add(maps["up0.0"].data_ptr())
    assert number == 5
    assert len(places) == 2


def test_all_layers_and_timesteps_where_none_is_named(six: FeatureStore) -> None:
    ((image_id, maps),) = scan(six, ["d"])
    assert image_id == "d"
    assert {name: tuple(values.shape) for name, values in maps.items()} == {
        "up0.0": (3, 5, 2, 3),
        "up1.0": (3, 2, 4, 6),
    }
    assert all(torch.equal(values, six.read("d")[name]) for name, values in maps.items())


def test_no_images_are_no_images(six: FeatureStore) -> None:
    assert list(scan(six, [])) == []


def test_an_image_that_is_not_there_is_refused_in_its_turn(six: FeatureStore) -> None:
    before, seen = set(threading.enumerate()), []
    with pytest.raises(StoreError, match="does not hold image 'absent'"):
        seen += [image_id for image_id, _ in scan(six, ["a", "b", "absent", "c"])]
    assert set(threading.enumerate()) == before
    first, second = islice(scan(six, ["a", "b", "absent"]), 2)
    assert (first[0], second[0]) == ("a", "b")


def test_closing_early_leaves_no_thread(six: FeatureStore) -> None:
    before, images = set(threading.enumerate()), scan(six, "abcdef")
    next(images)
    assert set(threading.enumerate()) > before
    images.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before
