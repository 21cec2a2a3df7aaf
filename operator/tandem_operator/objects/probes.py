"""How the kubelet finds out whether an engine has started, may get requests, and is still alive. Pure."""

from __future__ import annotations

from tandem_contracts.ports import GRPC_PORT, HEALTH_PORT, HTTP_PORT_NAME
from tandem_operator.facts import Manifest

START_PERIOD_SECONDS = 2
START_LIMIT_AT_LEAST_SECONDS = 600
"""However soon a rollout counts as failed: pods that nothing replaces must be able to load their weights."""
DEAD_GRACE_SECONDS = 30
"""Grace period of an engine that does not answer: the pod's own one waits for requests, which it has none of."""


VERIFIER_HEALTH: Manifest = {"httpGet": {"path": "/health", "port": HTTP_PORT_NAME, "scheme": "HTTP"}}
DRAFT_HEALTH: Manifest = {"grpc": {"port": GRPC_PORT, "service": ""}}
DRAFT_HEALTH_BESIDE_TLS: Manifest = {"grpc": {"port": HEALTH_PORT, "service": ""}}


def probes_of(asked: Manifest, *, start_limit_seconds: int) -> Manifest:
    """The three probes, which ask what `asked` says. Until the startup probe has passed, the others do not count.

    `start_limit_seconds`: how long a rollout may be without progress. Who decides about a start that takes longer is
    the operator, which counts from before the pod was scheduled; the kubelet ends only what nobody waits for any more.
    """
    limit = max(start_limit_seconds, START_LIMIT_AT_LEAST_SECONDS)
    failures = -(-limit // START_PERIOD_SECONDS)
    return {
        "startupProbe": _health(asked, failures=failures, period=START_PERIOD_SECONDS, is_fatal=True),
        "readinessProbe": _health(asked, failures=2, period=5),
        "livenessProbe": _health(asked, failures=6, period=10, is_fatal=True),
    }


def _health(asked: Manifest, *, failures: int, period: int, is_fatal: bool = False) -> Manifest:
    return {
        **asked,
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": failures,
        **({"terminationGracePeriodSeconds": DEAD_GRACE_SECONDS} if is_fatal else {}),
    }
