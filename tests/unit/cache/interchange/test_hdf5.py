"""A store as one HDF5 file: any reader opens it, and what comes back is what went out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from matchkit.cache.interchange import Source, Target
from matchkit.cache.interchange.hdf5 import Compression, Hdf5File, Hdf5Target
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (460, -1, 60), (48, 32), "stretch", "fp16")
IDS = ["dog/a", "cat/ä"]
DECODED = {"fp16": torch.float16, "fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float16}
Maps = Mapping[str, torch.Tensor]


def drawn(dtype: str, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {layer.name: (3, *layer.grid, layer.channels) for layer in LAYERS}
    values = {name: torch.randn(shape, generator=generator).to(DECODED[dtype]) for name, shape in shapes.items()}
    return {name: rows.permute(0, 3, 1, 2) for name, rows in values.items()}


def exported(path: Path, dtype: str = "fp16", compression: Compression | None = None) -> Path:
    target = Hdf5Target(
        path, replace(SPEC, dtype=dtype), IDS, content="c0ffee", notes={"n": [1]}, compression=compression
    )
    assert isinstance(target, Target)
    assert target.missing(IDS) == IDS
    for seed, image_id in enumerate(IDS):
        target.write(image_id, drawn(dtype, seed), image_crc32c=100 + seed)
    assert not path.exists()
    target.finish()
    target.close()
    assert [x.name for x in path.parent.iterdir()] == [path.name]
    return path


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("dtype", ["fp16", "fp32", "bf16", "int8"])
def test_what_goes_out_comes_in(tmp_path: Path, dtype: str, compression: Compression | None) -> None:
    source = Hdf5File(exported(tmp_path / "a.h5", dtype, compression))
    assert isinstance(source, Source)
    assert (source.ids, source.refused, source.notes) == (IDS, (), {"n": [1]})
    for seed, image_id in enumerate(IDS):
        assert source.image_crc32c(image_id) == 100 + seed
        maps = source.read(image_id)
        for name, values in drawn(dtype, seed).items():
            assert maps[name].dtype == values.dtype
            assert torch.equal(maps[name], values)
    source.close()


def test_special_numbers_survive(tmp_path: Path) -> None:
    special = torch.tensor([float("nan"), float("inf"), -0.0, 6e-8, 65504.0], dtype=torch.float16)
    maps = {layer.name: special.repeat(1000)[: 3 * 48].view(3, 2, 4, 6) for layer in LAYERS[1:]}
    spec = replace(SPEC, layers=LAYERS[1:])
    target = Hdf5Target(tmp_path / "a.h5", spec, ["x"], content="", notes={}, compression="gzip")
    target.write("x", maps, image_crc32c=0)
    target.finish()
    found = Hdf5File(tmp_path / "a.h5").read("x")["up1.0"].contiguous()
    assert torch.equal(found.view(torch.int16), maps["up1.0"].contiguous().view(torch.int16))


def test_the_spec_is_the_store_s_or_derived_where_its_codec_is_not_exact(tmp_path: Path) -> None:
    for dtype in ("fp16", "fp32", "bf16"):
        assert Hdf5File(exported(tmp_path / f"{dtype}" / "a.h5", dtype)).spec == replace(SPEC, dtype=dtype)
    spec = Hdf5File(exported(tmp_path / "int8" / "a.h5", "int8")).spec
    assert spec.dtype == "fp16"
    assert spec.serves(replace(SPEC, dtype="int8"))


def test_any_program_reads_it(tmp_path: Path) -> None:
    with h5py.File(exported(tmp_path / "a.h5", compression="lzf")) as file:
        assert file.attrs["digest"] == SPEC.digest()
        assert FeatureSpec.from_json(json.loads(file.attrs["spec"])) == SPEC
        assert [name.decode() for name in file["ids"]] == IDS
        maps = file["layers/up1.0"]
        assert (maps.shape, maps.dtype, maps.chunks) == ((2, 3, 4, 6, 2), np.float16, (1, 1, 4, 6, 2))
        assert (maps.compression, maps.fletcher32) == ("lzf", True)
        assert [dimension.label for dimension in maps.dims] == ["image", "timestep", "h", "w", "c"]
        expected = drawn("fp16", 1)["up1.0"].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(maps[1], expected)


def test_a_file_that_is_whole_is_left(tmp_path: Path) -> None:
    path = exported(tmp_path / "a.h5")
    before = path.read_bytes()
    again = Hdf5Target(path, SPEC, IDS, content="c0ffee", notes={}, compression=None)
    assert again.missing(IDS) == []
    again.finish()
    again.close()
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match=r"a\.h5 is there already and holds something else than this store"):
        Hdf5Target(path, SPEC, IDS, content="another", notes={}, compression=None)
    (tmp_path / "b.h5").write_text("mine")
    with pytest.raises(StoreError, match=r"b\.h5 is no HDF5 file"):
        Hdf5Target(tmp_path / "b.h5", SPEC, IDS, content="", notes={}, compression=None)
    assert (tmp_path / "b.h5").read_text() == "mine"


def test_what_was_not_finished_is_removed_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    target = Hdf5Target(path, SPEC, IDS, content="", notes={}, compression=None)
    target.write(IDS[0], drawn("fp16", 0), image_crc32c=0)
    target.close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.h5.tmp").write_bytes(b"what a killed export left")
    exported(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"file/a\.h5 cannot be written"):
        Hdf5Target(tmp_path / "file" / "a.h5", SPEC, IDS, content="", notes={}, compression=None)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = exported(tmp_path / "a.h5")
    values = drawn("fp16", 1)["up1.0"].permute(0, 2, 3, 1).numpy()[0].tobytes()
    content = bytearray(path.read_bytes())
    content[content.find(values)] ^= 1
    path.write_bytes(content)
    source = Hdf5File(path)
    source.read(IDS[0])
    with pytest.raises(StoreError, match=r"a\.h5 is cut short or damaged"):
        source.read(IDS[1])


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_file_cut_short(tmp_path: Path, kept: float) -> None:
    path = exported(tmp_path / "a.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StoreError, match=r"a\.h5 is cut short or damaged"):
        Hdf5File(path)


def _edit_spec(file: h5py.File) -> None:
    file.attrs["spec"] = json.dumps(replace(SPEC, weights="others").to_json())


def _break_spec(file: h5py.File) -> None:
    file.attrs["spec"] = "{"


def _drop_layer(file: h5py.File) -> None:
    del file["layers/up1.0"]


def _change_layer(file: h5py.File) -> None:
    del file["layers/up1.0"]
    file["layers/up1.0"] = np.zeros((2, 3, 4, 6, 3), np.float16)


def _forget_format(file: h5py.File) -> None:
    del file.attrs["format"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_edit_spec, "the spec and its digest disagree"),
        (_break_spec, "is damaged"),
        (_drop_layer, "is cut short or damaged"),
        (_change_layer, "layer 'up1.0' is float16 2 x 3 x 4 x 6 x 3, not float16 2 x 3 x 4 x 6 x 2"),
        (_forget_format, "no file of matchkit cache export"),
    ],
)
def test_files_that_are_not_as_they_were(tmp_path: Path, change: Callable[[h5py.File], None], message: str) -> None:
    path = exported(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(StoreError, match=message):
        Hdf5File(path)
