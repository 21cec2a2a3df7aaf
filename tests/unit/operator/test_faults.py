"""What is told of a value that a field does not take: its path, the value and all that is allowed, in plain words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tandem_operator.api.faults import unknown_field
from tandem_operator.config import InvalidConfigError, OperatorConfig
from tests.builders import make_spec
from tests.documents import body_of, every_flag, every_single_change

PYTHONS = re.compile(r"[Tt]uple|Input|[Dd]ictionary|valid |Extra|Field |String|List should|pattern '")
DURATION = "a duration in whole hours, minutes and seconds, such as 90s, 10m or 1h30m"
QUOTED = "in quotes, since YAML reads a bare on, off, yes or no as true or false"


def told_of_spec(spec: Any) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        LLMDeployment.parse(body_of(spec))
    return str(caught.value)


def told_of_configuration(text: str, folder: Path) -> str:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfigError) as caught:
        OperatorConfig.load(file)
    return str(caught.value)


def test_no_fault_of_any_field_speaks_pythons_words() -> None:
    told = set()
    for document in [*every_single_change(crd_schema()["properties"]["spec"]), *every_flag()]:
        try:
            LLMDeployment.parse(body_of(document.spec))
        except InvalidSpecError as error:
            told |= {fault.allowed for fault in error.faults}
    assert len(told) > 100
    assert [each for each in sorted(told) if PYTHONS.search(each)] == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"autoscaling": {"slo": {"percentile": 200}}},
            "slo.percentile (is 200): must be from 50 to 99",
        ),
        ({"rollout": {"surgeWait": "5"}}, f"surgeWait (is '5'): must have from 2 to 20 characters: {DURATION}"),
        ({"rollout": {"surgeWait": "5 min"}}, f"surgeWait (is '5 min'): must be {DURATION}"),
        ({"rollout": {"surgeWait": 30}}, f"surgeWait (is 30): must be a text: {DURATION}; in quotes"),
        ({"speculation": {"method": False}}, f"(is false): must be 'Remote', 'InEngine', 'NGram' or 'Off'; {QUOTED}"),
        ({"servedName": True}, QUOTED),
        ({"rollout": {"strategy": True}}, "(is true): must be 'Auto', 'BlueGreen', 'Rolling' or 'Recreate'"),
        ({"access": []}, "spec.access: must be a mapping"),
        ({"access": {"allowedFrom": {}}}, "spec.access.allowedFrom: must be a list"),
        ({"verifier": None}, "spec.verifier: is required"),
    ],
)
def test_a_fault_says_all_that_is_allowed(spec: dict[str, Any], told: str) -> None:
    assert told in told_of_spec({**make_spec(), **spec})


@pytest.mark.parametrize(
    ("spec", "told"),
    [(None, "spec: is required"), ([], "spec: must be a mapping"), ("x", "spec (is 'x'): must be a mapping")],
)
def test_a_spec_that_is_no_mapping_is_told_as_what_it_is(spec: Any, told: str) -> None:
    assert told_of_spec(spec) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a text", "(is 'a text'): must be a mapping"),
        ("[]", "must be a mapping"),
        ("cacheHighPercent: 200", "cacheHighPercent (is 200): must be from 1 to 100"),
        ("leaseSeconds: long", "leaseSeconds (is 'long'): must be a whole number from 5 to 300"),
        ("prometheus: {timeoutSeconds: 0}", "prometheus.timeoutSeconds (is 0): must be above 0 and at most 30"),
        ("resyncSeconds: x", "resyncSeconds (is 'x'): must be a number, above 0"),
        ("engineImageAllowList: 3", "engineImageAllowList (is 3): must be a list"),
        ("engineImages: 3", "engineImages (is 3): must be a mapping"),
        ("shareArtifacts: 3", "shareArtifacts (is 3): must be true or false"),
        ("leaseSecond: 3", "leaseSecond: unknown field; did you mean leaseSeconds?"),
        ("gate: {colour: red}", "gate.colour: unknown field; known are image, pullSecrets"),
        (
            "prometheus: {address: prometheus}",
            "prometheus.address (is 'prometheus'): must be an address, http://HOST:PORT or https://HOST:PORT, without "
            "'/' at its end, credentials or query, or nothing",
        ),
        (
            "operatorNamespace: A_",
            "operatorNamespace (is 'A_'): must be a DNS label: lower-case letters, digits and '-', with a letter or "
            "digit at both ends; or ''",
        ),
        (
            "accelerators: {npu: {schemeNotes: {INT9: none}}}",
            "accelerators.npu.schemeNotes.INT9 (is 'INT9'): must be 'FP8_DYNAMIC', 'FP8_BLOCK', 'W8A8', 'W4A16', "
            "'W4A16_ASYM', 'W2A16', 'NVFP4', 'MXFP4' or 'MXFP8'; or 'NF4' or 'INT8'",
        ),
        (
            "accelerators: {npu: {nodeLabels: {npu: yes}}}",
            "accelerators.npu.nodeLabels.npu[0] (is true): must be a text: the value of a label: letters, digits, "
            f"'-', '_' and '.', with a letter or digit at both ends, or nothing; {QUOTED}",
        ),
        ("traces: {endpoint: 'https://a:1'}", "traces: endpoint (is https://a:1): must be http://HOST:PORT with"),
        ("cacheLowPercent: 90", "cacheLowPercent (is 90): must not be above cacheHighPercent, 80"),
        ("a: 1\n---\nb: 2\n", "holds 2 documents, must be one"),
        (
            "scope: Cluster\nleaseSeconds: 9\nscope: Namespace\n",
            "line 3, column 1: scope is there twice",
        ),
    ],
)
def test_a_fault_of_the_configuration_says_all_that_is_allowed(text: str, told: str, tmp_path: Path) -> None:
    said = told_of_configuration(text, tmp_path)
    assert said.startswith(told)
    assert not PYTHONS.search(said)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("max_depth", "unknown field; did you mean maxDepth?"),
        ("maxdept", "unknown field; did you mean maxDepth?"),
        ("colour", "unknown field; known are maxDepth, method"),
    ],
)
def test_an_unknown_field_is_told_with_the_one_that_was_meant_or_with_all(name: str, told: str) -> None:
    assert unknown_field(name, ["maxDepth", "method"]) == told
