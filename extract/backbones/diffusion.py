"""The arithmetic of deterministic DDIM: the noise schedule, the levels that a trajectory visits, and both directions.

Source: Diffusion Hyperfeatures (Luo et al., NeurIPS 2023) §2 of its re-implementation notes. Levels are train
timesteps 0..999; -1 is the clean latent, whose cumulative alpha is 1.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.seeding import generator

CLEAN = -1
Latent = Float[torch.Tensor, "..."]
Alpha = Float[torch.Tensor, ""]


def cumulative_alphas(*, beta_start: float, beta_end: float, steps: int) -> Float[torch.Tensor, " _"]:
    """The cumulative alphas of Stable Diffusion's `scaled_linear` schedule in fp32, one a train timestep."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, dim=0)


def levels(steps: int, *, train_steps: int = 1000) -> list[int]:
    """The ascending levels of a trajectory of `steps` transitions: 0, r, 2r, ... with r = floor(train_steps / steps).

    There is no offset of 1, unlike in Stable Diffusion's own pipelines.

    Example:
        >>> levels(50)[:3], levels(50)[-1], levels(1)
        ([0, 20, 40], 980, [0])
    """
    if not 1 <= steps <= train_steps:
        raise ConfigError(f"steps must lie in 1..{train_steps}, not {steps}")
    return [index * (train_steps // steps) for index in range(steps)]


def inversion_timesteps(keys: Sequence[int], *, steps: int, train_steps: int = 1000) -> tuple[int, ...]:
    """The levels at which an inversion of `steps` calls the network for some save keys; no key means every one.

    Keys count generation steps: 0 is the noisiest call, `steps - 1` the call on the clean latent.

    Example:
        >>> inversion_timesteps((49, 45, 40, 0), steps=50)
        (-1, 60, 160, 960)
    """
    called = [CLEAN, *levels(steps, train_steps=train_steps)]
    return tuple(called[steps - 1 - key] for key in _checked(keys, steps=steps))


def generation_timesteps(keys: Sequence[int], *, steps: int, train_steps: int = 1000) -> tuple[int, ...]:
    """The levels at which a generation of `steps` calls the network for some save keys; no key means every one.

    They are those of `inversion_timesteps` one level up: a generation never sees the clean latent.

    Example:
        >>> generation_timesteps((49, 45, 40, 0), steps=50)
        (0, 80, 180, 980)
    """
    called = levels(steps, train_steps=train_steps)
    return tuple(called[steps - 1 - key] for key in _checked(keys, steps=steps))


def _checked(keys: Sequence[int], *, steps: int) -> Sequence[int]:
    for key in keys:
        if not 0 <= key < steps:
            raise ConfigError(f"keys must lie in 0..{steps - 1} for steps {steps}, not {key}")
    return keys or range(steps - 1, -1, -1)


def add_noise(x: Latent, noise: Latent, *, alpha: Alpha) -> Latent:
    """The forward process: a clean latent with so much noise as the cumulative alpha says."""
    return alpha.sqrt() * x + (1 - alpha).sqrt() * noise


def ddim_step(
    x: Latent,
    noise: Latent,
    *,
    alpha: Alpha,
    alpha_next: Alpha,
    revised: Callable[[Latent], Latent] | None = None,
) -> Latent:
    """One deterministic DDIM update (eta = 0) from cumulative alpha `alpha` to `alpha_next`, in either direction.

    The order of the operations is the published one, in fp32: along fifty calls a rounding grows a few hundredfold.
    Where `revised` is given, what it makes of the predicted clean latent goes on in that one's place.
    """
    clean = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    if revised is not None:
        clean = revised(clean)
    return alpha_next.sqrt() * clean + (1 - alpha_next).sqrt() * noise


def invert(
    x: Latent,
    predict_noise: Callable[[Latent, int], Latent],
    *,
    alphas: Float[torch.Tensor, " _"],
    steps: int,
    last: int,
) -> Iterator[tuple[int, Latent]]:
    """Inverts a clean latent and yields (timestep, latent) of every call of the network, from -1 up to `last`.

    The state after the last call is never needed, and neither are the calls beyond `last`.
    """
    timestep, alpha = CLEAN, torch.ones((), dtype=alphas.dtype, device=alphas.device)
    for following in levels(steps, train_steps=len(alphas)):
        yield timestep, x
        noise = predict_noise(x, timestep)
        if timestep >= last:
            return
        x = ddim_step(x, noise, alpha=alpha, alpha_next=alphas[following])
        timestep, alpha = following, alphas[following]


def denoise(
    x: Latent,
    predict_noise: Callable[[Latent, int], Latent],
    *,
    alphas: Float[torch.Tensor, " _"],
    steps: int,
    calls: int | None = None,
    revise: Callable[[int, Latent], Latent] | None = None,
) -> Iterator[tuple[int, Latent]]:
    """Generates from noise and yields (timestep, latent) of every call of the network, then (-1, the clean latent).

    Args:
        x: the latent at the level where it begins.
        predict_noise: the network, told a latent and its level.
        alphas: cumulative, one a train timestep.
        steps: of the whole trajectory.
        calls: how many of its last steps are taken: all of them by default, none where the latent is clean already.
        revise: told a level and the clean latent that the call there predicts, makes the one that goes on.
    """
    ascending = [CLEAN, *levels(steps, train_steps=len(alphas))][: None if calls is None else calls + 1]
    for timestep, following in zip(ascending[:0:-1], ascending[-2::-1], strict=True):
        yield timestep, x
        alpha_next = torch.ones_like(alphas[0]) if following == CLEAN else alphas[following]
        revised = None if revise is None else partial(revise, timestep)
        noise = predict_noise(x, timestep)
        x = ddim_step(x, noise, alpha=alphas[timestep], alpha_next=alpha_next, revised=revised)
    yield CLEAN, x


def painting_noise(shape: Sequence[int], ids: Sequence[str], *, seed: int) -> Float[torch.Tensor, "b zc zh zw"]:
    """The noise from which pictures are painted, each from the seed and its id alone."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed, name, "painting")) for name in ids])


def plain_noise(shape: Sequence[int], *, seed: int) -> Float[torch.Tensor, "1 zc zh zw"]:
    """The noise that a CPU generator gives first after its plain seed, as published code draws it once for all."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))


def image_noise(
    shape: Sequence[int], ids: Sequence[str], *, seed: int, timestep: int, copy: int
) -> Float[torch.Tensor, "b zc zh zw"]:
    """The noise of some images, each from the seed, its id, the timestep and the number of the copy alone."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed, name, timestep, copy)) for name in ids])
