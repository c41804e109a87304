"""SD4Match's loss, matchers and Conditional Prompting Module: the golden numbers of `specs/sd4match.md` §2 and §3."""

from typing import Any

import numpy as np
import pytest
import torch

from matchkit.core.geometry import KEYPOINT_RULES, place
from matchkit.core.interfaces import BatchPair, Matcher
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.presets import PRESETS
from matchkit.heads.conditional import ConditionalPrompting, Formula
from matchkit.heads.prompt_loss import PromptLossParams, log_shares, near_target, prompt_loss

GRID = (12, 12)
PLACEMENT = place((192, 192), (192, 192), fit="stretch")
SOURCE = [[30, 40], [100.5, 77.25], [150, 20]]
TARGET = [[44, 60], [90, 101], [5, 180]]
"""§3.3: keypoints in pixels."""
QUERIES = [[1.727749, 2.303665], [5.787958, 4.448953], [8.638743, 1.151832]]
MATCHES: dict[str, tuple[dict[str, Any], list[list[float]]]] = {
    "nearest": ({"upsample": 1}, [[3, 0], [7, 2], [9, 0]]),
    "bilinear": ({}, [[2.506757, 0.524657], [6.861507, 2.280207], [8.638743, 0.151832]]),
    "soft-argmax": ({}, [[1.567023, 1.520376], [6.438665, 2.657613], [6.841859, 2.697010]]),
    "kernel-soft-argmax": ({}, [[2.460316, 0.579843], [6.921863, 1.998319], [8.566909, 0.443962]]),
}
"""§3.3: the parameters of each matcher that are not its defaults, and its matches in cells."""


def in_cells(points: list[list[float]]) -> torch.Tensor:
    return torch.from_numpy(KEYPOINT_RULES["align-corners"].to_grid(np.array(points, np.float32), PLACEMENT, GRID))


def waves(phase: float) -> torch.Tensor:
    """§3.3: the map F of a phase."""
    c, y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in (8, *GRID)), indexing="ij")
    return torch.sin(0.11 * (c + 1) * (x + 1) + 0.07 * (c + 2) * y + phase) + 0.5 * torch.cos(
        0.05 * c * y - 0.03 * c * x + phase
    )


def test_keypoints_in_cells() -> None:
    np.testing.assert_allclose(in_cells(SOURCE), QUERIES, atol=5e-7)


def test_loss_of_each_keypoint() -> None:
    """The published code adds 1e-6 to the length of a descriptor, which is 5e-6 of these losses."""
    logs = log_shares(waves(0), waves(0.4), in_cells(SOURCE).double(), temperature=0.04)
    losses = near_target(logs, in_cells(TARGET).double(), sigma=1.5)
    assert losses.tolist() == pytest.approx([8.947275, 8.093536, 3.694079], abs=7e-6)


def test_loss() -> None:
    cells = torch.zeros(3, dtype=torch.int64)
    pair = BatchPair(0, 1, in_cells(SOURCE), in_cells(TARGET), cells, cells, 12.0)
    terms = prompt_loss(PromptLossParams(), [(waves(0).float(), waves(0.4).float(), pair)])
    assert terms["total"].item() == pytest.approx(6.911630, abs=1e-5)


@pytest.mark.parametrize("name", MATCHES)
def test_matches_in_cells(name: str) -> None:
    params, expected = MATCHES[name]
    matcher: Matcher = MATCHERS.build(name, params, where=name)
    found = matcher.match(waves(0).float(), waves(0.4).float(), in_cells(SOURCE).numpy())
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_preset_is_the_published_matching() -> None:
    told = PRESETS.params("sd4match")
    name, points = told.pop("matcher"), told.pop("points")
    assert points == "align-corners"
    matcher: Matcher = MATCHERS.build(name, told, where=name)
    queries = KEYPOINT_RULES["align-corners"].to_grid(np.array(SOURCE, np.float32), PLACEMENT, GRID)
    found = matcher.match(waves(0).float(), waves(0.4).float(), queries)
    np.testing.assert_allclose(found, MATCHES["kernel-soft-argmax"][1], atol=2e-5)
    in_image = KEYPOINT_RULES["align-corners"].to_image(found, PLACEMENT, GRID)
    np.testing.assert_allclose(in_image, found * 191 / 11, rtol=1e-5)


def ana(shape: torch.Size | tuple[int, ...], a: float, s: float) -> torch.Tensor:
    """§2.2: s * sin(a * i) over the flattened array."""
    count = torch.Size(shape).numel()
    return (s * torch.sin(a * torch.arange(count, dtype=torch.float64))).reshape(shape)


def golden_module(formula: Formula) -> ConditionalPrompting:
    module = ConditionalPrompting(
        channels=768, cells=256, width=1024, global_tokens=25, conditional_tokens=50, formula=formula
    ).double()
    parts = {
        **{module.g_d.weight: (0.37, 0.02), module.g_d.bias: (0.5, 0.01)},
        **{module.g_n.weight: (0.71, 0.05), module.g_n.bias: (0.3, 0.01)},
        **{module.omega_pos: (0.11, 0.3), module.omega_alpha: (0.23, 0.8), module.theta_global: (0.19, 0.6)},
    }
    with torch.no_grad():
        for parameter, (a, s) in parts.items():
            parameter.copy_(ana(parameter.shape, a, s))
    return module


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """§2.2: F^A and F^B."""
    n, d = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in (256, 768)), indexing="ij")
    one = torch.sin(0.013 * (n + 1) * (1 + 0.01 * d))
    return one[None], torch.cos(0.017 * (n + 1) * (1 + 0.007 * d) + 0.2)[None]


def test_the_modules_prompt_as_its_code_has_it() -> None:
    module = golden_module("code")
    with torch.no_grad():
        theta, other = module(*tokens())[0], module(*reversed(tokens()))[0]
    assert theta.shape == (75, 1024)
    assert torch.equal(theta[:25], module.theta_global)
    found = theta[25:]  # golden in single precision
    assert found[0, :4].tolist() == pytest.approx([0, 0.00907855, 0.02445021, 0.05203868], abs=2e-8)
    assert found[-1, -4:].tolist() == pytest.approx([0.08672934, 0.12822549, 0.14631724, 0.15834955], abs=2e-8)
    assert found.abs().mean().item() == pytest.approx(0.08579402, abs=5e-9)
    assert found.norm().item() == pytest.approx(23.610185, abs=5e-7)
    assert (theta - other).norm().item() == pytest.approx(0.44766, abs=5e-6)


def test_the_modules_prompt_as_the_paper_draws_it() -> None:
    with torch.no_grad():
        theta = golden_module("paper")(*tokens())[0]
    assert theta[25:].norm().item() == pytest.approx(48.0143, abs=5e-5)


def test_the_module_has_the_published_size() -> None:
    """§2.1."""
    assert sum(parameter.numel() for parameter in golden_module("code").parameters()) == 1_767_680


def test_the_module_begins_as_published() -> None:
    """§2.1: uniform in [0, 1), and within one over the root of a linear layer's fan-in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ConditionalPrompting(
            channels=768, cells=256, width=1024, global_tokens=25, conditional_tokens=50, formula="code"
        )
    for parameter in (module.theta_global, module.omega_pos, module.omega_alpha):
        assert 0 <= parameter.min() < 1e-3
        assert 1 - 1e-3 < parameter.max() < 1
    for layer, bound in ((module.g_d, 0.02552), (module.g_n, 0.0625)):
        for parameter in layer.parameters():
            assert 0.98 * bound < parameter.abs().max() <= bound + 1e-5
