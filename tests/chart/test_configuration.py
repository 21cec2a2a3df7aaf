"""The operator's configuration on its way through the values, and what the schema of the values refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.local.binaries import Binaries
from tandem_operator.config import AcceleratorOverride, OperatorConfig
from tests.chart.rendering import CHART, DIGEST, EVERYTHING, VALUES, Manifest, merged, objects, one, run


def test_the_defaults_are_those_of_the_operator(helm: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(one(objects(helm, {}, tmp_path), "ConfigMap")["data"]["config.yaml"])
    assert OperatorConfig.load(file) == OperatorConfig()


@pytest.mark.parametrize(
    ("values", "image", "secrets"),
    [
        (
            {"image": {"digest": DIGEST}, "imagePullSecrets": [{"name": "pull"}]},
            f"tandem.local/operator@{DIGEST}",
            ("pull",),
        ),
        ({"config": {"gate": {"image": "r.example/gate:1", "pullSecrets": ["other"]}}}, "r.example/gate:1", ("other",)),
    ],
    ids=["omitted", "given"],
)
def test_a_wake_gate_has_the_operators_image_unless_another_is_given(
    values: Manifest, image: str, secrets: tuple[str, ...], helm: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(one(objects(helm, values, tmp_path), "ConfigMap")["data"]["config.yaml"])
    gate = OperatorConfig.load(file).gate
    assert (gate.image, gate.pull_secrets) == (image, secrets)


def test_the_chart_knows_every_key_of_the_operators_configuration() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    assert schema.keys() == {field.alias for field in OperatorConfig.model_fields.values()}
    assert schema.keys() == yaml.safe_load((CHART / "values.yaml").read_text())["config"].keys()


def test_the_chart_knows_every_key_of_a_line_of_the_accelerator_table() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    line = schema["accelerators"]["additionalProperties"]["properties"]
    assert line.keys() == {field.alias for field in AcceleratorOverride.model_fields.values()}


def test_the_configuration_reaches_the_operator_unchanged(helm: str, tmp_path: Path) -> None:
    values = VALUES["configured"]
    file = tmp_path / "config.yaml"
    file.write_text(one(objects(helm, values, tmp_path), "ConfigMap")["data"]["config.yaml"])
    config = OperatorConfig.load(file)
    assert config.engine_images["cpu"] == values["config"]["engineImages"]["cpu"]
    assert config.engine_images["gpu"] == OperatorConfig().engine_images["gpu"]
    assert config.accelerators["mine"].host_memory == "17179869184"
    assert config.resync_seconds == 1_000_000


def test_a_changed_configuration_restarts_the_operator_and_nothing_else_does(helm: str, tmp_path: Path) -> None:
    def template(values: Manifest) -> Manifest:
        found: Manifest = one(objects(helm, values, tmp_path), "Deployment")["spec"]["template"]
        return found

    assert template({}) != template({"config": {"resyncSeconds": 30}})
    assert template({}) == template({"crds": {"keep": False}, "rbac": {"create": False}})


REFUSED: dict[str, Manifest] = {
    "unknown key": {"replica": 1},
    "unknown key below": {"image": {"name": "x"}},
    "unknown configuration": {"config": {"prometheus": "x"}},
    "a namespace without a name": {"config": {"prometheusNamespaces": [""]}},
    "negative replicas": {"replicas": -1},
    "replicas as text": {"replicas": "1"},
    "short digest": {"image": {"digest": "sha256:abc"}},
    "tag that became a number": {"image": {"tag": 123456789012}},
    "policy": {"image": {"pullPolicy": "Sometimes"}},
    "accelerator that is no object": {"config": {"accelerators": {"mine": 1}}},
    "an accelerator's unknown key": {"config": {"accelerators": {"mine": {"bar": "1"}}}},
    "environment that became a number": {"config": {"accelerators": {"cpu": {"environment": {"A": 1}}}}},
    "a namespace that cannot be": {"config": {"prometheusNamespaces": ["A_b"]}},
    "no limits": {"resources": {"limits": None}},
    "a port that there cannot be": {"networkPolicy": {"apiServerPorts": [0]}},
    "an interval without a unit": {"metrics": {"podMonitor": {"interval": "15"}}},
    "runbooks without the place of a name": {"metrics": {"prometheusRule": {"runbooks": "https://docs.example/"}}},
    "something else for a switch": {"admissionPolicy": {"create": "yes"}},
}


BY_THE_SCHEMA = "values don't meet the specifications of the schema"


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
def test_the_schema_refuses(values: Manifest, helm: str, tmp_path: Path) -> None:
    done = run(helm, values, tmp_path)
    assert done.returncode != 0
    assert BY_THE_SCHEMA in done.stderr


def open_objects_in(schema: Manifest, path: str = "") -> Iterator[str]:
    """Where a schema lets an object have keys that it does not name. A map says of what, or why of anything."""
    if "properties" in schema and schema.get("additionalProperties") is not False:
        yield path
    if schema.get("type") == "object" and not schema.keys() & {"properties", "additionalProperties", "description"}:
        yield path
    for word in ("properties", "definitions"):
        for name, below in schema.get(word, {}).items():
            yield from open_objects_in(below, f"{path}/{word}/{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(below := schema.get(word), dict):
            yield from open_objects_in(below, f"{path}/{word}")


def test_every_object_of_the_schema_is_closed_or_says_what_may_be_in_it() -> None:
    assert list(open_objects_in(json.loads((CHART / "values.schema.json").read_text()))) == []


def test_each_object_that_is_opened_is_found() -> None:
    text = (CHART / "values.schema.json").read_text()
    closed = '"additionalProperties": false,'
    assert text.count(closed) > 15
    at = -1
    for _ in range(text.count(closed)):
        at = text.index(closed, at + 1)
        opened = json.loads(text[:at] + text[at + len(closed) :])
        assert len(list(open_objects_in(opened))) == 1


def paths_of(values: Manifest, *above: str) -> Iterator[tuple[str, ...]]:
    """Every key of the values, with those above it."""
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths_of(value, *above, key)


PATHS = list(paths_of(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.timeout(120)  # a hundred runs of a fifth of a second
def test_a_value_that_is_taken_away_is_refused_by_the_schema_or_missed_by_nobody(
    binaries: Binaries, tmp_path: Path
) -> None:
    """Helm takes null for "without the default"."""
    wrong, refused = {}, set()
    for path in PATHS:
        without: Manifest | None = None
        for key in reversed(path):
            without = {key: without}
        done = run(binaries["helm4"], merged(EVERYTHING, without or {}), tmp_path)
        refused |= {path} if BY_THE_SCHEMA in done.stderr else set()
        if path not in refused and (done.returncode != 0 or "<no value>" in done.stdout):
            wrong[".".join(path)] = done.stderr[:200]
    assert wrong == {}
    assert len(PATHS) > 90
    assert {("metrics",), ("networkPolicy",), ("rbac",)} <= refused
    assert ("affinity",) not in refused
