"""The Job that measures a deployment: vLLM's own client, in the image and with the tokenizer of the verifiers.

A user makes it, with their own rights; the operator reads what it says. It has no token, no accelerator, and reaches
nothing but the deployment's Service and the metrics of its pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tandem_contracts.benchmark import BENCHMARK_MODULE, BenchmarkOptions, Load
from tandem_contracts.launch import API_KEY_VARIABLE, LaunchOptions, Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.ownership import benchmark_labels_of, benchmark_metadata_of
from tandem_operator.objects.restricted import container_security, pod_security

KEPT_SECONDS = 3600
"""A Job that has ended stays for so long, with its log; what it has measured is in the status by then."""
GRACE_SECONDS = 5
SCRATCH_LIMIT = "1Gi"
_CLIENT_KEY_VARIABLE = "OPENAI_API_KEY"  # where vLLM's client looks for a key
_MODELS = "models"
_RESOURCES: Manifest = {
    "requests": {"cpu": "250m", "memory": "1Gi", "ephemeral-storage": "64Mi"},
    "limits": {"memory": "4Gi", "ephemeral-storage": "2Gi"},
}
"""vLLM, torch and a tokenizer take half a GiB; the rest is for prompts. No CPU limit: a client that is throttled would
measure itself."""


def benchmark_job_of(
    owner: Owner,
    load: Load,
    *,
    ending: str,
    template: Manifest,
    revision: str,
    pods: Mapping[Role, Sequence[str]],
    deadline_seconds: int,
) -> Manifest:
    """The Job. `ending`: of its name; `template`: of the verifiers' pods, `revision`: theirs; `pods`: addresses.

    Raises InvalidLaunchOptionsError for a template that another version of the operator has made.
    """
    labels = benchmark_labels_of(owner)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": benchmark_metadata_of(owner, names.benchmark_name(owner.name, ending), revision=revision),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline_seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod(owner, load, template=template, pods=pods)},
        },
    }


def _pod(owner: Owner, load: Load, *, template: Manifest, pods: Mapping[Role, Sequence[str]]) -> Manifest:
    verifier = template["spec"]
    (engine,) = verifier["containers"]
    launch = LaunchOptions.parse(engine["args"])
    options = BenchmarkOptions(
        **asdict(load),
        address=f"http://{names.serving_service_name(owner.name)}.{owner.namespace}.svc",
        served_name=launch.served_name,
        tokenizer=launch.model,
        verifiers=",".join(pods.get(Role.VERIFIER, ())),
        drafts=",".join(pods.get(Role.DRAFT, ())),
    )
    return {
        "restartPolicy": "Never",
        # That account brings the secrets that pull the image; no right is bound to it.
        "serviceAccountName": verifier["serviceAccountName"],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
        "containers": [
            {
                "name": names.BENCHMARK,
                "image": engine["image"],
                "imagePullPolicy": engine["imagePullPolicy"],
                "command": ["python", "-m", BENCHMARK_MODULE],
                "args": options.to_arguments(),
                "env": _environment(engine.get("env") or []),
                "resources": _RESOURCES,
                "securityContext": container_security(),
                "volumeMounts": [
                    *(mount for mount in engine["volumeMounts"] if mount["name"] == _MODELS),
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- the pod's own emptyDir
                ],
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": [
            *(volume for volume in verifier["volumes"] if volume["name"] == _MODELS),
            {"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
        ],
        # Where all nodes are bought for engines, and tainted so, it has to run there.
        **({"tolerations": verifier["tolerations"]} if verifier.get("tolerations") else {}),
    }


def _environment(engine: Sequence[Manifest]) -> list[Manifest]:
    """The key that clients show comes from the Secret that the engine has it from."""
    key = [{**each, "name": _CLIENT_KEY_VARIABLE} for each in engine if each["name"] == API_KEY_VARIABLE]
    return [{"name": "HOME", "value": "/tmp"}, *key]  # noqa: S108
