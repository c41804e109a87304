"""The network of source document 001: its size, and its batch norms in and out of training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.fit import Fit, FitFiles, FitParams
from matchkit.heads.fusion import Fusion, FusionParams
from matchkit.heads.sequential import (
    SequentialBlock,
    SequentialNetwork,
    SequentialPostProcessor,
    SequentialPostProcessorParams,
)
from matchkit.heads.weights import HeadWeights, keep

LAYERS = (LayerSpec("sd.s5", 6, (4, 4)), LayerSpec("dino", 5, (8, 8)))
SPEC = FeatureSpec("geoaware", "none", LAYERS, (50,), (64, 64), "letterbox", "fp32")
CPU = torch.device("cpu")


def head(**changes: object) -> SequentialPostProcessor:
    params = {"hidden": 8, "depth": 2} | changes
    return SequentialPostProcessor(SequentialPostProcessorParams(**params), spec=SPEC)  # type: ignore[arg-type]


def batch_of(number: int = 0) -> PairBatch:
    draw = torch.Generator().manual_seed(number)
    maps = {layer.name: torch.randn(2, 1, layer.channels, *layer.grid, generator=draw) for layer in LAYERS}
    source, target = torch.tensor([0, 9, 30, 63]), torch.tensor([5, 63, 17, 40])
    points = (torch.stack([cells % 8, cells // 8], 1) + 0.25 for cells in (source, target))
    pair = BatchPair(0, 1, *points, source, target, 6.0)
    return PairBatch(maps, (pair,), ("cat/a", "cat/b"), (8, 8), number)


def test_parameters_of_the_document() -> None:
    """Geoaware §9, where it says about five million."""
    with torch.device("meta"):
        network = SequentialNetwork(channels=1536, hidden=768, blocks=4)
    assert sum(parameter.numel() for parameter in network.parameters()) == 30_695_424
    assert [sum(x.numel() for x in block.parameters()) for block in network] == [7_673_856] * 4


def test_a_block_whose_last_norm_is_silent_is_the_identity_but_for_the_negative() -> None:
    block = SequentialBlock(5, 3).eval()
    with torch.no_grad():
        block.norm3.weight.zero_()
    x = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(block(x), x.relu())


def test_it_stands_on_the_fused_descriptor() -> None:
    built = head(blocks=(("dino",), ("sd.s5",)), weights=(1.0, 2.0))
    maps = batch_of().maps
    fused = Fusion(FusionParams((("dino",), ("sd.s5",)), (1.0, 2.0)), spec=SPEC)
    assert (built.layers, built.grid) == (fused.layers, (8, 8))
    with torch.no_grad():
        for name, parameter in built._learnt.named_parameters():
            if name.endswith("norm3.weight"):
                parameter.zero_()
    torch.testing.assert_close(built.describe(maps), fused.describe(maps).relu())


def test_batch_norms_learn_in_the_loss_alone() -> None:
    built = head()
    before = {name: values.clone() for name, values in built.state_dict().items()}
    maps = batch_of().maps
    alone = built.describe({name: values[:1] for name, values in maps.items()})
    torch.testing.assert_close(alone, built.describe(maps)[:1])
    assert all(torch.equal(values, before[name]) for name, values in built.state_dict().items())
    built.loss(batch_of())
    after = built.state_dict()
    assert after["network.0.norm1.num_batches_tracked"] == 1
    assert not torch.equal(after["network.1.norm3.running_mean"], before["network.1.norm3.running_mean"])
    assert not built._learnt.training


def test_it_leaves_training_when_the_network_fails() -> None:
    built, batch = head(), batch_of()
    with pytest.raises(KeyError):
        built.loss(replace(batch, maps={}))
    assert not built._learnt.training


def test_noise_belongs_to_the_batchs_number() -> None:
    one, other = batch_of(), replace(batch_of(), number=9)
    losses = [head().loss(batch)["total"].item() for batch in (one, other, one)]
    assert losses[0] == losses[2] != losses[1]


def test_running_means_are_kept_on_disk(tmp_path: Path) -> None:
    built = head()
    built.loss(batch_of())
    keep(built, "sequential-post-processor", spec=SPEC, fit={}).save(tmp_path / "h.safetensors")
    loaded = HeadWeights.load(tmp_path / "h.safetensors").build(device=CPU)
    maps = batch_of().maps
    assert torch.equal(loaded.describe(maps), built.describe(maps))  # type: ignore[union-attr]
    assert not torch.equal(head().describe(maps), built.describe(maps))
    state = built.state_dict()
    state.pop("network.0.norm1.running_var")
    with pytest.raises(RuntimeError, match="Missing key"):
        head().load_state_dict(state)


def fit(folder: Path, *, stop_at: int = 0) -> bytes:
    """Fits four steps, or is interrupted before step `stop_at`; the bytes of the last weights."""

    def batches(start: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
        for number in range(start, 4):
            if stop_at and number + 1 == stop_at:
                raise KeyboardInterrupt
            yield batch_of(number)

    files = FitFiles(folder / "h.safetensors")
    params = FitParams(steps=4, validate_every=1)
    run = Fit(head(), "sequential-post-processor", spec=SPEC, params=params, files=files, about={})
    run.run(batches, lambda fitted: fitted.describe(batch_of(7).maps).sum().item())  # type: ignore[union-attr]
    return files.last.read_bytes()


def test_a_fit_that_is_taken_up_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", stop_at=3)
    assert fit(tmp_path / "parts") == whole


@pytest.mark.parametrize("changes", [{"hidden": 0}, {"depth": 0}])
def test_a_network_of_nothing_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="hidden and depth must be at least 1"):
        head(**changes)
