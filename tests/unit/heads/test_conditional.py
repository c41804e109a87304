"""The Conditional Prompting Module by its parts; its golden numbers are in `tests/parity`."""

import torch

from matchkit.heads.conditional import ConditionalPrompting, Formula


def module_of(formula: Formula, cells: int = 7) -> ConditionalPrompting:
    """Two channels, three conditional tokens of width 2: each token shows the source as it is."""
    module = ConditionalPrompting(
        channels=2, cells=cells, width=2, global_tokens=1, conditional_tokens=3, formula=formula
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.g_d.weight[:, :2] = torch.eye(2)
        module.g_n.weight.copy_(torch.eye(cells))
        module.omega_alpha.fill_(2.0)
        module.omega_pos.fill_(0.5)
        module.theta_global.fill_(9.0)
    return module


def test_tokens_are_the_greatest_of_overlapping_windows_of_cells() -> None:
    """SD4Match §2.1: from floor(7 i / 3) up to and without ceil(7 (i + 1) / 3): 0..2, 2..4 and 4..6."""
    source = torch.tensor([[1.0, 0], [0, 1], [3, 0], [2, 2], [0, 5], [4, 0], [0, 0]])[None]
    pooled = torch.tensor([[3.0, 1], [3, 5], [4, 5]])
    theta = module_of("paper")(source, torch.zeros_like(source))
    torch.testing.assert_close(theta, torch.cat([torch.full((1, 2), 9.0), pooled * 2 + 0.5])[None])
    theta = module_of("code")(source, torch.zeros_like(source))
    torch.testing.assert_close(theta[:, 1:], torch.tensor(2.0).tanh() * (0.5 + pooled)[None])


def test_pairs_of_a_batch_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 3, 5, 4, generator=generator)
    module = ConditionalPrompting(
        channels=4, cells=5, width=6, global_tokens=2, conditional_tokens=3, formula="code"
    ).eval()
    together = module(source, target)
    assert together.shape == (3, 5, 6)
    for row in range(3):
        torch.testing.assert_close(module(source[row, None], target[row, None])[0], together[row])


def test_more_tokens_than_cells_repeat_them() -> None:
    source = torch.tensor([[1.0, 0], [0, 1]])[None]
    theta = module_of("paper", cells=2)(source, source)
    assert theta[0, 1:].tolist() == [[2.5, 0.5], [2.5, 2.5], [0.5, 2.5]]
