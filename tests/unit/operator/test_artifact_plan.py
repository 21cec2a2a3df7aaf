"""The pass of a ModelArtifact, decided: from what is there of its Job and pod to what is done and said."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import ExitCode, Phase, TerminationMessage
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.accelerators import CPU, table_of
from tandem_operator.api.artifact import InspectedModel, ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_attempts import attempts_of
from tandem_operator.artifact_facts import with_artifacts
from tandem_operator.artifact_needs import Need
from tandem_operator.artifact_plan import Artifact, ArtifactPlan, Asked, Unmakeable, plan_artifact, summary_of
from tandem_operator.artifact_status import artifact_status_of
from tandem_operator.artifact_steps import Step
from tandem_operator.facts import Facts, Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason
from tandem_operator.objects.artifact_jobs import JobTerms, artifact_of, job_of
from tests.builders import NAMESPACE, make_config
from tests.unit.operator.golden import golden_difference

REPOSITORY = Path(__file__).parents[3]
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
TTL = timedelta(hours=168)
SPEC = ModelArtifactSpec.parse({"source": {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}}})
KEY = SPEC.key
OWNER = Owner(name=KEY, namespace=NAMESPACE, uid="a1")
TABLE = table_of(make_config())
FILES = ModelFiles.of(SPEC.source)
JOB = job_of(OWNER, SPEC, Step(Phase.INSPECT), JobTerms("engine-cpu:1", (TABLE[CPU],), source=FILES))
MODEL = ModelFacts(
    architecture="LlamaForCausalLM", layers=32, hidden_size=4096, attention_heads=32, kv_heads=8, head_dim=128,
    vocabulary_size=128256, tokenizer_hash="ab" * 32, data_type="bfloat16", weights_bytes=16_060_000_000,
    parameters=8_030_000_000, max_positions=131072,
)  # fmt: skip


def artifact(**parts: Any) -> Artifact:
    made = Artifact(
        name=KEY, namespace=NAMESPACE, uid="a1", resource_version="7", generation=1, is_ours=True, spec=SPEC
    )
    return replace(made, **parts)


def job(course: str = "", *, ended: datetime = NOW, uid: str = "j1", **parts: Any) -> Manifest:
    """The Job as the API server has it: running, or with the condition `course`."""
    stamp = ended.strftime("%Y-%m-%dT%H:%M:%SZ")
    end = {"type": course, "status": "True", "lastTransitionTime": stamp, "reason": "R", "message": "m"}
    manifest = {**JOB, "metadata": {**JOB["metadata"], "uid": uid, "resourceVersion": "8"}}
    return {**manifest, "status": {"conditions": [end] if course else []}, **parts}


def pod(phase: str, *, exit_code: int | None = None, message: str = "", uid: str = "j1", **status: Any) -> Manifest:
    """A pod of the Job with this uid."""
    ended = {"terminated": {"exitCode": exit_code, "message": message, "reason": "Error"}}
    state = {"waiting": {"reason": "ContainerCreating"}} if exit_code is None else ended
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{KEY}-inspect-{phase.lower()}",
            "namespace": NAMESPACE,
            "uid": f"p-{phase}",
            "labels": {**JOB["metadata"]["labels"], "batch.kubernetes.io/controller-uid": uid},
            "creationTimestamp": "2030-01-01T11:00:00Z",
        },
        "status": {"phase": phase, "containerStatuses": [{"name": "inspect", "state": state}], **status},
    }


USED = Asked()


@dataclass(frozen=True)
class Told:
    """A plan, and the status that says it."""

    plan: ArtifactPlan
    status: Manifest


def decided(
    children: tuple[Manifest, ...],
    of: Artifact,
    *,
    asked: Asked = USED,
    job: Manifest | Unmakeable = JOB,
    now: datetime = NOW,
    **more: Any,
) -> Told:
    attempts = attempts_of(children, artifact_uid="a1", mishaps={})
    plan = plan_artifact(of, attempts, asked=asked, job_of=lambda _: job, now=now, ttl=TTL, **more)
    return Told(plan, artifact_status_of(of, plan, now=now))


def planned(*children: Manifest, now: datetime = NOW, **parts: Any) -> Told:
    return decided(children, artifact(**parts), now=now)


def conditions_of(plan: Told) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in plan.status["conditions"]}


def message_of(plan: Told) -> str:
    return str(plan.status["conditions"][0]["message"])


def refusal(reason: Cause, message: str) -> str:
    code = ExitCode.SOURCE_INVALID
    return TerminationMessage(code=code, phase=Phase.INSPECT, reason=reason, message=message).encode()


UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": '0/3 nodes are available: persistentvolumeclaim "models" not found.',
}  # fmt: skip
DONE = pod("Succeeded", exit_code=0, message=MODEL.encode())
BROKEN = pod("Failed", exit_code=13, message=refusal(Cause.NO_WEIGHTS, "/models/verifier has no weights"))
SILENT = pod("Succeeded", exit_code=0)
OTHER = {names.ANNOTATION_APPLIED: "0123456789abcdef"}
INSPECTING = {"Ready": ("False", "Inspecting"), "Reconciling": ("True", "Inspecting")}


def stalled(reason: str) -> dict[str, tuple[str, str]]:
    return {"Ready": ("False", reason), "Stalled": ("True", reason)}


@pytest.mark.parametrize(
    ("children", "conditions", "said", "does"),
    [
        ([], INSPECTING, f"Job {KEY}-inspect looks into claim models, folder verifier", "make"),
        ([job()], INSPECTING, "looks into claim models, folder verifier", ""),
        ([job(), pod("Running", exit_code=None)], INSPECTING, "looks into", ""),
        (
            [job(), pod("Pending", conditions=[UNSCHEDULABLE], containerStatuses=[])],
            INSPECTING,
            'folder verifier: Unschedulable: 0/3 nodes are available: persistentvolumeclaim "models" not found.',
            "",
        ),
        ([job(), DONE], {"Ready": ("True", "Inspected")}, "LlamaForCausalLM, 8.0B parameters, 16.1 GB, bfloat16", ""),
        ([job("Complete"), DONE], {"Ready": ("True", "Inspected")}, "LlamaForCausalLM", ""),
        ([job("Complete")], INSPECTING, "the last word of its pod is on its way", ""),
        ([job("Complete"), pod("Running")], INSPECTING, "the last word of its pod is on its way", ""),
        ([job("Complete", ended=NOW - timedelta(minutes=3))], INSPECTING, "its pod was deleted", "delete"),
        ([job("Complete"), SILENT], stalled("NoFacts"), "is its image ours?", ""),
        ([job("Complete"), pod("Succeeded", exit_code=0, message="{}")], stalled("NoFacts"), "without saying", ""),
        ([job("Failed"), BROKEN], stalled("NoWeights"), "folder verifier: /models/verifier has no weights; it is", ""),
        (
            [job("Failed"), pod("Failed", exit_code=137, message="")],
            stalled("InspectFailed"),
            "failed: container inspect ended with exit code 137 (SIGKILL)",
            "",
        ),
        ([job("Failed")], stalled("InspectFailed"), "failed: R: m; it is looked at again an hour later", ""),
        ([job("Failed", ended=NOW - timedelta(hours=1)), BROKEN], INSPECTING, "looks again", "delete"),
        ([job("Complete", ended=NOW - timedelta(hours=1)), SILENT], INSPECTING, "looks again", "delete"),
        ([job(), BROKEN], INSPECTING, "folder verifier: NoWeights: /models/verifier has no weights", ""),
        ([job(), {**DONE, "metadata": {**DONE["metadata"], "labels": {}}}], INSPECTING, "looks into", ""),
        ([job(uid="j2"), DONE], INSPECTING, "looks into", ""),
        ([job(metadata={**job()["metadata"], "ownerReferences": []})], INSPECTING, "looks into", "make"),
        ([job(metadata={**job()["metadata"], "annotations": OTHER})], INSPECTING, "configuration is another", "delete"),
        ([job("Failed", metadata={**job()["metadata"], "annotations": OTHER})], INSPECTING, "another one", "delete"),
        (
            [job("Complete", metadata={**job()["metadata"], "annotations": OTHER}), SILENT],
            stalled("NoFacts"),
            "is its image ours?",
            "",
        ),
        ([job(metadata={**job()["metadata"], "annotations": {}})], INSPECTING, "looks into", ""),
        (
            [job(metadata={**job()["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z"})],
            INSPECTING,
            "is being deleted and made again",
            "",
        ),
    ],
)  # fmt: skip
def test_what_is_there_of_job_and_pod_decides(
    children: list[Manifest], conditions: dict[str, tuple[str, str]], said: str, does: str
) -> None:
    told = planned(*children)
    assert conditions_of(told) == conditions
    assert said in message_of(told)
    does_now = (told.plan.make_job is not None, told.plan.delete_job is not None)
    assert does_now == (does == "make", does == "delete")
    assert not told.plan.delete_artifact


def test_planning_again_from_what_was_written_changes_nothing() -> None:
    for children in ([], [job()], [job("Failed"), BROKEN], [job("Complete"), DONE]):
        first = planned(*children)
        later = planned(*children, status=first.status, now=NOW + timedelta(minutes=5))
        assert later.status == first.status


def test_the_facts_are_kept_when_job_and_pod_are_gone() -> None:
    first = planned(job("Complete"), DONE)
    assert InspectedModel.model_validate(first.status["model"]).layers == 32
    later = planned(status=first.status)
    assert later.status == first.status
    assert (later.plan.make_job, later.plan.delete_job, later.plan.delete_artifact) == (None, None, False)


def test_a_status_that_was_wiped_is_read_from_the_pod_again_and_one_that_was_spoilt_too() -> None:
    first = planned(job("Complete"), DONE)
    spoilt = {**first.status, "model": {**first.status["model"], "layers": 0}}
    for status in ({}, spoilt):
        assert planned(job("Complete"), DONE, status=status).status["model"] == first.status["model"]
    assert planned(status=spoilt).plan.make_job


def test_the_facts_come_back_through_the_status_as_they_were() -> None:
    status = json.loads(json.dumps(planned(job("Complete"), DONE).status))
    found = with_artifacts(Facts(), {Role.VERIFIER: Need(SPEC)}, find=lambda _: {**body(), "status": status})
    assert found.models == {Role.VERIFIER: MODEL}
    assert found.artifacts[Role.VERIFIER].reason is Reason.INSPECTED


def body() -> Manifest:
    return artifact_of(SPEC, NAMESPACE)


@pytest.mark.parametrize(
    ("there", "reason", "said"),
    [
        (None, Reason.INSPECTING, f"Job {KEY}-inspect looks into claim models, folder verifier"),
        (body(), Reason.INSPECTING, f"Job {KEY}-inspect looks into claim models, folder verifier"),
        ({**body(), "status": planned(job("Failed"), BROKEN).status}, Cause.NO_WEIGHTS, "has no weights"),
        (
            {**body(), "spec": {"source": {"persistentVolumeClaim": {"claimName": "x", "path": "y"}}},
             "status": planned(job("Complete"), DONE).status},
            Reason.KEY_MISMATCH,
            "for another source: delete it",
        ),
    ],
)  # fmt: skip
def test_a_deployment_sees_how_far_its_artifact_is(there: Manifest | None, reason: Reason | Cause, said: str) -> None:
    found = with_artifacts(Facts(), {Role.DRAFT: Need(SPEC)}, find=lambda _: there)
    assert found.models == {}
    assert found.artifacts[Role.DRAFT].reason is reason
    assert said in found.artifacts[Role.DRAFT].message


def test_an_artifact_under_a_name_that_is_not_its_key_is_not_inspected() -> None:
    told = planned(name="mine")
    assert conditions_of(told) == stalled("KeyMismatch")
    assert f"metadata.name (is 'mine'): must be {KEY}" in message_of(told)
    assert not told.plan.make_job


def test_a_spec_that_is_refused_is_told() -> None:
    plan = planned(spec=None, problem="spec.source: exactly one source")
    assert conditions_of(plan) == stalled("InvalidSpec")
    assert "spec.source: exactly one source" in message_of(plan)


def test_without_an_image_for_the_job_it_is_told_and_what_is_known_stays() -> None:
    lacking = Unmakeable(Reason.NO_INSPECT_IMAGE, "engineImages has no image of class cpu")
    assert conditions_of(decided((), artifact(), job=lacking)) == stalled("NoInspectImage")
    known = artifact(status=planned(job("Complete"), DONE).status)
    assert conditions_of(decided((), known, job=lacking)) == {"Ready": ("True", "Inspected")}


# -- going -------------------------------------------------------------------------------------------------------------

UNUSED = Asked(is_used=False)


def unused(**parts: Any) -> Told:
    return decided((job("Complete"), DONE), artifact(**parts), asked=UNUSED)


def test_an_artifact_that_nothing_refers_to_goes_after_its_time_and_not_before() -> None:
    first = unused()
    assert first.status["unusedSince"] == "2030-01-01T12:00:00Z"
    assert not first.plan.delete_artifact
    before = {**first.status, "unusedSince": "2029-12-25T12:00:01Z"}
    assert not unused(status=before).plan.delete_artifact
    assert unused(status={**first.status, "unusedSince": "2029-12-25T12:00:00Z"}).plan.delete_artifact


@pytest.mark.parametrize("there", [(), (job("Failed"),), (job(),)], ids=["no Job", "failed", "running"])
def test_nothing_looks_into_a_model_that_nothing_refers_to(there: tuple[Manifest, ...]) -> None:
    plan = decided(there, artifact(), asked=UNUSED).plan
    assert not plan.make_job
    assert (plan.delete_job.uid if plan.delete_job else "") == ("j1" if there else "")
    by_hand = decided(there, artifact(is_ours=False), asked=UNUSED).plan
    assert (by_hand.make_job is not None) is not bool(there), "whoever makes one by hand wants to know"


def test_an_artifact_in_use_never_goes_and_its_time_begins_anew() -> None:
    long_ago = {"unusedSince": "2020-01-01T00:00:00Z"}
    told = planned(job("Complete"), DONE, status=long_ago)
    assert not told.plan.delete_artifact
    assert "unusedSince" not in told.status


def test_an_artifact_that_somebody_made_by_hand_is_never_deleted() -> None:
    assert not unused(is_ours=False, status={"unusedSince": "2020-01-01T00:00:00Z"}).plan.delete_artifact


@pytest.mark.parametrize("written", ["soon", 3, ""])
def test_a_time_that_is_none_begins_anew(written: object) -> None:
    told = unused(status={"unusedSince": written})
    assert not told.plan.delete_artifact
    assert told.status["unusedSince"] == "2030-01-01T12:00:00Z"


# -- objects -----------------------------------------------------------------------------------------------------------


def test_a_source_becomes_the_reviewed_artifact_and_job() -> None:
    assert golden_difference("inspect-job", [artifact_of(SPEC, NAMESPACE), JOB]) == ""


def test_a_model_in_an_image_is_mounted_read_only_and_its_root_inspected() -> None:
    spec = ModelArtifactSpec.parse({"source": {"image": {"reference": "registry.example/llama@sha256:" + "0" * 64}}})
    terms = JobTerms("engine-cpu:1", (TABLE[CPU],), ("pull",), source=ModelFiles.of(spec.source))
    made = job_of(OWNER, spec, Step(Phase.INSPECT), terms)
    pod_spec = made["spec"]["template"]["spec"]
    assert pod_spec["volumes"][0]["image"]["reference"].startswith("registry.example/llama@sha256:")
    assert pod_spec["containers"][0]["args"] == ["--model=/models"]
    assert pod_spec["imagePullSecrets"] == [{"name": "pull"}]


def test_the_resource_has_every_fact_of_a_model() -> None:
    assert set(InspectedModel.model_json_schema(by_alias=True)["properties"]) == set(MODEL.to_data())


@pytest.mark.parametrize(
    ("changes", "summary"),
    [
        ({}, "LlamaForCausalLM, 8.0B parameters, 16.1 GB, bfloat16"),
        ({"parameters": 0, "quantization": "awq"}, "LlamaForCausalLM, 16.1 GB, bfloat16, awq"),
        ({"parameters": 950_000, "weights_bytes": 1_900_000, "data_type": ""},
         "LlamaForCausalLM, 0.9M parameters, 1.9 MB"),
    ],
)  # fmt: skip
def test_a_model_is_told_in_one_line(changes: dict[str, Any], summary: str) -> None:
    assert summary_of(replace(MODEL, **changes)) == summary
    assert names.artifact_job_name(KEY, Phase.INSPECT) == f"{KEY}-inspect"


def test_what_fake_nodes_say_of_a_model_is_facts() -> None:
    """The cluster tests need them to be of the present form."""
    (stage,) = yaml.safe_load_all((REPOSITORY / "deploy/local/stages/inspect.yaml").read_text(encoding="utf-8"))
    (message,) = re.findall(r"message: '(.*)'", stage["spec"]["next"]["statusTemplate"])
    assert ModelFacts.decode(message).architecture == "LlamaForCausalLM"
