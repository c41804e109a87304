"""The arithmetic of both directions against the numbers of the published code (`specs/hyperfeatures.md` §2)."""

from collections.abc import Callable

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.diffusion import (
    CLEAN,
    cumulative_alphas,
    denoise,
    generation_timesteps,
    inversion_timesteps,
    invert,
    levels,
    painting_noise,
    plain_noise,
)

ALPHAS = {
    **{0: 0.99914998, 20: 0.98131430, 60: 0.94087446, 160: 0.81355011, 260: 0.65732276, 360: 0.48983964},
    **{460: 0.33230397, 560: 0.20255046, 660: 0.10948084, 760: 0.05178703, 860: 0.02115581, 960: 0.00736524},
    980: 0.00584378,
}
"""§2.1: cumulative alphas by train timestep."""

TRAJECTORY = {
    **{-1: 1.0, 0: 1.011237, 20: 1.045412, 60: 1.067934, 160: 1.076869, 260: 1.048204, 360: 0.988968, 460: 0.905063},
    **{560: 0.805128, 660: 0.699868, 760: 0.600031, 860: 0.514162, 960: 0.447024},
}
"""§2.9: x at the calls of an inversion of 50 steps with the noise 0.1 x + 0.3, from x = 1."""

GENERATION = {980: 1.0, 960: 1.073432, 880: 1.422789, 480: 4.228884, 80: 6.388596, 20: 6.454541, 0: 6.410089}
"""§2.9: the same noise downwards; the final latent is 6.385369."""

KEYS = [49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0]
TIMESTEPS = (-1, 60, 160, 260, 360, 460, 560, 660, 760, 860, 960)
"""§2.5."""


@pytest.fixture(scope="module")
def alphas() -> torch.Tensor:
    return cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)


def fake_noise(x: torch.Tensor, timestep: int) -> torch.Tensor:
    return 0.1 * x + 0.3


def test_anchors_of_the_schedule(alphas: torch.Tensor) -> None:
    assert alphas.dtype == torch.float32
    assert {step: float(alphas[step]) for step in ALPHAS} == pytest.approx(ALPHAS, abs=1e-7)


def test_golden_inversion(alphas: torch.Tensor) -> None:
    found = {step: float(x) for step, x in invert(torch.ones(1), fake_noise, alphas=alphas, steps=50, last=960)}
    assert list(found) == [CLEAN, *range(0, 961, 20)]
    assert {step: found[step] for step in TRAJECTORY} == pytest.approx(TRAJECTORY, abs=1e-6)


def test_golden_generation(alphas: torch.Tensor) -> None:
    found = {step: float(x) for step, x in denoise(torch.ones(1), fake_noise, alphas=alphas, steps=50)}
    assert list(found) == [*range(980, -1, -20), CLEAN]
    assert {step: found[step] for step in GENERATION} == pytest.approx(GENERATION, abs=3e-6)
    assert found[CLEAN] == pytest.approx(6.385369, abs=3e-6)


@pytest.mark.parametrize("steps", [1, 7])
def test_a_generation_calls_the_network_at_every_level(alphas: torch.Tensor, steps: int) -> None:
    calls: list[int] = []

    def counted(x: torch.Tensor, timestep: int) -> torch.Tensor:
        calls.append(timestep)
        return fake_noise(x, timestep)

    for _ in denoise(torch.ones(1), counted, alphas=alphas, steps=steps):
        pass
    assert calls == levels(steps)[::-1]


def test_timesteps_of_a_generation() -> None:
    """§2.5: the same keys one level up; none at the clean latent."""
    assert generation_timesteps(KEYS, steps=50) == (0, 80, 180, 280, 380, 480, 580, 680, 780, 880, 980)
    assert generation_timesteps(range(50), steps=50) == tuple(20 * (49 - key) for key in range(50))
    assert generation_timesteps((), steps=3) == (0, 333, 666)


def test_plain_noise_is_what_a_seeded_generator_gives_first() -> None:
    expected = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(42))
    assert torch.equal(plain_noise((4, 3, 3), seed=42), expected)


def test_keys_and_timesteps() -> None:
    assert inversion_timesteps(KEYS, steps=50) == tuple(TIMESTEPS)
    assert inversion_timesteps(range(49), steps=50) == tuple(20 * (48 - key) for key in range(49))
    assert inversion_timesteps((), steps=1) == inversion_timesteps((0,), steps=1) == (CLEAN,)


def test_levels_have_no_offset() -> None:
    assert levels(50) == list(range(0, 1000, 20))
    assert levels(3) == [0, 333, 666]
    assert levels(1) == [0]


@pytest.mark.parametrize("last", [-1, 0, 460])
def test_no_call_is_made_after_the_last_wanted_timestep(alphas: torch.Tensor, last: int) -> None:
    calls: list[int] = []

    def counted(x: torch.Tensor, timestep: int) -> torch.Tensor:
        calls.append(timestep)
        return fake_noise(x, timestep)

    for _ in invert(torch.ones(1), counted, alphas=alphas, steps=50, last=last):
        pass
    assert calls == [step for step in [CLEAN, *levels(50)] if step <= last]


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps(steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"steps must lie in 1\.\.1000, not {steps}"):
        levels(steps)


@pytest.mark.parametrize("key", [-1, 50])
@pytest.mark.parametrize("timesteps", [inversion_timesteps, generation_timesteps])
def test_impossible_keys(key: int, timesteps: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=rf"keys must lie in 0\.\.49 for steps 50, not {key}"):
        timesteps((key,), steps=50)


@pytest.mark.parametrize("calls", [0, 1, 25, 50])
def test_the_last_steps_of_a_generation(alphas: torch.Tensor, calls: int) -> None:
    """It begins where a whole one has as many steps left, and goes the same way."""
    whole = list(denoise(torch.ones(1), fake_noise, alphas=alphas, steps=50))
    rest = list(denoise(whole[50 - calls][1], fake_noise, alphas=alphas, steps=50, calls=calls))
    assert rest == whole[50 - calls :]


def test_a_clean_latent_that_is_revised(alphas: torch.Tensor) -> None:
    told: list[tuple[int, float]] = []

    def revise(timestep: int, clean: torch.Tensor) -> torch.Tensor:
        told.append((timestep, float(clean)))
        return torch.full_like(clean, 5.0)

    path = list(denoise(torch.ones(1), fake_noise, alphas=alphas, steps=2, revise=revise))
    high, low = alphas[500], alphas[0]
    middle = low.sqrt() * 5 + (1 - low).sqrt() * 0.4
    assert [timestep for timestep, _ in path] == [500, 0, CLEAN]
    assert [float(x) for _, x in path] == pytest.approx([1.0, float(middle), 5.0])
    seen = [
        (1 - (1 - high).sqrt() * 0.4) / high.sqrt(),
        (middle - (1 - low).sqrt() * (0.1 * middle + 0.3)) / low.sqrt(),
    ]
    assert [timestep for timestep, _ in told] == [500, 0]
    assert [clean for _, clean in told] == pytest.approx([float(value) for value in seen])


def test_the_noise_of_a_picture_is_its_own() -> None:
    both = painting_noise((4, 8, 8), ["a", "b"], seed=1)
    assert torch.equal(both[1:], painting_noise((4, 8, 8), ["b"], seed=1))
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[1:], painting_noise((4, 8, 8), ["b"], seed=2))
