"""The head that learns a prompt: what it asks of its backbone, what it learns, and what it refuses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from matchkit.core.errors import ConfigError, DatasetError, StoreError, WeightsError
from matchkit.core.interfaces import BatchPair, ImageHead, PairBatch, PromptedHead, TrainableHead
from matchkit.core.params import build
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.prompt import Prompt, PromptParams

LAYERS = (LayerSpec("latent", 4, (4, 6)), LayerSpec("latent.std", 4, (4, 6)))
SPEC = FeatureSpec("sd-latents", "none", LAYERS, (0,), (48, 32), "stretch", "fp32")
IDS = ("cat/1", "cat/2", "dog/3", "dog/4", "cow/5")
Taken = Callable[..., Prompt]


@pytest.fixture
def taken(promptable: Any) -> Taken:
    """Builds a head that has its backbone."""

    def made(**params: Any) -> Prompt:
        head = Prompt(build(PromptParams, params, where="test"), spec=SPEC)
        head.take(promptable)
        return head

    return made


def maps_of(count: int) -> dict[str, torch.Tensor]:
    return {layer.name: torch.rand((count, 1, 4, 4, 6), generator=generator(0, layer.name)).half() for layer in LAYERS}


def batch_of(rows: Sequence[tuple[int, int]] = ((0, 1), (2, 3)), number: int = 0, keypoints: int = 2) -> PairBatch:
    """Pairs of the images IDS, of some keypoints each."""
    points = torch.tensor([[1.25, 2.0], [4.0, 0.5]])[:keypoints]
    cells = torch.tensor([13, 4])[:keypoints]
    pairs = tuple(BatchPair(*row, points, points.flip(0), cells, cells.flip(0), 6.0) for row in rows)
    return PairBatch(maps_of(len(IDS)), pairs, IDS, (4, 6), number)


def test_without_a_backbone_it_says_what_it_needs() -> None:
    head = Prompt(PromptParams(), spec=SPEC)
    assert isinstance(head, PromptedHead)
    for ask in (
        lambda: head.grid,
        lambda: head.describe(maps_of(2), IDS[:2]),
        lambda: head.loss(batch_of()),
        lambda: head.state_dict(),
        lambda: list(head.parameter_groups()),
    ):
        with pytest.raises(ConfigError, match="head 'prompt' has no backbone to prompt yet: give it one with `take`"):
            ask()
    assert head.config()["timestep"] == 261


def test_with_a_backbone_it_is_a_trainable_head_of_images(taken: Taken) -> None:
    head = taken(network={"weights": "tiny"})
    assert isinstance(head, ImageHead)
    assert isinstance(head, TrainableHead)
    assert (head.grid, head.layers, head.timesteps) == ((4, 6), ("latent",), (0,))
    assert head.network == {"weights": "tiny"}


def test_a_layer_of_the_backbone_is_chosen_by_name(taken: Taken) -> None:
    head = taken(layer="coarse")
    assert head.grid == (2, 3)
    assert head.describe(maps_of(2), IDS[:2]).shape == (2, 5, 2, 3)
    with pytest.raises(StoreError, match="no layer 'finest' in features of promptable; there are: coarse, fine"):
        taken(layer="finest")


def test_training_and_testing_have_their_timesteps_and_draws(taken: Taken, promptable: Any) -> None:
    """SD4Match §3.4, §4.1: 261 with one draw, 50 with eight."""
    head = taken()
    head.loss(batch_of(number=7))
    head.describe(maps_of(2), IDS[:2])
    training, testing = promptable.seen
    assert training[2:] == (261, 1)
    assert testing[2:] == (50, 8)
    assert testing[0] == IDS[:2]


def test_every_image_of_a_batch_goes_through_the_network_once(taken: Taken, promptable: Any) -> None:
    taken().loss(batch_of([(0, 3), (3, 0), (0, 1)]))
    ((ids, *_),) = promptable.seen
    assert [name.split(" in ")[0] for name in ids] == [IDS[0], IDS[1], IDS[3]]


def test_each_step_draws_its_noise_anew_and_the_same_in_every_run(taken: Taken) -> None:
    losses = [taken().loss(batch_of(number=number))["total"].item() for number in (3, 4, 3)]
    assert losses[0] == losses[2] != losses[1]


def test_the_posterior_is_sampled_by_image_and_step(taken: Taken, promptable: Any) -> None:
    """With a timestep of 0 the fake backbone has no noise of its own."""
    sampled, mean = (taken(posterior=name, timestep=0, test_timestep=0, ensemble=1) for name in ("sample", "mean"))
    assert sampled.layers == ("latent", "latent.std")
    maps = maps_of(2)
    noise = torch.stack([torch.randn((4, 4, 6), generator=generator(0, "posterior", name)) for name in IDS[:2]])
    drawn = maps["latent"].float() + maps["latent.std"].float() * noise[:, None]
    expected = mean.describe({"latent": drawn}, IDS[:2])
    torch.testing.assert_close(sampled.describe(maps, IDS[:2]), expected)
    losses = {
        head.params.posterior: [head.loss(batch_of(number=number))["total"].item() for number in (0, 1, 0)]
        for head in (sampled, mean)
    }
    assert losses["sample"][0] == losses["sample"][2] != losses["sample"][1]
    assert losses["mean"][0] == losses["mean"][1]


def test_a_store_without_deviations_cannot_be_sampled() -> None:
    only = replace(SPEC, layers=LAYERS[:1])
    with pytest.raises(StoreError, match=r"no layer 'latent\.std'"):
        Prompt(PromptParams(posterior="sample"), spec=only)


def test_each_pair_has_the_loss_of_its_own_images(taken: Taken) -> None:
    head = taken()
    both = head.loss(batch_of([(0, 1), (3, 2)]))["total"]
    alone = [head.loss(batch_of([rows]))["total"] for rows in ((0, 1), (3, 2))]
    torch.testing.assert_close(both, torch.stack(alone).mean())


@pytest.mark.parametrize(
    ("params", "shapes"),
    [
        ({"kind": "single", "tokens": 3}, {"tokens": (3, 8)}),
        ({"kind": "class", "tokens": 3, "categories": ["cat", "dog"]}, {"tokens": (2, 3, 8)}),
        ({"kind": "hidden-state"}, {"hidden": (7, 8)}),
    ],
)
def test_the_gradient_reaches_the_prompt_and_nothing_else(
    taken: Taken, promptable: Any, params: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    head = taken(**params)
    assert {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()} == shapes
    head.loss(batch_of())["total"].backward()
    (group,) = head.parameter_groups()
    assert group["rate"] == 1.0
    for parameter in group["params"]:
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    assert not any(weight.requires_grad for weight in promptable._weights.values())


def test_only_the_categories_of_a_batch_have_a_gradient(taken: Taken) -> None:
    head = taken(kind="class", categories=["cat", "dog"])
    head.loss(batch_of([(2, 3)]))["total"].backward()
    ((tokens,),) = (group["params"] for group in head.parameter_groups())
    assert tokens.grad is not None
    assert [bool(gradient.any()) for gradient in tokens.grad] == [False, True]


@pytest.mark.parametrize(("kind", "words"), [("text", "a photo of a cat"), ("empty", "")])
def test_words_are_described_and_not_learnt(taken: Taken, promptable: Any, kind: str, words: str) -> None:
    head = taken(kind=kind)
    assert head.state_dict() == {}
    assert list(head.parameter_groups()) == []
    assert torch.equal(head.states(["cat/1"]), promptable.states_of_text(words))
    assert head.describe(maps_of(2), IDS[:2]).isfinite().all()


def test_a_pair_of_two_categories_is_refused(taken: Taken) -> None:
    head = taken(kind="class", categories=["cat", "dog"])
    with pytest.raises(ConfigError, match="the pair cat/2, dog/3 is of two"):
        head.loss(batch_of([(0, 1), (1, 2)]))
    with pytest.raises(ConfigError, match="the pair cow/5, cow/5 is of no category of"):
        head.loss(batch_of([(4, 4)]))
    assert taken().loss(batch_of([(1, 2)]))["total"].isfinite()


def test_a_batch_without_a_keypoint_is_refused(taken: Taken) -> None:
    with pytest.raises(DatasetError, match="none of the 2 pairs"):
        taken().loss(batch_of(keypoints=0))


def test_images_of_pairs_without_keypoints_are_not_computed(taken: Taken, promptable: Any) -> None:
    batch = batch_of([(0, 1), (2, 3)])
    none = batch_of([(2, 3)], keypoints=0).pairs[0]
    head = taken()
    with_it = head.loss(replace(batch, pairs=(batch.pairs[0], none)))["total"]
    assert [name.split(" in ")[0] for name in promptable.seen[0][0]] == list(IDS[:2])
    assert torch.equal(with_it, head.loss(replace(batch, pairs=batch.pairs[:1]))["total"])


def test_what_was_learnt_is_kept_when_another_backbone_is_taken(taken: Taken, promptable: Any) -> None:
    head = taken()
    with torch.no_grad():
        next(head.parameter_groups())["params"][0].fill_(0.5)
    head.take(type(promptable)())
    assert (head.state_dict()["tokens"] == 0.5).all()
    wider = type(promptable)()
    wider.token_width = 9
    with pytest.raises(WeightsError, match=r"the prompt .*\(5, 8\).* does not fit .*\(5, 9\)"):
        head.take(wider)


def test_latents_of_another_input_are_refused(promptable: Any) -> None:
    head = Prompt(PromptParams(), spec=replace(SPEC, input_size=(64, 64)))
    with pytest.raises(ConfigError, match="inputs of 64 x 64 pixels, and the network to prompt takes 48 x 32"):
        head.take(promptable)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"ensemble": 0}, "ensemble must be at least 1"),
        ({"kind": "class"}, "kind class needs categories"),
        ({"kind": "class", "categories": ["a", "a"]}, "a category stands twice"),
        ({"kind": "class", "categories": ["a"], "unseen": "b"}, "unseen 'b' is neither text nor one of a"),
        ({"kind": "conditional"}, "kind: Input should be"),
    ],
)
def test_what_cannot_be_is_refused(taken: Taken, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        taken(**params)
