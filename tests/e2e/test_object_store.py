"""A store in a bucket on the command line: written, taken up, read in parts, looked after, damaged and mended."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from matchkit.cache.places.place import open_place
from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

IMAGES = 5
EXTRACT = ("extract", "--dataset", "folder", "--root", "photos", "--backbone", "pixels", "--set", "input_size=32")
LAST = f"rgb/c.{IMAGES - 1}.0.0.0.0"
SHARD = 4 * 4 * 3 * 2 + 16 + 4
"""Bytes of an image's maps, and of their index and its checksum."""
Draw = Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]


@dataclass
class Door:
    """Stands before the server and notes what is asked for.

    Attributes:
        asked: the requests so far, as (method, path, the header `Range` or "").
        watched: an object.
        arrived: called when all of it has arrived that is to be written, and before it is.
    """

    application: Callable[..., Iterable[bytes]]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    watched: str = "none"
    arrived: Callable[[], object] = lambda: None

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path, environ.get("HTTP_RANGE", "")))
        if method == "PUT" and path.endswith(self.watched):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            self.arrived()
            environ = environ | {"wsgi.input": io.BytesIO(body)}
        return self.application(environ, start)

    def shards(self, method: str) -> list[str]:
        """The shard files of these requests, in order."""
        return sorted(
            path[path.index("rgb/") :] for asked, path, _ in self.asked if asked == method and "rgb/c" in path
        )


@pytest.fixture
def door(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door(s3_server.application)
    monkeypatch.setattr(s3_server, "application", door)
    return door


@pytest.fixture
def url(bucket_url: str, tmp_path: Path, draw: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a store may lie in a new bucket; the current folder has photographs."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(IMAGES):
        draw((40, 30), number).save(f"photos/{number}.png")
    return bucket_url


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def run(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*arguments: str) -> str:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr.splitlines()[-1]


def same(one: str, other: str) -> bool:
    """Whether two stores hold the same images with the same numbers."""
    stores = [FeatureStore.open(where) for where in (one, other)]
    reads = [{image_id: store.read(image_id)["rgb"] for image_id in store.ids} for store in stores]
    return list(reads[0]) == list(reads[1]) and all(torch.equal(reads[0][name], reads[1][name]) for name in reads[0])


def test_what_is_extracted_into_a_bucket_is_what_goes_into_a_folder(url: str, door: Door) -> None:
    assert "2 images extracted, 0 were there" in run(*EXTRACT, "--out", url, "--limit", "2")
    door.asked.clear()
    assert f"{url}: 3 images extracted, 2 were there" in run(*EXTRACT, "--out", url)
    assert door.shards("PUT") == [f"rgb/c.{number}.0.0.0.0" for number in (2, 3, 4)]
    door.asked.clear()
    assert "0 images extracted, 5 were there" in run(*EXTRACT, "--out", url)
    assert door.shards("PUT") == []
    run(*EXTRACT, "--out", "F.zarr")
    assert same(url, "F.zarr")


def test_what_there_is_in_a_bucket_is_told(url: str) -> None:
    run(*EXTRACT, "--out", url)
    assert run("cache", "verify", url) == f"{url}: {IMAGES} images intact\n"
    (listed,) = json.loads(run("cache", "ls", url, "--json"))
    assert (listed["store"], listed["images"], listed["rows"], listed["problem"]) == (url, IMAGES, IMAGES, "")
    info = json.loads(run("cache", "info", url, "--json"))
    assert (info["digest"], info["images"], info["writers"]) == (listed["digest"], IMAGES, [])
    usage = json.loads(run("cache", "du", url, "--json"))
    metadata = len(open_place(url).read("rgb/zarr.json"))
    assert (usage["parts"][0]["name"], usage["parts"][0]["bytes"]) == ("rgb", IMAGES * SHARD + metadata)
    assert usage["total"]["bytes"] == info["bytes"] == listed["bytes"]
    assert run("cache", "gc", url) == f"{url}: 0 B in 0 files freed\n"
    assert "0 of 5 images are missing" in run("plan", *EXTRACT[1:], "--out", url, "--no-probe")


def test_a_killed_extraction_is_taken_up_when_its_claims_are_broken(url: str, door: Door) -> None:
    arrived, killed = threading.Event(), threading.Event()

    def stall() -> None:
        arrived.set()
        assert killed.wait(60)

    door.watched, door.arrived = LAST, stall
    command = [sys.executable, "-m", "matchkit", *EXTRACT, "--out", url]
    victim = subprocess.Popen(command, env=dict(os.environ, PYTHONSAFEPATH="1"), stderr=subprocess.DEVNULL)
    assert arrived.wait(60)
    victim.kill()
    victim.wait()
    killed.set()  # what it had sent is written all the same, and nobody tells of it
    told = refused(*EXTRACT, "--out", url)
    assert re.search(rf"images from row 4 on are being written by \S+:{victim.pid} since \S+; if that process", told)
    assert told.endswith(f"run: matchkit cache gc --break-claims {url}")
    assert re.search(rf"being written by \S+:{victim.pid} .* gc --break-claims {url}", refused("cache", "gc", url))
    (writer,) = json.loads(run("cache", "info", url, "--json"))["writers"]
    assert f":{victim.pid} since" in writer
    assert run("cache", "gc", url, "--break-claims") == f"{url}: {SHARD} B in 1 files freed\n"
    assert json.loads(run("cache", "info", url, "--json"))["writers"] == []
    door.asked.clear()
    assert "1 images extracted, 4 were there" in run(*EXTRACT, "--out", url)
    assert door.shards("PUT") == [LAST]
    run(*EXTRACT, "--out", "F.zarr")
    assert same(url, "F.zarr")
    assert run("cache", "verify", url) == f"{url}: {IMAGES} images intact\n"


def test_a_stopped_extraction_gives_back_what_it_claimed(url: str, door: Door) -> None:
    door.watched, door.arrived = "rgb/c.2.0.0.0.0", lambda: os.kill(os.getpid(), signal.SIGINT)
    stopped = invoke(*EXTRACT, "--out", url)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert json.loads(run("cache", "info", url, "--json"))["writers"] == []
    again = json.loads(run(*EXTRACT, "--out", url, "--json"))
    assert again["present"] >= 3  # what was being written has been written to its end
    assert again["present"] + again["done"] == IMAGES
    assert run("cache", "verify", url) == f"{url}: {IMAGES} images intact\n"


def test_a_flipped_byte_in_an_object_is_found_and_made_good(url: str, door: Door) -> None:
    run(*EXTRACT, "--out", url)
    place, name = open_place(url), "rgb/c.2.0.0.0.0"
    content = bytearray(place.read(name))
    content[7] ^= 1
    place.put({name: [bytes(content)]})
    told = refused("cache", "verify", url)
    assert f"{name} (image '2') is not what was written (timesteps 0)" in told
    command = told.partition("Run: matchkit ")[2].split()
    assert command == ["cache", "verify", "--repair", url]
    assert run(*command) == f"{url}: 4 images intact, 1 absent; repaired: 1; withdrawn: 1. Run: matchkit extract\n"
    door.asked.clear()
    assert "1 images extracted, 4 were there" in run(*EXTRACT, "--out", url)
    assert door.shards("PUT") == [name]
    assert run("cache", "verify", url) == f"{url}: {IMAGES} images intact\n"


def test_objects_that_are_gone_or_cut_short_are_found_and_made_again(url: str) -> None:
    run(*EXTRACT, "--out", url)
    place, gone, short = open_place(url), "rgb/c.1.0.0.0.0", "rgb/c.3.0.0.0.0"
    place.delete([gone])
    place.put({short: [place.read(short)[:5]]})
    for name in (gone, short):
        with pytest.raises(StoreError, match=rf"{name} is damaged or gone\. Run: matchkit cache verify --repair {url}"):
            FeatureStore.open(url).read(name[6])
    told = refused("cache", "verify", url)
    assert all(f"{name} (image '{name[6]}') is gone or cut short" in told for name in (gone, short))
    assert "repaired: 2; withdrawn: 2" in run("cache", "verify", url, "--repair")
    assert "2 images extracted, 3 were there" in run(*EXTRACT, "--out", url)
    run(*EXTRACT, "--out", "F.zarr")
    assert same(url, "F.zarr")


def test_stores_are_converted_out_of_a_bucket_into_one_and_within_it(url: str) -> None:
    run(*EXTRACT, "--out", url)
    back, within, archive = (url.replace("F.zarr", f"{name}.zarr") for name in ("back", "within", "archive"))
    run("cache", "convert", "--codec", "int8", url, "int8.zarr")
    run("cache", "convert", "int8.zarr", back)
    run("cache", "convert", "--codec", "int8", url, within)
    assert same("int8.zarr", back)
    assert same("int8.zarr", within)
    run("cache", "convert", "--zstd", url, archive)
    assert same(url, archive)
    for made in (back, archive):
        assert run("cache", "verify", made) == f"{made}: {IMAGES} images intact\n"
    derived, parent = FeatureStore.open("int8.zarr"), FeatureStore.open(url)
    assert derived.spec.lineage == (parent.spec.digest(),)
    for image_id in parent.ids:
        decoded = derived.read(image_id)["rgb"].float()
        torch.testing.assert_close(decoded, parent.read(image_id)["rgb"].float(), atol=0.01, rtol=0.01)


def test_a_single_map_is_read_without_the_rest_of_its_object(url: str, door: Door, random_maps: Draw) -> None:
    layers = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("rgb", 2, (4, 6)))
    spec = FeatureSpec("pixels", "none", layers, (460, -1, 60), (48, 32), "stretch", "fp16")
    with FeatureStore.create(url, spec, ["a", "b"]) as store:
        for seed, image_id in enumerate("ab"):
            store.write(image_id, random_maps(spec, seed))
        store.finalize()
    store, path = FeatureStore.open(url), f"{url.removeprefix('s3:/')}/rgb/c.1.0.0.0.0"
    assert door.shards("GET") == []
    door.asked.clear()
    size = 4 * 6 * 2 * 2
    for steps, first, last in (((-1,), 1, 2), ((460, -1), 0, 2), ((-1, 60), 1, 3)):
        read = store.read("b", ["rgb"], steps)["rgb"]
        assert torch.equal(read, random_maps(spec, 1)["rgb"][first:last])
        assert door.asked.pop() == ("GET", path, f"bytes={first * size}-{last * size - 1}")
        assert door.asked == []
