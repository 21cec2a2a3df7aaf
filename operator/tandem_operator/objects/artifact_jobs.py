"""The ModelArtifact that a model needs, and the Jobs of its steps.

A Job has no token of the API server, and no network but what `fetch` needs; it reads the source, and of the volume it
may change only what its step makes. Its program's exit code says whether another try can help.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem_contracts.artifact import INSPECT_MODULE, inspect_arguments
from tandem_contracts.artifact_job import (
    EVALUATE_MODULE,
    EVICT_MODULE,
    FETCH_MODULE,
    QUANTIZE_MODULE,
    SMOKE_MODULE,
    VOLUME_FOLDER,
    HubSource,
    S3Source,
    evaluate_arguments,
    evict_arguments,
    fetch_arguments,
    quantize_arguments,
    smoke_arguments,
)
from tandem_contracts.compile_cache import FOLDER
from tandem_contracts.ports import METRICS_PORT, METRICS_PORT_NAME
from tandem_contracts.recipe import CalibrationSettings
from tandem_contracts.reference import Reference
from tandem_contracts.termination import ExitCode, Phase
from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.artifact import ArtifactQuantization, ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.api.quantization import ConfigMapKeyRef
from tandem_operator.artifact_smoke import SmokeTarget
from tandem_operator.artifact_steps import Step
from tandem_operator.facts import Manifest
from tandem_operator.model_files import Credential, ModelFiles
from tandem_operator.objects.allowance import SCRATCH_LIMIT
from tandem_operator.objects.model_volumes import MODELS, folder_of, mount_of, volume_of
from tandem_operator.objects.ownership import sealed
from tandem_operator.objects.placement import placement_of
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.objects.restricted import container_security, pod_security
from tandem_operator.objects.scraping import pod_metadata_of

BACKOFF_LIMIT = 3
"""Tries after one that failed for something that may pass by itself. None with more memory than usual: what did not fit
then does not fit the next time either."""
INSPECT_LIMIT_SECONDS = 1800
"""From the moment that a node has the pod, so the pull of the image counts. A pod that no node can take waits."""
INSPECT_MEMORY = "2Gi"
_OWNER_VARIABLE = "POD_UID"
_OWNER: Manifest = {"name": _OWNER_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
_TEXTS_FOLDER, _TEXTS_FILE = "/texts", "texts.jsonl"
_TASKS_FOLDER = "/tasks"
_DEFINITE_CODES = list(range(10, ExitCode.VOLUME_FULL + 1))
"""Exit codes after which another try of the same would end in the same way. Not 137: a pod that is deleted by force has
it, too, and a policy cannot tell that from want of memory."""
_DEFINITE_CODES_OF_INSPECT = list(range(10, 20))
_REQUESTED_CPU = {Phase.INSPECT: "50m", Phase.FETCH: "100m", Phase.EVICT: "50m"}


@dataclass(frozen=True)
class JobTerms:
    """Where a Job runs, and what it gets."""

    image: str
    classes: tuple[AcceleratorClass, ...]
    pull_secrets: tuple[str, ...] = ()
    memory: str = INSPECT_MEMORY
    is_last_try: bool = False
    """It has more memory than usual, after one of less was killed."""
    deadline_seconds: int = INSPECT_LIMIT_SECONDS
    credentials: tuple[Credential, ...] = ()
    """What opens the source: for `fetch` alone."""
    source: ModelFiles | None = None
    """Where the model lies that the artifact is made from."""
    endpoint: str = ""
    """Address that it is fetched from; empty: the public hub, or Amazon's S3."""
    scrape_annotations: bool = False
    """Its pod has annotations by which Prometheus finds it, unless it has no metrics."""


def artifact_of(spec: ModelArtifactSpec, namespace: str) -> Manifest:
    """An artifact. It has no owner: every LLMDeployment of the namespace that needs it shares it."""
    name = spec.key
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.ARTIFACT_KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": _labels(name)},
        "spec": spec.to_data(),
    }


def job_of(artifact: Owner, spec: ModelArtifactSpec, step: Step, terms: JobTerms) -> Manifest:
    """The Job of one step. There is no deadline of the Job as a whole: a claim that is not there yet may come
    tomorrow.
    """
    volumes, mounts, source = _volumes(spec, step, terms)
    pod = {
        "activeDeadlineSeconds": terms.deadline_seconds,
        "containers": [_container(artifact, spec, step, terms, mounts=mounts, source=source)],
        "volumes": volumes,
        **placement_of(terms.classes),
    }
    has_metrics = step.phase is not Phase.INSPECT
    return _job(
        artifact,
        step,
        pod,
        terms.pull_secrets,
        tries=0 if terms.is_last_try else BACKOFF_LIMIT,
        scraped_port=METRICS_PORT if terms.scrape_annotations and has_metrics else None,
    )


def smoke_job_of(
    artifact: Owner,
    target: SmokeTarget,
    pull_secrets: tuple[str, ...],
    deadline_seconds: int,
    *,
    reference: Reference | None = None,
    scrape_annotations: bool = False,
) -> Manifest:
    """The Job that asks a model in the engine that is to serve it: a pod like those to come, which ends.

    Of the volume it may change the compile caches only. `reference`: what its answers are compared with.
    """
    rendered = pod_template_of(artifact, target.inputs)["spec"]
    (engine,) = rendered["containers"]
    kept = ("image", "imagePullPolicy", "resources", "securityContext")
    models = {"name": "models", "persistentVolumeClaim": {"claimName": target.inputs.claim_name}}
    container = {
        "name": Phase.SMOKE.value,
        **{name: engine[name] for name in kept},
        "command": ["python", "-m", SMOKE_MODULE],
        "args": smoke_arguments(
            key=artifact.name,
            owner=f"$({_OWNER_VARIABLE})",
            deadline_seconds=deadline_seconds,
            launch=engine["args"],
            reference=reference,
        ),
        "env": [*engine["env"], _OWNER],
        "volumeMounts": [
            *engine["volumeMounts"],
            {"name": "models", "mountPath": VOLUME_FOLDER, "subPath": FOLDER},
        ],
        "ports": _PORTS,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    placed = {name: rendered[name] for name in ("affinity", "tolerations", "priorityClassName") if name in rendered}
    pod = {
        "activeDeadlineSeconds": deadline_seconds,
        "containers": [container],
        "volumes": [models, *(volume for volume in rendered["volumes"] if volume["name"] != "models")],
        **placed,
    }
    port = METRICS_PORT if scrape_annotations else None
    return _job(artifact, Step(Phase.SMOKE, smoke=target.name), pod, pull_secrets, scraped_port=port)


def _job(
    artifact: Owner,
    step: Step,
    pod: Manifest,
    pull_secrets: tuple[str, ...],
    *,
    tries: int = BACKOFF_LIMIT,
    scraped_port: int | None = None,
) -> Manifest:
    """A Job with what all of them have in common."""
    labels = {**_labels(artifact.name), names.LABEL_COMPONENT: step.phase.value}
    codes = _DEFINITE_CODES_OF_INSPECT if step.phase is Phase.INSPECT else _DEFINITE_CODES
    secrets = {"imagePullSecrets": [{"name": name} for name in pull_secrets]} if pull_secrets else {}
    return sealed(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": step.job_name(artifact.name),
                "namespace": artifact.namespace,
                "labels": labels,
                "ownerReferences": [
                    {
                        "apiVersion": names.API_VERSION,
                        "kind": names.ARTIFACT_KIND,
                        "name": artifact.name,
                        "uid": artifact.uid,
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {
                "backoffLimit": tries,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    "rules": [
                        {
                            "action": "Ignore",
                            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                        },
                        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": codes}},
                    ]
                },
                "template": {
                    "metadata": pod_metadata_of(labels, scraped_port=scraped_port),
                    "spec": {
                        "restartPolicy": "Never",
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        "securityContext": pod_security(),
                        **secrets,
                        **pod,
                    },
                },
            },
        }
    )


def _volumes(spec: ModelArtifactSpec, step: Step, terms: JobTerms) -> tuple[list[Manifest], list[Manifest], str]:
    """Volumes, mounts, and where the source is. The same claim is never mounted as two volumes: the kubelet waits for
    the second one in vain.
    """
    source = terms.source if step.phase in {Phase.INSPECT, Phase.QUANTIZE, Phase.EVALUATE} else None
    if step.phase is Phase.INSPECT:
        assert source is not None  # noqa: S101 -- narrows the type: what is inspected lies somewhere
        return [volume_of("models", source)], [mount_of("models", MODELS)], folder_of(MODELS, source)
    kept = {"name": "artifacts", "persistentVolumeClaim": {"claimName": spec.claim_name}}
    mount = {"name": "artifacts", "mountPath": VOLUME_FOLDER}
    volumes = [kept, {"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}}]
    mounts = [
        mount if step.changes_files else {**mount, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- the pod's own emptyDir
    ]
    folder = ""
    if source is not None and source.claim_name == spec.claim_name:
        folder = folder_of(VOLUME_FOLDER, source)
    elif source is not None:
        volumes.append(volume_of("models", source))
        mounts.append(mount_of("models", MODELS))
        folder = folder_of(MODELS, source)
    if step.measurement.tasks:
        volumes.append({"name": "tasks", "configMap": {"name": step.measurement.tasks_config_map}})
        mounts.append(mount_of("tasks", _TASKS_FOLDER))
    reference = _texts(spec, step)
    if reference is not None:
        items = [{"key": reference.key, "path": _TEXTS_FILE}]
        volumes.append({"name": "texts", "configMap": {"name": reference.name, "items": items}})
        mounts.append(mount_of("texts", _TEXTS_FOLDER))
    return volumes, mounts, folder


def _texts(spec: ModelArtifactSpec, step: Step) -> ConfigMapKeyRef | None:
    if step.phase is Phase.EVALUATE:
        return step.measurement.reference
    calibration = spec.quantization.calibration if spec.quantization else None
    return calibration.config_map_key_ref if calibration and step.phase is Phase.QUANTIZE else None


def _container(
    artifact: Owner,
    spec: ModelArtifactSpec,
    step: Step,
    terms: JobTerms,
    *,
    mounts: list[Manifest],
    source: str,
) -> Manifest:
    module, arguments = _program(artifact, spec, step, source=source, endpoint=terms.endpoint)
    is_inspecting = step.phase is Phase.INSPECT
    limits, devices = {"memory": terms.memory}, _devices(terms)
    requests = {"cpu": _requested_cpu(step, terms), "memory": "256Mi" if is_inspecting else terms.memory, **devices}
    return {
        "name": step.phase.value,
        "image": terms.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", module],
        "args": arguments,
        **({} if is_inspecting else {"env": _environment(step, terms), "ports": _PORTS}),
        "resources": {"requests": requests, "limits": {**limits, **devices}},
        "securityContext": container_security(),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


_PORTS = [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"}]


def _requested_cpu(step: Step, terms: JobTerms) -> str:
    """What a step computes with; on the class cpu as much as one of its shares, and then whatever is free."""
    first = terms.classes[0]
    return _REQUESTED_CPU.get(step.phase) or (first.quantity if first.is_cpu else "1")


def _devices(terms: JobTerms) -> dict[str, str]:
    """One accelerator, of an extended resource; the class cpu has none."""
    first = terms.classes[0]
    return {} if first.is_cpu else {first.resource: first.quantity}


def _environment(step: Step, terms: JobTerms) -> list[Manifest]:
    """Nobody but `fetch` looks for anything on a network, and nobody else has the token."""
    found: list[Manifest] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 -- the pod's own emptyDir
    for each in terms.credentials if step.phase is Phase.FETCH else ():
        reference = {"name": each.secret, "key": each.key, **({"optional": True} if each.is_optional else {})}
        found.append({"name": each.variable, "valueFrom": {"secretKeyRef": reference}})
    if step.phase is not Phase.FETCH:
        found.append({"name": "HF_HUB_OFFLINE", "value": "1"})
    found.append(_OWNER)
    # Threads that wait for work spin otherwise, and beside a busy engine that takes thirty times as long.
    found.append({"name": "OMP_WAIT_POLICY", "value": "passive"})
    return sorted(found, key=lambda variable: str(variable["name"]))


def _program(
    artifact: Owner, spec: ModelArtifactSpec, step: Step, *, source: str, endpoint: str
) -> tuple[str, list[str]]:
    key, owner, texts = artifact.name, f"$({_OWNER_VARIABLE})", ""
    if _texts(spec, step) is not None:
        texts = f"{_TEXTS_FOLDER}/{_TEXTS_FILE}"
    match step.phase:
        case Phase.INSPECT:
            return INSPECT_MODULE, inspect_arguments(source)
        case Phase.FETCH:
            return FETCH_MODULE, fetch_arguments(source=_place(spec, endpoint), key=key, owner=owner)
        case Phase.QUANTIZE:
            made = _made(spec)
            calibration = made.calibration
            settings = CalibrationSettings(
                **(
                    {
                        "samples": calibration.samples,
                        "sequence_tokens": calibration.max_sequence_length,
                        "seed": calibration.seed,
                    }
                    if calibration
                    else {}
                )
            )
            return QUANTIZE_MODULE, quantize_arguments(
                source=source, key=key, owner=owner, recipe=made.recipe, calibration=settings, texts=texts
            )
        case Phase.EVALUATE:
            measured = step.measurement
            return EVALUATE_MODULE, evaluate_arguments(
                source=source,
                key=key,
                texts=texts,
                tasks_folder=_TASKS_FOLDER if measured.tasks else "",
                tasks=measured.tasks,
                long_context_tokens=measured.long_context_tokens,
            )
        case Phase.EVICT:
            return EVICT_MODULE, evict_arguments(key=key)
    raise ValueError(f"{step.phase} is no step of an artifact")


def _place(spec: ModelArtifactSpec, endpoint: str) -> HubSource | S3Source:
    hub, s3 = spec.source.hugging_face, spec.source.s3
    if hub is not None:
        return HubSource(repo=hub.repo, revision=hub.revision, endpoint=endpoint)
    assert s3 is not None  # noqa: S101 -- narrows the type: only such sources are fetched
    return S3Source(bucket=s3.bucket, prefix=s3.prefix, endpoint=endpoint, region=s3.region or "")


def _made(spec: ModelArtifactSpec) -> ArtifactQuantization:
    assert spec.quantization is not None  # noqa: S101 -- narrows the type: only such an artifact has the step
    return spec.quantization


def _labels(artifact: str) -> dict[str, str]:
    return {
        names.LABEL_NAME: "model-artifact",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_PART_OF: names.PART_OF,
        names.LABEL_ARTIFACT: artifact,
    }
