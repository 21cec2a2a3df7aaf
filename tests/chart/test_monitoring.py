"""How Prometheus finds what has metrics: by monitors, or by annotations."""

from __future__ import annotations

from pathlib import Path

from deploy.grafana.rules import ALERTS
from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT_NAME, METRICS_PORT_NAME
from tandem_operator import __main__, names
from tests.chart.rendering import VALUES, Manifest, objects, one


def test_prometheus_finds_every_port_with_metrics(helm: str, tmp_path: Path) -> None:
    found = objects(helm, VALUES["watched"], tmp_path)
    pods, service = one(found, "PodMonitor"), one(found, "ServiceMonitor")
    assert pods["metadata"]["labels"]["release"] == service["metadata"]["labels"]["release"] == "prometheus"
    assert pods["spec"]["selector"]["matchLabels"] == {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    endpoints = pods["spec"]["podMetricsEndpoints"]
    assert [endpoint["port"] for endpoint in endpoints] == [HTTP_PORT_NAME, METRICS_PORT_NAME]
    (kept,) = endpoints[0]["relabelings"]
    assert kept["regex"] == Role.VERIFIER, "a wake gate's port of that name has no metrics"
    labels = one(found, "Service")["metadata"]["labels"]
    assert service["spec"]["selector"]["matchLabels"].items() <= labels.items()
    pod = one(found, "Deployment")["spec"]["template"]
    assert one(found, "Service")["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert one(found, "Service")["spec"]["ports"][0]["targetPort"] in ports
    unwatched = {o["kind"] for o in objects(helm, {}, tmp_path)}
    assert not {"PodMonitor", "ServiceMonitor", "Service"} & unwatched


def test_prometheus_may_find_the_operator_by_annotations(helm: str, tmp_path: Path) -> None:
    def annotations(values: Manifest) -> Manifest:
        found: Manifest = one(objects(helm, values, tmp_path), "Deployment")["spec"]["template"]["metadata"]
        return {key: text for key, text in found["annotations"].items() if key.startswith("prometheus.io/")}

    assert annotations({}) == {}
    assert annotations(VALUES["watched by annotations"]) == {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/port": str(__main__.METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }


def test_each_alert_points_to_its_own_runbook(helm: str, tmp_path: Path) -> None:
    def pages(runbooks: str) -> dict[str, str | None]:
        rule = {"create": True, "runbooks": runbooks}
        found = one(objects(helm, {"metrics": {"prometheusRule": rule}}, tmp_path), "PrometheusRule")
        return {
            rule["alert"]: rule["annotations"].get("runbook_url")
            for group in found["spec"]["groups"]
            for rule in group["rules"]
            if "alert" in rule
        }

    alerts = {alert.name for alert in ALERTS}
    assert pages("https://d.example/{name}.html") == {name: f"https://d.example/{name}.html" for name in alerts}
    assert pages("") == dict.fromkeys(alerts)
