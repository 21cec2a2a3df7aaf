"""Who may talk to the operator and to Jobs, and whom they may talk to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_contracts.termination import Phase
from tandem_operator import __main__, names
from tandem_operator.objects.protection import DNS_PORTS, NAMESPACE_NAME, OPERATOR_PODS
from tests.chart.rendering import VALUES, Manifest, objects, one


def policies(found: list[Manifest]) -> dict[str, Manifest]:
    """Specs of the chart's NetworkPolicies by name."""
    return {o["metadata"]["name"]: o["spec"] for o in found if o["kind"] == "NetworkPolicy"}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_operators_pods_are_those_that_engine_pods_let_in(values: Manifest, helm: str, tmp_path: Path) -> None:
    labels = one(objects(helm, values, tmp_path), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert OPERATOR_PODS.items() <= labels.items()


def test_the_operators_metrics_are_read_only_from_where_prometheus_is_said_to_be(helm: str, tmp_path: Path) -> None:
    def ingress(*namespaces: str) -> list[Manifest]:
        found = objects(helm, {"config": {"prometheusNamespaces": [*namespaces]}}, tmp_path)
        spec = policies(found)["release-tandem-operator"]
        labels = one(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
        rules: list[Manifest] = spec["ingress"]
        return rules

    health = {"ports": [{"port": __main__.HEALTH_PORT, "protocol": "TCP"}]}
    assert ingress() == [health]
    (_, metrics) = ingress("b", "a")
    assert metrics["ports"] == [{"port": __main__.METRICS_PORT, "protocol": "TCP"}]
    assert metrics["from"] == [
        {"namespaceSelector": {"matchExpressions": [{"key": NAMESPACE_NAME, "operator": "In", "values": ["b", "a"]}]}}
    ]


def test_with_the_ports_of_the_api_server_the_operator_reaches_nothing_that_it_does_not_need(
    helm: str, tmp_path: Path
) -> None:
    def egress(**config: object) -> list[Manifest] | None:
        values = {**VALUES["a way out to the API server"], "config": config}
        spec = policies(objects(helm, values, tmp_path))["release-tandem-operator"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        rules: list[Manifest] = spec["egress"]
        return rules

    def ports(rule: Manifest) -> list[int]:
        return [port["port"] for port in rule["ports"]]

    api, engines = egress() or []
    assert ports(api) == [443, 6443, *(port for port in DNS_PORTS for _ in ("UDP", "TCP"))]
    assert ports(engines) == [HTTP_PORT, METRICS_PORT]
    assert engines["to"] == [{"podSelector": {"matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}}]
    for address, port in {"http://p.m:9090": 9090, "https://p.m": 443, "http://p.m/under": 80}.items():
        (_, _, metrics) = egress(prometheus={"address": address}) or []
        assert ports(metrics) == [port]
    (_, _, pods, _) = egress(prometheus={"address": "http://p.m"}, prometheusNamespaces=["m"]) or []
    assert "ports" not in pods
    assert "Egress" not in policies(objects(helm, {}, tmp_path))["release-tandem-operator"]["policyTypes"]


def test_without_network_policies_there_is_none(helm: str, tmp_path: Path) -> None:
    assert policies(objects(helm, VALUES["without network policies"], tmp_path)) == {}


def test_jobs_that_make_models_reach_nothing_and_are_asked_only_how_far_they_are(helm: str, tmp_path: Path) -> None:
    values = {"config": {"prometheusNamespaces": ["monitoring"]}}
    spec = policies(objects(helm, values, tmp_path))["release-tandem-operator-artifacts"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert "egress" not in spec
    (rule,) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == [METRICS_PORT]
    assert [set(peer) for peer in rule["from"]] == [{"podSelector"}, {"namespaceSelector"}]
    labels, (components,) = spec["podSelector"]["matchLabels"], spec["podSelector"]["matchExpressions"]
    assert labels == {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    offline = {Phase.INSPECT, Phase.QUANTIZE, Phase.EVALUATE, Phase.SMOKE, Phase.EVICT}
    assert (components["key"], set(components["values"])) == (names.LABEL_COMPONENT, offline)


def test_a_job_that_fetches_reaches_the_hub_and_nobody_reaches_more_than_its_figures(helm: str, tmp_path: Path) -> None:
    spec = policies(objects(helm, {}, tmp_path))["release-tandem-operator-fetch"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"]["matchLabels"][names.LABEL_COMPONENT] == Phase.FETCH
    (rule,) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == [METRICS_PORT]
