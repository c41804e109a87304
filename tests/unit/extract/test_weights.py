"""Where weights come from, and what is never opened."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones import weights
from matchkit.extract.backbones.weights import (
    Schedule,
    checksum,
    file_checksum,
    locate,
    locate_file,
    noise_schedule,
    random_copy,
)

PARTS = ("unet", "vae", "text_encoder")


def find(name: str | Path) -> Path:
    return locate(str(name), embedded="stable-diffusion", marker="model_index.json", parts=PARTS)


@pytest.fixture
def copy(sd_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sd_folder, tmp_path / "copy")


def edit_scheduler(folder: Path, **changes: Any) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_pipeline_folder_is_taken_as_it_is(sd_folder: Path) -> None:
    assert find(sd_folder) == sd_folder


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "nothing", "a/b/c"])
def test_a_path_that_does_not_exist(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=f"no weights at {name}: give a folder, a hub id, or 'tiny'"):
        find(name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"no weights at .*model\.safetensors"):
        find(tmp_path / "model.safetensors")


def test_a_folder_that_is_not_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not hold weights of this kind: model_index\.json is missing"):
        find(tmp_path)


def test_a_part_without_weights(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="vae holds no weights"):
        find(copy)


def test_pickles_are_refused_unopened(copy: Path) -> None:
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="unet holds only pickles, which are never opened"):
        find(copy)


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(hub_id: str, **patterns: list[str]) -> str:
        assert (hub_id, patterns["allow_patterns"][0]) == ("someone/model", "unet/*.safetensors")
        assert not any(
            pattern.endswith((".bin", "*")) for pattern in patterns["allow_patterns"] if "tokenizer" not in pattern
        )
        raise LocalEntryNotFoundError("offline")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "snapshot_download", unreachable)
    with pytest.raises(WeightsError, match=r"'someone/model' are neither a folder here .*\(offline\).*--weights DIR"):
        find("someone/model")


ON_THE_HUB = {
    "model_index.json": True,
    "unet/config.json": True,
    "unet/diffusion_pytorch_model.safetensors": True,
    "unet/diffusion_pytorch_model.fp16.safetensors": False,
    "unet/diffusion_pytorch_model.non_ema.safetensors": False,
    "unet/diffusion_pytorch_model.bin": False,
    "text_encoder/model.safetensors": True,
    "tokenizer/merges.txt": True,
    "safety_checker/model.safetensors": False,
    "v1-5-pruned.ckpt": False,
}
"""Files of a hub folder, and whether they are needed."""


def test_a_download_takes_what_is_needed_and_is_checked_like_a_folder(
    sd_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched: list[str] = []

    def snapshot(hub_id: str, **patterns: list[str]) -> str:
        fetched.extend(filter_repo_objects(ON_THE_HUB, **patterns))
        return str(sd_folder)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "snapshot_download", snapshot)
    assert find("someone/model") == sd_folder
    assert fetched == [name for name, needed in ON_THE_HUB.items() if needed]


def test_copies_in_other_types_do_not_change_the_checksum(sd_folder: Path, copy: Path) -> None:
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    assert checksum(copy, parts=PARTS) == checksum(sd_folder, parts=PARTS)


def test_the_checksum_names_bytes_and_not_places(sd_folder: Path, copy: Path) -> None:
    before = checksum(sd_folder, parts=PARTS)
    assert before.startswith("sha256:")
    assert len(before) == len("sha256:") + 16
    assert checksum(copy, parts=PARTS) == before
    assert checksum(copy, parts=("unet", "vae")) != before


@pytest.mark.parametrize(
    "name",
    [
        *("unet/diffusion_pytorch_model.safetensors", "text_encoder/config.json"),
        *("scheduler/scheduler_config.json", "tokenizer/tokenizer.json"),
    ],
)
def test_the_checksum_changes_with_one_byte(sd_folder: Path, copy: Path, name: str) -> None:
    parts = (*PARTS, "scheduler", "tokenizer")
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(data)
    assert checksum(copy, parts=parts) != checksum(sd_folder, parts=parts)


def test_the_schedule_is_read(sd_folder: Path) -> None:
    assert noise_schedule(sd_folder) == Schedule(0.00085, 0.012, 1000, "epsilon")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": "sample"}, "scaled_linear betas and a prediction of sample"),
        ({"beta_schedule": "linear"}, "linear betas and a prediction of epsilon"),
    ],
)
def test_another_kind_of_pipeline_is_refused(copy: Path, change: dict[str, Any], message: str) -> None:
    edit_scheduler(copy, **change)
    with pytest.raises(WeightsError, match=message):
        noise_schedule(copy)


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_a_broken_scheduler_is_refused(copy: Path, text: str | None) -> None:
    path = copy / "scheduler" / "scheduler_config.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(WeightsError, match=r"scheduler_config\.json is not a scheduler's configuration"):
        noise_schedule(copy)


def test_a_random_copy_is_of_one_shape_and_of_other_numbers(sd_folder: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet")
    copies = [random_copy(unet, seed=3, dtype=torch.float32) for _ in range(2)]
    states = [network.state_dict() for network in (unet, *copies)]
    assert {name: tensor.shape for name, tensor in states[0].items()} == {
        name: tensor.shape for name, tensor in states[1].items()
    }
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    assert not torch.equal(states[0]["conv_in.weight"], states[1]["conv_in.weight"])
    assert random_copy(unet, seed=3, dtype=torch.float16).dtype == torch.float16


def test_a_file_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    path.write_bytes(b"weights")
    assert locate_file(str(path)) == path
    before = file_checksum(path)
    path.write_bytes(b"weighty")
    assert before.startswith("sha256:")
    assert file_checksum(path) != before


@pytest.mark.parametrize(
    "name", ["./unet.safetensors", "unet.safetensors", "/no/such.safetensors", "~/x/y.safetensors"]
)
def test_a_file_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"no weights at .*give a file, or owner/repository/file"):
        locate_file(name)


def test_a_pickled_file_is_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "unet.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"unet\.bin is no safetensors file"):
        locate_file(str(tmp_path / "unet.bin"))


def test_a_file_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if len(asked) > 1:
            raise LocalEntryNotFoundError("offline")
        return str(tmp_path / "there")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "hf_hub_download", download)
    assert locate_file("owner/model/deep/unet.safetensors") == tmp_path / "there"
    assert asked == [("owner/model", "deep/unet.safetensors")]
    with pytest.raises(WeightsError, match=r"neither a file here nor to be had from the hub \(offline\)"):
        locate_file("owner/model/unet.safetensors")
