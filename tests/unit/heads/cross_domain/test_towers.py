"""From both domains to queries and keys: the small networks, and the published ones at a tiny width."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import PHOTO, Photographs
from matchkit.heads.cross_domain.towers import LightTowers, PaperTowers, paper_side

Draw = Callable[..., Photographs]
Mix = Literal["none", "own", "noise"]
MIXES: tuple[Mix, ...] = ("none", "own", "noise")
LAYERS = (("a", 6), ("b", 5))


def light(*, photo: int | None = None) -> LightTowers:
    return LightTowers(condition=3, halvings=1, layers=LAYERS, photo=photo, width=8, out=8, grid=(8, 8))


def paper(mix: Mix = "none", *, condition: int = 3) -> PaperTowers:
    return PaperTowers(condition=condition, kernel=4, mix=mix, width=2).eval()


def asked(towers: PaperTowers, given: Photographs) -> torch.Tensor:
    return towers.keys(towers.of_photograph(given), given)


def test_small_ones_take_both_domains_to_unit_vectors_on_the_grid(photographs: Draw) -> None:
    towers, given = light(), photographs(["a", "b"])
    for shared in (towers.of_condition(given.condition), towers.of_photograph(given)):
        assert shared.shape == (2, 8, 8, 8)
        torch.testing.assert_close(shared.norm(dim=1), torch.ones(2, 8, 8))
        assert towers.queries(shared, given.condition).shape == (2, 8, 8, 8)
        assert towers.keys(shared, given).shape == (2, 8, 8, 8)


def test_queries_and_keys_begin_as_one_function_with_weights_of_their_own(photographs: Draw) -> None:
    towers, given, shared = light(), photographs(["a"]), torch.randn(1, 8, 8, 8)
    assert torch.equal(towers.queries(shared, given.condition), towers.keys(shared, given))
    with torch.no_grad():
        towers.theta.weight.add_(1)
    assert not torch.equal(towers.queries(shared, given.condition), towers.keys(shared, given))


def test_small_ones_read_the_first_timestep_and_no_photograph(photographs: Draw) -> None:
    towers, given = light(), photographs(["a"], steps=2)
    seen = towers.of_photograph(given)
    later = {name: torch.cat([values[:, :1], values[:, 1:] + 1], 1) for name, values in given.maps.items()}
    assert torch.equal(towers.of_photograph(replace(given, maps=later, payloads={})), seen)
    first = {name: values.flip(3) for name, values in given.maps.items()}
    assert not torch.allclose(towers.of_photograph(replace(given, maps=first)), seen)


def test_small_ones_see_the_photograph_where_that_is_wanted(photographs: Draw) -> None:
    towers, given = light(photo=1), photographs(["a"])
    other = replace(given, payloads={PHOTO: -given.payloads[PHOTO]})
    assert not torch.allclose(towers.of_photograph(given), towers.of_photograph(other))


def test_a_side_of_the_published_pictures() -> None:
    assert paper_side(64) == 256


@pytest.mark.parametrize("mix", MIXES)
def test_published_ones_take_nine_cells_a_query(photographs: Draw, mix: Mix) -> None:
    towers, given = paper(mix), photographs(["a", "b"])
    shared = towers.of_condition(given.condition)
    assert shared.shape == (2, 8, 4, 4)
    torch.testing.assert_close(shared.norm(dim=1), torch.ones(2, 4, 4))
    assert towers.queries(shared, given.condition).shape == (2, 72, 4, 4)
    found = asked(towers, given)
    assert found.shape == (2, 72, 4, 4)
    assert found.isfinite().all()
    # the middle of each nine, channel by channel, and the left neighbour of the next cell's middle
    nine = found.unflatten(1, (8, 9))
    assert torch.equal(nine[:, :, 4, :, :-1], nine[:, :, 3, :, 1:])
    assert torch.equal(nine[:, :, 0, 0], torch.zeros(2, 8, 4))


@pytest.mark.parametrize(("mix", "expected"), [("none", False), ("own", True), ("noise", False)])
def test_the_exemplars_own_condition_counts_where_it_is_mixed_in(
    photographs: Draw, mix: Mix, *, expected: bool
) -> None:
    towers, given = paper(mix), photographs(["a"])
    other = replace(given, condition=given.condition.flip(1, 3))
    counts = not torch.allclose(asked(towers, given), asked(towers, other))
    assert counts == expected
    shared = towers.of_condition(given.condition)
    differs = not torch.allclose(towers.queries(shared, given.condition), towers.queries(shared, other.condition))
    assert differs == (mix != "none")


@pytest.mark.parametrize("mix", MIXES)
def test_an_exemplar_whose_condition_is_not_known(photographs: Draw, mix: Mix) -> None:
    towers, given = paper(mix), photographs(["a"])
    unknown = replace(given, condition=torch.zeros(1, 0, 16, 16))
    if mix == "own":
        with pytest.raises(ConfigError, match="give it too, or fit one with --set mix=noise"):
            asked(towers, unknown)
    else:
        assert torch.equal(asked(towers, unknown), asked(towers, given))


def test_noise_is_an_images_own_whatever_stands_beside_it(photographs: Draw) -> None:
    towers, given = paper("noise"), photographs(["a", "b"])
    shared, last = torch.randn(1, 8, 4, 4), towers.trunk
    seen: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _, told: seen.append(told[0][:, 8:]))
    both = towers.keys(shared.expand(2, -1, -1, -1), given)
    alone = towers.keys(shared, replace(given, ids=("b",)))
    torch.testing.assert_close(alone, both[1:])
    noise = seen[0]
    assert noise.shape == (2, 3, 4, 4)
    assert not torch.equal(noise[0], noise[1])
    assert 0.005 < noise.std() < 0.02
    assert noise.std((2, 3)).min() > 0  # an instance norm would take away what is the same everywhere
