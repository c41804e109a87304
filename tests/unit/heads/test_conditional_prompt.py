"""The head that makes a prompt of each pair."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.interfaces import BatchPair, PairBatch, PairHead
from matchkit.core.params import build
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.conditional_prompt import ConditionalPrompt, ConditionalPromptParams

LAYERS = (LayerSpec("latent", 4, (4, 6)), LayerSpec("dino", 3, (2, 3)))
SPEC = FeatureSpec("sd-latents", "none", LAYERS, (0,), (48, 32), "stretch", "fp32")
IDS = ("cat/1", "cat/2", "dog/3")
Taken = Callable[..., ConditionalPrompt]


@pytest.fixture
def taken(promptable: Any) -> Taken:
    """Builds a head that has its backbone."""

    def made(**params: Any) -> ConditionalPrompt:
        head = ConditionalPrompt(build(ConditionalPromptParams, params, where="test"), spec=SPEC)
        head.take(promptable)
        return head

    return made


def maps_of(count: int) -> dict[str, torch.Tensor]:
    return {
        layer.name: torch.randn((count, 1, layer.channels, *layer.grid), generator=generator(0, layer.name))
        for layer in LAYERS
    }


def batch_of(*rows: tuple[int, int], number: int = 0) -> PairBatch:
    points, cells = torch.tensor([[1.25, 2.0], [4.0, 0.5]]), torch.tensor([13, 4])
    pairs = tuple(BatchPair(*row, points, points.flip(0), cells, cells.flip(0), 6.0) for row in rows)
    return PairBatch(maps_of(3), pairs, IDS, (4, 6), number)


def test_it_describes_pairs(taken: Taken, promptable: Any) -> None:
    head = taken()
    assert isinstance(head, PairHead)
    assert (head.grid, head.layers, head.timesteps) == ((4, 6), ("latent", "dino"), (0,))
    assert head.describe_pair(maps_of(2), IDS[:2]).shape == (2, 6, 4, 6)
    ((ids, states, timestep, ensemble),) = promptable.seen
    assert (ids, states, timestep, ensemble) == (IDS[:2], (1, 7, 8), 50, 8)


def test_without_a_backbone_it_says_what_it_needs() -> None:
    head = ConditionalPrompt(ConditionalPromptParams(), spec=SPEC)
    with pytest.raises(ConfigError, match="head 'conditional-prompt' has no backbone to prompt yet"):
        head.describe_pair(maps_of(2), IDS[:2])


def test_the_prompt_depends_on_both_images_and_their_order(taken: Taken) -> None:
    head, seen = taken(), maps_of(3)["dino"]
    states = [head.states(seen[[one]], seen[[other]]) for one, other in ((0, 1), (1, 0), (0, 2))]
    for other in states[1:]:
        assert (states[0] - other).abs().max() > 1e-4


def test_tokens_of_an_image_are_its_cells_row_by_row(taken: Taken) -> None:
    head = taken()
    seen = maps_of(2)["dino"]
    rows = [values[0].permute(1, 2, 0).reshape(1, 6, 3) for values in seen]
    assert head._module is not None
    expected = head._network.backbone.states_of_tokens(head._module(*rows))  # type: ignore[union-attr]
    torch.testing.assert_close(head.states(seen[:1], seen[1:]), expected)


def test_both_kinds_of_tokens_share_what_room_there_is(taken: Taken) -> None:
    """25 and 50 of 75 become 2 and 3 of 5."""
    shapes = {name: tuple(tensor.shape) for name, tensor in taken().state_dict().items()}
    assert (shapes["theta_global"], shapes["omega_pos"], shapes["omega_alpha"]) == ((2, 8), (3, 8), (3, 8))
    assert (shapes["g_d.weight"], shapes["g_n.weight"]) == ((8, 6), (6, 6))
    fewer = taken(global_tokens=0, conditional_tokens=2).state_dict()
    assert (fewer["theta_global"].shape, fewer["omega_pos"].shape) == ((0, 8), (2, 8))
    assert taken(global_tokens=500, conditional_tokens=1).state_dict()["omega_pos"].shape == (1, 8)


def test_it_begins_by_its_seed(taken: Taken) -> None:
    first, same, other = (taken(seed=seed).state_dict()["omega_pos"] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_pairs_of_a_batch_go_through_the_network_together_each_with_its_prompt(taken: Taken, promptable: Any) -> None:
    head = taken()
    both = head.loss(batch_of((0, 1), (1, 2), number=4))["total"]
    ((ids, states, timestep, ensemble),) = promptable.seen
    assert [name.split(" in ")[0] for name in ids] == [IDS[0], IDS[1], IDS[1], IDS[2]]
    assert (states, timestep, ensemble) == ((4, 7, 8), 261, 1)
    alone = [head.loss(batch_of(rows, number=4))["total"] for rows in ((0, 1), (1, 2))]
    torch.testing.assert_close(both, torch.stack(alone).mean())


def test_the_gradient_reaches_all_that_is_learnt_at_two_rates(taken: Taken) -> None:
    """SD4Match §3.4: the linear layers learn at a tenth of the rate."""
    head = taken()
    head.loss(batch_of((0, 1), (2, 1)))["total"].backward()
    tokens, linear = head.parameter_groups()
    assert (tokens["rate"], linear["rate"]) == (1.0, 0.1)
    parameters = [*tokens["params"], *linear["params"]]
    assert len(parameters) == len(head.state_dict()) == 7
    for parameter in parameters:
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_it_learns(taken: Taken) -> None:
    head, batch = taken(), batch_of((0, 1), (2, 1))
    optimiser = torch.optim.Adam([{"params": group["params"]} for group in head.parameter_groups()], lr=1e-2)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = head.loss(batch)["total"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_what_it_learnt_is_taken_back(taken: Taken) -> None:
    head, other = taken(seed=1), taken(seed=2)
    other.load_state_dict(head.state_dict())
    maps = maps_of(2)
    assert torch.equal(head.describe_pair(maps, IDS[:2]), other.describe_pair(maps, IDS[:2]))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_a_store_without_what_is_seen_is_refused() -> None:
    with pytest.raises(StoreError, match="no layer 'clip'"):
        ConditionalPrompt(ConditionalPromptParams(seen="clip"), spec=SPEC)


def test_what_cannot_be_is_refused(taken: Taken) -> None:
    with pytest.raises(ConfigError, match="conditional_tokens must be at least 1"):
        taken(conditional_tokens=0)
