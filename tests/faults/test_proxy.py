"""The fault proxy itself: what it takes a request for, which rule acts, and what each action does on the wire."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.faults import actions
from tests.faults.proxy import Action, Proxy, Rule
from tests.faults.requests import Match, api_request_of, verbs, writes

SERVICES = "/api/v1/namespaces/chat/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/chat/deployments"
REQUESTS = [
    ("GET", SERVICES, {}, ("list", "services", "chat", "", "")),
    ("GET", SERVICES, {"watch": "true"}, ("watch", "services", "chat", "", "")),
    ("GET", f"{SERVICES}/a", {}, ("get", "services", "chat", "a", "")),
    ("PATCH", f"{DEPLOYMENTS}/a-verifier-0123abcd", {}, ("patch", "deployments", "chat", "a-verifier-0123abcd", "")),
    ("PATCH", "/apis/x.y/v1/namespaces/n/things/a/status", {}, ("patch", "things", "n", "a", "status")),
    ("POST", SERVICES, {}, ("create", "services", "chat", "from-body", "")),
    ("PUT", f"{SERVICES}/a", {}, ("update", "services", "chat", "a", "")),
    ("DELETE", f"{SERVICES}/a", {}, ("delete", "services", "chat", "a", "")),
    ("GET", "/api/v1/namespaces/chat", {}, ("get", "namespaces", "", "chat", "")),
    ("GET", "/apis/x.y/v1/things", {}, ("list", "things", "", "", "")),
    ("GET", "/apis", {}, ("get", "", "", "", "")),
    ("GET", "/apis/x.y/v1", {}, ("get", "", "", "", "")),
]


@pytest.mark.parametrize(("method", "path", "query", "parts"), REQUESTS)
def test_a_request_is_taken_apart_as_the_audit_log_says_it(
    method: str, path: str, *, query: dict[str, str], parts: tuple[str, ...]
) -> None:
    body = b'{"metadata": {"name": "from-body"}}' if method == "POST" else b""
    request = api_request_of(method, path, query=query, headers={}, body=body)
    assert (request.verb, request.resource, request.namespace, request.name, request.subresource) == parts


def test_a_name_without_its_revisions_is_the_same_in_every_run() -> None:
    made = api_request_of("PATCH", f"{SERVICES}/a-draft-0123abcd", query={}, headers={})
    assert made.kind_of_name == "a-draft-*"


MATCHES = [
    (Match(), True),
    (writes(), True),
    (verbs("get", "list"), False),
    (writes(resource="deployments"), True),
    (writes(resource="services"), False),
    (writes(name="a-verifier-.*"), True),
    (writes(name="a-verifier"), False),
    (writes(subresource=""), True),
    (writes(subresource="status"), False),
    (writes(where=lambda request: request.body["spec"]["replicas"] == 3), True),
    (writes(where=lambda request: request.body["spec"]["replicas"] == 2), False),
]


@pytest.mark.parametrize(("match", "is_matched"), MATCHES)
def test_a_rule_matches_by_verb_kind_name_subresource_and_content(*, match: Match, is_matched: bool) -> None:
    body = b'{"spec": {"replicas": 3}}'
    request = api_request_of("PATCH", f"{DEPLOYMENTS}/a-verifier-0123abcd", query={}, headers={}, body=body)
    assert match(request) is is_matched


def test_the_lease_is_matched_only_by_a_rule_that_names_it() -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/chat/leases/tandem-operator"
    request = api_request_of("PUT", path, query={}, headers={})
    assert not writes()(request)
    assert writes(resource="leases")(request)


def test_a_rule_acts_from_the_nth_match_on_for_as_many_times_as_it_says() -> None:
    request = api_request_of("PATCH", f"{DEPLOYMENTS}/a", query={}, headers={})
    rule = Rule(writes(), actions.reset(), first=2, times=2)
    assert [rule.takes(request) for _ in range(5)] == [False, True, True, False, False]
    for_ever = Rule(writes(), actions.reset(), times=None)
    assert all(for_ever.takes(request) for _ in range(9))


# -- on the wire -----------------------------------------------------------------------------------------------------


@dataclass
class Upstream:
    """A tiny server: answers every request with what it was, and streams `events` to a watch."""

    asked: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=lambda: [_event(1), _event(2), _event(3)])
    port: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        if request.query.get("watch") == "true":
            return await self._stream(request)
        seen = {"method": request.method, "token": request.headers.get("Authorization"), "body": await request.text()}
        return web.json_response(seen, status=201 if request.method == "POST" else 200)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for event in self.events:
            await stream.write(json.dumps(event).encode() + b"\n")
        return stream


def _event(number: int) -> dict[str, Any]:
    return {"type": "MODIFIED", "object": {"metadata": {"name": "a", "resourceVersion": str(number)}}}


@asynccontextmanager
async def _served() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream.port = runner.addresses[0][1]
        yield upstream
    finally:
        await runner.cleanup()


@contextmanager
def _upstream() -> Iterator[Upstream]:
    """The tiny server in a thread of its own."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []
    stopped = asyncio.Event()

    async def serve() -> None:
        async with _served() as upstream:
            found.append(upstream)
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with _upstream() as found:
        yield found


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{upstream.port}") as found:
        yield found


Work = Callable[[aiohttp.ClientSession], Awaitable[Any]]


def _as_client(proxy: Proxy, work: Work, *, limit_seconds: float = 10) -> Any:
    async def run() -> Any:
        timeout = aiohttp.ClientTimeout(total=limit_seconds)
        headers = {"Authorization": "Bearer t"}
        async with aiohttp.ClientSession(proxy.url, timeout=timeout, headers=headers) as session:
            return await work(session)

    return asyncio.run(run())


def _patch(proxy: Proxy, path: str = f"{DEPLOYMENTS}/a", *, limit_seconds: float = 10) -> tuple[int, dict[str, Any]]:
    async def work(session: aiohttp.ClientSession) -> tuple[int, dict[str, Any]]:
        async with session.patch(path, json={"spec": {}}) as answer:
            return answer.status, await answer.json()

    found: tuple[int, dict[str, Any]] = _as_client(proxy, work, limit_seconds=limit_seconds)
    return found


def _watch(proxy: Proxy, *, limit_seconds: float = 10) -> list[str]:
    lines: list[str] = []

    async def work(session: aiohttp.ClientSession) -> None:
        async with session.get(SERVICES, params={"watch": "true"}) as answer:
            async for line in answer.content:
                lines.append(line.decode().strip())  # noqa: PERF401 -- what came before the limit is kept

    try:
        _as_client(proxy, work, limit_seconds=limit_seconds)
    except TimeoutError:
        lines.append("silence")
    return lines


def _versions(lines: list[str]) -> list[str]:
    return [json.loads(line)["object"]["metadata"]["resourceVersion"] for line in lines]


def test_without_rules_everything_passes_and_is_recorded_in_order(proxy: Proxy) -> None:
    status, seen = _patch(proxy)
    assert status == 200
    assert seen == {"method": "PATCH", "token": "Bearer t", "body": '{"spec": {}}'}
    assert _versions(_watch(proxy)) == ["1", "2", "3"]
    assert [(e.request.verb, e.request.resource, e.status, e.told) for e in proxy.record] == [
        ("patch", "deployments", 200, 200),
        ("watch", "services", 200, 200),
    ]


def test_an_answer_of_the_rule_s_own_never_reaches_the_server(proxy: Proxy, upstream: Upstream) -> None:
    proxy.add(writes(), actions.answer(429, retry_after_seconds=7))
    status, body = _patch(proxy)
    assert (status, body["code"], body["kind"]) == (429, 429, "Status")
    assert upstream.asked == []
    assert _patch(proxy)[0] == 200


BROKEN = [("before", actions.before, 0), ("after", actions.after, 1)]


@pytest.mark.parametrize(("name", "make", "asked"), BROKEN)
def test_a_kill_comes_before_or_after_the_server_has_done_its_work(
    proxy: Proxy, upstream: Upstream, *, name: str, make: Callable[[Callable[[], None]], Action], asked: int
) -> None:
    effects: list[int] = []
    proxy.add(writes(), make(lambda: effects.append(len(upstream.asked))))
    with pytest.raises(aiohttp.ClientError):
        _patch(proxy)
    assert effects == [asked]
    assert len(upstream.asked) == asked
    assert proxy.record[0].status == (200 if asked else 0)


def test_a_reply_can_be_lost_after_the_write(proxy: Proxy, upstream: Upstream) -> None:
    proxy.add(writes(), actions.lose_reply())
    with pytest.raises(aiohttp.ClientError):
        _patch(proxy)
    assert upstream.asked == [f"PATCH {DEPLOYMENTS}/a"]


def test_a_black_hole_answers_nothing_and_is_left_by_the_client_s_limit(proxy: Proxy, upstream: Upstream) -> None:
    proxy.add(writes(), actions.black_hole())
    with pytest.raises(TimeoutError):
        _patch(proxy, limit_seconds=0.3)
    assert upstream.asked == []


def test_a_delayed_request_arrives_later_than_one_that_came_after_it(proxy: Proxy, upstream: Upstream) -> None:
    proxy.add(writes(name="slow"), actions.delay(0.3))

    async def both(session: aiohttp.ClientSession) -> None:
        await asyncio.gather(*(session.patch(f"{DEPLOYMENTS}/{name}") for name in ("slow", "quick")))

    _as_client(proxy, both)
    assert [asked.rpartition("/")[2] for asked in upstream.asked] == ["quick", "slow"]


def test_what_somebody_does_meanwhile_is_done_before_the_request_arrives(proxy: Proxy, upstream: Upstream) -> None:
    before: list[int] = []
    proxy.add(writes(), actions.meanwhile(lambda: before.append(len(upstream.asked))))
    assert _patch(proxy)[0] == 200
    assert before == [0]


def test_a_truncated_answer_is_no_json(proxy: Proxy) -> None:
    proxy.add(writes(), actions.truncate())
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        _patch(proxy)


def test_reads_are_answered_from_a_snapshot_in_all_their_forms(proxy: Proxy, upstream: Upstream) -> None:
    item = {"metadata": {"name": "old", "resourceVersion": "7"}, "spec": {"x": 1}}
    listing = {"kind": "ServiceList", "metadata": {"resourceVersion": "9"}, "items": [item]}
    proxy.add(verbs("list", "get", resource="services"), actions.from_snapshot({"services": listing}), times=None)

    async def read(session: aiohttp.ClientSession) -> list[Any]:
        metadata = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        answers = [
            await session.get(SERVICES),
            await session.get(SERVICES, headers=metadata),
            await session.get(f"{SERVICES}/old"),
            await session.get(f"{SERVICES}/new"),
        ]
        return [(answer.status, await answer.json()) for answer in answers]

    listed, bare, old, new = _as_client(proxy, read)
    assert listed == (200, listing)
    assert bare[1]["items"] == [{"metadata": item["metadata"]}]
    assert old == (200, item)
    assert new[0] == 404
    assert upstream.asked == []


STREAMS = [
    (actions.drop(lambda event: event["object"]["metadata"]["resourceVersion"] == "2"), ["1", "3"]),
    (actions.duplicate(), ["1", "1", "2", "2", "3", "3"]),
    (actions.reorder(), ["3", "2", "1"]),
]


@pytest.mark.parametrize(("edit", "versions"), STREAMS, ids=["drop", "duplicate", "reorder"])
def test_events_of_a_watch_are_dropped_repeated_and_reordered(proxy: Proxy, *, edit: Any, versions: list[str]) -> None:
    proxy.add(verbs("watch"), actions.edit_events(edit))
    assert _versions(_watch(proxy)) == versions


@pytest.mark.parametrize("code", [410, 500])
def test_a_watch_ends_with_an_error_event(proxy: Proxy, code: int) -> None:
    proxy.add(verbs("watch"), actions.edit_events(actions.error_after(code, 1)))
    first, last = (json.loads(line) for line in _watch(proxy))
    assert first == _event(1)
    assert (last["type"], last["object"]["code"]) == ("ERROR", code)


def test_a_watch_falls_silent_and_stays_open(proxy: Proxy) -> None:
    proxy.add(verbs("watch"), actions.edit_events(actions.silence_after(1)))
    lines = _watch(proxy, limit_seconds=0.5)
    assert _versions(lines[:-1]) == ["1"]
    assert lines[-1] == "silence"


def test_a_watch_breaks_off_in_the_middle_of_an_event(proxy: Proxy) -> None:
    proxy.add(verbs("watch"), actions.edit_events(actions.truncate_after(1)))
    whole, half = _watch(proxy)
    assert json.loads(whole) == _event(1)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(half)


def test_a_proxy_that_is_down_refuses_and_comes_back_at_the_same_port(proxy: Proxy) -> None:
    url = proxy.url
    proxy.down()
    with pytest.raises(aiohttp.ClientConnectionError):
        _patch(proxy)
    proxy.up()
    assert proxy.url == url
    assert _patch(proxy)[0] == 200


def test_open_watches_are_cut(proxy: Proxy) -> None:
    proxy.add(verbs("watch"), actions.edit_events(actions.silence_after(0)))
    threading.Timer(0.3, proxy.cut).start()
    with pytest.raises(aiohttp.ClientError):
        _watch(proxy)
