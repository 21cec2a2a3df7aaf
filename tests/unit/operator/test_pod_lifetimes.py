"""How long a pod may take to start and to end: each limit leaves room for the one inside it, whatever a user sets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import LaunchOptions, Role
from tandem_contracts.stopping import DRAIN_LIMIT_SECONDS, InvalidStopTimesError, StopTimes
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.objects.probes import DEAD_GRACE_SECONDS, START_LIMIT_AT_LEAST_SECONDS
from tests.builders import NAME, NAMESPACE, UID, make_inputs, make_spec

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
roles = st.sampled_from(list(Role))


def pod(role: Role = Role.VERIFIER, **rollout: str) -> Manifest:
    found: Manifest = pod_template_of(OWNER, make_inputs(make_spec(rollout=rollout), role))["spec"]
    return found


def engine(spec: Manifest) -> Any:
    (container,) = spec["containers"]
    return container


@given(roles, st.integers(1, DRAIN_LIMIT_SECONDS))
def test_no_stage_of_a_pods_end_cuts_off_the_one_before_it(role: Role, drain_seconds: int) -> None:
    rendered = pod(role, drainTimeout=f"{drain_seconds}s")
    pre_stop = engine(rendered)["lifecycle"]["preStop"]["sleep"]["seconds"]
    launcher = StopTimes.of_drain(LaunchOptions.parse(engine(rendered)["args"]).drain_seconds)
    assert launcher.engine_seconds == drain_seconds
    assert launcher.engine_seconds < launcher.limit_seconds
    assert pre_stop > 0
    assert pre_stop + launcher.leaving_seconds + launcher.limit_seconds < rendered["terminationGracePeriodSeconds"]


@given(st.integers(-5, 30), st.integers(0, 9), st.integers(-5, 30), st.integers(-5, 60), st.integers(-5, 120))
def test_stop_times_are_refused_exactly_when_one_cuts_off_another(
    pre_stop: int, leaving: int, engine_seconds: int, limit: int, grace: int
) -> None:
    fits = pre_stop >= 1 and engine_seconds >= 1 and limit > engine_seconds and grace > pre_stop + leaving + limit

    def make() -> StopTimes:
        return StopTimes(
            pre_stop_seconds=pre_stop,
            leaving_seconds=leaving,
            engine_seconds=engine_seconds,
            limit_seconds=limit,
            grace_seconds=grace,
        )

    if fits:
        assert make().grace_seconds == grace
    else:
        with pytest.raises(InvalidStopTimesError):
            make()


@given(roles, st.integers(180, 24 * 3600))
def test_an_engine_may_load_for_as_long_as_its_rollout_may_go_without_progress(role: Role, seconds: int) -> None:
    probe = engine(pod(role, progressDeadline=f"{seconds}s"))["startupProbe"]
    limit = probe["periodSeconds"] * probe["failureThreshold"]
    assert limit >= seconds
    assert limit - seconds < probe["periodSeconds"] or seconds < START_LIMIT_AT_LEAST_SECONDS


def test_a_short_deadline_does_not_end_pods_that_nothing_replaces() -> None:
    probe = engine(pod(progressDeadline="3m"))["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == START_LIMIT_AT_LEAST_SECONDS


def test_an_engine_that_does_not_answer_is_not_granted_the_time_for_requests() -> None:
    rendered = pod(drainTimeout="1h")
    container = engine(rendered)
    assert rendered["terminationGracePeriodSeconds"] > 3600
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["terminationGracePeriodSeconds"] == DEAD_GRACE_SECONDS
    assert "terminationGracePeriodSeconds" not in container["readinessProbe"], "the API server refuses it there"
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] < DEAD_GRACE_SECONDS


@pytest.mark.parametrize("rollout", [{"drainTimeout": "7m"}, {"progressDeadline": "2h"}, {"surgeWait": "1m"}])
def test_how_long_a_rollout_may_take_makes_no_other_revision(rollout: dict[str, str]) -> None:
    for role in Role:
        assert make_inputs(make_spec(rollout=rollout), role).revision == make_inputs(make_spec(), role).revision
