"""Every pod that Tandem starts is let in by PodSecurity `restricted`; and our judge refuses what that refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import model_volume
from tandem_contracts.launch import Role
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.accelerators import SHIPPED
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_steps import Measurement, Step
from tandem_operator.cli.plan import plan_of
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.objects.artifact_jobs import JobTerms, job_of
from tandem_operator.objects.pod_template import pod_template_of
from tests.builders import NAME, NAMESPACE, UID, make_inputs, make_role, make_spec
from tests.pod_security import pods_of, violations_beyond_restricted, violations_of_restricted
from tests.unit.operator.artifacts import SOURCE, make_artifact_body, make_job, make_texts, need_of

REPOSITORY = Path(__file__).parents[3]
SAMPLES = sorted((REPOSITORY / "deploy" / "samples").glob("*.yaml"))
OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
IMAGES = {accelerator.engine_image: "registry.example/engine:1" for accelerator in SHIPPED}


def pods_of_sample(sample: Path) -> dict[str, Manifest]:
    pods: dict[str, Manifest] = {}
    for body in yaml.safe_load_all(sample.read_text(encoding="utf-8")):
        if body and body["kind"] == names.KIND:
            body["metadata"].update(namespace=NAMESPACE, uid=UID)
            pods |= pods_of([apply.manifest for apply in plan_of(body, OperatorConfig(engine_images=IMAGES)).apply])
    return pods


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_every_pod_of_a_sample_is_restricted_and_more(sample: Path) -> None:
    pods = pods_of_sample(sample)
    assert pods
    for name, pod in pods.items():
        assert violations_of_restricted(pod) == [], name
        assert violations_beyond_restricted(pod) == [], name


@pytest.mark.parametrize("accelerator", SHIPPED, ids=lambda accelerator: accelerator.name)
def test_an_engine_is_restricted_and_more_on_every_accelerator(accelerator: Any) -> None:
    spec = make_spec(draft=make_role(classes=(accelerator.name,)))  # any class may be asked for drafts
    pod = pod_template_of(OWNER, make_inputs(spec, Role.DRAFT, engineImages=IMAGES))["spec"]
    assert violations_of_restricted(pod) == []
    assert violations_beyond_restricted(pod) == []


SOURCES = {
    "a claim": {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}},
    "an image": {"image": {"reference": f"registry.example/model@sha256:{'a' * 64}"}},
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_job_that_looks_into_a_model_is_restricted_and_more(source: Manifest) -> None:
    node = next(accelerator for accelerator in SHIPPED if accelerator.is_cpu)
    spec = ModelArtifactSpec.parse({"source": source})
    terms = JobTerms("registry.example/engine:1", (node,), source=ModelFiles.of(spec.source))
    job = job_of(OWNER, spec, Step(Phase.INSPECT), terms)
    (pod,) = pods_of([job]).values()
    assert violations_of_restricted(pod) == []
    assert violations_beyond_restricted(pod) == []


@pytest.mark.parametrize("classes", [("cpu",), ("nvidia-h100-80gb",)], ids=["cpu", "gpu"])
@pytest.mark.parametrize("source", ["hub", *SOURCES])
def test_every_job_that_makes_an_artifact_is_restricted_and_more(source: str, classes: tuple[str, ...]) -> None:
    texts, where = make_texts("texts"), {"job": {"classes": list(classes)}}
    quantization = {"scheme": "W4A16", "calibration": {"samples": 8, **texts}, "gate": {"evaluation": texts}, **where}
    body = make_artifact_body(source=SOURCES.get(source), quantization=quantization)
    need = need_of(body)
    lies = ModelFiles.of(need.artifact.source)
    facts = SOURCE if lies is None else replace(SOURCE, files=lies)
    steps = [Step(Phase.QUANTIZE), Step(Phase.EVALUATE, Measurement.of_gate(need.gate)), Step(Phase.EVICT)]
    jobs = [make_job(need.artifact, step, by=[body], source=facts) for step in steps]
    fetch = [make_job(need.artifacts[0], Step(Phase.FETCH), by=[body])] if lies is None else []
    for name, pod in pods_of([*jobs, *fetch]).items():
        assert violations_of_restricted(pod) == [], name
        assert violations_beyond_restricted(pod) == [], name


def test_the_pod_that_copies_models_into_a_claim_is_restricted() -> None:
    (pod,) = pods_of([model_volume.copier_of(NAMESPACE, "registry.example/engine:1")]).values()
    assert violations_of_restricted(pod) == []


@pytest.mark.parametrize("role", Role)
def test_an_engine_runs_under_its_roles_account_and_what_it_may_write_has_an_end(role: Role) -> None:
    pod = pod_template_of(OWNER, make_inputs(make_spec(), role))["spec"]
    assert pod["serviceAccountName"] == names.protection_name(NAME, role)
    scratch = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert scratch.keys() == {"tmp", "shm"}
    assert scratch["shm"]["medium"] == "Memory"
    (container,) = pod["containers"]
    assert "ephemeral-storage" in container["resources"]["limits"]


@pytest.mark.parametrize(("ranks", "shared"), [(1, "2Gi"), (2, "3Gi"), (8, "9Gi")])
def test_more_ranks_get_more_shared_memory(ranks: int, shared: str) -> None:
    spec = make_spec(verifier=make_role(classes=("nvidia-h100-80gb",), count=ranks))
    pod = pod_template_of(OWNER, make_inputs(spec))["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"]["sizeLimit"] == shared


# -- the judge ---------------------------------------------------------------------------------------------------------


def good() -> Manifest:
    return copy.deepcopy(pod_template_of(OWNER, make_inputs(make_spec()))["spec"])


def _engine(pod: Manifest) -> Manifest:
    found: Manifest = pod["containers"][0]
    return found


def _add(pod: Manifest, container: Manifest) -> None:
    pod["initContainers"] = [container]


FORBIDDEN: dict[str, Callable[[Manifest], Any]] = {
    "host network": lambda pod: pod.update(hostNetwork=True),
    "host processes": lambda pod: pod.update(hostPID=True),
    "host IPC": lambda pod: pod.update(hostIPC=True),
    "a path of the host": lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "NFS": lambda pod: pod["volumes"].append({"name": "x", "nfs": {"server": "x", "path": "/"}}),
    "an unsafe sysctl": lambda pod: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
    "root's group": lambda pod: pod["securityContext"].update(supplementalGroups=[0]),
    "root": lambda pod: pod["securityContext"].update(runAsUser=0),
    "maybe root": lambda pod: pod["securityContext"].pop("runAsNonRoot"),
    "no seccomp profile": lambda pod: pod["securityContext"].pop("seccompProfile"),
    "an unconfined container": lambda pod: _engine(pod)["securityContext"].update(
        seccompProfile={"type": "Unconfined"}
    ),
    "root in a container": lambda pod: _engine(pod)["securityContext"].update(runAsUser=0),
    "privileged": lambda pod: _engine(pod)["securityContext"].update(privileged=True),
    "escalation": lambda pod: _engine(pod)["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities that stay": lambda pod: _engine(pod)["securityContext"].pop("capabilities"),
    "capabilities that are added": lambda pod: _engine(pod)["securityContext"]["capabilities"].update(
        add=["SYS_PTRACE"]
    ),
    "an unmasked /proc": lambda pod: _engine(pod)["securityContext"].update(procMount="Unmasked"),
    "AppArmor switched off": lambda pod: pod["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
    "a type of SELinux": lambda pod: _engine(pod)["securityContext"].update(seLinuxOptions={"type": "spc_t"}),
    "a user of SELinux": lambda pod: pod["securityContext"].update(seLinuxOptions={"user": "root"}),
    "a port of the host": lambda pod: _engine(pod)["ports"][0].update(hostPort=80),
    "a probe of another host": lambda pod: _engine(pod)["startupProbe"]["httpGet"].update(host="169.254.169.254"),
    "a hook to another host": lambda pod: _engine(pod)["lifecycle"].update(postStart={"httpGet": {"host": "x"}}),
    "a Windows host process": lambda pod: pod["securityContext"].update(windowsOptions={"hostProcess": True}),
    "an init container without a context": lambda pod: _add(pod, {"name": "init", "image": "x"}),
}


@pytest.mark.parametrize("change", FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_judge_refuses_what_pod_security_refuses(change: Callable[[Manifest], Any]) -> None:
    pod = good()
    assert violations_of_restricted(pod) == []
    change(pod)
    assert violations_of_restricted(pod)


LACKING: dict[str, Callable[[Manifest], Any]] = {
    "a token": lambda pod: pod.pop("automountServiceAccountToken"),
    "service links": lambda pod: pod.pop("enableServiceLinks"),
    "a low user": lambda pod: pod["securityContext"].update(runAsUser=1000),
    "endless scratch": lambda pod: pod["volumes"].append({"name": "x", "emptyDir": {}}),
    "a writable root": lambda pod: _engine(pod)["securityContext"].pop("readOnlyRootFilesystem"),
    "no limit of memory": lambda pod: _engine(pod)["resources"]["limits"].pop("memory"),
    "no request of memory": lambda pod: _engine(pod)["resources"]["requests"].pop("memory"),
    "no request of CPU": lambda pod: _engine(pod)["resources"]["requests"].pop("cpu"),
}


@pytest.mark.parametrize("change", LACKING.values(), ids=LACKING)
def test_the_judge_tells_what_a_pod_of_ours_lacks(change: Callable[[Manifest], Any]) -> None:
    pod = good()
    assert violations_beyond_restricted(pod) == []
    change(pod)
    assert len(violations_beyond_restricted(pod)) == 1


def test_pods_are_found_wherever_they_are_started() -> None:
    def of(kind: str, spec: Manifest) -> Manifest:
        return {"kind": kind, "metadata": {"name": "x"}, "spec": spec}

    template: Manifest = {"template": {"spec": {"containers": []}}}
    started = [
        of("Pod", {"containers": []}),
        of("Job", template),
        of("CronJob", {"jobTemplate": {"spec": template}}),
        of("Deployment", template),
    ]
    assert len(pods_of([*started, of("Service", {}), {"kind": "ServiceAccount", "metadata": {"name": "x"}}])) == 4
