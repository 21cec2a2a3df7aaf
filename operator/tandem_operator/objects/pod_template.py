"""The pod template of a role's revision. Rendered once, when the revision is made, and frozen with it."""

from __future__ import annotations

from collections.abc import Mapping

from tandem_contracts.draft_container import DEFAULT_SESSIONS, DraftContainer
from tandem_contracts.launch import API_KEY_VARIABLE, LAUNCH_MODULE, Access, LaunchOptions, Role, Speculation
from tandem_contracts.ports import (
    GRPC_PORT,
    GRPC_PORT_NAME,
    HEALTH_PORT,
    HEALTH_PORT_NAME,
    HTTP_PORT,
    HTTP_PORT_NAME,
    METRICS_PORT,
    METRICS_PORT_NAME,
)
from tandem_contracts.stopping import StopTimes
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_smoke import compile_cache_of
from tandem_operator.facts import Manifest
from tandem_operator.objects.allowance import resources_of, scratch_volumes
from tandem_operator.objects.devices import pod_claims_of
from tandem_operator.objects.draft_access import access_mounts_of, access_volumes_of, identity_of
from tandem_operator.objects.model_volumes import MODELS, ModelVolumes, model_volumes_of
from tandem_operator.objects.ownership import labels_of
from tandem_operator.objects.placement import placement_of
from tandem_operator.objects.probes import DRAFT_HEALTH, DRAFT_HEALTH_BESIDE_TLS, VERIFIER_HEALTH, probes_of
from tandem_operator.objects.restricted import container_security, pod_security
from tandem_operator.objects.scheduling import with_scheduling
from tandem_operator.objects.scraping import pod_metadata_of, scraped_port_of
from tandem_operator.role_inputs import RoleInputs, Traces

_SERVED: Mapping[Role, Manifest] = {
    Role.VERIFIER: {"name": HTTP_PORT_NAME, "containerPort": HTTP_PORT, "protocol": "TCP"},
    Role.DRAFT: {"name": GRPC_PORT_NAME, "containerPort": GRPC_PORT, "protocol": "TCP"},
}
TRACES_LIMIT_SECONDS = "2"
"""For a batch of spans. An engine that ends sends its last ones, in each of its processes. Where no collector answers,
the library's ten seconds are as long as some engines have to end at all."""
_POD_VARIABLE = "K8S_POD_NAME"
"""Comes before the variables that refer to it, or the kubelet would not replace it there."""


def pod_template_of(owner: Owner, inputs: RoleInputs) -> Manifest:
    """Template of the pods of one revision: one engine container under PodSecurity `restricted`."""
    labels = labels_of(owner, inputs.role, revision=inputs.revision)
    models = model_volumes_of(inputs)
    return {
        "metadata": pod_metadata_of(labels, scraped_port=_scraped_port(inputs)),
        "spec": {
            "serviceAccountName": names.protection_name(owner.name, inputs.role),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": StopTimes.of_drain(inputs.drain_seconds).grace_seconds,
            "securityContext": pod_security(),
            "containers": [_engine(owner, inputs, models)],
            "volumes": [*models.volumes, *access_volumes_of(owner, inputs), *scratch_volumes(inputs)],
            **pod_claims_of(owner, inputs),
            **with_scheduling(placement_of(inputs.accelerators), inputs, labels),
        },
    }


def _scraped_port(inputs: RoleInputs) -> int | None:
    return scraped_port_of(inputs.role) if inputs.scrape_annotations else None


def _engine(owner: Owner, inputs: RoleInputs, models: ModelVolumes) -> Manifest:
    return {
        "name": "engine",
        "image": inputs.image,
        "imagePullPolicy": "IfNotPresent",
        **_command(owner, inputs, models),
        "env": _environment(owner, inputs, models),
        "ports": _ports(inputs),
        "resources": resources_of(inputs),
        **probes_of(_health(inputs), start_limit_seconds=inputs.start_limit_seconds),
        "securityContext": container_security(),
        "volumeMounts": [
            *models.mounts,
            *access_mounts_of(inputs),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # Time for every node to hear that this pod is no endpoint any more, before the engine stops to accept.
        "lifecycle": {"preStop": {"sleep": {"seconds": StopTimes.of_drain(inputs.drain_seconds).pre_stop_seconds}}},
    }


def _command(owner: Owner, inputs: RoleInputs, models: ModelVolumes) -> Manifest:
    if inputs.is_custom:
        return {}
    arguments = _options(owner, inputs, models).to_arguments()
    return {"command": ["python", "-m", LAUNCH_MODULE], "args": arguments}


def _ports(inputs: RoleInputs) -> list[Manifest]:
    ports = [_SERVED[inputs.role], {"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"}]
    if inputs.role is Role.DRAFT and inputs.draft_tls:
        ports.append({"name": HEALTH_PORT_NAME, "containerPort": HEALTH_PORT, "protocol": "TCP"})
    return ports


def _health(inputs: RoleInputs) -> Manifest:
    if inputs.role is Role.VERIFIER:
        return VERIFIER_HEALTH
    return DRAFT_HEALTH_BESIDE_TLS if inputs.draft_tls else DRAFT_HEALTH


def _environment(owner: Owner, inputs: RoleInputs, models: ModelVolumes) -> list[Manifest]:
    values = {"HOME": "/tmp", **inputs.accelerator.environment}  # noqa: S108 -- the pod's own emptyDir
    if inputs.is_custom:
        container = DraftContainer(
            model=models.model,
            max_sessions=inputs.engine.max_sequences or DEFAULT_SESSIONS,
            identity=_draft_identity(owner, inputs),
        )
        values |= container.to_environment()
    if inputs.traces is not None:
        values |= _of_traces(owner, inputs, inputs.traces)
    environment: dict[str, Manifest] = {name: {"name": name, "value": value} for name, value in values.items()}
    if inputs.api_key is not None:
        reference = {"name": inputs.api_key.name, "key": inputs.api_key.key}
        environment[API_KEY_VARIABLE] = {"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": reference}}
    if inputs.traces is not None:
        field = {"fieldRef": {"fieldPath": "metadata.name"}}
        environment[_POD_VARIABLE] = {"name": _POD_VARIABLE, "valueFrom": field}
    return [environment[name] for name in sorted(environment)]


def _of_traces(owner: Owner, inputs: RoleInputs, traces: Traces) -> dict[str, str]:
    """What OpenTelemetry's library in the engine reads: whose spans these are."""
    attributes = {
        "k8s.namespace.name": owner.namespace,
        "k8s.pod.name": f"$({_POD_VARIABLE})",
        "tandem.deployment": owner.name,
        "tandem.role": inputs.role.value,
        "tandem.revision": inputs.revision,
    }
    return {
        "OTEL_EXPORTER_OTLP_TIMEOUT": TRACES_LIMIT_SECONDS,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": traces.protocol,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"{name}={value}" for name, value in attributes.items()),
        "OTEL_SERVICE_NAME": owner.name,
    }


def _options(owner: Owner, inputs: RoleInputs, models: ModelVolumes) -> LaunchOptions:
    address = ""
    if inputs.role is Role.VERIFIER and inputs.speculation is Speculation.REMOTE:
        address = f"{names.draft_service_name(owner.name, inputs.revision)}:{GRPC_PORT}"
    compile_cache = compile_cache_of(inputs, owner.namespace)
    return LaunchOptions(
        role=inputs.role,
        model=models.model,
        served_name=inputs.served_name,
        tensor_parallel=inputs.tensor_parallel,
        draft_engine=inputs.draft_engine,
        draft_scheme=inputs.draft_scheme,
        speculation=inputs.speculation,
        max_depth=inputs.max_depth,
        in_engine=inputs.in_engine,
        in_engine_model=models.in_engine_model,
        compile_cache=f"{MODELS}/{compile_cache}" if compile_cache else "",
        draft_address=address,
        draft_identity=_draft_identity(owner, inputs),
        drain_seconds=inputs.drain_seconds,
        access=Access.OPEN if inputs.api_key is None else Access.API_KEY,
        traces_endpoint=inputs.traces.endpoint if inputs.traces else "",
        engine=inputs.engine,
    )


def _draft_identity(owner: Owner, inputs: RoleInputs) -> str:
    return str(identity_of(owner)) if inputs.draft_tls else ""
