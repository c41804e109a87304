"""The head that matches conditions with exemplars: its terms, its memory, and what it takes from a file."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.exemplar_batches import PARTS, PHOTO, ExemplarBatch, Photographs
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.evaluate.translation.warping import entropy_alarm
from matchkit.heads.cross_domain import matching, pseudo
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.matching import Match
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.weights import HeadWeights, keep

Draw = Callable[..., Photographs]
DrawBatch = Callable[..., ExemplarBatch]
Rows = Callable[[ExemplarBatch, slice], ExemplarBatch]
TERMS = ("semantic", "same", "cycle", "parts", "domain", "contrast")
OFF: dict[str, Any] = dict.fromkeys(TERMS, 0.0)
CPU = torch.device("cpu")


@pytest.fixture
def head(spec: FeatureSpec) -> Callable[..., CrossDomain]:
    """Builds one on a grid of 8 x 8, small."""

    def built(**changes: Any) -> CrossDomain:
        told: dict[str, Any] = {"channels": 3, "side": 16, "grid": 8, "width": 8, "out": 8, "sampled": 16}
        return CrossDomain(CrossDomainParams(**told | changes), spec=spec)

    return built


Build = Callable[..., CrossDomain]


def parameters(head: CrossDomain) -> list[torch.Tensor]:
    return [parameter for group in head.parameter_groups() for parameter in group["params"]]


def tensors(batch: ExemplarBatch) -> list[torch.Tensor]:
    sides = (batch.targets, batch.exemplars)
    held = [values for side in sides for values in (*side.maps.values(), side.condition, *side.payloads.values())]
    return [*held, batch.same]


def test_what_it_reads(head: Build) -> None:
    assert (head().layers, head().timesteps, head().grid) == (("a", "b"), (0,), (8, 8))
    chosen = head(layers=("b",), timestep=90)
    assert (chosen.layers, chosen.timesteps) == (("b",), (90,))
    assert head().payloads == (PHOTO,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timestep": 5}, "no timestep 5; there are: 0, 90"),
        ({"semantic_layer": "b", "layers": ("a",)}, "semantic_layer 'b' is none of the layers"),
        ({"side": 24}, "a picture of 24 pixels does not come to a grid of 8 cells"),
        ({"adapters": "paper", "side": 16, "grid": 8}, "take conditions of 32 pixels for a grid of 8, not 16"),
    ],
)
def test_what_does_not_go_together_is_refused(head: Build, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        head(**changes)


def test_its_weights_depend_on_its_seed_alone(head: Build) -> None:
    state = torch.random.get_rng_state()
    one, other, third = head(), head(), head(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))
    assert not torch.equal(parameters(one)[0], parameters(third)[0])


def test_the_terms_are_weighted_and_add_up(head: Build, batch: DrawBatch) -> None:
    found = head().loss(batch())
    assert set(found) == {*TERMS, "total"}
    torch.testing.assert_close(found["total"], torch.stack([found[name] for name in TERMS]).sum())
    doubled = head(cycle=2.0, domain=0.3).loss(batch())
    torch.testing.assert_close(doubled["cycle"], 2 * found["cycle"])
    torch.testing.assert_close(doubled["domain"], 3 * found["domain"])
    assert set(head(**OFF | {"cycle": 1.0}).loss(batch())) == {"cycle", "total"}


def test_no_term_is_left(head: Build, batch: DrawBatch) -> None:
    assert not list(head(**OFF).parameter_groups())
    with pytest.raises(ConfigError, match="no loss is left"):
        head(**OFF).loss(batch())
    unknown = replace(batch(), targets=replace(batch().targets, payloads={PHOTO: batch().targets.payloads[PHOTO]}))
    with pytest.raises(ConfigError, match="no loss is left"):
        head(**OFF | {"parts": 1.0}).loss(unknown)


def test_the_temperature_is_that_of_the_fits_progress(
    head: Build, batch: DrawBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    warp = Match.warp
    monkeypatch.setattr(Match, "warp", lambda match, payload: seen.append(match.temperature) or warp(match, payload))
    for progress in (0.0, 0.3, 1.0):
        head().loss(replace(batch(), progress=progress))
    assert seen == pytest.approx([0.1, 0.1**1.5, 0.01])
    assert head().match(batch().targets.condition, batch().exemplars).temperature == 0.01


@pytest.mark.parametrize("adapters", ["small", "paper"])
def test_the_same_batch_twice(head: Build, batch: DrawBatch, adapters: str) -> None:
    """The published code changes the batch that it is given, and fails on one device. Source: CoCosNet §7.2 no. 1."""
    built, given = head(adapters=adapters, grid=8 if adapters == "small" else 4, width=8), batch()
    given = replace(given, exemplars=replace(given.exemplars, ids=("t0", "e1")))
    before = [values.clone() for values in tensors(given)]
    first, second = built.loss(given), built.loss(given)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(given), strict=True))
    for name in first:
        # the paper's spectral norms come a little nearer with every look
        torch.testing.assert_close(first[name], second[name], rtol=1e-5 if adapters == "small" else 0.1, atol=1e-5)


def test_what_is_drawn_depends_on_the_number_of_the_batch(head: Build, batch: DrawBatch) -> None:
    built = head()
    one, other = (built.loss(batch(number=number))["contrast"] for number in (0, 1))
    assert not torch.equal(one, other)


def test_a_batch_of_one(head: Build, batch: DrawBatch) -> None:
    built, alone = head(), batch([True])
    assert all(term.isfinite() for term in built.loss(alone).values())
    match = built.match(alone.targets.condition, alone.exemplars)
    assert match.warp(torch.randn(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert match.places().shape == (1, 2, 8, 8)


def test_the_loss_of_pseudo_exemplars_does_not_depend_on_the_others(head: Build, batch: DrawBatch, rows: Rows) -> None:
    built, given = head(**OFF | {"same": 1.0}), batch([True, False, False, False])
    torch.testing.assert_close(built.loss(given)["same"], built.loss(rows(given, slice(0, 1)))["same"])
    assert built.loss(rows(given, slice(1, 4)))["same"] == 0


def test_an_exemplar_that_is_its_own_target_is_distorted(
    head: Build, batch: DrawBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, given = head(**OFF | {"cycle": 1.0, "same": 1.0}), batch([True])
    own = replace(given, exemplars=given.targets)
    told = []
    distorted = pseudo.distorted

    def telling(photographs: Photographs, affine: torch.Tensor, chosen: torch.Tensor) -> Photographs:
        told.append(chosen.tolist())
        return distorted(photographs, affine, chosen)

    monkeypatch.setattr(pseudo, "distorted", telling)
    here = built.loss(own)["cycle"]
    assert told == [[True]]
    renamed = replace(own, exemplars=replace(given.targets, ids=("x",)))
    assert not torch.allclose(built.loss(renamed)["cycle"], here)
    assert told == [[True]]


def test_what_says_nothing_is_taken_off_both_conditions(head: Build, batch: DrawBatch) -> None:
    paper: dict[str, Any] = {"adapters": "paper", "grid": 4, "mix": "own"}
    given, shift = batch(), torch.tensor([0.5, 1.0, 0.0]).view(1, 3, 1, 1)
    plain, told = head(**paper), head(**paper, neutral=(0.5, 1.0, 0.0))
    moved = [replace(side, condition=side.condition + shift) for side in (given.targets, given.exemplars)]
    here, there = plain.match(given.targets.condition, given.exemplars), told.match(moved[0].condition, moved[1])
    torch.testing.assert_close(here.queries, there.queries, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(here.keys, there.keys, atol=1e-4, rtol=1e-4)


def test_it_matches_alike_however_often_it_has_matched(head: Build, batch: DrawBatch) -> None:
    """The paper's spectral norms change while they are trained, and only then."""
    built, given = head(adapters="paper", grid=4), batch()
    first = built.match(given.targets.condition, given.exemplars).queries
    assert torch.equal(first, built.match(given.targets.condition, given.exemplars).queries)
    built.quality(given)
    assert torch.equal(first, built.match(given.targets.condition, given.exemplars).queries)
    built.loss(given)
    assert built.network.training
    built.quality(given)
    assert not torch.equal(first, built.match(given.targets.condition, given.exemplars).queries)


def test_photographs_are_described_by_their_keys(head: Build, batch: DrawBatch) -> None:
    built, given = head(neutral=(0.5, 0.5, 0.5)), batch()
    described = built.describe(given.exemplars.maps, given.exemplars.ids)
    keys = built.match(given.targets.condition, given.exemplars).keys
    torch.testing.assert_close(described.flatten(2).transpose(1, 2), keys)
    for seeing in (head(photo_side=16), head(adapters="paper", grid=4)):
        with pytest.raises(ConfigError, match="sees the photographs themselves"):
            seeing.describe(given.exemplars.maps)


def test_quality_is_the_share_of_cells_on_parts_that_get_the_right_one(
    head: Build, batch: DrawBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batch([True])
    labels = given.targets.payloads[PARTS].argmax(1)
    shifted = replace(given.targets, payloads={PARTS: given.targets.payloads[PARTS].roll(4, 3)})
    monkeypatch.setattr(Match, "warp", lambda _, payload: payload)
    built = head()
    assert built.quality(replace(given, exemplars=given.targets)) == 100
    expected = (labels.roll(4, 2) == labels)[labels > 0].float().mean()
    assert built.quality(replace(given, exemplars=shifted)) == pytest.approx(100 * float(expected))
    background = torch.zeros_like(given.targets.payloads[PARTS])
    background[:, 0] = 1
    nowhere = replace(given.targets, payloads={PARTS: background})
    assert built.quality(replace(given, targets=nowhere, exemplars=nowhere)) == 100


def test_quality_without_parts_is_the_cosine_of_the_features(head: Build, batch: DrawBatch) -> None:
    given = batch()
    targets, exemplars = (
        replace(side, payloads={PHOTO: side.payloads[PHOTO]}) for side in (given.targets, given.exemplars)
    )
    found = head().quality(replace(given, targets=targets, exemplars=exemplars))
    assert -100 < found < 100
    one = {name: torch.ones_like(values) for name, values in exemplars.maps.items()}
    alike = replace(given, targets=replace(targets, maps=one), exemplars=replace(exemplars, maps=one))
    assert head().quality(alike) == pytest.approx(100, abs=1e-3)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, and all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.add(str(func))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return out


def trained(head: CrossDomain, batch: ExemplarBatch) -> Largest:
    with Largest() as largest:
        head.loss(batch)["total"].backward()
    return largest


def test_no_matrix_of_all_cells_is_ever_held_in_training(
    head: Build, batch: DrawBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 24 x 24 cells it would have 331,776 entries; torch's plain attention makes it, and would be seen."""
    built, given = head(grid=24, side=24), batch([True], side=24)
    largest = trained(built, given)
    assert all(parameter.grad is not None for parameter in parameters(built))
    assert largest.elements < 576 * 576 / 4
    fused = [name for name in largest.operations if "attention" in name]
    assert any("backward" in name for name in fused)
    assert all("flash" in name or "efficient" in name for name in fused)
    with monkeypatch.context() as patch:
        patch.setattr(matching, "FUSED", [SDPBackend.MATH])
        assert trained(built, given).elements >= 576 * 576
    monkeypatch.setattr(matching, "WIDEST", 4)
    monkeypatch.setattr(matching, "ROWS", 64)
    assert trained(built, given).elements < 576 * 576 / 4


def test_the_domain_term_alone_collapses_and_the_alarm_says_so(head: Build, batch: DrawBatch) -> None:
    """Source: CoCosNet §6.4, where entropy is 6.34 of at most 6.36."""
    built, given = head(**OFF | {"domain": 1.0}, side=8, temperature=0.05), batch([False, False], side=8)

    def entropy() -> float:
        with torch.no_grad():
            return float(built.match(given.targets.condition, given.exemplars).entropy().mean())

    before = entropy()
    # what tells the cells apart in this one batch could be learnt by heart, but for the decay
    optimiser = torch.optim.AdamW(list(built.parameter_groups()), lr=3e-2, weight_decay=1.0)
    for _ in range(60):
        optimiser.zero_grad()
        built.loss(given)["total"].backward()
        optimiser.step()
    assert entropy_alarm(before, 64) == ""
    assert entropy() > 0.95 * math.log(64)
    assert "the matching has collapsed" in entropy_alarm(entropy(), 64)


def test_weights_are_kept_and_built_again(head: Build, batch: DrawBatch, spec: FeatureSpec) -> None:
    built, given = head(seed=3, neutral=(0.1, 0.2, 0.3)), batch()
    weights = keep(built, "cross-domain", spec=spec, fit={})
    again = replace(weights, tensors={name: values.clone() for name, values in weights.tensors.items()}).build(
        device=CPU
    )
    assert isinstance(again, CrossDomain)
    assert again.params == built.params
    one, other = (which.match(given.targets.condition, given.exemplars) for which in (built, again))
    assert torch.equal(one.queries, other.queries)
    assert torch.equal(one.keys, other.keys)


@pytest.mark.parametrize("fault", ["missing", "more", "another width", "none"])
def test_a_checkpoint_that_does_not_fit_is_an_error(head: Build, spec: FeatureSpec, fault: str) -> None:
    """The published code only prints it. Source: CoCosNet §7.2 no. 12."""
    weights = keep(head(), "cross-domain", spec=spec, fit={})
    given = {
        "missing": dict(list(weights.tensors.items())[1:]),
        "more": {**weights.tensors, "adapters.9": torch.zeros(1)},
        "another width": keep(head(width=16), "cross-domain", spec=spec, fit={}).tensors,
        "none": {},
    }[fault]
    with pytest.raises(WeightsError, match="the weights do not fit head 'cross-domain'"):
        replace(weights, tensors=given).build(device=CPU)


def test_a_file_that_is_not_there(tmp_path: Any) -> None:
    with pytest.raises(WeightsError, match="no head at"):
        HeadWeights.load(tmp_path / "cross-domain.safetensors")


def test_its_configuration_is_all_of_its_parameters(head: Build) -> None:
    built = head(layers=("b",))
    assert built.config() == dataclasses.asdict(built.params)
    assert built.config()["layers"] == ("b",)


def test_other_features_than_it_was_built_for(head: Build, batch: DrawBatch) -> None:
    spec = FeatureSpec("pixels", "none", (LayerSpec("a", 7, (4, 4)),), (0,), (32, 32), "stretch", "fp32")
    other = CrossDomain(CrossDomainParams(channels=3, side=16, grid=8, width=8, out=8), spec=spec)
    with pytest.raises(RuntimeError, match="expected input"):
        other.match(batch().targets.condition, batch().exemplars)
