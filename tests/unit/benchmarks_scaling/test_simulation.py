"""Whole runs: no request is lost, the same seed gives the same run, and faults do what they say."""

import copy
from dataclasses import replace

import pytest

from benchmarks.scaling.contestants import CONTESTANTS
from benchmarks.scaling.requests import Objective, Request, random_of
from benchmarks.scaling.scores import score_of
from benchmarks.scaling.scraping import Fault, Scraped
from benchmarks.scaling.simulation import Episode, Run, Setting, Simulation
from benchmarks.scaling.workloads import RAMP, ramp, steady
from tests.unit.benchmarks_scaling.runs import make_engine, make_requests, make_run

SETTING = Setting(least=1, most=6, start=2, cold_start_seconds=30.0)


def run_of(name: str, setting: Setting = SETTING, *, seed: int = 1, number: float | None = None) -> Run:
    contestant = CONTESTANTS[name]
    controller = contestant.make(setting, contestant.default if number is None else number)
    requests = [*make_requests(2.0, 120.0, prompt=3000, output=300, seed=seed)]
    requests += [
        Request(120 + each.arrival, each.prompt_tokens, each.output_tokens)
        for each in make_requests(7.0, 300.0, prompt=3000, output=300, seed=seed + 100)
    ]
    return Simulation(setting, controller, [requests], seed=seed).run()


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_request_is_answered_within_bounds_whoever_scales(name: str) -> None:
    run = run_of(name)
    assert all(request.finished_at is not None for request in run.requests)
    assert all(request.arrival <= (request.first_token_at or 0.0) for request in run.requests)
    assert all(SETTING.least <= point.wanted <= SETTING.most for point in run.points)


@pytest.mark.parametrize("name", ["headroom", "hpa", "llm-d"])
def test_the_same_seed_gives_the_same_run_and_another_one_does_not(name: str) -> None:
    assert score_of(run_of(name)) == score_of(run_of(name))
    assert score_of(run_of(name)) != score_of(run_of(name, seed=2))


def test_pods_take_a_cold_start_and_count_from_their_creation() -> None:
    run = make_run(SETTING, make_requests(1.0, 300.0), pods=4)
    ready = next(point.at for point in run.points if point.ready == 4)
    assert 60.0 + 0.7 * 30 <= ready <= 60.0 + 1.6 * 30
    assert run.replica_seconds == pytest.approx(4 * run.end - 2 * 60.0)


def test_requests_wait_outside_until_a_pod_is_ready() -> None:
    setting = replace(SETTING, least=0, start=0)
    requests = make_requests(1.0, 20.0)
    make_run(setting, requests, pods=1)
    assert all(request.first_token_at is not None for request in requests)
    assert min(request.first_token_at or 0.0 for request in requests) > 60.0


def test_a_lost_pod_loses_its_requests_and_they_are_misses() -> None:
    setting = replace(SETTING, failures=(100.0,))
    run = make_run(setting, make_requests(2.0, 200.0))
    unanswered = [request for request in run.requests if request.finished_at is None]
    assert 0 < run.lost == len(unanswered)
    assert not any(request.is_attained(Objective()) for request in unanswered)
    assert min(point.ready for point in run.points if 100 <= point.at < 115) == 1


def test_draining_pods_finish_what_they_have() -> None:
    setting = replace(SETTING, start=4)
    run = make_run(setting, make_requests(3.0, 200.0, output=1000), pods=1)
    assert all(request.finished_at is not None for request in run.requests)
    assert any(point.there > point.ready == 1 for point in run.points)


def test_no_scrape_makes_keda_shrink_and_the_operator_stay() -> None:
    setting = replace(SETTING, start=4, least=1, episodes=(Episode(Fault.OUTAGE, 200.0, 900.0),))
    requests = {name: make_requests(4.0, 900.0, prompt=3000, output=300) for name in ("headroom", "keda")}
    runs = {
        name: Simulation(setting, CONTESTANTS[name].make(setting, 0.5), [found], seed=1).run()
        for name, found in requests.items()
    }
    assert runs["headroom"].shrunk_in_fault == 0
    assert runs["keda"].shrunk_in_fault > 0


def test_nan_in_one_pods_page_takes_no_pod_away_and_leaves_the_others_seen() -> None:
    scraped, engine = Scraped(), make_engine([Request(float(i), 100, 100) for i in range(10)])
    for at in (1.0, 6.0):
        engine.advance(at * 5)
        scraped.scrape("a", engine.page, at=at, fault=Fault.NO)
        scraped.scrape("b", engine.page, at=at, fault=Fault.NAN if at > 1 else Fault.NO)
    assert {name: reading.at for name, reading in scraped.latest.items()} == {"a": 6.0, "b": 1.0}
    assert scraped.total(lambda reading: reading.running) is None, "a sum with NaN is NaN"
    assert [reading.at for reading in scraped.history["b"]] == [1.0, 6.0], "its histograms are whole"
    scraped.scrape("b", engine.page, at=11.0, fault=Fault.NO)
    assert scraped.total(lambda reading: reading.running) is not None


def test_nan_hits_every_fourth_pod_so_that_the_operator_still_adds_some_and_takes_none() -> None:
    requests = [*make_requests(3.0, 300.0, prompt=3000, output=300)]
    requests += [
        Request(300 + each.arrival, each.prompt_tokens, each.output_tokens)
        for each in make_requests(9.0, 300.0, prompt=3000, output=300, seed=2)
    ]
    runs = {}
    for fault in (Fault.NAN, Fault.OUTAGE):
        setting = replace(SETTING, start=4, episodes=(Episode(fault, 290.0, 700.0),))
        controller = CONTESTANTS["headroom"].make(setting, 0.9)
        runs[fault] = Simulation(setting, controller, [copy.deepcopy(requests)], seed=1).run()
        assert runs[fault].shrunk_in_fault == 0
    added = {fault: sum(by for at, by in run.changes if 290 <= at < 600 and by > 0) for fault, run in runs.items()}
    assert added[Fault.NAN] > added[Fault.OUTAGE] == 0


def test_a_stage_begins_once_the_one_before_is_answered() -> None:
    stages = [make_requests(1.0, 30.0), make_requests(1.0, 30.0)]
    Simulation(SETTING, CONTESTANTS["static"].make(SETTING, 0), stages, seed=1).run()
    assert min(request.arrival for request in stages[1]) > max(request.finished_at or 0.0 for request in stages[0])


@pytest.mark.parametrize(
    ("fault", "value"), [(Fault.NAN, None), (Fault.OUTAGE, None), (Fault.STALE, 1.0), (Fault.NO, 0.0)]
)
def test_a_faulty_scrape_ends_the_series_or_repeats_it(fault: Fault, value: float | None) -> None:
    scraped, engine = Scraped(), make_engine([Request(0.0, 100, 100)])
    scraped.scrape("a", engine.page, at=1.0, fault=Fault.NO)
    engine.advance(100.0)
    scraped.scrape("a", engine.page, at=6.0, fault=fault)
    assert scraped.total(lambda reading: reading.running + reading.waiting) == value


def test_the_ramp_is_llm_ds() -> None:
    (requests,) = ramp(random_of(1))
    assert len(requests) == 12_480 == sum(rate * seconds for rate, seconds in RAMP)
    assert requests == sorted(requests, key=lambda request: request.arrival)
    assert all(3500 <= each.prompt_tokens <= 4500 and 900 <= each.output_tokens <= 1100 for each in requests)
    assert steady(2, 50, random_of(1))[-1].arrival == pytest.approx(50.0)
