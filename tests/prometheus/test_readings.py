"""What the operator reads from a real Prometheus is what the pods' pages tell, or nothing."""

from __future__ import annotations

import asyncio
import random
import re
import tracemalloc
from pathlib import Path

from tandem_contracts.metrics import ENGINE_RUNNING
from tandem_operator.config import PrometheusConfig
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.scaling.reading import FAMILIES, Reading, reading_in
from tests.prometheus.exporters import Exporters
from tests.prometheus.pods import KEY, MANY, SPOILT, read
from tests.prometheus.server import Prometheus

RECORDED = (Path(__file__).parents[2] / "benchmarks/scaling/vllm-page.txt").read_text()
_COUNT = re.compile(r" \d+\.\d+$", re.MULTILINE)


def make_page(seed: int, *, running: int) -> str:
    """A page that vLLM has told, with other numbers."""
    chance = random.Random(seed)
    page = _COUNT.sub(lambda _: f" {chance.randrange(10**7)}.0", RECORDED)
    page = re.sub(r"(kv_cache_usage_perc\{.*\}) \S+", r"\1 0.375", page)
    return re.sub(rf"({ENGINE_RUNNING}\{{.*\}}) \S+", rf"\1 {running}.0", page)


def told(page: str, like: Reading) -> Reading:
    """What the page tells to who reads it at the same time."""
    reading = reading_in(page, at=like.at)
    assert reading is not None
    return reading


def running(pod: str) -> str:
    """The query for what a pod says that it has running."""
    return f'{ENGINE_RUNNING}{{pod="{pod}"}}'


def test_each_pod_tells_what_its_page_tells_and_nobody_elses(prometheus: Prometheus, exporters: Exporters) -> None:
    # '.' is a sign of regular expressions, and the beginning of another name is a name of its own
    pods = ("x2x4q", "x2x4q-2", "dotted.name", "dotted-name")
    pages = {pod: make_page(number, running=number) for number, pod in enumerate(pods, start=1)}
    for pod, page in pages.items():
        exporters.serve(pod, page)
    prometheus.wait_for(f'{ENGINE_RUNNING}{{pod=~"x2.*|dotted.*"}}', 1, 1, 2, 3, 4)
    asked = ["x2x4q", "dotted.name"]
    readings, trouble = read(PrometheusConfig(address=prometheus.address), asked)
    assert trouble == ""
    assert readings == {pod: told(pages[pod], readings[pod]) for pod in asked}
    assert readings["x2x4q"].first_token.count > 0
    assert readings["x2x4q"].kv_tokens > 0


def test_an_engine_that_began_anew_tells_its_new_counts(prometheus: Prometheus, exporters: Exporters) -> None:
    exporters.serve("restarted", make_page(1, running=7))
    prometheus.wait_for(running("restarted"), 7)
    config = PrometheusConfig(address=prometheus.address)
    before = read(config, ["restarted"])[0]["restarted"]
    fresh = re.sub(rf"({ENGINE_RUNNING}\{{.*\}}) \S+", r"\1 1.0", RECORDED)
    exporters.serve("restarted", fresh)
    prometheus.wait_for(running("restarted"), 1)
    after = read(config, ["restarted"])[0]["restarted"]
    assert after == told(fresh, after)
    assert before.finished > after.finished == 0
    assert after.at > before.at


def test_a_pod_that_is_gone_or_answers_no_more_keeps_its_last_reading_with_its_time(
    prometheus: Prometheus, exporters: Exporters, folder: Path
) -> None:
    pods = ["gone", "silent", "stays"]
    for number, pod in enumerate(pods, start=1):
        exporters.serve(pod, make_page(number, running=number))
    for number, pod in enumerate(pods, start=1):
        prometheus.wait_for(running(pod), number)
    now = [0.0]

    async def main() -> None:
        readings = PrometheusReadings(PrometheusConfig(address=prometheus.address), clock=lambda: now[0])
        addresses = dict.fromkeys(pods, "10.0.0.7")
        readings.latest(KEY, addresses)
        await readings.settle(KEY)
        before = readings.latest(KEY, addresses)
        assert set(before) == set(pods)
        del exporters.pages["silent"]
        (folder / "going.json").write_text("[]")
        exporters.serve("stays", make_page(3, running=4))
        for query in (running("gone"), running("silent")):
            await asyncio.to_thread(prometheus.wait_for, query)
        await asyncio.to_thread(prometheus.wait_for, running("stays"), 4)
        now[0] += readings.interval_seconds(KEY)
        readings.latest(KEY, addresses)
        await readings.settle(KEY)
        after = readings.latest(KEY, addresses)
        assert (after["gone"], after["silent"]) == (before["gone"], before["silent"])
        assert after["stays"].at > before["stays"].at
        assert readings.latest(KEY, {"stays": "10.0.0.7"}) == {"stays": after["stays"]}
        await readings.close()

    asyncio.run(main())
    readings, trouble = read(PrometheusConfig(address=prometheus.address), ["gone", "silent"])
    assert readings == {}
    assert "does it scrape them?" in trouble


def test_a_page_with_what_is_no_count_spoils_its_pod_and_no_other(prometheus: Prometheus, exporters: Exporters) -> None:
    for pod, value in SPOILT.items():
        exporters.serve(pod, re.sub(rf"({ENGINE_RUNNING}\{{.*\}}) \S+", rf"\1 {value}", RECORDED))
    exporters.serve("stays", make_page(1, running=5))
    prometheus.wait_for(f'count({ENGINE_RUNNING}{{pod=~"{"|".join(SPOILT)}"}})', 4)
    prometheus.wait_for(running("stays"), 5)
    readings, trouble = read(PrometheusConfig(address=prometheus.address), [*SPOILT, "stays"])
    assert set(readings) == {"stays"}
    assert trouble == ""


def test_a_pod_that_two_jobs_scrape_counts_once(prometheus: Prometheus, exporters: Exporters) -> None:
    page = make_page(1, running=6)
    exporters.serve("twice", page)
    prometheus.wait_for(running("twice"), 6, 6)
    reading = read(PrometheusConfig(address=prometheus.address), ["twice"])[0]["twice"]
    assert reading == told(page, reading)


def test_counts_and_time_of_a_reading_are_of_the_same_scrape(prometheus: Prometheus, exporters: Exporters) -> None:
    page = make_page(1, running=0)
    scrapes = exporters.scrapes["counting"]
    before = len(scrapes)
    exporters.pages["counting"] = lambda: re.sub(
        rf"({ENGINE_RUNNING}\{{.*\}}) \S+", rf"\1 {len(scrapes) - before}", page
    )
    prometheus.wait_for(f"count({running('counting')} > 1)", 1)
    now = [0.0]

    async def main() -> list[Reading]:
        readings = PrometheusReadings(PrometheusConfig(address=prometheus.address), clock=lambda: now[0])
        found = []
        for _ in range(300):
            now[0] += readings.interval_seconds(KEY)
            readings.latest(KEY, {"counting": "10.0.0.7"})
            await readings.settle(KEY)
            found.append(readings.latest(KEY, {"counting": "10.0.0.7"})["counting"])
        await readings.close()
        return found

    for reading in asyncio.run(main()):
        number = before + round(reading.running) - 1
        assert scrapes[number - 1] < reading.at <= scrapes[number] + 0.001, "Prometheus knows milliseconds"


def test_ten_thousand_series_are_read_in_time_and_in_little_memory(
    prometheus: Prometheus, exporters: Exporters
) -> None:
    pages = {pod: make_page(number, running=number) for number, pod in enumerate(MANY)}
    for pod, page in pages.items():
        exporters.serve(pod, page)
    prometheus.wait_for(f'count({ENGINE_RUNNING}{{pod=~"many-.*"}})', len(MANY))
    config = PrometheusConfig(address=prometheus.address)
    read(config, ["stays"])
    tracemalloc.start()
    readings, trouble = read(config, MANY)  # in PrometheusConfig.timeout_seconds, or it would be trouble
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert trouble == ""
    assert readings == {pod: told(page, readings[pod]) for pod, page in pages.items()}
    series = sum(line.startswith(FAMILIES) for line in RECORDED.splitlines()) * len(MANY)
    assert series >= 10_000
    assert peak < 64 << 20
