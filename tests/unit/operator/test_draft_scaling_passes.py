"""Scaling of drafts through whole passes: pages of both roles are read over HTTP, replicas follow, status says why."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from tandem_contracts import metrics
from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.facts import Manifest
from tests.builders import NAME, NAMESPACE, make_raw_pod, make_role, make_spec
from tests.unit.operator.reconcile_world import World
from tests.unit.operator.scaling_site import MEMORY_PATH, written
from tests.unit.operator.scaling_site import Site as VerifierSite
from tests.unit.operator.scaling_site import play as play_site

AUTOSCALING: Manifest = {
    "slo": {"timeToFirstToken": "2s"},
    "verifier": {"minReplicas": 2, "maxReplicas": 6},
    "draft": {"minReplicas": 0, "maxReplicas": 4},
    "requestsPerReplica": 10,
}
ADDRESSES = {Role.VERIFIER: "127.0.0.1", Role.DRAFT: "127.0.1."}
"""Of all verifiers, and the beginning of those of drafts."""
CAPACITY = 2000.0
"""Tokens a second that a draft gives."""


class Site(VerifierSite):
    """The same with pods of both roles."""

    def __init__(self, world: World, port: int, gate_port: int) -> None:
        super().__init__(world, port, gate_port)
        self.running, self.asked, self.pays = 4.0, 1000.0, True
        """Requests of each verifier, draft tokens a second, whether drafts pay."""
        self.starting, self.come_up = {Role.VERIFIER: True, Role.DRAFT: True}, True
        """Whether pods are made, and whether those become Ready."""
        self.rows = self.drafted_rows = self.tokens = self.busy_seconds = 0.0
        self.beside = 0.0
        """Tokens that the first draft has given beside those of the others."""

    async def page(self, request: web.Request) -> web.Response:
        """Of an engine and its launcher on one port: each reader looks for what is its own."""
        told = {
            metrics.DRAFT_SERVER_ASKED_TOKENS: self.tokens + self.beside * request.host.startswith("127.0.1.1:"),
            metrics.DRAFT_SERVER_BUSY_SECONDS: self.busy_seconds,
        }
        if request.host.startswith(ADDRESSES[Role.VERIFIER]):
            told = {
                metrics.ENGINE_RUNNING: self.running,
                metrics.ENGINE_WAITING: 0.0,
                f'{metrics.DRAFT_ROWS}{{outcome="drafted"}}': self.drafted_rows,
                f'{metrics.DRAFT_ROWS}{{outcome="empty"}}': self.rows - self.drafted_rows,
                f'{metrics.DRAFT_CALLS}{{outcome="answered"}}': self.drafted_rows,
                metrics.DRAFT_DEADLINES_MISSED: 0.0,
                metrics.DRAFT_DEPTH: 4.0 if self.pays else 0.0,
                metrics.DRAFT_PODS: self.ready(Role.DRAFT),
                metrics.DRAFT_BREAKERS_OPEN: 0.0,
            }
        text = "".join(f"{series} {value}\n" for series, value in told.items())
        return web.Response(text=text, status=200 if self.is_up else 503)

    def work(self) -> None:
        drafts = self.ready(Role.DRAFT)
        self.rows += 500.0
        self.drafted_rows += 450.0 if drafts and self.pays else 10.0 if drafts else 0.0
        share = min(1.0, self.asked / CAPACITY / drafts) if drafts and self.pays else 0.0
        self.tokens += 5 * share * CAPACITY
        self.beside += 1.0
        self.busy_seconds += 5 * share

    def kubelet(self) -> None:
        wanted_pods = set()
        for path in self.world.paths("Deployment"):
            there = self.world.server.objects[path]
            labels, wanted = there["metadata"]["labels"], there["spec"]["replicas"]
            role, revision = Role(labels[names.LABEL_ROLE]), labels[names.LABEL_REVISION]
            for i in range(wanted):
                name = f"{NAME}-{role}-{revision}-{i}"
                address = ADDRESSES[role] + (str(i + 1) if role is Role.DRAFT else "")
                at = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
                wanted_pods.add(at)
                if self.starting[role] and at not in self.world.server.objects:
                    state = "True" if self.come_up else "False"
                    ready = {"type": "Ready", "status": state, "lastTransitionTime": written(self.now)}
                    pod = make_raw_pod(role, revision, name=name, podIP=address, conditions=[ready])
                    pod["metadata"]["creationTimestamp"] = written(self.now)
                    self.world.server.put(at, pod)
        for path in self.world.paths("Pod"):
            if f"/{NAME}-" in path and path not in wanted_pods:
                del self.world.server.objects[path]
        for path in self.world.paths("Deployment"):
            there = self.world.server.objects[path]
            labels, wanted = there["metadata"]["labels"], there["spec"]["replicas"]
            ready_pods = self.ready(Role(labels[names.LABEL_ROLE]), labels[names.LABEL_REVISION])
            counters = {"observedGeneration": there["metadata"]["generation"], "replicas": wanted}
            status = {**counters, "readyReplicas": ready_pods}
            if there.get("status") != status:
                self.world.server.put(path, {**there, "status": status})

    def ready(self, role: Role, revision: str = "") -> int:
        return len([path for path in self.world.paths("Pod") if f"/{NAME}-{role}-{revision}" in path])

    def path_of(self, role: Role) -> str:
        (path,) = [path for path in self.world.paths("Deployment") if f"/{NAME}-{role}-" in path]
        return path

    @property
    def drafts(self) -> int:
        found: int = self.world.server.objects[self.path_of(Role.DRAFT)]["spec"]["replicas"]
        return found

    def condition(self, kind: str) -> tuple[str, str, str]:
        return self.world.condition(kind) or ("", "", "")


def make_scaled(*, replicas: int = 1, **autoscaling: object) -> Manifest:
    return make_spec(draft=make_role("draft", replicas=replicas), autoscaling={**AUTOSCALING, **autoscaling})


def play(script: Callable[[Site], Awaitable[None]], spec: Manifest | None = None) -> None:
    play_site(script, spec or make_scaled(), make=Site)


def test_drafts_follow_what_is_asked_of_them_and_status_says_why() -> None:
    async def script(site: Site) -> None:
        await site.live(60)
        assert site.drafts == 1
        assert (site.told["desiredDrafts"], site.told["draftHealth"]) == (1, "Good")
        site.asked = 1950.0
        await site.live(120)
        assert site.drafts == 2
        await site.live(300)
        assert site.told["draftReason"] == "needs 2: 1950 tokens/s are asked for, a draft gives 2000"
        decisions = json.loads(site.world.server.objects[MEMORY_PATH]["data"]["draft"])["decisions"]
        assert [(each["from"], each["to"]) for each in decisions] == [(1, 2)]
        assert decisions[0]["inputs"]["tokenCapacity"] == "2000"
        assert [(each["role"], each["to"]) for each in site.told["changes"]] == [("draft", 2)]
        assert site.condition("Ready")[0] == "True"
        site.asked = 100.0
        await site.live(200)
        assert site.drafts == 1

    play(script)


def test_the_draft_that_gives_the_least_goes_first() -> None:
    async def script(site: Site) -> None:
        site.asked = 1950.0
        await site.live(120)
        assert (site.drafts, [each for each in site.world.writes() if "/pods/" in each]) == (2, [])
        site.asked = 100.0
        await site.live(200)
        assert site.drafts == 1
        (mark,) = [each.rpartition("/")[2] for each in site.world.writes() if "/pods/" in each]
        assert mark.startswith(f"{NAME}-draft-")
        assert mark.endswith("-1")

    play(script)


def test_drafts_that_do_not_pay_go_to_none_and_nothing_is_called_broken() -> None:
    async def script(site: Site) -> None:
        await site.live(120)
        site.pays = False
        await site.live(180)
        assert site.drafts == 0
        assert site.condition("DraftReady")[:2] == ("True", "ScaledToZero")
        assert "measured that drafts do not pay" in site.condition("DraftReady")[2]
        assert site.condition("SpeculationEffective")[:2] == ("False", "NotWorthIt")
        assert "no draft pods are wanted" in site.condition("SpeculationEffective")[2]
        assert site.condition("Ready")[0] == "True"
        assert (site.told["desiredDrafts"], site.told["draftHealth"]) == (0, "Off")
        await site.restart()
        await site.live(120)
        assert site.drafts == 0, "that is remembered"
        site.starting[Role.DRAFT], site.pays, site.running = False, True, 1.0
        await site.live(300)
        assert site.drafts == 1
        assert site.condition("DraftReady")[:2] == ("True", "ScalingUp")
        assert site.condition("Ready")[0] == "True"
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
        containers = [{"name": "engine", "restartCount": 4, "state": {"waiting": waiting}}]
        revision = site.world.server.objects[site.path_of(Role.DRAFT)]["metadata"]["labels"][names.LABEL_REVISION]
        broken = make_raw_pod(Role.DRAFT, revision, name="broken", containerStatuses=containers)
        site.world.server.put(f"/api/v1/namespaces/{NAMESPACE}/pods/broken", broken)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(60)
        assert site.condition("DraftReady")[:2] == ("False", "PodsFailing"), "one that cannot start is told of"

    play(script)


def test_that_drafts_do_not_pay_is_remembered_at_once_where_as_many_stay() -> None:
    async def script(site: Site) -> None:
        await site.live(120)
        site.pays = False
        await site.live(150)
        assert (site.drafts, site.told["draftHealth"]) == (1, "Off")
        await site.restart()
        site.pays = True
        await site.live(30)
        assert (site.drafts, site.told["draftHealth"]) == (1, "Off")

    play(script, make_scaled(draft={"minReplicas": 1, "maxReplicas": 4}))


def test_replicas_of_drafts_that_somebody_else_has_written_are_left_alone() -> None:
    async def script(site: Site) -> None:
        await site.live(60)
        path = site.path_of(Role.DRAFT)
        site.somebody_scales(path, 3, by="hpa")
        before = len(site.world.writes())
        await site.live(590)
        assert site.drafts == 3
        status, reason, message = site.condition("ScalingActive")
        assert (status, reason) == ("False", "ScalingConflict")
        assert message.startswith(f"Deployment {path.rsplit('/', 1)[1]}: its replicas were written by hpa")
        assert site.told["health"] == "Good", "verifiers go on"
        assert len([each for each in site.world.writes()[before:] if each.endswith(path)]) <= 1
        await site.restart()
        await site.live(300)
        assert site.condition("ScalingActive")[0] == "True"
        assert site.drafts == 1

    play(script)


@pytest.mark.parametrize("is_scaled", [True, False])
def test_verifiers_that_somebody_has_scaled_to_none_have_no_drafts(is_scaled: bool) -> None:
    async def script(site: Site) -> None:
        await site.live(60)
        path = site.path_of(Role.VERIFIER)
        site.somebody_scales(path, 0)
        await site.live(60)
        assert site.drafts == 0
        assert site.condition("DraftReady")[:2] == ("True", "ScaledToZero")
        await site.live(700)
        assert site.drafts == 1

    bounds = {} if is_scaled else {"draft": None}
    play(script, make_scaled(**bounds))


def test_pages_that_cannot_be_read_change_no_draft() -> None:
    async def script(site: Site) -> None:
        site.asked = 1950.0
        await site.live(240)
        site.is_up = False
        await site.live(900)
        assert site.drafts == 2
        assert site.told["draftHealth"] == "Blind"
        assert site.told["draftReason"] == "stays at 2: 2 of 2 Ready drafts say nothing new of their work"

    play(script)


def test_constant_load_is_written_down_every_five_minutes_and_no_more() -> None:
    async def script(site: Site) -> None:
        await site.live(400)
        before = len(site.world.writes())
        await site.live(1200)
        assert len(site.world.writes()[before:]) <= 8

    play(script)


@pytest.mark.parametrize(("replicas", "begun"), [(0, 0), (2, 2), (9, 4)])
def test_the_specs_replicas_are_what_drafts_begin_with_within_their_bounds(replicas: int, begun: int) -> None:
    async def script(site: Site) -> None:
        site.starting = {Role.VERIFIER: False, Role.DRAFT: False}
        await site.live(60)
        assert site.drafts == begun

    play(script, make_scaled(replicas=replicas))


def test_a_memory_of_verifiers_alone_is_read_and_drafts_go_on_from_what_there_is() -> None:
    async def script(site: Site) -> None:
        site.asked = 1950.0
        await site.live(240)
        there = site.world.server.objects[MEMORY_PATH]
        site.world.server.put(MEMORY_PATH, {**there, "data": {"verifier": there["data"]["verifier"]}})
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(60)
        assert site.drafts == 2

    play(script)


def test_without_bounds_for_drafts_the_spec_says_how_many_again() -> None:
    async def script(site: Site) -> None:
        await site.live(60)
        plain = make_scaled(replicas=3)
        del plain["autoscaling"]["draft"]
        site.world.user_writes(plain, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(60)
        assert site.drafts == 3
        assert "desiredDrafts" not in site.told
        assert "draft" not in site.world.server.objects[MEMORY_PATH]["data"]

    play(script)


@pytest.mark.parametrize(
    ("changed", "come_up", "drafts"),
    [("draft", True, 1), ("verifier", True, 1), ("verifier", False, 0), ("", True, 0)],
)
def test_drafts_that_did_not_pay_are_tried_again_once_another_model_of_either_role_can_be_measured(
    changed: str, drafts: int, *, come_up: bool
) -> None:
    async def script(site: Site) -> None:
        await site.live(120)
        site.pays = False
        await site.live(270)
        assert site.drafts == 0
        site.come_up = come_up
        site.world.user_writes({**make_scaled(), **({changed: make_role("another")} if changed else {})}, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        site.pays = True
        await site.live(150)
        assert site.drafts == drafts

    play(script)


def test_a_spec_that_is_refused_makes_no_other_pair_of_models() -> None:
    async def script(site: Site) -> None:
        await site.live(120)
        site.pays = False
        await site.live(270)
        assert site.drafts == 0
        spec = {**make_scaled(), "draft": make_role("another", ("no-such-class",))}
        site.world.user_writes(spec, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(120)
        assert site.condition("Accepted")[0] == "False"
        assert site.drafts == 0

    play(script)
