"""What a user may write, what it means when left out, and what they are told when it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tests.builders import make_body, make_deployment, make_role, make_spec

SAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "samples").glob("*.yaml"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """A valid spec with one value replaced; `path` is dotted."""
    spec = make_spec(verifier=make_role(image="tandem.local/engine-cpu:1", count=1, replicas=1), servedName="pair")
    *parents, last = path.split(".")
    at: Any = spec
    for parent in parents:
        at = at[int(parent) if isinstance(at, list) else parent]
    at[int(last) if isinstance(at, list) else last] = value
    return spec


def test_there_are_samples() -> None:
    assert {sample.stem for sample in SAMPLES} >= {"cpu-pair", "gpu-pair", "ngram"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_every_sample_is_accepted(sample: Path) -> None:
    body = yaml.safe_load(sample.read_text(encoding="utf-8"))
    deployment = LLMDeployment.parse(body)
    assert deployment.owner.name == body["metadata"]["name"]
    assert deployment.spec.method.value == body["spec"]["speculation"]["method"]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("verifier.replicas", -1, "spec.verifier.replicas (is -1): must be from 0 to 1000"),
        ("verifier.replicas", 1001, "spec.verifier.replicas (is 1001): must be from 0 to 1000"),
        ("verifier.replicas", "many", "spec.verifier.replicas (is 'many'): must be a whole number from 0 to 1000"),
        ("verifier.accelerator.count", 0, "spec.verifier.accelerator.count (is 0): must be from 1 to 16"),
        ("verifier.accelerator.count", 17, "spec.verifier.accelerator.count (is 17): must be from 1 to 16"),
        ("verifier.accelerator.classes", [], "spec.verifier.accelerator.classes: must have from 1 to 8 items"),
        ("verifier.accelerator.classes", ["cpu"] * 9, "must have from 1 to 8 items"),
        ("verifier.accelerator.classes.0", "H100", "spec.verifier.accelerator.classes[0] (is 'H100')"),
        (
            "speculation.method",
            "Magic",
            "spec.speculation.method (is 'Magic'): must be 'Remote', 'InEngine', 'NGram' or",
        ),
        ("speculation.maxDepth", 0, "spec.speculation.maxDepth (is 0): must be from 1 to 16"),
        ("speculation.maxDepth", 17, "spec.speculation.maxDepth (is 17): must be from 1 to 16"),
        ("servedName", "", "spec.servedName (is ''): must have from 1 to 128 characters: names of letters"),
        ("servedName", "two words", "spec.servedName (is 'two words'): must be names of letters"),
        ("verifier.engine.image", "img@sha256:short", "spec.verifier.engine.image (is 'img@sha256:short')"),
        ("verifier.engine", {"type": "Magic"}, "spec.verifier.engine.type (is 'Magic'): must be 'VLLM'"),
        ("verifier.model.source", {}, "spec.verifier.model.source: exactly one source is required"),
        (
            "verifier.model.source.persistentVolumeClaim.claimName",
            "Models",
            "spec.verifier.model.source.persistentVolumeClaim.claimName (is 'Models'): must be a DNS name",
        ),
        (
            "draft.model.source.persistentVolumeClaim.path",
            "/etc",
            ".path (is '/etc'): must be a path inside the",
        ),
        ("draft.model.source.persistentVolumeClaim.path", "a/../b", "(is 'a/../b'): must be a path inside the volume"),
        ("draft.model.source.persistentVolumeClaim.path", "a//b", "(is 'a//b'): must be a path inside the volume"),
        ("draft.model.source.persistentVolumeClaim.path", "a\n", "must be a path inside the volume"),
    ],
)
def test_an_error_names_path_value_and_allowed_range(path: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        LLMDeployment.parse(make_body(changed(path, value)))
    assert expected in str(caught.value)


def test_every_error_of_a_spec_is_named_at_once() -> None:
    spec = make_spec(speculation={"method": "Magic", "maxDepth": 99})
    spec["verifier"]["accelerator"]["count"] = 0
    with pytest.raises(InvalidSpecError) as caught:
        LLMDeployment.parse(make_body(spec))
    for path in ("spec.speculation.method", "spec.speculation.maxDepth", "spec.verifier.accelerator.count"):
        assert path in str(caught.value)


@pytest.mark.parametrize("body", [{"spec": None}, {}, {"spec": {}}, {"spec": []}, {"spec": {"verifier": None}}])
def test_a_resource_without_a_usable_spec_is_an_invalid_spec_and_not_a_crash(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError, match="spec"):
        LLMDeployment.parse({"metadata": {"name": "pair", "namespace": "chat"}, **body})


def test_remote_without_a_draft_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match=r"spec\.draft is required when spec\.speculation\.method is Remote"):
        make_deployment(make_spec(draft=None))


def test_an_omitted_method_is_remote_when_there_is_a_draft_and_off_when_there_is_none() -> None:
    assert make_deployment(make_spec(speculation=None)).spec.method is Speculation.REMOTE
    assert make_deployment(make_spec(speculation={"maxDepth": 3})).spec.method is Speculation.REMOTE
    assert make_deployment(make_spec(speculation=None, draft=None)).spec.method is Speculation.OFF


@pytest.mark.parametrize(("method", "wanted"), [("Remote", True), ("NGram", False), ("Off", False)])
def test_draft_pods_are_wanted_only_while_the_method_is_remote(method: str, wanted: bool) -> None:
    deployment = make_deployment(make_spec(speculation={"method": method}))
    assert deployment.uses(Role.DRAFT) is wanted
    assert deployment.uses(Role.VERIFIER)


def test_what_is_left_out_has_the_documented_defaults() -> None:
    deployment = make_deployment(make_spec(verifier=make_role(count=None), speculation=None))
    verifier = deployment.spec.verifier
    assert (verifier.replicas, verifier.accelerator.count, verifier.engine.image) == (1, None, None)
    assert deployment.spec.speculation.max_depth == 5
    assert deployment.served_name == "pair"


def test_a_null_counts_as_left_out_as_it_does_for_the_api_server() -> None:
    spec = make_spec(verifier=make_role(count=2), servedName=None)
    spec["servedName"] = spec["verifier"]["replicas"] = spec["verifier"]["engine"] = None
    assert make_deployment(spec) == make_deployment(make_spec(verifier=make_role(count=2)))


def test_a_served_name_wins_over_the_name_of_the_resource() -> None:
    assert make_deployment(make_spec(servedName="meta/llama-3:70b")).served_name == "meta/llama-3:70b"


def test_a_field_of_a_newer_crd_does_not_stop_an_older_operator() -> None:
    spec = make_spec(somethingNew={"a": 1})
    spec["verifier"]["somethingNew"] = True
    assert make_deployment(spec) == make_deployment()


def test_identity_is_known_also_when_the_spec_is_not() -> None:
    deployment = LLMDeployment.parse(make_body(generation=7))
    assert deployment.generation == 7
    assert (deployment.owner.namespace, deployment.owner.name) == ("chat", "pair")


def test_the_longest_allowed_name_leaves_every_child_a_valid_name() -> None:
    name = "n" * names.NAME_MAX_LENGTH
    for child in (
        names.role_child_name(name, Role.VERIFIER, revision="0" * 8),
        names.role_child_name(name, Role.DRAFT, revision="0" * 8),
        names.draft_service_name(name, "0" * 8),
    ):
        assert len(child) <= 63


@pytest.mark.parametrize("name", ["UPPER", "1abc", "a" * 41, "with.dot", "-a", "a-"])
def test_a_name_that_the_crd_refuses_is_refused_offline_too(name: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"metadata\.name"):
        make_deployment(name=name)


@pytest.mark.parametrize(("path", "value"), [("verifier.replicas", "2"), ("verifier.accelerator.count", True)])
def test_a_number_in_another_type_is_refused_as_the_api_server_does(path: str, value: Any) -> None:
    with pytest.raises(InvalidSpecError):
        LLMDeployment.parse(make_body(changed(path, value)))


def test_a_value_of_any_length_gives_a_message_that_can_be_shown() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        LLMDeployment.parse(make_body(changed("speculation.method", "x" * 100_000)))
    assert "spec.speculation.method" in str(caught.value)
    assert len(str(caught.value)) < 2000
