"""Hypothesis here: few examples, no deadline on a shared machine, and nothing kept between runs."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "matchkit",
    max_examples=50,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("matchkit")
