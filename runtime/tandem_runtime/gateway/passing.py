"""One request to one pod, and its answer to the client, chunk by chunk. Knows nothing of lines and room."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable

import aiohttp
from aiohttp import HttpVersion11, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

ANSWER_LIMIT_SECONDS = 3600.0
CONNECT_LIMIT_SECONDS = 2.0

_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
"""RFC 9110, 7.6.1."""
_OF_REQUEST = _HOP_BY_HOP | {"content-length", "expect"}
"""The body is here: the client was told to go on, and its length is known."""
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class NotTakenError(Exception):
    """The pod took no connection, and so nothing of the request."""


class NotAnsweredError(Exception):
    """The pod broke off before its answer began."""


class CutOffError(Exception):
    """The pod broke off in its answer."""


def make_session() -> aiohttp.ClientSession:
    """Connections to pods: one a request, answers left as they are, no cookie kept for the next client."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT_SECONDS, sock_connect=CONNECT_LIMIT_SECONDS),
        auto_decompress=False,
        trust_env=False,
    )


async def asked(
    session: aiohttp.ClientSession,
    pod: URL,
    request: web.BaseRequest,
    *,
    chunks: list[bytes],
    sent: Callable[[], None],
) -> aiohttp.ClientResponse:
    """The pod's answer, begun. `sent` is called once it has been sent all of the request.

    Raises NotTakenError and NotAnsweredError.
    """

    async def body() -> AsyncIterator[bytes]:
        for chunk in tuple(chunks):
            yield chunk
        sent()

    headers = _passed(request.headers, _OF_REQUEST)
    headers["Content-Length"] = str(sum(map(len, chunks)))
    target = request.rel_url
    url = URL.build(
        scheme="http",
        host=pod.host or "",
        port=pod.port,
        path=target.raw_path,
        query_string=target.raw_query_string,
        encoded=True,
    )
    try:
        return await session.request(
            request.method, url, headers=headers, data=body(), allow_redirects=False, skip_auto_headers=_AUTOMATIC
        )
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as cause:
        raise NotTakenError(f"{pod}: {type(cause).__name__}: {cause}") from cause
    except (aiohttp.ClientError, TimeoutError, OSError) as cause:
        raise NotAnsweredError(f"{pod}: {type(cause).__name__}: {cause}") from cause


async def relayed(answer: aiohttp.ClientResponse, request: web.BaseRequest) -> web.StreamResponse:
    """What the client has been sent; it is told that the connection closes.

    Raises CutOffError: then the connection has been closed without the end of an answer.
    """
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_passed(answer.headers, _HOP_BY_HOP)
    )
    response.force_close()
    await response.prepare(request)
    while chunk := await _next_of(answer, request):
        await response.write(chunk)
    await response.write_eof()
    return response


async def _next_of(answer: aiohttp.ClientResponse, request: web.BaseRequest) -> bytes:
    """Empty at the end. What goes wrong in here is the pod's doing, what goes wrong in `write` the client's."""
    try:
        return await answer.content.readany()
    except (aiohttp.ClientError, TimeoutError, OSError) as cause:
        if request.transport is not None:
            if request.version < HttpVersion11:
                # Without chunks closing would be a good end, so this one is a reset.
                _socket_of(request.transport).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.close()
        raise CutOffError(f"{answer.url.host}: {type(cause).__name__}: {cause}") from cause


def _socket_of(transport: asyncio.Transport) -> socket.socket:
    found: socket.socket = transport.get_extra_info("socket")
    return found


def _passed(headers: CIMultiDictProxy[str], kept_back: Iterable[str]) -> CIMultiDict[str]:
    """Without those that are between two neighbours only."""
    named = {word.strip().lower() for value in headers.getall("Connection", ()) for word in value.split(",")}
    dropped = named.union(kept_back)
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
