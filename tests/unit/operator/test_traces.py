"""Where verifiers send traces is the administrator's affair: what pods get of it, what they may reach, and when."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.launch import LaunchOptions, Role
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_smoke import smoke_target_of
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.objects.protection import NAMESPACE_NAME
from tandem_operator.protection_plan import Served, plan_protection, terms_of
from tests.builders import NAME, NAMESPACE, UID, make_config, make_deployment, make_inputs, make_role, make_spec
from tests.selectors import Endpoint, lets_out
from tests.unit.operator.golden import golden_difference

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
COLLECTOR = "http://collector.monitoring:4317"
TRACES = {"endpoint": COLLECTOR, "namespaces": ["monitoring"]}


def engine(role: Role = Role.VERIFIER, **settings: Any) -> Manifest:
    (found,) = pod_template_of(OWNER, make_inputs(make_spec(), role, **settings))["spec"]["containers"]
    return dict(found)


def test_a_traced_verifier_is_the_reviewed_one() -> None:
    difference = golden_difference("traced-verifier", [pod_template_of(OWNER, make_inputs(traces=TRACES))])
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


def test_what_names_a_pod_is_known_before_the_variable_that_refers_to_it() -> None:
    names = [variable["name"] for variable in engine(traces=TRACES)["env"]]
    assert names.index("K8S_POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")


@pytest.mark.parametrize(
    ("traces", "url"),
    [
        ({}, ""),
        ({"endpoint": COLLECTOR}, COLLECTOR),
        ({"endpoint": "http://c:4318", "protocol": "http/protobuf"}, "http://c:4318/v1/traces"),
        ({"endpoint": "https://c/otlp/traces", "protocol": "http/protobuf"}, "https://c/otlp/traces"),
        ({"protocol": "http/protobuf"}, ""),
    ],
)
def test_the_engine_is_told_the_whole_address(traces: Manifest, url: str) -> None:
    assert make_config(traces=traces).traces.url == url
    assert LaunchOptions.parse(engine(traces=traces)["args"]).traces_endpoint == url


@pytest.mark.parametrize(
    "traces",
    [
        {"endpoint": "https://c:4317"}, {"endpoint": "http://c:4317/v1/traces"}, {"endpoint": "c:4317"},
        {"endpoint": "http://user:key@c"}, {"endpoint": "http://c/"}, {"endpoint": "http://a,b"},
        {"protocol": "http/json"}, {"namespaces": ["Monitoring"]}, {"headers": "a=b"},
    ],
)  # fmt: skip
def test_what_no_engine_could_send_to_is_refused(traces: Manifest) -> None:
    with pytest.raises(ValueError, match=r"traces"):
        OperatorConfig.model_validate({"traces": traces})


def test_without_an_endpoint_a_pod_is_what_it_was() -> None:
    before = make_inputs()
    assert make_inputs(traces={"protocol": "http/protobuf", "namespaces": ["monitoring"]}) == before
    assert "traces" not in before.as_data(), "so that an upgrade alone makes no other revision"
    assert not [each for each in engine()["env"] if each["name"].startswith(("OTEL_", "K8S_"))]


def test_drafts_send_nothing() -> None:
    assert engine(Role.DRAFT, traces=TRACES) == engine(Role.DRAFT)


def test_a_model_is_not_asked_again_for_the_sake_of_traces() -> None:
    source = {"persistentVolumeClaim": {"claimName": "cache", "path": "v1-vs6krw5hpv4uvw4bhiteq3q5t6"}}
    spec = make_spec(verifier={**make_role(), "model": {"source": source}})
    plain, traced = (smoke_target_of(make_inputs(spec, **settings)) for settings in ({}, {"traces": TRACES}))
    assert plain is not None
    assert plain == traced


def policy(role: Role, **traces: Any) -> Manifest:
    terms = terms_of(make_deployment().spec, make_config(traces=traces))
    planned = plan_protection(OWNER, Facts(), {role: Served(1, "aaaaaaaa")}, terms=terms)
    (found,) = (manifest for manifest in planned.apply if manifest["kind"] == "NetworkPolicy")
    return found


@pytest.mark.parametrize("port", [4317, 14317])
def test_verifiers_alone_may_reach_the_collectors_namespace_once_there_is_an_endpoint(port: int) -> None:
    there = Endpoint("monitoring", {"app": "collector"}, {NAMESPACE_NAME: "monitoring"})
    elsewhere = Endpoint("other", {"app": "collector"}, {NAMESPACE_NAME: "other"})
    assert lets_out(policy(Role.VERIFIER, **TRACES), there, port=port)
    assert not lets_out(policy(Role.VERIFIER, **TRACES), elsewhere, port=port)
    assert not lets_out(policy(Role.VERIFIER, endpoint=COLLECTOR), there, port=port)
    assert not lets_out(policy(Role.VERIFIER, namespaces=["monitoring"]), there, port=port)
    assert policy(Role.DRAFT, **TRACES) == policy(Role.DRAFT)
