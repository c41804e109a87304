"""The translator: what it paints, which network each of its terms moves, and at what rates."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.exemplar_batches import LATENT, PHOTO, ExemplarBatch, Photographs
from matchkit.core.spec import FeatureSpec
from matchkit.heads.cross_domain.generator import GeneratorParams
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.payloads import warped_payload
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.cross_domain.translator_settings import TranslatorParams
from matchkit.heads.fit import Fit, FitFiles, FitParams
from matchkit.heads.weights import keep

DrawBatch = Callable[..., ExemplarBatch]
Build = Callable[..., Translator]
Rows = Callable[[ExemplarBatch, slice], ExemplarBatch]
MATCHER: dict[str, Any] = {"channels": 3, "side": 16, "grid": 8, "width": 8, "out": 8, "sampled": 16}
SMALL = GeneratorParams(width=4, ups=2, attention=False, modulation=4)
CPU = torch.device("cpu")


@pytest.fixture
def translator(spec: FeatureSpec) -> Build:
    """Builds one that paints pictures of 16 px, small."""

    def built(*, matcher: dict[str, Any] | None = None, **changes: Any) -> Translator:
        told: dict[str, Any] = {"generator": SMALL, "matcher": MATCHER | (matcher or {}), "judge_width": 4}
        return Translator(TranslatorParams(**told | changes), spec=spec)

    return built


def moved(head: Translator, term: torch.Tensor) -> set[str]:
    """The networks that a term gives a gradient."""
    networks = {"matcher": head.matcher.network, **dict(head.network.items())}
    head.network.zero_grad()
    head.matcher.network.zero_grad()
    term.backward(retain_graph=True)
    return {
        name
        for name, network in networks.items()
        if any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.parameters())
    }


def test_it_reads_and_is_given_what_its_matcher_is(translator: Build) -> None:
    head = translator(matcher={"layers": ("b",), "timestep": 90})
    assert (head.grid, head.layers, head.timesteps) == ((8, 8), ("b",), (90,))
    assert head.payloads == (PHOTO,)
    assert translator(paints=LATENT, channels=4).payloads == (PHOTO, LATENT)


def test_it_begins_as_what_it_is_shown(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(), batch()
    painted = head.paint(given.targets.condition, given.exemplars)
    assert torch.equal(painted.made, painted.shown)
    match = head.matcher.match(given.targets.condition, given.exemplars)
    torch.testing.assert_close(painted.shown, warped_payload(match, given.exemplars.payloads[PHOTO]))


def test_without_a_base_it_paints_all_and_a_photograph_is_bounded(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(base=False), batch()
    with torch.no_grad():
        head.network["generator"].finish.bias.fill_(20)  # type: ignore[union-attr, operator]
    made = head.paint(given.targets.condition, given.exemplars).made
    assert made.shape == (2, 3, 16, 16)
    torch.testing.assert_close(made, torch.ones_like(made))


@pytest.mark.parametrize("shown", ["mean", "none"])
def test_the_controls_show_no_place_of_the_exemplar(translator: Build, batch: DrawBatch, shown: str) -> None:
    given = batch()
    photo = given.exemplars.payloads[PHOTO]
    found = translator(shown=shown).paint(given.targets.condition, given.exemplars).shown
    expected = photo.mean((2, 3), keepdim=True).expand_as(photo) if shown == "mean" else torch.zeros_like(photo)
    torch.testing.assert_close(found, expected)


def test_latents_of_the_grids_size(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(paints=LATENT, channels=4, detour=False), batch()
    assert head.paint(given.targets.condition, given.exemplars).made.shape == (2, 4, 8, 8)
    found = head.loss(given)
    own, made = given.targets.payloads[LATENT][:1], head.paint(given.targets.condition, given.exemplars).made[:1]
    torch.testing.assert_close(found["same"], 10 * (made - own).square().mean())
    absolute = translator(paints=LATENT, channels=4, detour=False, squared=False).loss(given)["same"]
    torch.testing.assert_close(absolute, 10 * (made - own).abs().mean())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"same": -1.0}, "weights of losses must not be negative"),
        ({"same": 0.0}, "nor all of them 0"),
        ({"gan_feature": 1.0}, "set adversarial too"),
        ({"paints": LATENT, "channels": 4, "context": 1.0}, "look at photographs, not at a latent"),
        ({"channels": 4}, "a photograph has 3 channels, not 4"),
        ({"matcher": {"zzz": 1}}, "translator matcher: no parameter 'zzz'"),
    ],
)
def test_what_does_not_go_together_is_refused(translator: Build, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translator(**changes)


def test_pseudo_exemplars_alone_are_compared_however_many_others_there_are(
    translator: Build, batch: DrawBatch, rows: Rows
) -> None:
    given = batch([True, False, False, False])
    head = translator(detour=False)
    alone = head.loss(rows(given, slice(0, 1)))
    torch.testing.assert_close(head.loss(given)["same"], alone["same"])
    assert head.loss(rows(given, slice(1, 4)))["same"] == 0


def test_other_exemplars_make_a_detour_with_the_looks_of_their_targets(translator: Build, batch: DrawBatch) -> None:
    given, head = batch([True, False]), translator()
    there = warped_payload(head.matcher.match(given.exemplars.condition, given.targets), given.targets.payloads[PHOTO])
    assert not torch.allclose(there, given.exemplars.payloads[PHOTO])
    expected = given.exemplars.payloads[PHOTO].clone()
    expected[1] = there[1]
    match = head.matcher.match(given.targets.condition, given.exemplars)  # by the other thing's own features
    apart = warped_payload(match, expected) - given.targets.payloads[PHOTO]
    torch.testing.assert_close(head.loss(given)["same"], 10 * apart.square().mean())
    assert head.quality(given) == pytest.approx(
        float((10 * (4 / apart.detach().square().mean((1, 2, 3))).log10()).mean()), abs=1e-4
    )


def test_an_exemplar_that_is_its_own_target_is_distorted(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(), batch([True])
    own = replace(given, exemplars=given.targets)
    renamed = replace(own, exemplars=replace(given.targets, ids=("x",)))
    assert not torch.allclose(head.loss(own)["same"], head.loss(renamed)["same"])
    assert torch.equal(head.loss(own)["same"], head.loss(own)["same"])


def test_the_same_batch_twice(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(joint=True), batch()
    before = [values.clone() for side in (given.targets, given.exemplars) for values in side.payloads.values()]
    first, second = head.loss(given), head.loss(given)
    after = [values for side in (given.targets, given.exemplars) for values in side.payloads.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(first[name], second[name]) for name in first)


class Seeing:
    """A network that looks at pictures: they themselves, and at half the size."""

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        assert images.min() >= -1
        return {"fine": images, "coarse": torch.nn.functional.avg_pool2d(images, 4)}


def test_the_losses_of_a_network_that_looks(translator: Build, batch: DrawBatch) -> None:
    looks = {"feature": 1.0, "perceptual": 2.0, "context": 0.5}
    head, given = translator(same=0.0, detour=False, **looks), batch()
    with pytest.raises(ConfigError, match="need a network that looks: none was given"):
        head.loss(given)
    head.see_with(Seeing())
    found = head.loss(given)
    assert set(found) == {"feature", "perceptual", "context", "total"}
    made, own = head.paint(given.targets.condition, given.exemplars).made, given.targets.payloads[PHOTO]
    # half of the difference of values in [-1, 1]; the last layer but one
    torch.testing.assert_close(found["perceptual"], 2 * ((made - own) / 2).square().mean())
    torch.testing.assert_close(found["total"], found["feature"] + found["perceptual"] + found["context"])


@pytest.fixture
def large(batch: DrawBatch) -> ExemplarBatch:
    """Of 48 px, which leaves both scales of the discriminator a logit."""
    return batch([True, False], side=48)


def test_each_networks_terms_move_that_network_alone(translator: Build, large: ExemplarBatch) -> None:
    head = translator(matcher={"side": 48, "grid": 12}, adversarial=1.0, gan_feature=1.0)
    with torch.no_grad():
        head.network["generator"].finish.weight.normal_()  # type: ignore[union-attr, operator]
    found = head.loss(large)
    assert set(found) == {"same", "adversarial", "judge", "gan_feature", "total"}
    for name in ("same", "adversarial", "gan_feature"):
        assert moved(head, found[name]) == {"base", "generator"}, name
    assert moved(head, found["judge"]) == {"judge"}
    assert moved(head, found["total"]) == {"base", "generator", "judge"}


def test_the_matcher_is_trained_where_that_is_told(translator: Build, batch: DrawBatch) -> None:
    frozen, joint = translator(), translator(joint=True)
    alone, together = frozen.loss(batch()), joint.loss(batch())
    assert not any(name.startswith("head.") for name in alone)
    assert {"head.cycle", "head.contrast"} <= set(together)
    assert "matcher" not in moved(frozen, alone["total"])
    assert moved(joint, together["head.cycle"]) == {"matcher"}
    assert "matcher" in moved(joint, together["same"])
    torch.testing.assert_close(together["total"], torch.stack(list(together.values())[:-1]).sum())
    trained = [sum(len(group["params"]) for group in head.parameter_groups()) for head in (frozen, joint)]
    assert trained[1] - trained[0] == len(list(joint.matcher.network.parameters()))


def test_a_matcher_without_terms_is_trained_through_the_picture(translator: Build, batch: DrawBatch) -> None:
    off = dict.fromkeys(("domain", "semantic", "same", "cycle", "parts", "contrast"), 0.0)
    head = translator(joint=True, matcher=off)
    found = head.loss(batch())
    assert set(found) == {"same", "total"}
    assert "matcher" in moved(head, found["total"])
    (group,) = head.parameter_groups()
    assert {id(parameter) for parameter in head.matcher.network.parameters()} <= set(map(id, group["params"]))


def test_the_published_rates(translator: Build, spec: FeatureSpec, tmp_path: Path) -> None:
    """Two time scales: 1e-4 for the generator and 4e-4 for the discriminator. Source: CoCosNet §3."""
    published: dict[str, Any] = {"generator_rate": 0.5, "judge_rate": 2.0, "beta1": 0.0, "beta2": 0.9, "epsilon": 1e-3}
    head = translator(adversarial=10.0, joint=True, **published)
    params, files = FitParams(steps=4, lr=2e-4), FitFiles(tmp_path / "t.safetensors")
    fit = Fit(head, "translator", spec=spec, params=params, files=files, about={})
    made_by, judge = fit._optimiser.param_groups
    assert (made_by["lr"], judge["lr"]) == pytest.approx((1e-4, 4e-4))
    assert (made_by["eps"], judge["eps"]) == (1e-3, 1e-8)
    assert made_by["betas"] == judge["betas"] == (0.0, 0.9)
    assert {id(parameter) for parameter in head.network["judge"].parameters()} == set(map(id, judge["params"]))
    assert len(made_by["params"]) + len(judge["params"]) == len(
        [*head.network.parameters(), *head.matcher.network.parameters()]
    )


def test_quality_is_the_signal_to_noise_ratio_of_pseudo_exemplars(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(shown="none", detour=False), batch([True, False])
    photo = given.targets.payloads[PHOTO].clone()
    photo[0] = 0.2
    targets = replace(given.targets, payloads={**given.targets.payloads, PHOTO: photo})
    assert head.quality(replace(given, targets=targets)) == pytest.approx(20)  # 10 log10(2**2 / 0.2**2)
    assert not head.network.training


def test_a_paper_matcher_paints_alike_however_often(translator: Build, batch: DrawBatch) -> None:
    head, given = translator(matcher={"adapters": "paper", "grid": 4, "layers": ()}), batch()
    state = {name: values.clone() for name, values in head.matcher.state_dict().items()}
    first = head.paint(given.targets.condition, given.exemplars).made
    assert torch.equal(first, head.paint(given.targets.condition, given.exemplars).made)
    head.loss(given)  # it is frozen, with its spectral norms
    assert all(torch.equal(values, state[name]) for name, values in head.matcher.state_dict().items())


def test_it_begins_with_a_fitted_matcher(translator: Build, batch: DrawBatch, spec: FeatureSpec) -> None:
    fitted = CrossDomain(CrossDomainParams(**MATCHER, seed=5), spec=spec)
    head, given = translator(), batch()
    head.begin_with(fitted.state_dict())
    queries = fitted.match(given.targets.condition, given.exemplars).queries
    assert torch.equal(head.matcher.match(given.targets.condition, given.exemplars).queries, queries)


def test_weights_are_kept_and_built_again(translator: Build, batch: DrawBatch, spec: FeatureSpec) -> None:
    head, given = translator(seed=2, base=False, matcher={"seed": 7}), batch()
    weights = keep(head, "translator", spec=spec, fit={})
    again = weights.build(device=CPU)
    assert isinstance(again, Translator)
    assert again.config() == head.config()
    made = [which.paint(given.targets.condition, given.exemplars).made for which in (head, again)]
    assert torch.equal(*made)
    assert {name.split(".")[0] for name in weights.tensors} == {"matcher", "generator"}


@pytest.mark.parametrize("part", ["matcher", "generator", "judge"])
def test_a_checkpoint_without_one_of_its_networks_is_an_error(translator: Build, spec: FeatureSpec, part: str) -> None:
    weights = keep(translator(adversarial=1.0), "translator", spec=spec, fit={})
    given = {name: values for name, values in weights.tensors.items() if not name.startswith(part)}
    assert len(given) < len(weights.tensors)
    with pytest.raises(WeightsError, match="the weights do not fit head 'translator'"):
        replace(weights, tensors=given).build(device=CPU)


def test_photographs_are_described_as_by_its_matcher(
    translator: Build, photographs: Callable[..., Photographs]
) -> None:
    head, given = translator(), photographs(["a"])
    assert torch.equal(head.describe(given.maps, given.ids), head.matcher.describe(given.maps, given.ids))
