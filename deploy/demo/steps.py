"""The demo's steps, each with its duration: cluster, models, images, chart, resource, answer."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import chart, model_volume, openai
from deploy.fixtures.pair import ModelPair, model_pair
from deploy.images import api as images
from deploy.local.binaries import build, module_of
from deploy.local.cluster import Cluster
from deploy.local.layout import REPOSITORY
from deploy.local.progress import Progress
from deploy.place import Place, PlaceError, current_place, local_place

NAMESPACE = "tandem-demo"
NAME = "pair"
MADE_BY = "tandem.dev/demo"
CRD = "llmdeployments.tandem.dev"
CRDS = (CRD, "modelartifacts.tandem.dev")
SAMPLE = REPOSITORY / "deploy/samples/cpu-pair.yaml"
IMAGES = ("operator", "engine-cpu")
READY_LIMIT_SECONDS = 600
FORWARD_LIMIT_SECONDS = 30
MAX_TOKENS = 48
SPEED_PROMPT = "class Reader:\n    def __init__(self, path):\n"
SPEED_TOKENS = 128
SPEED_REQUESTS = 4
FAKE_NODES = 2


class DemoError(Exception):
    """The demo cannot go on; the message says what is missing."""


def tell(*, cluster: str, registry: str) -> None:
    """Run the demo. Raises DemoError, or what the step that failed raised."""
    if registry and cluster == "local":
        raise DemoError("REGISTRY is for CLUSTER=current: the local cluster takes its images from the build itself")
    progress = Progress(stream=sys.stdout)
    started = time.monotonic()
    place = place_on_this_machine(progress) if cluster == "local" else _current_place(progress, registry)
    with progress.step("models: a verifier of 26 M parameters and a draft of 1 M"):
        pair = model_pair()
    with progress.step("images: operator and engine"):
        references = images.provide(IMAGES, cluster=Cluster() if cluster == "local" else None, registry=registry)
    _refuse_foreign_namespace(place)
    place.apply(namespace_of(NAMESPACE))
    with progress.step("models are on the claim `models`"):
        _provide_models(place, pair, cluster=cluster, references=references)
    with progress.step(f"helm install {chart.RELEASE}"):
        chart.install(place, NAMESPACE, values={**chart.values_of(references), "crds": crd_values(place)})
    progress.say(f"\n$ kubectl apply -f {SAMPLE.relative_to(REPOSITORY)}")
    progress.say(place.run("apply", "-n", NAMESPACE, "-f", str(SAMPLE)).rstrip())
    with progress.step("both roles are Ready"):
        _wait_until_ready(place, progress)
    with address_of(place, cluster=cluster) as address:
        _show_answer(progress, address)
        _show_speed(progress, place, address)
    _show_resource(progress, place)
    progress.say(f"\n{time.monotonic() - started:.0f} s in all. What to try next:\n{_next_steps(place, cluster)}")


def take_down(*, cluster: str) -> None:
    """Undo `tell`: the local cluster goes whole; elsewhere the resource, the release and the namespace go."""
    if cluster == "local":
        Cluster().down()
        return
    place = _frozen_current_place(Progress(stream=sys.stdout))
    if not _refuse_foreign_namespace(place):
        sys.stdout.write(f"there is no namespace {NAMESPACE}\n")
        return
    has_crd = place.run("get", "crd", CRD, "--ignore-not-found", "-o", "name").strip()
    goes_along = has_crd and crd_values(place)["install"]
    served = place.get(CRD, "--all-namespaces")["items"] if goes_along else []
    others = sorted({item["metadata"]["namespace"] for item in served} - {NAMESPACE})
    if others:  # the demo's release owns the CRD, and with the CRD every resource of its kind would go
        raise DemoError(
            f"LLMDeployments in {', '.join(others)} would go with the demo's CRD: delete or move them first"
        )
    if has_crd:
        # Before the namespace: it would wait for as long as pods may take to end, not for as long as they do.
        place.run("delete", CRD, "--all", "-n", NAMESPACE, "--wait=true", limit_seconds=60)
        pods = ("pods", "-l", "tandem.dev/deployment", "-n", NAMESPACE)
        place.run("wait", "--for=delete", *pods, "--timeout=300s", limit_seconds=310)
    chart.uninstall(place, NAMESPACE)
    place.run("delete", "namespace", NAMESPACE, "--wait=true", limit_seconds=300)
    place.run("delete", "persistentvolume", model_volume.volume_name(NAMESPACE), "--ignore-not-found")


def place_on_this_machine(progress: Progress) -> Place:
    """The local cluster, brought up where it is down. Raises DemoError without a real node."""
    cluster = Cluster(progress=progress)
    cluster.up()
    if not cluster.has_real_node:
        if not cluster.count_fake_nodes():
            cluster.add_nodes("nvidia-h100-80gb", count=FAKE_NODES)
        raise DemoError(
            f"the control plane runs with {cluster.count_fake_nodes()} fake GPU nodes, but pods need a real node, "
            f"and that needs: {'; '.join(cluster.lacks())}. Run it as root"
        )
    progress.say("cluster: context tandem-local, on this machine")
    return local_place(cluster)


def _current_place(progress: Progress, registry: str) -> Place:
    if not registry:
        raise DemoError(
            "CLUSTER=current needs REGISTRY=host/repo, from which that cluster can pull what is pushed there"
        )
    if os.geteuid() != 0:
        raise DemoError("not root: building the images that CLUSTER=current pushes needs chroot and overlay mounts")
    return _frozen_current_place(progress)


def _frozen_current_place(progress: Progress) -> Place:
    """The user's current context, named before anything is done there."""
    cluster = Cluster(progress=progress)
    programs = build(cluster.layout, progress, modules=[module_of("kubectl"), module_of("helm4")])
    place = current_place(kubectl=programs["kubectl"], helm=programs["helm4"])
    progress.say(f"cluster: context {place.context}")
    return place


def _refuse_foreign_namespace(place: Place) -> bool:
    """Whether the demo's namespace is there. Raises DemoError when somebody else made it."""
    found = place.run("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "json").strip()
    if found and json.loads(found)["metadata"].get("labels", {}).get(MADE_BY) != "true":
        raise DemoError(
            f"namespace {NAMESPACE} exists in context {place.context} and is not the demo's: it is left alone"
        )
    return bool(found)


def namespace_of(name: str) -> dict[str, Any]:
    """The namespace of a demo, where pods must be restricted."""
    enforced = {
        MADE_BY: "true",
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforced}}


def crd_values(place: Place, namespace: str = NAMESPACE) -> dict[str, bool]:
    """The demo takes the CRDs away again, unless one of them is there and not by its own release."""
    told = place.run("get", "crd", *CRDS, "--ignore-not-found", "-o", "json")
    found = json.loads(told) if told.strip() else {"items": []}
    items = found.get("items", [found])
    owners = {(i["metadata"].get("annotations") or {}).get("meta.helm.sh/release-namespace") for i in items}
    return {"install": owners <= {namespace}, "keep": False}


def _provide_models(place: Place, pair: ModelPair, *, cluster: str, references: Mapping[str, str]) -> None:
    if cluster == "local":
        model_volume.provide_from_node(place, NAMESPACE, folder=pair.folder)
    else:
        model_volume.provide_by_copy(place, NAMESPACE, folder=pair.folder, image=references["operator"])


def _wait_until_ready(place: Place, progress: Progress) -> None:
    """Wait for the Ready condition and print its message each time that it says something new."""
    deadline = time.monotonic() + READY_LIMIT_SECONDS
    said = ""
    while True:
        resource = place.get("llm", NAME, "-n", NAMESPACE)
        conditions = {c["type"]: c for c in resource.get("status", {}).get("conditions", [])}
        verdicts = [conditions[kind] for kind in ("VerifierReady", "DraftReady") if kind in conditions]
        message = "; ".join(verdict["message"] for verdict in verdicts)
        stalled = conditions.get("Stalled", {})
        if stalled.get("observedGeneration") == resource["metadata"]["generation"]:
            raise DemoError(f"{conditions['Stalled']['reason']}: {conditions['Stalled']['message']}")
        if message != said:
            progress.say(f"           {message}")
            said = message
        ready = conditions.get("Ready", {})
        if (ready.get("status"), ready.get("observedGeneration")) == ("True", resource["metadata"]["generation"]):
            return
        if time.monotonic() > deadline:
            raise DemoError(
                f"not Ready after {READY_LIMIT_SECONDS} s: {said or 'the operator said nothing'}\n"
                + place.run("get", "pods,events", "-n", NAMESPACE)
            )
        time.sleep(0.5)


@contextmanager
def address_of(place: Place, *, cluster: str) -> Iterator[str]:
    """Where this machine reaches the Service: its ClusterIP on the local cluster, else a forwarded port."""
    if cluster == "local":
        address = place.get("service", NAME, "-n", NAMESPACE)["spec"]["clusterIP"]
        yield f"http://{address}"
        return
    command = place.command("-n", NAMESPACE, "port-forward", f"service/{NAME}", ":80")
    forward = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = _first_line(forward, limit_seconds=FORWARD_LIMIT_SECONDS)
        port = re.search(r":(\d+) ->", line)
        if port is None:
            raise PlaceError(f"kubectl port-forward said {line!r} within {FORWARD_LIMIT_SECONDS} s")
        yield f"http://127.0.0.1:{port[1]}"
    finally:
        forward.terminate()
        forward.wait(timeout=10)


def _first_line(process: subprocess.Popen[str], *, limit_seconds: float) -> str:
    """The first line that a process writes; empty when there is none in time."""
    assert process.stdout is not None  # noqa: S101 -- narrows the type
    readable, _, _ = select.select([process.stdout], [], [], limit_seconds)
    return process.stdout.readline() if readable else ""


def _show_answer(progress: Progress, address: str) -> None:
    prompt = "def read_lines(path):"
    accepted = "vllm:spec_decode_num_accepted_tokens_total"
    proposed = "vllm:spec_decode_num_draft_tokens_total"
    before = openai.counter(address, accepted), openai.counter(address, proposed)
    answer = openai.chat(address, model=NAME, prompt=prompt, max_tokens=MAX_TOKENS)
    after = openai.counter(address, accepted), openai.counter(address, proposed)
    progress.say(f"\n$ POST {address}/v1/chat/completions  {json.dumps(prompt)}")
    progress.say(answer["choices"][0]["message"]["content"])
    progress.say(
        "(26 million parameters, trained for a few minutes on Python's standard library: no sense is to be expected)"
    )
    progress.say(
        f"\n{answer['usage']['completion_tokens']} tokens; the draft pod proposed {after[1] - before[1]:.0f}, "
        f"the verifier accepted {after[0] - before[0]:.0f} of them\n"
    )


def _show_speed(progress: Progress, place: Place, address: str) -> None:
    """The same text with drafts and without: the draft pods go, and come back."""
    with progress.step(f"{SPEED_REQUESTS} texts of {SPEED_TOKENS} tokens with drafts"):
        drafted, texts = _tokens_per_second(address)
    with progress.step("draft pods are scaled to 0, the verifier goes on alone"):
        _scale_drafts(place, 0)
        pods = ("pods", "-l", f"tandem.dev/deployment={NAME},tandem.dev/role=draft", "-n", NAMESPACE)
        place.run("wait", "--for=delete", *pods, "--timeout=60s", limit_seconds=70)
    with progress.step(f"{SPEED_REQUESTS} texts of {SPEED_TOKENS} tokens without drafts"):
        alone, others = _tokens_per_second(address)
    with progress.step("draft pods are back"):
        _scale_drafts(place, 1)
        _wait_until_ready(place, progress)
    same = "the texts are the same" if texts == others else "THE TEXTS DIFFER"
    progress.say(f"\n{drafted:.0f} tokens a second with drafts, {alone:.0f} without: {drafted / alone:.1f} ×; {same}\n")


def _tokens_per_second(address: str) -> tuple[float, set[str]]:
    """Of one request after the other, and what was said.

    The first one's time does not count: the verifier measures which depth pays.
    """
    texts = {openai.complete(address, model=NAME, prompt=SPEED_PROMPT, max_tokens=SPEED_TOKENS)}
    begun = time.monotonic()
    for _ in range(SPEED_REQUESTS):
        texts.add(openai.complete(address, model=NAME, prompt=SPEED_PROMPT, max_tokens=SPEED_TOKENS))
    return SPEED_REQUESTS * SPEED_TOKENS / (time.monotonic() - begun), texts


def _scale_drafts(place: Place, replicas: int) -> None:
    change = json.dumps({"spec": {"draft": {"replicas": replicas}}})
    place.run("patch", "llm", NAME, "-n", NAMESPACE, "--type", "merge", "-p", change)


def _show_resource(progress: Progress, place: Place) -> None:
    progress.say(f"$ kubectl get llm,pods -n {NAMESPACE}")
    progress.say(place.run("get", "llm,pods", "-n", NAMESPACE).rstrip())


def _next_steps(place: Place, cluster: str) -> str:
    export = (
        f"export KUBECONFIG={place.kubeconfig} PATH={Path(place.kubectl).parent}:$PATH\n  "
        if cluster == "local"
        else ""
    )
    down = "make demo-down" if cluster == "local" else "make demo-down CLUSTER=current"
    return (
        f"  {export}kubectl -n {NAMESPACE} port-forward service/{NAME} 8000:80   # then talk to localhost:8000/v1\n"
        f"  kubectl -n {NAMESPACE} scale llm/{NAME} --replicas=2\n"
        f"  kubectl -n {NAMESPACE} delete pod -l tandem.dev/role=draft   # the answers stay the same\n"
        f"  .venv/bin/tandem status {NAME} -n {NAMESPACE}\n"
        f"  kubectl explain llmdeployment.spec --recursive\n"
        f"  .venv/bin/tandem plan -f deploy/samples/gpu-pair.yaml\n"
        f"  {down}"
    )
