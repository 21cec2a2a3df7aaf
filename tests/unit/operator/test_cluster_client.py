"""The Kubernetes client against a fake API server: where requests go, what they carry, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator.cluster import (
    KINDS,
    Cluster,
    ClusterError,
    ConflictError,
    NotFoundError,
    RefusedError,
)
from tandem_operator.facts import Manifest, Ref
from tests.builders import make_body, make_child, make_raw_pod
from tests.unit.operator.fake_api_server import HANG, Answer, FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import now, run

APPS = "/apis/apps/v1/namespaces/chat"
DEPLOYMENT = Ref("Deployment", "x")


def play(script: Callable[[FakeApiServer, Cluster], Awaitable[None]]) -> FakeApiServer:
    """Run a server and its client while `script` uses them; the server, to look at its requests."""

    async def main() -> FakeApiServer:
        async with serve() as server, connect(server) as cluster:
            await script(server, cluster)
            return server

    return run(main())


def child(name: str = "x") -> Manifest:
    manifest = make_child("Deployment", name)
    for server_side in ("uid", "resourceVersion"):
        del manifest["metadata"][server_side]
    return manifest


def test_annotations_are_merged_into_the_very_object_that_was_seen_and_nothing_else_is_sent() -> None:
    path, pod = "/api/v1/namespaces/chat/pods/p", Ref("Pod", "p")

    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.put(path, make_raw_pod(Role.VERIFIER, "0a1b2c3d"))
        uid = server.objects[path]["metadata"]["uid"]
        written = await cluster.annotate(pod, "chat", uid=uid, annotations={"a": "1", "b": None})
        assert written["kind"] == "Pod"
        assert written["metadata"]["annotations"]["a"] == "1"
        assert server.requests[-1].headers["content-type"] == "application/merge-patch+json"
        assert server.requests[-1].body == {"metadata": {"uid": uid, "annotations": {"a": "1", "b": None}}}
        await cluster.annotate(pod, "chat", uid=uid, annotations={"a": None})
        assert "a" not in server.objects[path]["metadata"]["annotations"]
        with pytest.raises(ConflictError):
            await cluster.annotate(pod, "chat", uid="another", annotations={"a": "1"})
        with pytest.raises(NotFoundError):
            await cluster.annotate(Ref("Pod", "q"), "chat", uid=uid, annotations={"a": "1"})

    play(script)


@pytest.mark.parametrize(
    ("kind", "name", "subresource", "path"),
    [
        ("Service", "s", "", "/api/v1/namespaces/chat/services/s"),
        ("Service", "", "", "/api/v1/namespaces/chat/services"),
        ("Deployment", "d", "", f"{APPS}/deployments/d"),
        ("ControllerRevision", "r", "", f"{APPS}/controllerrevisions/r"),
        ("LLMDeployment", "l", "status", "/apis/tandem.dev/v1alpha1/namespaces/chat/llmdeployments/l/status"),
        ("Lease", "l", "", "/apis/coordination.k8s.io/v1/namespaces/chat/leases/l"),
        ("Event", "", "", "/apis/events.k8s.io/v1/namespaces/chat/events"),
    ],
)
def test_paths(kind: str, name: str, subresource: str, path: str) -> None:
    assert KINDS[kind].path("chat", name, subresource=subresource) == path


def test_every_request_says_who_asks_and_carries_the_token() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.put(f"{APPS}/deployments/x", child())
        await cluster.get(DEPLOYMENT, "chat")

    (request,) = play(script).requests
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["user-agent"].startswith("tandem-operator")


def test_an_object_is_read_with_its_type() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.put(f"{APPS}/deployments/x", {"metadata": {"name": "x", "namespace": "chat"}})
        read = await cluster.get(DEPLOYMENT, "chat")
        assert (read["apiVersion"], read["kind"]) == ("apps/v1", "Deployment")

    play(script)


def test_apply_is_a_forced_server_side_apply_that_refuses_unknown_fields() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        written = await cluster.apply(child())
        assert written["metadata"]["resourceVersion"] == "101"

    (request,) = play(script).requests
    assert (request.method, request.path) == ("PATCH", f"{APPS}/deployments/x")
    assert request.query == {"fieldManager": "tandem", "force": "true", "fieldValidation": "Strict"}
    assert request.headers["content-type"] == "application/apply-patch+yaml"
    assert request.body == child()


def test_what_is_made_is_made_in_one_request_and_never_over_what_is_there() -> None:
    async def script(_: FakeApiServer, cluster: Cluster) -> None:
        made = await cluster.make(child())
        with pytest.raises(ConflictError):
            await cluster.make({**child(), "spec": {}})
        assert await cluster.get(Ref("Deployment", "x"), "chat") == made

    first, second, _ = play(script).requests
    assert (first.method, second.method) == ("PATCH", "PATCH")


def test_an_apply_with_a_version_takes_place_only_at_that_version() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        there = server.put(f"{APPS}/deployments/x", child())
        server.put(f"{APPS}/deployments/x", child())
        with pytest.raises(ConflictError):
            await cluster.apply(child(), resource_version=there["metadata"]["resourceVersion"])
        await cluster.apply(child(), resource_version=str(server.version))

    manifest = child()
    play(script)
    assert manifest == child(), "the caller's manifest is not written to"


def test_status_is_applied_to_the_very_object() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.put("/apis/tandem.dev/v1alpha1/namespaces/chat/llmdeployments/l", make_body(name="l", uid="u"))
        with pytest.raises(ConflictError):
            await cluster.apply_status(Ref("LLMDeployment", "l"), "chat", status={}, uid="another")
        await cluster.apply_status(Ref("LLMDeployment", "l"), "chat", status={"observedGeneration": 3}, uid="u")

    request = play(script).requests[-1]
    assert request.path == "/apis/tandem.dev/v1alpha1/namespaces/chat/llmdeployments/l/status"
    assert request.body["metadata"] == {"name": "l", "namespace": "chat", "uid": "u"}
    assert request.body["status"] == {"observedGeneration": 3}
    assert request.query["fieldManager"] == "tandem"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {}),
        ({"uid": "u"}, {"uid": "u"}),
        ({"uid": "u", "resource_version": "7"}, {"uid": "u", "resourceVersion": "7"}),
        ({"resource_version": "7"}, {"resourceVersion": "7"}),
    ],
)
def test_a_deletion_carries_what_was_seen_and_takes_the_pods_along(given: dict[str, str], sent: Manifest) -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.answer_next("DELETE", Answer(200, '{"kind": "Status"}'))
        await cluster.delete(DEPLOYMENT, "chat", **given)

    (request,) = play(script).requests
    assert request.method == "DELETE"
    assert request.body == {"propagationPolicy": "Background", "preconditions": sent}


def test_deleting_what_is_gone_is_a_success_and_deleting_another_one_is_a_conflict() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        await cluster.delete(DEPLOYMENT, "chat", uid="gone")
        there = server.put(f"{APPS}/deployments/x", child())
        with pytest.raises(ConflictError):
            await cluster.delete(DEPLOYMENT, "chat", uid="another")
        await cluster.delete(DEPLOYMENT, "chat", uid=there["metadata"]["uid"])
        assert server.objects == {}

    play(script)


def test_creating_what_exists_is_a_conflict() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        created = await cluster.create(child())
        assert created["kind"] == "Deployment"
        with pytest.raises(ConflictError, match="409: already exists"):
            await cluster.create(child())
        assert server.requests[0].path == f"{APPS}/deployments"

    play(script)


def test_replacing_an_older_version_is_a_conflict() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        there = await cluster.create(child())
        await cluster.replace(there)
        with pytest.raises(ConflictError):
            await cluster.replace(there)

    play(script)


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (203, 3)])
def test_a_list_is_read_to_its_last_page(count: int, pages: int) -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        for number in range(count):
            manifest = child(f"d{number:04}")
            manifest["metadata"]["labels"]["a"] = "b"
            server.put(f"{APPS}/deployments/d{number:04}", manifest)
        server.put(f"{APPS}/deployments/another", child("another"))
        listing = await cluster.list_objects("Deployment", "chat", selector="a=b")
        assert [item["metadata"]["name"] for item in listing.items] == [f"d{n:04}" for n in range(count)]
        assert all((item["kind"], item["apiVersion"]) == ("Deployment", "apps/v1") for item in listing.items)
        assert listing.version == server.version

    requests = play(script).requests
    assert len(requests) == pages
    for request in requests:
        assert request.path == f"{APPS}/deployments"
        assert request.query["labelSelector"] == "a=b"
        assert request.query["limit"] == "100"
        assert "resourceVersion" not in request.query, "the newest state, not one from a cache"


def test_a_list_of_metadata_asks_for_nothing_else() -> None:
    async def script(_: FakeApiServer, cluster: Cluster) -> None:
        await cluster.list_versions("Deployment", "chat")

    (request,) = play(script).requests
    assert request.headers["accept"] == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert "labelSelector" not in request.query


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (401, ClusterError),
        (403, RefusedError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, ClusterError),
        (422, RefusedError),
        (429, ClusterError),
        (500, ClusterError),
        (503, ClusterError),
    ],
)
def test_an_error_is_of_the_kind_that_says_who_must_act(status: int, kind: type[ClusterError]) -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.answer_next("GET", Answer(status, '{"kind": "Status", "message": "because"}'))
        with pytest.raises(ClusterError) as caught:
            await cluster.get(DEPLOYMENT, "chat")
        assert type(caught.value) is kind
        assert caught.value.status == status
        assert str(caught.value) == f"{status}: because"

    assert len(play(script).requests) == 1, "the client retries nothing; the queue does"


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)])
def test_the_wish_to_be_left_alone_for_a_while_is_kept(header: str | None, seconds: float) -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.answer_next("GET", Answer(429, "{}", headers={"Retry-After": header} if header else {}))
        with pytest.raises(ClusterError) as caught:
            await cluster.get(DEPLOYMENT, "chat")
        assert caught.value.retry_after_seconds == seconds

    play(script)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(502, "<html>bad gateway</html>", content_type="text/html"), "502: <html>bad gateway</html>"),
        (Answer(500, ""), "500: "),
        (Answer(500, "[]"), r"500: \[\]"),
        (Answer(500, "x" * 10_000, content_type="text/plain"), f"500: {'x' * 200}$"),
        (Answer(200, "<html>hotel wifi</html>", content_type="text/html"), "the answer is not JSON"),
        (Answer(200, ""), "the answer is not JSON"),
    ],
)
def test_an_answer_that_is_no_status_is_an_error_with_its_beginning(answer: Answer, message: str) -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.answer_next("GET", answer)
        with pytest.raises(ClusterError, match=message):
            await cluster.get(DEPLOYMENT, "chat")

    play(script)


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "PUT", "DELETE"])
def test_no_request_waits_longer_than_its_limit(method: str) -> None:
    calls: dict[str, Callable[[Cluster], Awaitable[Any]]] = {
        "GET": lambda cluster: cluster.get(DEPLOYMENT, "chat"),
        "PATCH": lambda cluster: cluster.apply(child()),
        "POST": lambda cluster: cluster.create(child()),
        "PUT": lambda cluster: cluster.replace(child()),
        "DELETE": lambda cluster: cluster.delete(DEPLOYMENT, "chat"),
    }

    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.answer_next(method, Answer(HANG))
        begun = now()
        with pytest.raises(ClusterError, match=rf"{method} {APPS}/deployments.*Timeout") as caught:
            await calls[method](cluster)
        assert caught.value.status == 0
        assert now() - begun == pytest.approx(8.0, abs=0.1)

    play(script)


def test_no_server_at_all_is_an_error_like_others() -> None:
    async def main() -> None:
        async with serve() as server:
            pass
        async with connect(server) as cluster:
            with pytest.raises(ClusterError, match="Connect") as caught:
                await cluster.get(DEPLOYMENT, "chat")
            assert caught.value.status == 0

    run(main())


def test_a_resource_is_found_by_its_kind() -> None:
    async def script(server: FakeApiServer, cluster: Cluster) -> None:
        server.put("/apis/tandem.dev/v1alpha1/namespaces/chat/llmdeployments/pair", make_body())
        assert (await cluster.get(Ref("LLMDeployment", "pair"), "chat"))["spec"] == make_body()["spec"]

    play(script)
