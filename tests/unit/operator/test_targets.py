"""Which revision a spec asks for: stable hashes, frozen revisions that stay, and specs that cannot be acted on."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.engine_settings import EngineSettings
from tandem_contracts.launch import Role, Speculation
from tandem_operator.accelerators import table_of
from tandem_operator.facts import Facts, Manifest, RevisionFacts
from tandem_operator.inputs import RejectedSpecError, is_same_request, requested_of
from tandem_operator.names import Reason
from tandem_operator.role_inputs import NOT_HASHED, RoleInputs
from tandem_operator.targets import intent_of, wants_of
from tests.builders import make_body, make_config, make_deployment, make_inputs, make_revision, make_role, make_spec

LATER = {field.name for field in fields(RoleInputs) if field.default is not MISSING} - {"engine"}
GPU = ("nvidia-h100-80gb",)


def wants(spec: Manifest, facts: Facts | None = None, **settings: Any) -> dict[Role, Any]:
    config = make_config(**settings)
    wanted = wants_of(make_deployment(spec), facts or Facts(), config=config, table=table_of(config))
    return dict(wanted.roles)


def revision_of(spec: Manifest, role: Role = Role.VERIFIER, **settings: Any) -> str:
    revision: str = wants(spec, **settings)[role].target.revision
    return revision


def frozen(*revisions: RevisionFacts) -> Facts:
    return Facts(revisions=revisions)


def reversed_keys(value: Any) -> Any:
    """The same document with the keys of every mapping the other way round."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_a_revision_is_eight_hex_digits() -> None:
    for role in Role:
        assert re.fullmatch(r"[0-9a-f]{8}", revision_of(make_spec(), role))


def test_a_revision_covers_everything_that_the_pod_template_is_rendered_from() -> None:
    engine = EngineSettings(max_model_length=1)
    inputs = replace(make_inputs(make_spec()), engine=engine, **dict.fromkeys(LATER, "set"))
    hashed = {field.name for field in fields(inputs) if field.metadata != NOT_HASHED}
    assert inputs.as_data().keys() == hashed
    assert hashed == {field.name for field in fields(inputs)} - {"drain_seconds", "start_limit_seconds"}


def test_a_revision_that_does_not_use_a_later_field_keeps_its_name() -> None:
    data = make_inputs(make_spec()).as_data()
    assert data.keys() == {
        "role", "served_name", "claim_name", "model_path", "image", "accelerators", "count", "speculation", "max_depth",
    }  # fmt: skip


def test_another_order_of_keys_is_the_same_revision() -> None:
    spec = make_spec(verifier=make_role(count=2, replicas=3))
    for role in Role:
        assert revision_of(reversed_keys(spec), role) == revision_of(spec, role)


def test_the_order_of_node_labels_and_environment_in_the_configuration_does_not_matter() -> None:
    labels = {"a": "1", "b": "2"}
    one = {"cpu": {"nodeLabels": labels, "environment": labels}}
    assert revision_of(make_spec(), accelerators=one) == revision_of(make_spec(), accelerators=reversed_keys(one))


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_replicas_are_never_in_a_revision(verifiers: int, drafts: int) -> None:
    spec = make_spec(verifier=make_role(replicas=verifiers), draft=make_role("draft", replicas=drafts))
    wanted = wants(spec)
    plain = wants(make_spec())
    for role in Role:
        assert wanted[role].target == plain[role].target
    assert wanted[Role.VERIFIER].replicas == verifiers
    assert wanted[Role.DRAFT].replicas == (drafts if verifiers else 0)


def test_a_draft_without_verifiers_holds_no_hardware_also_while_the_spec_is_refused() -> None:
    spec = make_spec(verifier=make_role(replicas=0), draft=make_role("draft", replicas=2))
    assert wants(spec)[Role.DRAFT].replicas == 0
    spec["verifier"]["accelerator"]["classes"] = ["no-such-class"]
    intent = intent_of(make_body(spec), Facts(), config=make_config(), table=table_of(make_config()))
    assert intent.problem is not None
    assert intent.asked_replicas == {Role.VERIFIER: 0, Role.DRAFT: 0}


@pytest.mark.parametrize(
    ("changed", "verifier_changes", "draft_changes"),
    [
        ({"servedName": "other"}, True, True),
        ({"verifier": make_role("other")}, True, False),
        ({"verifier": make_role(count=2)}, True, False),
        ({"draft": make_role("other")}, False, True),
        ({"draft": make_role("draft", count=2)}, False, True),
        ({"speculation": {"method": "Remote", "maxDepth": 3}}, True, False),
        ({"speculation": {"maxDepth": 4}}, False, False),
        ({"verifier": make_role(count=1)}, False, False),
        ({"verifier": {**make_role(), "engine": {"maxModelLength": 4096}}}, True, False),
        ({"verifier": {**make_role(), "engine": {"args": {"seed": 1}}}}, True, False),
        ({"verifier": {**make_role(), "engine": {"paging": {}}}}, False, False),
        ({"draft": {**make_role("draft"), "scheduling": {"topologySpread": "Zone"}}}, False, True),
        ({"access": {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}}, True, False),
        ({"access": {"allowedFrom": [{"podLabels": {"app": "web"}}]}}, False, False),
        ({"rollout": {"strategy": "Recreate", "drainTimeout": "1m", "onFailure": "Hold"}}, False, False),
    ],
)
def test_a_change_is_in_the_revision_of_the_role_that_it_restarts(
    changed: Manifest, verifier_changes: bool, draft_changes: bool
) -> None:
    before, after = make_spec(), make_spec(**changed)
    assert (revision_of(before) != revision_of(after)) is verifier_changes
    assert (revision_of(before, Role.DRAFT) != revision_of(after, Role.DRAFT)) is draft_changes


def test_a_method_without_drafts_wants_none() -> None:
    assert wants(make_spec(speculation={"method": "NGram"})).keys() == {Role.VERIFIER}


def test_a_changed_default_image_keeps_the_frozen_revision() -> None:
    old, new = {"cpu": "engine:1"}, {"cpu": "engine:2"}
    kept = make_revision(make_spec(), engineImages=old)
    target = wants(make_spec(), frozen(kept), engineImages=new)[Role.VERIFIER].target
    assert target is kept
    assert target.template["spec"]["containers"][0]["image"] == "engine:1"
    assert revision_of(make_spec(), engineImages=new) != kept.revision


@pytest.mark.parametrize(
    "override",
    [{"hostMemory": "8Gi"}, {"environment": {"A": "1"}}, {"nodeLabels": {"a": "b"}}, {"quantity": "2"}],
    ids=lambda override: next(iter(override)),
)
def test_a_changed_line_of_the_accelerator_table_keeps_the_frozen_revision(override: Manifest) -> None:
    kept = make_revision(make_spec())
    assert wants(make_spec(), frozen(kept), accelerators={"cpu": override})[Role.VERIFIER].target is kept


def test_a_frozen_revision_goes_on_when_its_class_or_image_is_gone_from_the_configuration() -> None:
    spec = make_spec(verifier=make_role(classes=("npu",), image="mine:1"), speculation={"method": "Off"})
    settings = {"accelerators": {"npu": {"resource": "x/npu"}}, "engineImageAllowList": ["mine:1"]}
    kept = make_revision(spec, **settings)
    assert wants(spec, frozen(kept))[Role.VERIFIER].target is kept
    with pytest.raises(RejectedSpecError):
        wants(spec)


def test_a_spec_that_goes_back_finds_its_first_revision_again() -> None:
    spec_a, spec_b = make_spec(), make_spec(verifier=make_role("other"))
    first = make_revision(spec_a, number=1, engineImages={"cpu": "engine:1"})
    second = make_revision(spec_b, number=2, engineImages={"cpu": "engine:1"})
    again = wants(spec_a, frozen(second, first), engineImages={"cpu": "engine:9"})[Role.VERIFIER].target
    assert again is first


def test_a_new_revision_is_numbered_after_the_newest_one_of_its_role() -> None:
    facts = frozen(
        make_revision(make_spec(), number=4),
        make_revision(make_spec(verifier=make_role("b")), number=7),
        make_revision(make_spec(), Role.DRAFT, number=30),
    )
    assert wants(make_spec(verifier=make_role("c")), facts)[Role.VERIFIER].target.number == 8
    assert wants(make_spec())[Role.VERIFIER].target.number == 1


def test_a_default_that_is_written_out_is_the_same_revision() -> None:
    kept = make_revision(make_spec(), engineImages={"cpu": "engine:1"})
    spelt = make_spec(verifier=make_role(image="engine:1"))
    settings = {"engineImages": {"cpu": "engine:1"}, "engineImageAllowList": ["engine:1"]}
    target = wants(spelt, frozen(kept), **settings)[Role.VERIFIER].target
    assert replace(target, wordings=()) == kept
    assert len(target.wordings) == 1, "and that it was asked for so is written down"


def test_a_field_that_a_newer_operator_adds_with_a_default_keeps_the_frozen_revision() -> None:
    """An older operator froze what it knew; what it did not know counts as left out."""
    new = make_revision(make_spec(), engineImages={"cpu": "engine:1"})
    requested = copy.deepcopy(new.requested)
    del requested["engine"]["type"]  # as if `type` had come with this version
    old = replace(new, requested=requested)
    assert wants(make_spec(), frozen(old), engineImages={"cpu": "engine:2"})[Role.VERIFIER].target is old


def test_a_request_that_the_first_version_froze_is_still_the_same_request() -> None:
    """As 0.1.0 wrote it, before there were engine settings, scheduling, access and drafts in the engine."""
    frozen_then = {
        "model": {"source": {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}}},
        "engine": {"type": "VLLM"},
        "accelerator": {"classes": ["cpu"], "count": 1},
        "servedName": "pair",
        "speculation": "Remote",
        "maxDepth": 4,
    }
    deployment = make_deployment(make_spec(verifier=make_role(count=1)))
    assert is_same_request(frozen_then, requested_of(deployment, Role.VERIFIER))
    other = make_deployment(make_spec(verifier={**make_role(count=1), "engine": {"dataType": "float16"}}))
    assert not is_same_request(frozen_then, requested_of(other, Role.VERIFIER))


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"type": "Transformers"},
        {"type": "Triton", "scheduler": {"maxSequences": 16}},
        {"type": "VLLM", "dataType": "float16", "args": {"seed": 1}},
    ],
)
def test_a_request_that_is_frozen_is_read_again_as_the_same_request(engine: Manifest) -> None:
    deployment = make_deployment(make_spec(draft={**make_role(), "engine": engine}))
    requested = requested_of(deployment, Role.DRAFT)
    assert is_same_request(json.loads(json.dumps(requested)), requested)


@pytest.mark.parametrize("unreadable", [{}, {"model": 3}, {"engine": {"type": "Abacus"}}])
def test_a_frozen_request_that_cannot_be_read_is_no_ones(unreadable: Manifest) -> None:
    assert not is_same_request(unreadable, requested_of(make_deployment(), Role.VERIFIER))
    other = replace(make_revision(make_spec(verifier=make_role("other"))), requested=unreadable)
    assert wants(make_spec(), frozen(other))[Role.VERIFIER].target.revision == revision_of(make_spec())


def test_a_role_never_takes_the_revision_of_the_other() -> None:
    spec = make_spec(verifier=make_role("same"), draft=make_role("same"), speculation={"method": "Remote"})
    drafts = make_revision(spec, Role.DRAFT)
    target = wants(spec, frozen(drafts))[Role.VERIFIER].target
    assert target.role is Role.VERIFIER
    assert target.revision != drafts.revision


@pytest.mark.parametrize(
    ("spec", "settings", "reason", "parts"),
    [
        (
            make_spec(verifier=make_role(classes=("cpu", "nvidia-h100"))),
            {},
            Reason.UNKNOWN_ACCELERATOR_CLASS,
            [
                "spec.verifier.accelerator.classes",
                "(is nvidia-h100)",
                "nvidia-h100-80gb",
                "`tandem accelerators` lists them",
            ],
        ),
        (
            make_spec(draft=make_role("draft", ("nvidia-l4-24gb", "amd-mi300x-192gb"))),
            {},
            Reason.MIXED_ACCELERATOR_RESOURCES,
            ["spec.draft.accelerator.classes", "(is nvidia-l4-24gb, amd-mi300x-192gb)", "amd.com/gpu, nvidia.com/gpu"],
        ),
        (
            make_spec(verifier=make_role(image="mine:2")),
            {"engineImageAllowList": ["mine:1", "ours:.*"]},
            Reason.ENGINE_IMAGE_NOT_ALLOWED,
            ["spec.verifier.engine.image", "(is mine:2)", "mine:1, ours:.*"],
        ),
        (
            make_spec(verifier=make_role(image="mine:2")),
            {},
            Reason.ENGINE_IMAGE_NOT_ALLOWED,
            ["spec.verifier.engine.image", "engineImageAllowList is empty"],
        ),
        (
            make_spec(verifier=make_role(classes=("amd-mi300x-192gb",))),
            {},
            Reason.ENGINE_IMAGE_NOT_ALLOWED,
            ["spec.verifier.engine.image (is omitted)", "'rocm'", "cpu, cpu-artifacts, cpu-triton, gpu, gpu-artifacts"],
        ),
        (
            make_spec(verifier=make_role(classes=("intel-gaudi3-128gb",))),
            {"engineImages": {"gaudi": "g:1", "cpu": "c:1"}},
            Reason.METHOD_NOT_SUPPORTED,
            ["spec.speculation.method (is Remote)", "intel-gaudi3-128gb", "NGram, Off"],
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else None,
)
def test_a_spec_that_cannot_be_acted_on_is_refused_with_reason_path_value_and_range(
    spec: Manifest, settings: Manifest, reason: Reason, parts: list[str]
) -> None:
    with pytest.raises(RejectedSpecError) as caught:
        wants(spec, **settings)
    assert caught.value.reason is reason
    for part in parts:
        assert part in str(caught.value)


def test_a_class_that_only_verifies_remotely_can_still_serve_drafts() -> None:
    settings = {"accelerators": {"cpu": {"methods": ["Remote"]}}}
    assert wants(make_spec(), **settings).keys() == set(Role)


def test_all_gpus_of_a_replica_are_one_tensor_parallel_group_and_a_cpu_is_one_rank() -> None:
    gpu = make_inputs(make_spec(verifier=make_role(classes=GPU, count=4)))
    assert gpu.tensor_parallel == 4
    assert make_inputs(make_spec(verifier=make_role(count=4))).tensor_parallel == 1


def test_a_draft_never_speculates_and_off_has_no_depth() -> None:
    draft = make_inputs(make_spec(), Role.DRAFT)
    assert (draft.speculation, draft.max_depth) == (Speculation.OFF, 0)
    off = make_inputs(make_spec(speculation={"method": "Off", "maxDepth": 7}))
    assert (off.speculation, off.max_depth) == (Speculation.OFF, 0)
