"""What a rule of the proxy does to a request, and to the events of a watch stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from tests.faults.proxy import Action, Edit, Exchange

Event = dict[str, Any]
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid"}


def _status_of(code: int, message: str) -> dict[str, Any]:
    reason = _REASONS.get(code, "InternalError")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


# -- one request -----------------------------------------------------------------------------------------------------


def answer(code: int, *, retry_after_seconds: int | None = None) -> Action:
    """Answer with an error in the API server's form; it is not asked."""

    async def act(_: Exchange) -> web.StreamResponse:
        headers = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds is not None else {}
        return web.json_response(_status_of(code, f"injected {code}"), status=code, headers=headers)

    return act


def before(effect: Callable[[], None]) -> Action:
    """Do something, then break the connection: the API server never hears of the request. For a kill."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        effect()
        return exchange.reset()

    return act


def after(effect: Callable[[], None]) -> Action:
    """Have the request carried out, do something, and break the connection before the reply. For a kill."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await exchange.fetch()
        effect()
        return exchange.reset()

    return act


def meanwhile(effect: Callable[[], None]) -> Action:
    """Do something before the request is passed on, which then goes its way. For what a user does at that moment."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await asyncio.to_thread(effect)
        return await exchange.pass_on()

    return act


def lose_reply() -> Action:
    """Have the request carried out and break the connection instead of replying."""
    return after(lambda: None)


def reset() -> Action:
    """Break the connection; the API server never hears of the request."""
    return before(lambda: None)


def black_hole() -> Action:
    """Take the request and never answer."""

    async def act(_: Exchange) -> web.StreamResponse:
        return await asyncio.Future()

    return act


def delay(seconds: float) -> Action:
    """Pass the request on later."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await exchange.pass_on()

    return act


def truncate() -> Action:
    """Answer with the first half of the JSON that the API server sent."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        whole = await exchange.fetch()
        assert isinstance(whole.body, bytes)
        return web.Response(body=whole.body[: len(whole.body) // 2], content_type="application/json")

    return act


def from_snapshot(listings: Mapping[str, dict[str, Any]]) -> Action:
    """Answer lists and gets as the API server would have at an earlier time; `listings` is by resource."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        request, listing = exchange.request, listings[exchange.request.resource]
        if request.verb == "get":
            found = next((i for i in listing["items"] if i["metadata"]["name"] == request.name), None)
            if found is None:
                return web.json_response(_status_of(404, f"{request.name} not found"), status=404)
            return web.json_response(found)
        if not request.is_resync:
            return web.json_response(listing)
        bare = [{"metadata": item["metadata"]} for item in listing["items"]]
        return web.json_response({**listing, "kind": "PartialObjectMetadataList", "items": bare})

    return act


# -- the events of a watch -------------------------------------------------------------------------------------------


def edit_events(edit: Edit) -> Action:
    """Pass a watch on, its events changed by `edit`."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        return await exchange.pass_on(edit)

    return act


def drop(is_dropped: Callable[[Event], bool]) -> Edit:
    """Leave out events."""

    async def edit(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            if not is_dropped(json.loads(line)):
                yield line

    return edit


def duplicate() -> Edit:
    """Send every event twice."""

    async def edit(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            yield line
            yield line

    return edit


def reorder(held_seconds: float = 0.3) -> Edit:
    """Hold events back for a while and send those of each while in reverse."""

    async def edit(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def read() -> None:
            async for line in lines:
                queue.put_nowait(line)
            queue.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (first := await queue.get()) is not None:
                held: list[bytes | None] = [first]
                await asyncio.sleep(held_seconds)
                while not queue.empty():
                    held.append(queue.get_nowait())
                for line in reversed(held):
                    if line is not None:
                        yield line
                if None in held:
                    return
        finally:
            reader.cancel()

    return edit


def silence_after(events: int = 0) -> Edit:
    """After some events send nothing more, and keep the stream open."""

    async def edit(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in _first(lines, events):
            yield line
        await asyncio.Future()

    return edit


def error_after(code: int, events: int = 0) -> Edit:
    """After some events send an ERROR event with this code, and end the stream."""

    async def edit(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in _first(lines, events):
            yield line
        yield json.dumps({"type": "ERROR", "object": _status_of(code, f"injected {code}")}).encode() + b"\n"

    return edit


def truncate_after(events: int = 0) -> Edit:
    """After some events send half of the next one, and end the stream."""

    async def edit(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        passed = 0
        async for line in lines:
            if passed == events:
                yield line[: len(line) // 2] + b"\n"
                return
            yield line
            passed += 1

    return edit


async def _first(lines: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    if count:
        passed = 0
        async for line in lines:
            yield line
            passed += 1
            if passed == count:
                return
