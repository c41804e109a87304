"""Stores that are bad input to the command line: somebody else's, old, half of a copy, on a full or read-only disk."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zarr
from click.testing import CliRunner, Result
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import StoreError

IMAGES = 20
EXTRACT = "extract --dataset folder --root photos --backbone pixels --set input_size=32"
STORE = "features/folder/pixels.zarr"
VERBS = ("verify", "verify --repair", "info", "du", "gc", "convert --codec int8 OUT")
ALONE = """if True:
    import json, sys
    from pathlib import Path
    from click.testing import CliRunner
    from matchkit.cli import main

    for line in sys.stdin.read().splitlines():
        if line.startswith("rm "):
            Path(line[3:]).unlink()
        else:
            result = CliRunner().invoke(main, line.split(), catch_exceptions=False)
            print(json.dumps([result.exit_code, (result.stdout or result.stderr).splitlines()[-1]]))
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, draw: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photographs."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(IMAGES):
        draw((40, 30), number).save(f"photos/{number:02d}.png")
    return tmp_path


def invoke(line: str) -> Result:
    return CliRunner().invoke(main, line.split(), catch_exceptions=False)


def run(line: str) -> str:
    result = invoke(line)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(line: str) -> str:
    result = invoke(line)
    assert (result.exit_code, result.stdout) == (1, ""), line
    return result.stderr.splitlines()[-1]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def on_store(verb: str) -> str:
    name, *options = verb.split()
    return " ".join(("cache", name, STORE, *options))


def test_somebody_elses_zarr_is_refused_and_left_alone(project: Path) -> None:
    group = zarr.create_group(STORE, attributes={"made by": "somebody else"})
    group.create_array("data", shape=(2,), chunks=(2,), dtype="f4")[:] = 1
    before = contents(project)
    for line in (EXTRACT, *map(on_store, VERBS)):
        assert f"{STORE} is a zarr group but not a feature store" in refused(line)
    assert contents(project) == before
    assert run("cache ls") == "no feature store below features\n"


def test_an_older_format_is_refused_with_the_next_command(project: Path) -> None:
    run(EXTRACT)
    path = Path(STORE, "zarr.json")
    told = json.loads(path.read_text())
    told["attributes"]["matchkit"]["format"] = 1
    path.write_text(json.dumps(told))
    before = contents(project)
    remedy = "has store format 1; this version reads format 2. Run: matchkit extract with another --out, or delete it"
    for line in (EXTRACT, *map(on_store, VERBS)):
        assert f"{STORE} {remedy}" in refused(line)
    assert contents(project) == before
    assert remedy in run("cache ls")


def test_half_of_a_copy_is_found_and_completed(project: Path) -> None:
    """The second file of maps is missing, the first one ends within its sixth image."""
    run(EXTRACT)
    whole = FeatureStore.open(STORE)
    maps = {image_id: whole.read(image_id)["rgb"].clone() for image_id in whole.ids}
    shutil.move(STORE, "whole.zarr")
    shutil.copytree("whole.zarr", STORE)
    map_bytes = 4 * 4 * 3 * 2
    first, second = sorted(Path(STORE, "rgb").glob("c.*"))
    second.unlink()
    first.write_bytes(first.read_bytes()[: 5 * map_bytes + 50])
    half = FeatureStore.open(STORE)
    for image_id in ("05", "15", "16", "19"):
        with pytest.raises(StoreError, match=rf"is damaged or gone\. Run: matchkit cache verify --repair {STORE}"):
            half.read(image_id)
    told = refused(f"cache verify {STORE}")
    assert "15 damaged images" in told
    assert told.endswith(f"Run: matchkit cache verify --repair {STORE}")
    assert "5 images intact, 15 absent" in run(f"cache verify {STORE} --repair")
    kept = FeatureStore.open(STORE)
    assert kept.ids == [f"{number:02d}" for number in range(5)]
    assert "15 images extracted, 5 were there" in run(EXTRACT)
    assert f"{IMAGES} images intact" in run(f"cache verify {STORE}")
    again = FeatureStore.open(STORE)
    assert all(torch.equal(again.read(image_id)["rgb"], maps[image_id]) for image_id in maps)


def test_disks_that_are_read_only_and_full(project: Path) -> None:
    """Mounted for one process: nothing is left mounted, whatever becomes of it."""
    run(EXTRACT)
    Path("disk").mkdir()
    before = contents(Path(STORE))
    large = f"{EXTRACT} --set input_size=128 --set cell=1 --out disk/F.zarr"  # 98 kB an image
    lines = [f"cache verify {STORE}", f"cache verify {STORE} --repair", f"cache info {STORE}", f"cache du {STORE}"]
    lines += [f"{EXTRACT} --limit 3", f"cache gc {STORE}", f"{EXTRACT} --out {STORE}/other"]
    lines += [
        large,
        f"{large} --force",
        "cache verify disk/F.zarr",
        "rm disk/ballast",
        large,
        "cache verify disk/F.zarr",
    ]
    told = mounted(
        f"mount --bind {STORE} {STORE} && mount -o remount,ro,bind {STORE} "
        "&& mount -t tmpfs -o size=2600k none disk && head -c 1500k /dev/zero > disk/ballast",
        lines,
    )
    assert [code for code, _ in told] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    said = [line for _, line in told]
    assert said[0] == said[1] == f"{STORE}: {IMAGES} images intact"
    assert all(line.endswith("cannot be written: Read-only file system") for line in said[4:7])
    assert contents(Path(STORE)) == before
    refusal, full, partial, done, intact = said[7:]
    assert "20 images will take 0.00 GB" in refusal
    assert full.endswith("disk/F.zarr: the disk is full. What is complete is kept; free some space and run again")
    assert partial.endswith("nobody is writing. Run: matchkit extract. Or: matchkit cache gc disk/F.zarr")
    found = re.search(r"(\d+) images extracted, (\d+) were there", done)
    assert found is not None
    extracted, kept = map(int, found.groups())
    assert extracted + kept == IMAGES
    assert kept >= 5
    assert intact == f"disk/F.zarr: {IMAGES} images intact"


def mounted(mounts: str, lines: list[str]) -> list[tuple[int, str]]:
    """What the command line says to each line, as (exit code, last line), in a process with disks of its own."""
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounts], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    command = ["unshare", "-rm", "sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-P", "-c", ALONE]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
