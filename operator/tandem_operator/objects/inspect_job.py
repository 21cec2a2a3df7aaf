"""The ModelArtifact that a source needs, and the Job that looks into its model folder."""

from __future__ import annotations

from tandem_contracts.artifact import INSPECT_MODULE, inspect_arguments
from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.artifact import key_of_source, source_data
from tandem_operator.api.deployment import Owner
from tandem_operator.api.model import Model, ModelSource
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.objects.model_volumes import MODELS, folder_of, mount_of, volume_of
from tandem_operator.objects.ownership import sealed
from tandem_operator.objects.placement import placement_of
from tandem_operator.objects.restricted import container_security, pod_security
from tandem_operator.role_inputs import ModelFiles

COMPONENT = "inspect"
BACKOFF_LIMIT = 3
"""Tries after one that failed for something that may pass by itself."""
POD_LIMIT_SECONDS = 1800
"""From the moment that a node has the pod, so the pull of the image counts. A pod that no node can take waits."""
_LAST_DEFINITE_CODE = 19


def artifact_of(source: ModelSource, namespace: str) -> Manifest:
    """The artifact of a source. It has no owner: every LLMDeployment of the namespace that needs it shares it."""
    name = key_of_source(source)
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.ARTIFACT_KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": _labels(name)},
        "spec": {"source": source_data(source)},
    }


def configured_job(
    artifact: Owner, source: ModelSource, *, config: OperatorConfig, node: AcceleratorClass
) -> Manifest | None:
    """The Job with what the administrator has configured; None where there is no engine image for `node`."""
    image = config.engine_images.get(node.engine_image)
    if image is None:
        return None
    return inspect_job_of(artifact, source, image=image, node=node, pull_secrets=config.engine_pull_secrets)


def inspect_job_of(
    artifact: Owner, source: ModelSource, *, image: str, node: AcceleratorClass, pull_secrets: tuple[str, ...]
) -> Manifest:
    """The Job of an artifact: no token, no network of its own making, the model read-only, nothing else to write to.

    Its pods run where `node` says, with the CPU engine's `image`, which has the program in it. There is no deadline
    of the Job as a whole: a claim that is not there yet may come tomorrow.
    """
    files = ModelFiles.of(Model(source=source))
    labels = {**_labels(artifact.name), names.LABEL_COMPONENT: COMPONENT}
    return sealed(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": names.inspect_job_name(artifact.name),
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
                "backoffLimit": BACKOFF_LIMIT,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    "rules": [
                        {
                            "action": "Ignore",
                            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                        },
                        {
                            "action": "FailJob",
                            "onExitCodes": {"operator": "In", "values": list(range(10, _LAST_DEFINITE_CODE + 1))},
                        },
                    ]
                },
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "restartPolicy": "Never",
                        "activeDeadlineSeconds": POD_LIMIT_SECONDS,
                        "automountServiceAccountToken": False,
                        "enableServiceLinks": False,
                        "securityContext": pod_security(),
                        "containers": [_container(files, image)],
                        "volumes": [volume_of("models", files)],
                        **({"imagePullSecrets": [{"name": name} for name in pull_secrets]} if pull_secrets else {}),
                        **placement_of((node,)),
                    },
                },
            },
        }
    )


def _container(files: ModelFiles, image: str) -> Manifest:
    return {
        "name": COMPONENT,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", INSPECT_MODULE],
        "args": inspect_arguments(folder_of(MODELS, files)),
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": container_security(),
        "volumeMounts": [mount_of("models", MODELS)],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _labels(artifact: str) -> dict[str, str]:
    return {
        names.LABEL_NAME: "model-artifact",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_PART_OF: names.PART_OF,
        names.LABEL_ARTIFACT: artifact,
    }
