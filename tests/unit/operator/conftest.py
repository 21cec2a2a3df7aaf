"""Settings of the property tests: the same examples in every run, and no limit on the time of one of them."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "operator",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("operator")
