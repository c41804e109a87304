"""The run over images: order, failures in place, and features that depend on nothing but the image."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import google_crc32c
import pytest
import torch
from torch import nn

from matchkit.core.errors import DatasetError
from matchkit.core.interfaces import Backbone
from matchkit.core.records import Canvas, ImageRecord
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.extract.backbones.pixels import Pixels, PixelsParams
from matchkit.extract.run import Extracted, feature_maps

SPEC = FeatureSpec("fake", "none", (LayerSpec("mean", 3, (1, 1)),), (0,), (8, 8), "stretch", "fp32")


class Recorder:
    """A backbone that notes the ids of its batches and in which threads they were computed."""

    spec = SPEC
    canvases = (Canvas(SPEC.input_size, SPEC.fit),)

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()

    def __call__(self, images: torch.Tensor, ids: Sequence[str], *others: torch.Tensor) -> dict[str, torch.Tensor]:
        assert len(images) == len(ids)
        self.batches.append(list(ids))
        self.threads.add(threading.get_ident())
        return {"mean": images.mean((2, 3))[:, None, :, None, None]}


class Failing(Recorder):
    """A backbone with a bug."""

    def __call__(self, images: torch.Tensor, ids: Sequence[str], *others: torch.Tensor) -> dict[str, torch.Tensor]:
        raise RuntimeError("out of memory")


class Slow(Recorder):
    """A backbone of very many layers; each image is begun only after the first was."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.layer = nn.Identity()
        self.layers = 0

    def __call__(self, images: torch.Tensor, ids: Sequence[str], *others: torch.Tensor) -> dict[str, torch.Tensor]:
        self.begun.set()
        while self.layers < 100_000:
            self.layer(images)
            self.layers += 1
            time.sleep(0.001)
        return super().__call__(images, ids)


def at_work() -> list[str]:
    """The names of an extraction's threads."""
    kinds = ("matchkit-decode", "matchkit-compute", "matchkit-write")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(kinds)]


def run(backbone: Backbone, records: Sequence[ImageRecord], *, batch: int = 3, threads: int = 2) -> list[Extracted]:
    return list(feature_maps(backbone, records, batch=batch, threads=threads, decoders=threads))


def test_the_order_of_the_records_is_kept(photos: list[ImageRecord]) -> None:
    shuffled = photos[::-1]
    assert [extracted.record for extracted in run(Recorder(), shuffled, batch=2, threads=3)] == shuffled


def test_a_partial_batch_is_filled_up_with_its_last_image(photos: list[ImageRecord]) -> None:
    backbone = Recorder()
    extracted = run(backbone, photos, threads=1)
    names = [record.id for record in photos]
    assert backbone.batches == [names[:3], names[3:6], [names[6]] * 3]
    assert len(extracted) == 7
    assert extracted[6].maps["mean"].shape == (1, 3, 1, 1)


def test_a_failure_stands_in_its_place(photos: list[ImageRecord]) -> None:
    records = [*photos[:2], replace(photos[2], path=photos[2].path.with_name("gone.png")), *photos[3:]]
    backbone = Recorder()
    extracted = run(backbone, records, threads=1)
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


def test_the_checksum_of_a_photograph_goes_with_its_maps(photos: list[ImageRecord]) -> None:
    for extracted in run(Recorder(), photos):
        assert extracted.image_crc32c == google_crc32c.value(extracted.record.path.read_bytes())


def test_torch_has_its_threads_back_afterwards(photos: list[ImageRecord]) -> None:
    torch.set_num_threads(2)
    run(Recorder(), photos)
    assert torch.get_num_threads() == 2


def test_no_images_give_nothing() -> None:
    assert run(Recorder(), []) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_who_takes_images_slowly_slows_down_the_rest(photos: list[ImageRecord], threads: int) -> None:
    backbone = Recorder()
    records = [replace(photos[0], id=f"cat/{number}") for number in range(40)]
    found = feature_maps(backbone, records, batch=1, threads=threads, decoders=1)
    for taken, extracted in enumerate(found, start=1):
        assert extracted.record is records[taken - 1]
        time.sleep(0.002)
        assert taken <= len(backbone.batches) <= taken + threads + 1
    assert len(backbone.threads) <= threads


def test_who_leaves_early_ends_all_threads(photos: list[ImageRecord]) -> None:
    found = feature_maps(Recorder(), photos, batch=1, threads=2, decoders=2)
    next(found)
    assert at_work()
    found.close()
    assert at_work() == []


def test_an_interrupt_ends_what_is_being_computed(photos: list[ImageRecord]) -> None:
    backbone = Slow()

    def interrupt() -> None:
        backbone.begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        run(backbone, photos, batch=1)
    interrupting.join()
    assert backbone.layers < 100_000
    assert backbone.batches == []
    assert at_work() == []
    backbone.layer(torch.zeros(1))  # nothing is refused to anybody from now on


@pytest.mark.parametrize(("threads", "batch"), [(2, 3), (4, 3), (3, 1)])
def test_features_do_not_depend_on_the_number_of_threads(photos: list[ImageRecord], threads: int, batch: int) -> None:
    backbone = Pixels(PixelsParams(input_size=32), device=torch.device("cpu"))
    one = run(backbone, photos, batch=batch, threads=1)
    many = run(backbone, photos, batch=batch, threads=threads)
    assert len(one) == len(many) == 7
    for single, several in zip(one, many, strict=True):
        assert torch.equal(single.maps["rgb"], several.maps["rgb"])


@pytest.mark.parametrize("done", range(1, 7))
def test_features_do_not_depend_on_where_a_run_was_interrupted(photos: list[ImageRecord], done: int) -> None:
    backbone = Pixels(PixelsParams(input_size=32), device=torch.device("cpu"))
    whole = run(backbone, photos)
    resumed = [
        *islice(feature_maps(backbone, photos, batch=3, threads=2, decoders=1), done),
        *run(backbone, photos[done:]),
    ]
    for single, several in zip(whole, resumed, strict=True):
        assert torch.equal(single.maps["rgb"], several.maps["rgb"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_maps_of_a_gpu_arrive_whole(photos: list[ImageRecord]) -> None:
    records = [replace(photo, id=f"{photo.id}/{number}") for number in range(8) for photo in photos]
    params = PixelsParams(input_size=512, cell=1, dtype="fp32")
    on_cpu, on_gpu = (
        run(Pixels(params, device=torch.device(name)), records, batch=8, threads=1) for name in ("cpu", "cuda")
    )
    for expected, found in zip(on_cpu, on_gpu, strict=True):
        assert found.maps["rgb"].device.type == "cpu"
        torch.testing.assert_close(found.maps["rgb"], expected.maps["rgb"], rtol=0, atol=1e-6)
