"""A state dict of the published names and shapes, written down from `specs/geoaware.md` §2, as a head's."""

from collections.abc import Callable

import pytest
import torch

from matchkit.core.errors import WeightsError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.post_processor import PostProcessor
from matchkit.heads.presets import PRESETS
from matchkit.heads.weights import HeadWeights

CHANNELS = (640, 1280, 1280, 768)
WIDTH, NARROW = 768, 192
LAYERS = (
    LayerSpec("sd.s5", 1280, (15, 15)),
    LayerSpec("sd.s4", 1280, (30, 30)),
    LayerSpec("sd.s3", 640, (60, 60)),
    LayerSpec("dino", 768, (60, 60)),
)
SPEC = FeatureSpec("geoaware", "none", LAYERS, (50,), (960, 960), "letterbox", "fp16")
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def published() -> State:
    """The names and shapes of the published weights, with numbers drawn at random."""
    shapes: dict[str, tuple[int, ...]] = {"mixing_weights": (4,), "logit_scale": (), "self_logit_scale": ()}
    for branch, channels in enumerate(CHANNELS):
        convolutions = {"conv1": (NARROW, channels, 1, 1), "conv2": (NARROW, NARROW, 3, 3)}
        convolutions |= {"conv3": (WIDTH, NARROW, 1, 1)}
        if channels != WIDTH:
            convolutions["shortcut"] = (WIDTH, channels, 1, 1)
        for name, shape in convolutions.items():
            place = f"bottleneck_layers.{branch}.0.{name}"
            shapes |= {f"{place}.weight": shape, f"{place}.norm.weight": shape[:1], f"{place}.norm.bias": shape[:1]}
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=draw) / 10 for name, shape in shapes.items()}


def head_of(state: State, **changes: object) -> PostProcessor:
    config = {"layers": PRESETS.params("post-processor-code")["layers"]} | changes
    built = HeadWeights("post-processor", config, SPEC, state).build(device=torch.device("cpu"))
    assert isinstance(built, PostProcessor)
    return built


def test_the_published_weights_load_strictly(published: State) -> None:
    assert sum(values.numel() for values in published.values()) == 5_150_214
    head = head_of(published)
    assert all(torch.equal(values, published[name]) for name, values in head.state_dict().items())
    assert (head.layers, head.grid) == (("sd.s3", "sd.s4", "sd.s5", "dino"), (60, 60))


def without_dinos_norm(state: State) -> State:
    return {name: values for name, values in state.items() if name != "bottleneck_layers.3.0.conv2.norm.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_dinos_norm, r"Missing key\(s\) in state_dict: \"bottleneck_layers\.3\.0\.conv2\.norm\.bias\""),
        (lambda x: x | {"pose_embedding": torch.ones(2)}, r"Unexpected key\(s\) in state_dict: \"pose_embedding\""),
        (lambda x: x | {"mixing_weights": torch.ones(5)}, "size mismatch for mixing_weights"),
    ],
)
def test_another_networks_weights_are_refused(published: State, change: Callable[[State], State], message: str) -> None:
    """The published loader takes what fits and passes over the rest without a word."""
    with pytest.raises(WeightsError, match=f"the weights do not fit head 'post-processor'.*{message}"):
        head_of(change(published))


def test_the_stores_own_order_of_layers_is_refused(published: State) -> None:
    with pytest.raises(WeightsError, match=r"size mismatch for bottleneck_layers\.0\.0\.conv1\.weight"):
        head_of(published, layers=[])
    with pytest.raises(WeightsError, match=r"size mismatch for bottleneck_layers\.0\.0\.conv3\.weight"):
        head_of(published, projection=384)
