"""Annotations by which a Prometheus finds pods: which pods have them, which port they name, and what they change."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_smoke import smoke_target_of
from tandem_operator.artifact_steps import Step
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.objects.artifact_jobs import smoke_job_of
from tandem_operator.objects.gate import GateTerms, gate_of
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.scaling_terms import gate_terms_of
from tests.builders import NAME, NAMESPACE, UID, make_config, make_deployment, make_inputs, make_role, make_spec
from tests.unit.operator.artifacts import make_artifact_body, make_job, need_of
from tests.unit.operator.golden import golden_difference

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
PLAIN, ANNOTATED = make_config(), make_config(scrapeAnnotations=True)
GATE = GateTerms("image", "pair", 1000, hold_seconds=60)


def template(role: Role, **settings: Any) -> Manifest:
    return pod_template_of(OWNER, make_inputs(make_spec(), role, **settings))


def annotated(port: int) -> Manifest:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }


def test_pods_that_prometheus_finds_by_annotations_are_the_reviewed_ones() -> None:
    templates = [template(role, scrapeAnnotations=True) for role in Role]
    difference = golden_difference("scraped-pods", [{"metadata": each["metadata"]} for each in templates])
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


@pytest.mark.parametrize(("role", "port"), [(Role.VERIFIER, HTTP_PORT), (Role.DRAFT, METRICS_PORT)])
def test_a_pod_names_one_port_that_it_has_and_is_else_what_it_was(role: Role, port: int) -> None:
    plain, scraped = template(role), template(role, scrapeAnnotations=True)
    assert "annotations" not in plain["metadata"]
    assert scraped["metadata"]["annotations"] == annotated(port)
    (container,) = scraped["spec"]["containers"]
    assert port in [each["containerPort"] for each in container["ports"]]
    del scraped["metadata"]["annotations"]
    revisions = [each["metadata"]["labels"][names.LABEL_REVISION] for each in (plain, scraped)]
    assert json.dumps(plain) == json.dumps(scraped).replace(revisions[1], revisions[0])


def test_without_annotations_a_revision_has_the_name_that_it_had() -> None:
    before = make_inputs()
    assert "scrape_annotations" not in before.as_data(), "so that an upgrade alone makes no other revision"
    assert make_inputs(scrapeAnnotations=False).revision == before.revision
    assert make_inputs(scrapeAnnotations=True).revision != before.revision, "so that a refresh brings them"


def test_a_model_is_not_asked_again_for_the_sake_of_annotations() -> None:
    source = {"persistentVolumeClaim": {"claimName": "cache", "path": "v1-vs6krw5hpv4uvw4bhiteq3q5t6"}}
    spec = make_spec(verifier={**make_role(), "model": {"source": source}})
    plain, scraped = (smoke_target_of(make_inputs(spec, scrapeAnnotations=each)) for each in (False, True))
    assert plain is not None
    assert plain == scraped


def test_a_wake_gate_names_the_port_that_has_its_metrics() -> None:
    bounds = {"minReplicas": 1, "maxReplicas": 2}
    autoscaling = {"verifier": bounds, "slo": {"timeToFirstToken": "2s"}, "idle": {"after": "10m"}}
    spec = make_spec(autoscaling=autoscaling)
    terms = [gate_terms_of(make_deployment(spec), config) for config in (PLAIN, ANNOTATED)]
    assert [each is not None and each.scrape_annotations for each in terms] == [False, True]
    plain, scraped = (
        gate_of(OWNER, each)["spec"]["template"] for each in (GATE, replace(GATE, scrape_annotations=True))
    )
    assert "annotations" not in plain["metadata"]
    assert scraped["metadata"]["annotations"] == annotated(METRICS_PORT)
    assert plain["spec"] == scraped["spec"]


def job(step: Step, *, config: OperatorConfig) -> Manifest:
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "m"}}
    bodies = {
        Phase.INSPECT: make_artifact_body(source=source),
        Phase.FETCH: make_artifact_body(),
    }
    body = bodies.get(step.phase, make_artifact_body(quantization={"scheme": "W8A8"}))
    made = make_job(need_of(body).artifact, step, by=[body], settings=Settings.of(config))
    template: Manifest = made["spec"]["template"]
    return template


@pytest.mark.parametrize("phase", [Phase.FETCH, Phase.QUANTIZE, Phase.EVALUATE, Phase.EVICT])
def test_a_job_names_the_port_that_says_how_far_it_is(phase: Phase) -> None:
    plain, scraped = (job(Step(phase), config=each) for each in (PLAIN, ANNOTATED))
    assert "annotations" not in plain["metadata"]
    assert scraped["metadata"]["annotations"] == annotated(METRICS_PORT)
    assert plain["spec"] == scraped["spec"]


def test_a_smoke_test_names_it_too() -> None:
    source = {"persistentVolumeClaim": {"claimName": "cache", "path": "v1-vs6krw5hpv4uvw4bhiteq3q5t6"}}
    target = smoke_target_of(make_inputs(make_spec(verifier={**make_role(), "model": {"source": source}})))
    assert target is not None
    plain, scraped = (
        smoke_job_of(OWNER, target, (), 600, scrape_annotations=each)["spec"]["template"] for each in (False, True)
    )
    assert "annotations" not in plain["metadata"]
    assert scraped["metadata"]["annotations"] == annotated(METRICS_PORT)
    assert plain["spec"] == scraped["spec"]


def test_a_job_without_a_port_is_not_asked() -> None:
    assert job(Step(Phase.INSPECT), config=ANNOTATED) == job(Step(Phase.INSPECT), config=PLAIN)
