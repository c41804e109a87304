"""Bad input at the command line: one line that says what, where and the next command, and exit 1."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.cli import main

COMMON = ("--dataset", "spair", "--root", "spair")
EXTRACT = ("extract", *COMMON, "--backbone", "pixels", "--set", "input_size=32")


@pytest.fixture
def project(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, the current one, with a drawn dataset in `spair/`."""
    monkeypatch.chdir(spair_tree.parent)
    return spair_tree.parent


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def refused(*arguments: str) -> str:
    """The one line with which the command line refuses."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.stderr.splitlines()[-1] == line
    assert not result.stdout
    return line


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def first_pair(project: Path, split: str) -> Path:
    return sorted((project / "spair" / "PairAnnotation" / split).iterdir())[0]


def test_a_truncated_photograph_after_the_others_are_done(project: Path) -> None:
    photo = project / "spair/JPEGImages/cat/2007_000002.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    line = refused(*EXTRACT)
    assert "1 of 3 images cannot be extracted" in line
    assert "cat/2007_000002.jpg cannot be decoded" in line
    photo.write_bytes(whole)
    assert "1 images extracted, 2 were there" in run(*EXTRACT).stdout


def test_a_missing_photograph(project: Path) -> None:
    (project / "spair/JPEGImages/dog/2008_000003.jpg").unlink()
    assert "dog/2008_000003.jpg is missing: the file of image 'dog/2008_000003'" in refused(*EXTRACT)


def test_a_keypoint_outside_the_image(project: Path) -> None:
    run(*EXTRACT)
    edit(first_pair(project, "val"), src_kps=[[5, 6], [500, 10], [29, 27]])
    line = refused("fit-head", "raw-layer", *COMMON, "--set", "features=pixels")
    assert "field 'src_kps': keypoint 1 at (500, 10) lies outside the image of 32 x 48 pixels" in line
    assert first_pair(project, "val").name in line


def test_an_empty_split(project: Path) -> None:
    run(*EXTRACT)
    (project / "spair/Layout/large/val.txt").write_text("\n")
    assert "split 'val' of spair is empty" in refused("fit-head", "raw-layer", *COMMON, "--set", "features=pixels")


def test_an_unknown_head(project: Path) -> None:
    line = refused("fit-head", "agregator", *COMMON)
    assert "no head 'agregator'. Did you mean 'aggregator'?" in line


def test_a_misspelt_parameter(project: Path) -> None:
    (project / "params.yaml").write_text("extract:\n  spair:\n    pixels:\n      input_siz: 32\n")
    line = refused("extract", *COMMON, "--backbone", "pixels")
    assert "params.yaml extract.spair.pixels: no parameter 'input_siz'. Did you mean 'input_size'?" in line
    (project / "params.yaml").write_text("extrct: {}\n")
    assert "no parameter 'extrct'. Did you mean 'extract'?" in refused("extract", *COMMON, "--backbone", "pixels")
    (project / "params.yaml").write_text("extract:\n  spairr: {}\n")
    assert "no parameter 'spairr'. Did you mean 'spair'?" in refused("extract", *COMMON, "--backbone", "pixels")


def test_weights_that_are_no_pipeline(project: Path) -> None:
    (project / "empty").mkdir()
    line = refused("extract", *COMMON, "--backbone", "sd-inversion", "--weights", "empty")
    assert "empty does not hold weights of this kind: model_index.json is missing" in line


def test_a_store_of_another_spec(project: Path) -> None:
    run(*EXTRACT)
    line = refused(*EXTRACT, "--set", "fit=letterbox")
    assert "features/spair/pixels.zarr holds features of another spec (fit: letterbox, not stretch)" in line


def test_a_device_that_is_not_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--device cuda: no such device here" in refused(*EXTRACT, "--device", "cuda")


def test_what_has_not_run_yet_names_the_command(project: Path) -> None:
    assert "Run: matchkit extract" in refused("fit-head", "raw-layer", *COMMON, "--set", "features=pixels")
    assert "Run: matchkit fit-head" in refused("match", *COMMON, "--head", "raw-layer")
    assert "Run: matchkit match" in refused("evaluate", *COMMON, "--head", "raw-layer")
    assert "Run: matchkit evaluate" in refused("report")


def test_a_damaged_store_is_found_and_repaired(project: Path) -> None:
    run(*EXTRACT)
    store = "features/spair/pixels.zarr"
    (shard,) = (project / store / "rgb").glob("c.*")  # small images share a shard file, one after the other
    content = bytearray(shard.read_bytes())
    content[image_bytes(FeatureStore.open(store).spec) + 5] ^= 1
    shard.write_bytes(content)
    line = refused("cache", "verify", store)
    assert "(image 'cat/2007_000002') is not what was written" in line
    assert "Run: matchkit cache verify --repair features/spair/pixels.zarr" in line
    assert "withdrawn: 1. Run: matchkit extract" in run("cache", "verify", store, "--repair").stdout
    assert "1 images extracted, 2 were there" in run(*EXTRACT).stdout
    assert "3 images intact" in run("cache", "verify", store).stdout


def test_a_photograph_that_changed_is_extracted_again(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(*EXTRACT)
    source = project / "spair/JPEGImages/cat/2007_000001.jpg"
    source.write_bytes(source.read_bytes() + b"\0")  # bytes after the end of a JPEG do not change the picture
    result = run(*EXTRACT)
    assert "1 images extracted, 2 were there" in result.stdout
    assert "image 'cat/2007_000001' has changed since it was extracted" in caplog.text


def test_wrong_usage_exits_with_2(project: Path) -> None:
    assert run("extract").exit_code == 2
    assert run("list", "nothing").exit_code == 2


def test_verbose_shows_the_traceback(project: Path) -> None:
    with pytest.raises(Exception, match="no head 'nothing'"):
        run("fit-head", "nothing", *COMMON, "-v")
