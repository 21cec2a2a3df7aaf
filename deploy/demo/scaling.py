"""The demo of scaling: load breaks a latency target, replicas follow, the target holds; then to zero, and back.

Runs on the local cluster, with clients of this machine.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from deploy import chart, model_volume, openai
from deploy.demo.scaling_view import Frame, View
from deploy.demo.steps import DemoError, crd_values, namespace_of, place_on_this_machine
from deploy.fixtures.pair import model_pair
from deploy.images import api as images
from deploy.load import Load
from deploy.local.cluster import Cluster
from deploy.local.layout import REPOSITORY
from deploy.local.progress import Progress
from deploy.place import Place
from tandem_operator.__main__ import METRICS_PORT
from tandem_operator.cli.main import main as tandem

NAMESPACE, NAME = "tandem-scaling", "busy"
MANIFEST = REPOSITORY / "deploy/demo/scaling.yaml"
PODS = f"tandem.dev/deployment={NAME},tandem.dev/role=verifier"
IMAGES = ("operator", "engine-cpu")
TARGET_SECONDS, TARGET_SHARE = 0.5, 0.9
CLIENTS, OUTPUT_TOKENS = 5, 384
"""One more than a pod takes at once: with two pods, connections that go to either by chance seldom meet so on one."""
LEARNING_CLIENTS, LEARNING_SECONDS = (1, 3), 30
CAPACITY = "tandem_scaling_replica_requests_per_second"
"""There once it is learned what a pod does within the target."""
SEEN_SECONDS = 20.0
"""Over so much the view tells what clients see."""
LOOK_SECONDS = 1.0
ASK_SECONDS = 10.0
"""The operator for its figures: more often would take what it has of the cores from its work."""
READY_LIMIT_SECONDS = 600
PART_LIMIT_SECONDS = 600


def tell_scaling() -> None:
    """Run the demo. Raises DemoError, or what the step that failed raised."""
    progress = Progress(stream=sys.stdout)
    started = time.monotonic()
    place = place_on_this_machine(progress)
    with progress.step("models: a verifier of 26 M parameters"):
        pair = model_pair()
    with progress.step("images: operator and engine"):
        references = images.provide(IMAGES, cluster=Cluster(), registry="")
    place.apply(namespace_of(NAMESPACE))
    with progress.step("models are on the claim `models`"):
        model_volume.provide_from_node(place, NAMESPACE, folder=pair.folder)
    with progress.step(f"helm install {chart.RELEASE}"):
        chart.install(place, NAMESPACE, values={**chart.values_of(references), "crds": crd_values(place, NAMESPACE)})
    progress.say(f"\n$ kubectl apply -f {MANIFEST.relative_to(REPOSITORY)}")
    progress.say(place.run("apply", "-n", NAMESPACE, "-f", str(MANIFEST)).rstrip())
    with progress.step("a verifier is Ready"):
        limit = READY_LIMIT_SECONDS
        wait = ("wait", "--for=condition=Ready", f"llm/{NAME}", "-n", NAMESPACE, f"--timeout={limit}s")
        place.run(*wait, limit_seconds=limit + 10)
    _follow(place, progress)
    progress.say(f"\n$ tandem why {NAME} -n {NAMESPACE}")
    tandem(["why", NAME, "-n", NAMESPACE, "--kubeconfig", str(place.kubeconfig)])
    progress.say(f"\n{time.monotonic() - started:.0f} s in all. `make demo-down` takes all of it away.")


def _follow(place: Place, progress: Progress) -> None:
    """The story, part by part, each until what it shows has happened."""
    address = f"http://{place.get('service', NAME, '-n', NAMESPACE)['spec']['clusterIP']}"
    with View(sys.stdout, target_seconds=TARGET_SECONDS, target_share=TARGET_SHARE) as view:
        story = _Story(place, view)
        seen = _learn(story, place, address)
        soon = ", as was learned: a second one is on its way" if seen.wanted > 1 else ""
        with Load(address, model=NAME, clients=CLIENTS, max_tokens=OUTPUT_TOKENS) as load:
            story.tell(
                f"{CLIENTS} clients: one verifier cannot keep the target{soon}", load, lambda seen: seen.wanted > 1
            )
            story.tell("a second verifier starts", load, lambda seen: seen.ready > 1)
            story.tell("under the same load the target holds again", load, _is_held)
        if load.failed:
            raise DemoError(f"{len(load.failed)} requests failed, the first with: {load.failed[0]}")
        story.tell("nobody asks: the gate takes their place", load, lambda seen: seen.is_at_gate)
        story.tell("they answer what they have, and go", load, lambda seen: seen.pods == 0)
        with Load(address, model=NAME, clients=1, max_tokens=16) as load:
            story.tell("one client asks: the gate holds its request", load, lambda seen: seen.within is not None)
    if load.failed:
        raise DemoError(f"the request that should have woken the model failed: {load.failed[0]}")
    waited = load.since(PART_LIMIT_SECONDS)[0].seconds
    progress.say(
        f"\nThe request that found nobody was answered after {waited:.0f} s. {openai.models(address)[0]} serves."
    )


def _learn(story: _Story, place: Place, address: str) -> Frame:
    """Loads that differ, until the operator knows the pace of a step: from then on it can tell what keeps a target."""
    pace = Pace(place, NAMESPACE)
    deadline = time.monotonic() + PART_LIMIT_SECONDS

    def is_learned(seen: Frame) -> bool:
        return seen.wanted > 1 or pace.is_learned()  # before it is, so little load needs no second one

    turns = itertools.cycle(LEARNING_CLIENTS)
    while True:
        with Load(address, model=NAME, clients=next(turns), max_tokens=OUTPUT_TOKENS) as load:
            end = time.monotonic() + LEARNING_SECONDS
            seen = story.tell(
                f"{' and '.join(map(str, LEARNING_CLIENTS))} clients in turns: how long a step takes is learned, in "
                "about four minutes",
                load,
                lambda seen, end=end: is_learned(seen) or time.monotonic() > end,  # type: ignore[misc]
            )
        if is_learned(seen):
            return seen
        if time.monotonic() > deadline:
            raise DemoError(f"waited {PART_LIMIT_SECONDS} s for the pace of a step to be learned")


class Pace:
    """Whether the operator of a namespace has learned what a verifier does within its target."""

    def __init__(self, place: Place, namespace: str) -> None:
        self._place, self._namespace = place, namespace
        self._is_learned, self._asked = False, float("-inf")

    def is_learned(self) -> bool:
        """As of the last time that it was asked."""
        if not self._is_learned and time.monotonic() > self._asked + ASK_SECONDS:
            self._asked = time.monotonic()
            operator = ("pods", "-n", self._namespace, "-l", "app.kubernetes.io/component=operator")
            for pod in self._place.get(*operator)["items"]:
                try:
                    self._is_learned |= (
                        openai.counter(f"http://{pod['status'].get('podIP')}:{METRICS_PORT}", CAPACITY) > 0
                    )
                except OSError:  # it starts anew
                    continue
        return self._is_learned


class _Story:
    """Its parts are told one after the other in one view."""

    def __init__(self, place: Place, view: View) -> None:
        self._place, self._view = place, view

    def tell(self, part: str, load: Load, is_over: Callable[[Frame], bool]) -> Frame:
        """Show what is seen until the part is over: the last of it. Raises DemoError when that takes too long."""
        deadline = time.monotonic() + PART_LIMIT_SECONDS
        while True:
            frame = self._seen(part, load)
            self._view.show(frame)
            if is_over(frame):
                return frame
            if time.monotonic() > deadline:
                raise DemoError(f"waited {PART_LIMIT_SECONDS} s for: {part}; the last decision: {frame.reason}")
            time.sleep(LOOK_SECONDS)

    def _seen(self, part: str, load: Load) -> Frame:
        status: dict[str, Any] = self._place.get("llm", NAME, "-n", NAMESPACE).get("status") or {}
        selector = self._place.get("service", NAME, "-n", NAMESPACE)["spec"]["selector"]
        scaling, verifier = status.get("scaling") or {}, status.get("verifier") or {}
        seen = load.since(SEEN_SECONDS)
        return Frame(
            part=part,
            clients=load.asking,
            rate=len(seen) / SEEN_SECONDS,
            first_token_seconds=max((each.first_token_seconds for each in seen), default=None),
            within=load.share_within(TARGET_SECONDS, last_seconds=SEEN_SECONDS),
            pods=len(self._place.get("pods", "-n", NAMESPACE, "-l", PODS)["items"]),
            ready=verifier.get("readyReplicas", 0),
            wanted=scaling.get("desiredVerifiers", 0),
            is_at_gate=selector.get("app.kubernetes.io/component") == "gate",
            reason=scaling.get("reason", ""),
            age_seconds=_age(scaling.get("updated")),
        )


def _age(written: str | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(written)).total_seconds() if written else 0.0


def _is_held(seen: Frame) -> bool:
    return (seen.within or 0.0) >= TARGET_SHARE
