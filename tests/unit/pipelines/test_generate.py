"""Pictures from prompts: the file of prompts, and a run that takes up where it stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, DatasetError, SpecMismatchError
from matchkit.extract.backbones.sd_generation import SDGeneration
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.generate import Generated, generate, read_prompts

CSV = 'id,prompt\ncar/1,a red car\ndog/1,"a dog, running"\ncar/2,a blue car\n'
Paint = Callable[..., Generated]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def paint(prompts: Path, sd_folder: Path, tmp_path: Path) -> Paint:
    def run(*settings: str, out: str = "out") -> Generated:
        told = ("steps=2", "keys=[1, 0]", "layers=[up1.0, up3.2]", *settings)
        return generate(prompts, out=tmp_path / out, weights=str(sd_folder), settings=told, device="cpu")

    return run


def read(text: str, tmp_path: Path, *, name: str = "prompts.txt") -> dict[str, str]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_prompts(tmp_path / name)


def test_a_prompt_a_line(tmp_path: Path) -> None:
    assert read("a car\n\n  a dog, running \n", tmp_path) == {"0001": "a car", "0003": "a dog, running"}


def test_a_table_of_prompts(tmp_path: Path) -> None:
    expected = {"car/1": "a red car", "dog/1": "a dog, running", "car/2": "a blue car"}
    assert read(CSV, tmp_path, name="a.csv") == expected
    assert read("\ufeff" + CSV, tmp_path, name="b.csv") == expected  # as a spreadsheet writes it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\na,b\n", "needs the columns id,prompt"),
        ("id,prompt\na,b\na,c\n", "id 'a' comes twice"),
        ("id,prompt\n../a,b\n", r"id '\.\./a' with prompt 'b'"),
        ("id,prompt\n/a,b\n", "an id names a file"),
        ("id,prompt\na//b,b\n", "an id names a file"),
        ("id,prompt\na\\b,b\n", "an id names a file"),
        ("id,prompt\na@flip,b\n", "an id names a file"),
        ("id,prompt\na@rot90,b\n", "an id names a file"),
        ("id,prompt\na@rot270,b\n", "an id names a file"),
        ("id,prompt\n,b\n", "an id names a file"),
        ("id,prompt\na\n", "an id names a file, and has a prompt"),
        ("id,prompt\n", "holds no prompt"),
    ],
)
def test_prompts_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        read(text, tmp_path, name="prompts.csv")


def test_a_file_of_prompts_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a readable file of prompts"):
        read_prompts(tmp_path / "no.txt")


def test_pictures_and_features(paint: Paint, tmp_path: Path) -> None:
    done = paint()
    assert (done.present, done.done) == (0, 3)
    dataset = open_dataset("folder", tmp_path / "out" / "images")
    assert list(dataset.images) == ["car/1", "car/2", "dog/1"]
    assert dataset.images["car/1"].size == (16, 16)
    store = FeatureStore.open(tmp_path / "out" / "features.zarr")
    assert sorted(store.ids) == ["car/1", "car/2", "dog/1"]
    assert (store.timesteps, store.layers) == ((0, 500), ("up1.0", "up3.2"))
    with Image.open(tmp_path / "out" / "images" / "dog" / "1.png") as picture:
        assert picture.info["prompt"] == "a dog, running"
    assert paint().present == 3
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_run_takes_up_where_it_stopped(paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of one: the second picture fails; the run after it makes two, and all are as of one run."""
    call, calls = SDGeneration.__call__, 0

    def failing(self: SDGeneration, *args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConfigError("power cut")
        return call(self, *args)

    monkeypatch.setattr(SDGeneration, "__call__", failing)
    with pytest.raises(ConfigError, match="power cut"):
        paint("batch=1")
    taken_up = paint("batch=1")
    assert (taken_up.present, taken_up.done) == (1, 2)
    whole = paint("batch=1", out="whole")
    one, other = FeatureStore.open(taken_up.store), FeatureStore.open(whole.store)
    for image_id in other.ids:
        assert all(torch.equal(maps, one.read(image_id)[layer]) for layer, maps in other.read(image_id).items())
        pictures = [folder / f"{image_id}.png" for folder in (taken_up.images, whole.images)]
        assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_a_batch_that_is_not_full_is_filled_up(paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, sizes = SDGeneration.__call__, []

    def counted(self: SDGeneration, prompts: list[str], ids: list[str]) -> object:
        sizes.append(len(ids))
        return call(self, prompts, ids)

    monkeypatch.setattr(SDGeneration, "__call__", counted)
    paint("batch=2")
    assert sizes == [2, 2]


def test_what_has_changed_is_made_again(paint: Paint, prompts: Path, tmp_path: Path) -> None:
    paint()
    images = tmp_path / "out" / "images"
    before = {path: path.read_bytes() for path in images.rglob("*.png")}
    (images / "car" / "1.png").unlink()
    Image.new("RGB", (16, 16)).save(images / "car" / "2.png")
    again = paint()
    assert (again.present, again.done) == (1, 2)
    assert {path: path.read_bytes() for path in images.rglob("*.png")} == before
    prompts.write_text(CSV.replace("a dog, running", "a cat") + "cat/1,a cat\n")
    changed = paint()
    assert (changed.present, changed.done) == (2, 2)
    assert (images / "dog" / "1.png").read_bytes() != before[images / "dog" / "1.png"]


def test_other_parameters_need_another_place(paint: Paint) -> None:
    paint()
    with pytest.raises(SpecMismatchError, match="guidance"):
        paint("guidance=2")


def test_parameters_that_are_refused(paint: Paint) -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'guidence'\. Did you mean 'guidance'"):
        paint("guidence=2")
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        paint("batch=0")


def test_the_verb(prompts: Path, sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["--weights", str(sd_folder), "--device", "cpu", "--set", "steps=1", "--set", "keys=[0]"]
    result = CliRunner().invoke(main, ["generate", "--prompts", str(prompts), *told], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "3 pictures made, 0 were there; features in generated/features.zarr" in result.stdout
    missing = CliRunner().invoke(main, ["generate", "--prompts", "no.txt"], catch_exceptions=False)
    assert missing.exit_code == 1
    assert "Error: no.txt is not a readable file of prompts" in missing.stderr


def test_params_yaml_has_a_section_for_it(paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("generate: {guidance: 2.0, batch: 3}\n")
    assert FeatureStore.open(paint().store).spec.options["guidance"] == 2.0
    Path("params.yaml").write_text("generate: {guidence: 2.0}\n")
    with pytest.raises(ConfigError, match=r"params\.yaml generate: no parameter 'guidence'"):
        paint()
