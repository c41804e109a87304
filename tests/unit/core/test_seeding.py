"""Random numbers by what they are for."""

import torch

from matchkit.core.seeding import derive_seed, generator


def test_the_same_purpose_gives_the_same_seed_for_ever() -> None:
    """The noise of stored features hangs on this number: it never changes."""
    assert derive_seed(0, "dog/a", 51) == 5945125452439387124


def test_seeds_differ_by_every_part_and_by_where_it_ends() -> None:
    seeds = [
        derive_seed(*parts) for parts in [(0,), (1,), (0, "a"), (0, "a", "b"), (0, "ab"), (0, "b", "a"), (0, "a", 1)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_does_not_touch_the_global_one() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (torch.randn(4, generator=generator(0, name)) for name in ("a", "a", "b"))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)
