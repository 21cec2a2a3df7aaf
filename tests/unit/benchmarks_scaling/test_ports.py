"""Ports of other autoscalers, on cases that can be worked out by hand."""

import pytest

from benchmarks.scaling.comparison import best_of
from benchmarks.scaling.hpa import Behavior, ConcurrencyHpa, average_value, value
from benchmarks.scaling.keda import Keda
from benchmarks.scaling.knative import Knative
from benchmarks.scaling.llm_d import DOWN, UP, Band, LlmD, Source, desired_of
from benchmarks.scaling.requests import Objective, Request
from benchmarks.scaling.router_signals import OUTPUT_TOKEN_BOUNDS, RouterSignals, Window
from benchmarks.scaling.scores import Score, score_of
from benchmarks.scaling.simulation import Setting
from tandem_operator.scaling.reading import Reading
from tests.unit.benchmarks_scaling.runs import Fleet, make_requests, make_run


@pytest.mark.parametrize(
    ("total", "replicas", "wanted"),
    [(100, 3, 3), (109, 3, 3), (91, 3, 3), (120, 3, 4), (89, 3, 3), (60, 3, 2), (0, 3, 0), (700, 3, 20)],
)
def test_average_value_is_the_total_over_the_target_beyond_a_tenth(total: float, replicas: int, wanted: int) -> None:
    assert average_value(total, 35, replicas=replicas) == wanted


@pytest.mark.parametrize(
    ("measured", "current", "ready", "wanted"),
    [(1.5, 4, 4, 4), (1.64, 4, 4, 4), (3.0, 4, 4, 8), (3.0, 8, 3, 6), (0.3, 4, 4, 1), (15.0, 3, 3, 30)],
)
def test_value_multiplies_the_ready_pods_only(measured: float, current: int, ready: int, wanted: int) -> None:
    assert value(measured, 1.5, current=current, ready=ready) == wanted


def test_up_is_the_larger_of_four_pods_and_doubling_in_15_seconds() -> None:
    behavior = Behavior(1, 100)
    assert behavior.replicas(50, current=3, now=0.0) == 7
    assert behavior.replicas(50, current=7, now=5.0) == 7
    assert behavior.replicas(50, current=7, now=15.0) == 14


def test_down_waits_for_the_most_of_five_minutes() -> None:
    behavior = Behavior(1, 100)
    assert behavior.replicas(10, current=10, now=0.0) == 10
    assert behavior.replicas(2, current=10, now=15.0) == 10
    assert behavior.replicas(4, current=10, now=200.0) == 10
    assert behavior.replicas(3, current=10, now=301.0) == 4


def test_llm_ds_behavior_takes_one_pod_in_two_minutes_and_confirms_up_for_30_seconds() -> None:
    behavior = Behavior(3, 8, UP, DOWN)
    assert behavior.replicas(8, current=8, now=0.0) == 8
    assert behavior.replicas(3, current=8, now=181.0) == 7
    assert behavior.replicas(3, current=7, now=240.0) == 7
    assert behavior.replicas(3, current=7, now=302.0) == 6
    assert behavior.replicas(8, current=6, now=310.0) == 6
    assert behavior.replicas(8, current=6, now=345.0) == 8


@pytest.mark.parametrize(
    ("signal", "replicas", "ready", "wanted"),
    [
        (0.5, 4, 4, 4),
        (0.66, 5, 5, 6),
        (2.0, 3, 3, 11),
        (2.0, 6, 3, 11),
        (1.0, 8, 3, 6),
        (0.2, 8, 8, 4),
        (0.39, 8, 8, 8),
    ],
)
def test_llm_ds_formula(signal: float, replicas: int, ready: int, wanted: int) -> None:
    assert desired_of(signal, replicas=replicas, ready=ready, band=Band()) == wanted


def test_llm_ds_signal_is_the_worse_latency_clamped_at_2_and_smoothed_over_three_rules() -> None:
    signals, wanted, found = RouterSignals(), 4, []
    law = LlmD(Objective(3.0, 0.1), least=1, most=20, source=Source.MEASURED)
    for now in (15.0, 30.0, 45.0, 60.0, 75.0):
        if now == 45.0:
            for second in range(31, 76):
                signals.measured.first_token.observe(second, 100.0)
        wanted = law.replicas(Fleet(wanted=wanted, ready=4, warming=wanted - 4, signals=signals).sight(now))
        found.append(wanted)
    # 0, 0, 2/3, 4/3 and 2: 5, 10 and 15 are asked for. Up counts the least of 30 seconds, and doubles in 60 at most.
    assert found == [4, 4, 4, 5, 8]


def test_a_quantile_within_a_bucket_of_the_router_is_told_by_its_bounds() -> None:
    window = Window(OUTPUT_TOKEN_BOUNDS)
    for _ in range(10):
        window.observe(0.0, 0.041)
    assert window.quantile(0.9, now=10.0) == pytest.approx(0.058)
    assert window.quantile(0.9, now=61.0) is None


def test_the_concurrency_hpa_holds_without_data_and_keda_takes_it_for_nothing() -> None:
    busy = {f"ready-{i}": Reading(0.0, running=30, waiting=20) for i in range(3)}
    hpa, keda = ConcurrencyHpa(35, least=1, most=20), Keda(20, least=1, most=20)
    assert hpa.replicas(Fleet(readings=busy).sight(0.0)) == 5
    assert keda.replicas(Fleet(readings=busy).sight(0.0)) == 3
    assert hpa.replicas(Fleet(wanted=5).sight(400.0)) == 5
    assert keda.replicas(Fleet(wanted=5).sight(400.0)) == 1


def test_knative_aims_at_70_percent_of_the_concurrency() -> None:
    knative = Knative(50)
    assert knative.target == 35
    fleet = Fleet(ready=1, wanted=1, in_work=69)
    assert [knative.replicas(fleet.sight(now)) for now in (2.0, 4.0)] == [2, 2]


def test_knative_panics_at_twice_the_ready_pods_and_does_not_shrink_until_a_stable_window_later() -> None:
    knative = Knative(50)
    for now in range(2, 62, 2):
        assert knative.replicas(Fleet(ready=1, in_work=30).sight(now)) == 1
    in_panic = [knative.replicas(Fleet(ready=1, in_work=350).sight(now)) for now in (62.0, 64.0, 66.0, 68.0)]
    assert in_panic == [4, 7, 10, 10]
    later = {now: knative.replicas(Fleet(ready=10, in_work=30).sight(now)) for now in range(70, 140, 2)}
    assert later[70] == later[126] == 10
    assert later[138] == 5  # at most half of the Ready pods at once


def test_the_best_trial_is_the_cheapest_that_attains_enough_or_else_the_one_that_attains_most() -> None:
    def made(seconds: float, pods: int) -> Score:
        setting = Setting(least=pods, most=pods, start=pods)
        return score_of(make_run(setting, make_requests(1.0, seconds)))

    one, two = made(60.0, 1), made(60.0, 2)
    assert best_of({1.0: one, 2.0: two}) == 1.0


def test_a_request_counts_only_when_both_latencies_are_kept() -> None:
    objective = Objective(1.0, 0.1)
    for first, end, kept in (
        (0.9, 10.0, True),
        (1.1, 10.0, False),
        (0.9, 12.0, False),
        (None, None, False),
        (0.9, None, False),
    ):
        request = Request(0.0, 10, 101, first_token_at=first, finished_at=end)
        assert request.is_attained(objective) is kept
