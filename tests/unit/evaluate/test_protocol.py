"""What a protocol refuses, and the names of its alphas."""

import pytest

from matchkit.core.errors import ConfigError
from matchkit.core.params import build
from matchkit.evaluate.protocol import EvalProtocol


def test_alphas_are_named_with_two_digits_or_all_they_need() -> None:
    assert EvalProtocol(alphas=(0.1, 0.05, 0.125, 1.0)).names == ("0.10", "0.05", "0.125", "1.00")


@pytest.mark.parametrize("values", [{"alphas": ()}, {"alphas": (0.1, 0.1)}, {"alphas": (0.0, 0.1)}, {"references": ()}])
def test_a_protocol_that_scores_nothing_or_twice_is_refused(values: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError, match="positive, distinct alphas"):
        EvalProtocol(**values)  # type: ignore[arg-type]


def test_too_few_resamplings_are_refused_and_none_is_none() -> None:
    assert EvalProtocol(resamples=0).resamples == 0
    for few in (-1, 1, 99):
        with pytest.raises(ConfigError, match="0 or at least 100"):
            EvalProtocol(resamples=few)


def test_breakdowns_are_lists_in_params_yaml_and_known_by_name() -> None:
    told = build(EvalProtocol, {"breakdowns": ["azimuth", "geometry"]}, where="params.yaml evaluate")
    assert told.breakdowns == ("azimuth", "geometry")
    with pytest.raises(ConfigError, match=r"breakdowns\.0: Input should be 'geometry' or 'azimuth'"):
        build(EvalProtocol, {"breakdowns": ["geometri"]}, where="params.yaml evaluate")
