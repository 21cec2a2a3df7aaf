"""The variables by which a pod template says whose traces an engine's are, as the kubelet would fill them in."""

from __future__ import annotations

from tandem_operator.api.deployment import Owner
from tandem_operator.objects.pod_template import pod_template_of
from tests.builders import NAME, NAMESPACE, UID, make_inputs

POD = "pair-verifier-0badcafe-x2k9p"
RESOURCE = {
    "service.name": NAME,
    "k8s.namespace.name": NAMESPACE,
    "k8s.pod.name": POD,
    "tandem.deployment": NAME,
    "tandem.role": "verifier",
}


def variables_of(endpoint: str, protocol: str) -> dict[str, str]:
    """Of OpenTelemetry alone."""
    inputs = make_inputs(traces={"endpoint": endpoint, "protocol": protocol})
    template = pod_template_of(Owner(name=NAME, namespace=NAMESPACE, uid=UID), inputs)
    found: dict[str, str] = {}
    for variable in template["spec"]["containers"][0]["env"]:
        value = POD if "valueFrom" in variable else variable["value"]
        for name, known in found.items():  # only what comes before is known
            value = value.replace(f"$({name})", known)
        found[variable["name"]] = value
    return {name: value for name, value in found.items() if name.startswith("OTEL_")}
