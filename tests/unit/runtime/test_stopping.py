"""The stages of an engine's end fit into each other, or are refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import InvalidLaunchOptionsError, LaunchOptions, Role
from tandem_contracts.stopping import DRAIN_LIMIT_SECONDS, InvalidStopTimesError, StopTimes
from tandem_operator.api.rollout import Rollout

FIT = StopTimes.of_drain(60)


@given(st.integers(1, DRAIN_LIMIT_SECONDS))
def test_every_stage_ends_before_the_one_that_would_cut_it_off(drain_seconds: int) -> None:
    times = StopTimes.of_drain(drain_seconds)
    assert times.engine_seconds == drain_seconds
    assert times.engine_seconds < times.limit_seconds
    assert times.pre_stop_seconds + times.leaving_seconds + times.limit_seconds < times.grace_seconds


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"engine_seconds": 0}, "the engine's wait (is 0 s): must be from 1 to 3600 s"),
        ({"engine_seconds": 3601, "limit_seconds": 4000}, "the engine's wait (is 3601 s)"),
        ({"pre_stop_seconds": 0}, "preStop (is 0 s)"),
        ({"limit_seconds": 60}, "the launcher's limit (is 60 s): must be above the engine's 60 s"),
        ({"leaving_seconds": -1}, "the leaving (is -1 s): must not be below 0 s"),
        (
            {"grace_seconds": 73},
            "the grace period (is 73 s): must be above preStop, leaving and the launcher's limit, 73 s",
        ),
    ],
)
def test_stages_that_cut_each_other_off_are_refused(changed: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidStopTimesError) as refused:
        dataclasses.replace(FIT, **changed)
    assert said in str(refused.value)


def test_the_longest_drain_that_a_user_may_ask_for_is_one_that_the_launcher_takes() -> None:
    longest = Rollout(drain_timeout="1h").drain_timeout_seconds
    assert longest == DRAIN_LIMIT_SECONDS
    LaunchOptions(role=Role.VERIFIER, model="/m", served_name="m", drain_seconds=longest)
    with pytest.raises(InvalidLaunchOptionsError):
        LaunchOptions(role=Role.VERIFIER, model="/m", served_name="m", drain_seconds=longest + 1)
