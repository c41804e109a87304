"""The match without its matrix against the match with it."""

import math

import pytest
import torch

from matchkit.heads.cross_domain import matching
from matchkit.heads.cross_domain.matching import Match, centred

GRID = (5, 6)
CELLS = 30


def drawn(*, width: int = 8, batch: int = 2, temperature: float = 0.05, seed: int = 0) -> Match:
    draw = torch.Generator().manual_seed(seed)
    queries, keys = (centred(torch.randn(batch, width, *GRID, generator=draw)) for _ in range(2))
    return Match(queries, keys, GRID, temperature)


def shares(match: Match) -> torch.Tensor:
    """The matrix of probabilities, a row a cell of the condition."""
    return (match.matrix() / match.temperature).softmax(2)


def dense(probabilities: torch.Tensor, payload: torch.Tensor) -> torch.Tensor:
    return (probabilities @ payload.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, GRID)


def test_cosines_lie_between_minus_one_and_one() -> None:
    match = drawn()
    matrix = match.matrix()
    assert matrix.shape == (2, CELLS, CELLS)
    assert matrix.abs().max() <= 1 + 1e-6
    assert matrix.max() > 0.5
    assert matrix.min() < -0.5
    own = Match(match.queries, match.queries, GRID, 1.0).matrix()
    torch.testing.assert_close(own.diagonal(dim1=1, dim2=2), torch.ones(2, CELLS))


def test_rows_are_the_cells_row_major() -> None:
    maps = torch.randn(1, 8, *GRID)
    maps -= maps.mean(1, keepdim=True)
    row = centred(maps)[0, 6 * 2 + 3]
    torch.testing.assert_close(row, maps[0, :, 2, 3] / maps[0, :, 2, 3].norm())


def test_what_all_channels_share_and_how_strong_they_are_does_not_count() -> None:
    maps = torch.randn(2, 8, *GRID)
    moved = maps + torch.randn(2, 1, *GRID)
    scaled = maps * torch.rand(2, 1, *GRID).add(0.1)
    torch.testing.assert_close(centred(moved), centred(maps), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(centred(scaled), centred(maps), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(centred(-maps), centred(maps))


def test_a_cell_of_equal_channels_is_no_nan() -> None:
    rows = centred(torch.full((1, 8, *GRID), 3.0))
    assert torch.equal(rows, torch.zeros(1, CELLS, 8))


def test_equal_sides_warp_to_the_same_at_no_temperature() -> None:
    match = drawn()
    own = Match(match.queries, match.queries, GRID, 1e-3)
    payload = torch.randn(2, 3, *GRID)
    torch.testing.assert_close(own.warp(payload), payload)
    torch.testing.assert_close(own.back(payload), payload)


@pytest.fixture(params=["fused", "blocks"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused kernels, and blocks of rows as for keys that are too wide for these."""
    if request.param == "blocks":
        monkeypatch.setattr(matching, "WIDEST", 7)
        monkeypatch.setattr(matching, "ROWS", 7)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("channels", [1, 8, 11, 24])
def test_attention_is_the_softmax_times_the_payload(channels: int) -> None:
    match, payload = drawn(), torch.randn(2, channels, *GRID)
    there = dense(shares(match), payload)
    torch.testing.assert_close(match.warp(payload), there, atol=1e-4, rtol=0)
    back = (match.matrix().transpose(1, 2) / match.temperature).softmax(2)
    torch.testing.assert_close(match.back(payload), dense(back, payload), atol=1e-4, rtol=0)
    torch.testing.assert_close(match.back(match.warp(payload)), dense(back, there), atol=1e-4, rtol=0)


@pytest.mark.usefixtures("path")
def test_so_are_its_gradients() -> None:
    found, payload = drawn(), torch.randn(2, 11, *GRID)
    weights = torch.randn(2, 11, *GRID)

    def gradients(*, dense_path: bool) -> tuple[torch.Tensor, ...]:
        given = [values.clone().requires_grad_() for values in (found.queries, found.keys, payload)]
        match = Match(given[0], given[1], GRID, 0.2)
        if dense_path:
            back = (match.matrix().transpose(1, 2) / match.temperature).softmax(2)
            cycled = dense(back, dense(shares(match), given[2]))
        else:
            cycled = match.back(match.warp(given[2]))
        return torch.autograd.grad((weights * cycled).sum(), given)

    for fused, plain in zip(gradients(dense_path=False), gradients(dense_path=True), strict=True):
        assert plain.abs().max() > 0.01
        torch.testing.assert_close(fused, plain, atol=1e-4, rtol=1e-3)


def test_the_order_of_the_exemplars_cells_does_not_matter() -> None:
    match, payload = drawn(), torch.randn(2, 3, *GRID)
    order = torch.randperm(CELLS)
    shuffled = Match(match.queries, match.keys[:, order], GRID, match.temperature)
    moved = payload.flatten(2)[..., order].unflatten(2, GRID)
    torch.testing.assert_close(shuffled.warp(moved), match.warp(payload), atol=1e-5, rtol=1e-5)


def test_a_batch_of_one_is_a_row_of_a_larger_one() -> None:
    match, payload = drawn(), torch.randn(2, 3, *GRID)
    alone = Match(match.queries[1:], match.keys[1:], GRID, match.temperature)
    torch.testing.assert_close(alone.warp(payload[1:]), match.warp(payload)[1:])
    assert alone.confidence().shape == (1, *GRID)
    torch.testing.assert_close(alone.places(), match.places()[1:])


@pytest.fixture(params=[7, 512])
def match(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Match:
    """The matrix made in five blocks, and in one."""
    monkeypatch.setattr(matching, "ROWS", request.param)
    return drawn()


def test_the_best_of_each_row_and_its_probability(match: Match) -> None:
    probability, cells = shares(match).max(2)
    best = match.best()
    assert torch.equal(best.cells, cells)
    torch.testing.assert_close(best.probability, probability)
    back, columns = (match.matrix().transpose(1, 2) / match.temperature).softmax(2).max(2)
    assert torch.equal(match.best_back().cells, columns)
    torch.testing.assert_close(match.best_back().probability, back)


def test_the_entropy_of_each_row(match: Match) -> None:
    rows = shares(match)
    entropy = -(rows * rows.clamp_min(1e-30).log()).sum(2)
    torch.testing.assert_close(match.entropy(), entropy.unflatten(1, GRID), atol=1e-4, rtol=1e-4)


def test_entropy_from_one_match_to_all_alike() -> None:
    match = drawn()
    same = Match(match.queries, match.queries, GRID, 1e-4)
    assert same.entropy().abs().max() < 1e-3
    alike = Match(match.queries, torch.ones(2, CELLS, 8), GRID, 0.01)
    torch.testing.assert_close(alike.entropy(), torch.full((2, *GRID), math.log(CELLS)))


def test_what_returns(match: Match) -> None:
    matrix = match.matrix()
    there, back = matrix.argmax(2), matrix.argmax(1)
    returned = torch.zeros(2, CELLS, dtype=torch.bool)
    for sample in range(2):
        for cell in range(CELLS):
            again = int(back[sample, there[sample, cell]])
            away = math.hypot(again % 6 - cell % 6, again // 6 - cell // 6)
            returned[sample, cell] = away <= 1.5
    assert 0 < returned.float().mean() < 1
    assert torch.equal(match.returned(), returned.unflatten(1, GRID))
    confidence = shares(match).amax(2) * returned
    torch.testing.assert_close(match.confidence(), confidence.unflatten(1, GRID))


def test_places_are_expected_within_two_cells_of_the_best(match: Match) -> None:
    logits = match.matrix() / match.temperature
    expected = torch.zeros(2, 2, CELLS)
    for sample in range(2):
        for cell in range(CELLS):
            peak = int(logits[sample, cell].argmax())
            near = [(x, y) for y in range(5) for x in range(6) if max(abs(x - peak % 6), abs(y - peak // 6)) <= 2]
            weights = torch.stack([logits[sample, cell, 6 * y + x] for x, y in near]).softmax(0)
            expected[sample, :, cell] = weights @ torch.tensor(near, dtype=torch.float32)
    assert (expected - expected.round()).abs().max() > 0.05
    torch.testing.assert_close(match.places(), expected.unflatten(2, GRID), atol=1e-4, rtol=1e-4)


def test_places_of_equal_sides_are_the_cells_themselves() -> None:
    match = drawn()
    xs, ys = Match(match.queries, match.queries, GRID, 1e-3).places()[0]
    torch.testing.assert_close(xs, torch.arange(6.0).expand(5, 6), atol=1e-3, rtol=0)
    torch.testing.assert_close(ys, torch.arange(5.0)[:, None].expand(5, 6), atol=1e-3, rtol=0)
