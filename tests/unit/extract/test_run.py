"""The run over images: order, failures in place, and features that depend on nothing but the image."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch

from matchkit.core.errors import DatasetError
from matchkit.core.interfaces import Backbone
from matchkit.core.records import ImageRecord
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.extract.backbones.pixels import Pixels, PixelsParams
from matchkit.extract.run import Extracted, feature_maps

SPEC = FeatureSpec("fake", "none", (LayerSpec("mean", 3, (1, 1)),), (0,), (8, 8), "stretch", "fp32")


class Recorder:
    """A backbone that notes the ids of its batches and in which threads they were computed."""

    spec = SPEC

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()

    def __call__(self, images: torch.Tensor, ids: Sequence[str]) -> dict[str, torch.Tensor]:
        assert len(images) == len(ids)
        self.batches.append(list(ids))
        self.threads.add(threading.get_ident())
        return {"mean": images.mean((2, 3))[:, None, :, None, None]}


class Failing(Recorder):
    """A backbone with a bug."""

    def __call__(self, images: torch.Tensor, ids: Sequence[str]) -> dict[str, torch.Tensor]:
        raise RuntimeError("out of memory")


def run(backbone: Backbone, records: Sequence[ImageRecord], *, batch: int = 3, workers: int = 2) -> list[Extracted]:
    return list(feature_maps(backbone, records, batch=batch, workers=workers))


def test_the_order_of_the_records_is_kept(photos: list[ImageRecord]) -> None:
    shuffled = photos[::-1]
    assert [extracted.record for extracted in run(Recorder(), shuffled, batch=2, workers=3)] == shuffled


def test_a_partial_batch_is_filled_up_with_its_last_image(photos: list[ImageRecord]) -> None:
    backbone = Recorder()
    extracted = run(backbone, photos, workers=1)
    names = [record.id for record in photos]
    assert backbone.batches == [names[:3], names[3:6], [names[6]] * 3]
    assert len(extracted) == 7
    assert extracted[6].maps["mean"].shape == (1, 3, 1, 1)


def test_a_failure_stands_in_its_place(photos: list[ImageRecord]) -> None:
    records = [*photos[:2], replace(photos[2], path=photos[2].path.with_name("gone.png")), *photos[3:]]
    backbone = Recorder()
    extracted = run(backbone, records, workers=1)
    assert [item.record for item in extracted] == records
    assert [item.failure is not None for item in extracted] == [False, False, True, False, False, False, False]
    assert isinstance(extracted[2].failure, DatasetError)
    assert "gone.png is missing" in str(extracted[2].failure)
    assert extracted[2].maps == {}
    assert backbone.batches[0] == [records[0].id, records[1].id, records[1].id]


def test_a_batch_of_failures_alone_is_not_computed(photos: list[ImageRecord]) -> None:
    backbone = Recorder()
    extracted = run(backbone, [replace(record, size=(1, 1)) for record in photos[:3]])
    assert all(item.failure for item in extracted)
    assert backbone.batches == []


def test_an_error_of_the_backbone_is_raised(photos: list[ImageRecord]) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        run(Failing(), photos)


def test_no_images_give_nothing() -> None:
    assert run(Recorder(), []) == []


def test_at_most_workers_and_one_batches_are_begun_ahead(photos: list[ImageRecord]) -> None:
    backbone = Recorder()
    found = feature_maps(backbone, photos, batch=1, workers=1)
    assert [item.record.id for item in islice(found, 2)] == [photos[0].id, photos[1].id]
    found.close()
    assert len(backbone.batches) <= 4


@pytest.mark.parametrize(("workers", "batch"), [(2, 3), (4, 3), (3, 1)])
def test_features_do_not_depend_on_the_number_of_workers(photos: list[ImageRecord], workers: int, batch: int) -> None:
    backbone = Pixels(PixelsParams(input_size=32), device=torch.device("cpu"))
    one = run(backbone, photos, batch=batch, workers=1)
    many = run(backbone, photos, batch=batch, workers=workers)
    assert len(one) == len(many) == 7
    for single, several in zip(one, many, strict=True):
        assert torch.equal(single.maps["rgb"], several.maps["rgb"])


@pytest.mark.parametrize("done", range(1, 7))
def test_features_do_not_depend_on_where_a_run_was_interrupted(photos: list[ImageRecord], done: int) -> None:
    backbone = Pixels(PixelsParams(input_size=32), device=torch.device("cpu"))
    whole = run(backbone, photos)
    resumed = [*islice(feature_maps(backbone, photos, batch=3, workers=2), done), *run(backbone, photos[done:])]
    for single, several in zip(whole, resumed, strict=True):
        assert torch.equal(single.maps["rgb"], several.maps["rgb"])
