"""The demo of quantized models: fetched from a small hub, quantized, measured, published, judged, served.

Runs on the local cluster. The hub stands for the public one, which a demo must not depend on.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from deploy import chart, model_hub, model_volume, openai
from deploy.demo.steps import DemoError, crd_values, namespace_of, place_on_this_machine
from deploy.fixtures.pair import model_pair
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.local.layout import REPOSITORY
from deploy.local.progress import Progress
from deploy.place import Place

NAMESPACE = "tandem-quantized"
MANIFEST = REPOSITORY / "deploy/demo/quantized.yaml"
SERVED, REFUSED = ("code-w8a8", "code-w4a16"), "code-w2a16"
IMAGES = ("operator", "engine-cpu", "artifacts")
READY_LIMIT_SECONDS = 900
PROMPT = "def read_lines(path):"


def tell_quantized() -> None:
    """Run the demo. Raises DemoError, or what the step that failed raised."""
    progress = Progress(stream=sys.stdout)
    started = time.monotonic()
    place, cluster = place_on_this_machine(progress), Cluster()
    with progress.step("models: a verifier of 26 M parameters"):
        pair = model_pair()
    with progress.step("images: operator, engine, and the Jobs' own"):
        references = images.provide(IMAGES, cluster=cluster, registry="")
    place.apply(namespace_of(NAMESPACE))
    with progress.step("a hub with the model, and an empty claim `cache`"):
        model_volume.provide_from_node(place, NAMESPACE, folder=pair.folder)
        folder = cluster.layout.state / "volumes" / NAMESPACE
        model_volume.provide_cache_on_node(place, NAMESPACE, folder=folder)
        place.apply(*model_hub.objects_of(references["operator"]), namespace=NAMESPACE)
        place.run("rollout", "status", "deployment/hub", "-n", NAMESPACE, "--timeout=120s", limit_seconds=130)
    with progress.step(f"helm install {chart.RELEASE}"):
        values = values_of(references, NAMESPACE)
        chart.install(place, NAMESPACE, values={**values, "crds": crd_values(place, NAMESPACE)})
    progress.say(f"\n$ kubectl apply -f {MANIFEST.relative_to(REPOSITORY)}")
    progress.say(place.run("apply", "-n", NAMESPACE, "-f", str(MANIFEST)).rstrip())
    with progress.step("each model is fetched once, quantized, measured and judged; two are served"):
        _follow(place, progress)
    for name in SERVED:
        address = f"http://{place.get('service', name, '-n', NAMESPACE)['spec']['clusterIP']}"
        text = openai.complete(address, model=name, prompt=PROMPT, max_tokens=24)
        progress.say(f"\n{name}: {PROMPT}{text}")
    progress.say(f"\n$ kubectl get modelartifacts,llm -n {NAMESPACE}")
    progress.say(place.run("get", "modelartifacts,llm", "-n", NAMESPACE).rstrip())
    progress.say(f"\n{REFUSED} is not served:\n  {_condition(place, REFUSED, 'Stalled')['message']}")
    progress.say(f"\n{time.monotonic() - started:.0f} s in all. `make demo-down` takes all of it away.")


def values_of(references: dict[str, str], namespace: str) -> dict[str, Any]:
    """The chart's values: a hub of the namespace, and W2A16 on a CPU, which no engine there can serve: its model is to
    come to the gate.
    """
    values = chart.values_of(references)
    config = values["config"]
    config["modelHubs"] = {"demo": model_hub.address_in(namespace)}
    config["accelerators"]["cpu"]["schemes"] = ["W8A8", "W4A16", "W4A16_ASYM", "W2A16", "NF4", "INT8"]
    return values


def _follow(place: Place, progress: Progress) -> None:
    """Say what the artifacts' conditions say, until two deployments are Ready and one is refused."""
    deadline, said = time.monotonic() + READY_LIMIT_SECONDS, set[str]()
    while True:
        for artifact in place.get("modelartifacts", "-n", NAMESPACE)["items"]:
            status = artifact.get("status") or {}
            ready = {c["type"]: c for c in status.get("conditions") or []}.get("Ready", {})
            loss = f" ({status['loss']})" if status.get("loss") else ""
            line = ready.get("message", "") + loss
            if line and line not in said:
                progress.say(f"           {line}")
                said.add(line)
        served = [name for name in SERVED if _condition(place, name, "Ready").get("status") == "True"]
        refused = _condition(place, REFUSED, "Stalled")
        if len(served) == len(SERVED) and refused:
            return
        stuck = [told for name in SERVED if (told := _condition(place, name, "Stalled"))]
        if stuck or time.monotonic() > deadline:
            what = stuck[0]["message"] if stuck else f"not all Ready after {READY_LIMIT_SECONDS} s"
            raise DemoError(f"{what}\n{place.run('get', 'llm,modelartifacts,jobs,pods', '-n', NAMESPACE)}")
        time.sleep(1.0)


def _condition(place: Place, name: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = place.get("llm", name, "-n", NAMESPACE)
    conditions = {c["type"]: c for c in (found.get("status") or {}).get("conditions") or []}
    condition: dict[str, Any] = conditions.get(kind, {})
    return condition
