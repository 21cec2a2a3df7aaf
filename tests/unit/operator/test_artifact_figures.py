"""Metrics of artifacts as Prometheus reads them: what is in the store at that moment, and what passes have counted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import kopf
import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tandem_operator import __main__ as program
from tandem_operator import names
from tandem_operator.artifact_figures import EVICTIONS, JOBS, ArtifactFigures
from tandem_operator.deployment_figures import DeploymentFigures
from tandem_operator.facts import Manifest
from tandem_operator.store import Key, Store
from tests.builders import NAMESPACE
from tests.unit.operator.artifact_passes import ARTIFACT_PATH, JOB_PATH, NOW, VERIFIER, World, play
from tests.unit.operator.artifact_world import Nodes
from tests.unit.operator.artifacts import FETCHED, MADE, make_artifact_body, need_of

QUANTIZED = {"scheme": "W8A8"}
KEY = need_of(make_artifact_body(quantization=QUANTIZED)).key
STEPS = ("inspect", "fetch", "quantize", "evaluate", "smoke", "evict")


@contextmanager
def exported(store: Store) -> Iterator[None]:
    figures = ArtifactFigures(store)
    REGISTRY.register(figures)
    try:
        yield
    finally:
        REGISTRY.unregister(figures)


def figures_of(artifact: str, namespace: str = NAMESPACE) -> dict[str, tuple[dict[str, str], float]]:
    """One artifact's samples by name, without what all begin with: labels and value."""
    whose = {"namespace": namespace, "artifact": artifact}
    found = {}
    for family in text_string_to_metric_families(generate_latest(REGISTRY).decode()):
        for sample in family.samples:
            if whose.items() <= sample.labels.items():
                labels = {name: value for name, value in sample.labels.items() if name not in whose}
                found[sample.name.removeprefix("tandem_artifact_")] = labels, sample.value
    return found


def counted() -> dict[str, float]:
    where = {"namespace": NAMESPACE}
    jobs = {step: REGISTRY.get_sample_value("tandem_artifact_jobs_total", {**where, "step": step}) for step in STEPS}
    gone = REGISTRY.get_sample_value("tandem_artifact_evictions_total", where)
    return {name: value for name, value in {**jobs, "gone": gone}.items() if value is not None}


def since(before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}


def make_raw(name: str, version: int, *, namespace: str = NAMESPACE) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return {"kind": names.ARTIFACT_KIND, "metadata": metadata, "spec": {}}


def test_a_quantized_model_is_told_with_its_size_the_time_it_took_and_its_loss_in_base_units() -> None:
    async def script(world: World) -> None:
        with exported(world.store):
            world.deploy(spec=make_artifact_body(quantization=QUANTIZED)["spec"])
            await world.settle()
            assert figures_of(KEY) == {"ready": ({"reason": "SourceNotReady"}, 0)}
            await Nodes().live(world)
            texts = {"texts": "built-in"}
            assert figures_of(KEY) == {
                "ready": ({"reason": "MeasuredLoss"}, 1),
                "size_bytes": ({}, MADE.bytes),
                "making_seconds": ({}, 3.5),
                "perplexity_increase_ratio": (texts, pytest.approx(0.001)),
                "perplexity_increase_upper_ratio": (texts, pytest.approx(0.002)),
                "kl_divergence_nats": (texts, 0.001),
                "top1_agreement_ratio": (texts, 0.99),
            }

    play(script)


def test_an_artifact_without_a_status_is_not_ready_and_one_that_is_gone_is_not_told() -> None:
    store = Store()
    with exported(store):
        store.observe(make_raw("mine", 1))
        store.observe(make_raw("mine", 2, namespace="other"))
        for namespace in (NAMESPACE, "other"):
            assert figures_of("mine", namespace) == {"ready": ({"reason": ""}, 0)}
        store.forget(make_raw("mine", 3))
        assert figures_of("mine") == {}
        assert figures_of("mine", "other") != {}


@pytest.mark.parametrize(("truth", "told"), [("False", False), ("Unknown", False), ("True", True)])
def test_a_model_that_nobody_asks_for_is_told_where_it_is_there_and_not_as_missing(truth: str, *, told: bool) -> None:
    ready = {"type": "Ready", "status": truth, "reason": "FetchFailed"}
    store = Store()
    with exported(store):
        store.observe({**make_raw("mine", 1), "status": {"conditions": [ready]}})
        assert "ready" in figures_of("mine")
        unused = {"conditions": [ready], "unusedSince": "2030-05-01T12:00:00Z"}
        store.observe({**make_raw("mine", 2), "status": unused})
        assert ("ready" in figures_of("mine")) is told


def test_jobs_and_evictions_are_counted_once_however_often_passes_look() -> None:
    async def script(world: World) -> None:
        before, nodes = counted(), Nodes()
        world.deploy(spec=make_artifact_body(quantization=QUANTIZED, ttl="1h")["spec"])
        await nodes.live(world)
        made = {"fetch": 1, "quantize": 1, "evaluate": 1, "smoke": 1}
        assert since(before) == made
        world.deploy("two", make_artifact_body(quantization=QUANTIZED, ttl="1h")["spec"], uid="u2")
        await nodes.live(world)
        again = World(world.server, world.reconciler._cluster)
        await nodes.live(again)
        assert since(before) == made, "one that finds the model made, and an operator that starts anew, make no Job"
        again.now = NOW + timedelta(hours=2)
        await nodes.live(again)
        assert since(before) == {**made, "evict": 1, "gone": 1}

    play(script)


def test_a_namespace_has_each_figure_from_its_first_pass_on_since_a_rate_needs_a_first_value() -> None:
    async def script(world: World) -> None:
        for counter in (JOBS, EVICTIONS):
            counter.clear()
        assert counted() == {}
        world.deploy(spec=make_artifact_body(quantization=QUANTIZED)["spec"])
        (key,) = await world.reconciler.fill(NAMESPACE)
        await world.reconciler.run(key)
        assert counted() == dict.fromkeys((*STEPS, "gone"), 0)

    play(script)


def test_an_eviction_is_counted_by_the_pass_that_ends_it_and_not_by_those_that_have_not_heard_of_that() -> None:
    async def script(world: World) -> None:
        key, nodes = Key(NAMESPACE, FETCHED.key, names.ARTIFACT_KIND), Nodes()
        world.deploy(spec=make_artifact_body(ttl="1h")["spec"])
        await nodes.live(world)
        world.undeploy()
        for hours in (1, 3):
            world.now = NOW + timedelta(hours=hours)
            await world.settle()
        nodes.step(world)
        assert nodes.begun[-1] == f"{FETCHED.key}-evict"
        await world.reconciler.fill(NAMESPACE)
        before = counted()
        for _ in range(2):
            await world.reconciler.run(key)
            assert world.paths(names.ARTIFACT_KIND) == []
            assert since(before) == {"gone": 1}
        assert [r.method for r in world.server.requests].count("DELETE") == 2, "the second pass knew no better"

    play(script)


def test_a_job_that_was_there_and_a_folder_that_nobody_reads_any_more_are_not_counted() -> None:
    async def script(world: World) -> None:
        before = counted()
        world.deploy()
        await world.settle()
        assert since(before) == {"inspect": 1}
        again = World(world.server, world.reconciler._cluster)
        for path in (ARTIFACT_PATH, *world.paths(names.KIND)):
            again.store.observe(world.server.objects[path])
        await again.reconciler.run(VERIFIER)
        assert JOB_PATH in world.server.objects
        world.undeploy()
        for days in (1, 400):
            again.now = NOW + timedelta(days=days)
            await again.settle()
        assert ARTIFACT_PATH not in world.server.objects
        assert since(before) == {"inspect": 1}, "its files are somebody else's"

    play(script)


def test_a_scrape_in_its_own_thread_takes_what_is_there_while_watch_events_change_it() -> None:
    store, ended = Store(), threading.Event()
    for number in range(200):
        store.observe(make_raw(f"kept-{number}", number + 1))

    def watch() -> None:
        number = 1000
        while not ended.is_set():
            store.observe(make_raw(f"new-{number % 50}", number))
            store.forget(make_raw(f"new-{number % 50}", number + 1))
            number += 2

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for _ in range(50):
            found = {artifact["metadata"]["name"] for artifact in store.artifacts(NAMESPACE)}
            assert found >= {f"kept-{number}" for number in range(200)}
    finally:
        ended.set()
        watching.join()
        sys.setswitchinterval(before)


def test_the_operator_exports_them_where_it_has_a_port_for_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[object] = []
    monkeypatch.setattr(REGISTRY, "register", registered.append)
    monkeypatch.setattr(program, "start_http_server", lambda _: None)
    monkeypatch.setattr(program, "set_up", lambda **_: None)
    monkeypatch.setattr(kopf, "run", lambda **_: None)
    for port, is_exported in (("0", False), ("9090", True)):
        monkeypatch.setattr(sys, "argv", ["tandem_operator", "--namespace", NAMESPACE, "--metrics-port", port])
        assert program.main() == 0
        assert [type(each) for each in registered] == [ArtifactFigures, DeploymentFigures] * is_exported
