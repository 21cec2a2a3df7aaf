"""The gate's HTTP server: which requests are held, which are answered at once, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import aiohttp
from aiohttp import web

from tandem_contracts.gate import GateOptions
from tandem_runtime.gateway import passing
from tandem_runtime.gateway.answers import SentAwayError, refusal, told
from tandem_runtime.gateway.figures import Figures, Outcome
from tandem_runtime.gateway.leaving import gone
from tandem_runtime.gateway.line import Line
from tandem_runtime.gateway.pods import Pods
from tandem_runtime.gateway.room import Place, Room

HELD_PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings",
    "/v1/score", "/score", "/v1/rerank", "/v2/rerank", "/rerank", "/classify", "/pooling", "/invocations",
    "/v1/audio/transcriptions", "/v1/audio/translations", "/tokenize", "/detokenize",
)  # fmt: skip
"""What only an engine can answer. POST requests to them are arrivals; nothing else may wake a model."""
TRIES = 2
SERVED_SECONDS = 10.0
"""A pod has answered for so long, and the Service selects it: then nobody needs a gate any more."""
BETWEEN_LOOKS_SECONDS = 0.1
CUT_SECONDS = 1.0
"""For the last words to clients when the time to stop is over."""

logger = logging.getLogger(__name__)


class Gate:
    """One deployment's gate. To be made in an event loop."""

    def __init__(
        self,
        options: GateOptions,
        *,
        key: str = "",
        figures: Figures | None = None,
        is_gone: Callable[[str], Awaitable[None]] = gone,
    ) -> None:
        """`key`: what clients must show as a bearer token; empty: nothing. `is_gone` returns once a Service is."""
        self._options, self._figures = options, figures or Figures()
        self._expected = _digest(key) if key else b""
        self._session = passing.make_session()
        self._pods = Pods(options.upstreams, found=self._figures.found)
        self._line = Line(self._pods)
        self._room = Room(options, changed=self._count)
        self._is_gone = is_gone
        self._going: asyncio.Task[None] | None = None
        self._all_over = asyncio.Event()
        self._all_over.set()
        self._started = int(time.time())
        application = web.Application()
        application.router.add_get("/health", self._health)
        application.router.add_get("/v1/models", self._models)
        for path in HELD_PATHS:
            application.router.add_post(path, self._infer)
        application.router.add_route("*", "/{path:.*}", self._nothing)
        # Bodies go on as they came, compressed ones too; who leaves takes the request along, wherever it is.
        self._runner = web.AppRunner(
            application,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            shutdown_timeout=CUT_SECONDS,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host or None, port, backlog=1024)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def leave(self, limit_seconds: float) -> None:
        """Take requests on for as long as this, unless a pod takes them or the deployment is gone.

        Where a node is drained the next gate is not there yet, and the Service goes on to select this one till then.
        Once the deployment is gone what is held is sent away, now or while the gate stops.
        """
        if self._options.service:
            self._going = asyncio.create_task(self._send_away(self._options.service), name="going")
        if not limit_seconds:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                while not (self._line.is_closed or self._is_served()):
                    await self._pods.look()
                    await asyncio.sleep(BETWEEN_LOOKS_SECONDS)

    async def _send_away(self, service: str) -> None:
        await self._is_gone(service)
        logger.info("there is no Service %s any more: nobody will answer what is held", service)
        await self._line.close()

    def _is_served(self) -> bool:
        is_answering = self._pods.next(but=None) is not None
        return is_answering and asyncio.get_running_loop().time() - self._pods.ready_since >= SERVED_SECONDS

    async def stop(self, drain_seconds: float) -> None:
        """Take no new connection, hold and answer what is here for as long as this, send the rest away, end."""
        for site in tuple(self._runner.sites):
            await site.stop()
        if server := self._runner.server:
            server.pre_shutdown()  # connections without a request
        if not await self._is_all_over(drain_seconds):
            await self._line.close()
            await self._is_all_over(CUT_SECONDS)
        if self._going:
            self._going.cancel()
            await asyncio.gather(self._going, return_exceptions=True)
        await self._runner.cleanup()
        await self._line.close()
        await self._pods.close()
        await self._session.close()

    def _count(self) -> None:
        room = self._room
        self._figures.keeps(held=room.held, answering=room.in_hand - room.held, size=room.size)
        if room.in_hand:
            self._all_over.clear()
        else:
            self._all_over.set()

    async def _is_all_over(self, limit_seconds: float) -> bool:
        try:
            async with asyncio.timeout(limit_seconds):
                await self._all_over.wait()
        except TimeoutError:
            return False
        return True

    # -- what is answered at once ----------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        return told({"status": "waking" if self._room.held else "asleep", "held": self._room.held})

    async def _models(self, request: web.Request) -> web.Response:
        if not self._may_pass(request):
            return self._unauthorized()
        model = {"id": self._options.served_name, "object": "model", "created": self._started, "owned_by": "tandem"}
        return told({"object": "list", "data": [model]})

    async def _nothing(self, request: web.Request) -> web.Response:
        if not self._may_pass(request):
            return self._unauthorized()
        message = f"{request.method} {request.path} is not answered while the model is asleep"
        return self._error(HTTPStatus.NOT_FOUND, message)

    def _may_pass(self, request: web.Request) -> bool:
        """As in the guard of engines: who may not ask them may not wake them."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return not self._expected or (scheme.lower() == "bearer" and hmac.compare_digest(_digest(key), self._expected))

    def _unauthorized(self) -> web.Response:
        return self._error(HTTPStatus.UNAUTHORIZED, "Unauthorized")

    def _error(self, status: HTTPStatus, message: str) -> web.Response:
        return refusal(status, message, retry_after_seconds=self._options.retry_after_seconds)

    # -- what is held ----------------------------------------------------------------------------------------------

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        if not self._may_pass(request):
            return self._unauthorized()
        outcome = Outcome.GONE  # unless something else becomes of it: who leaves cancels this task
        self._figures.arrived()
        try:
            with self._room.place(request.content_length) as place:
                response = await self._held(request, place)
            outcome = Outcome.ANSWERED
        except SentAwayError as reason:
            outcome = reason.outcome
            return self._error(reason.status, str(reason))
        except passing.CutOffError as cause:
            outcome = Outcome.CUT_OFF
            logger.warning("an answer was cut off: %s", cause)
            raise ConnectionResetError(str(cause)) from cause  # the server then adds nothing to it
        finally:
            self._figures.over(outcome)
        return response

    async def _held(self, request: web.Request, place: Place) -> web.StreamResponse:
        """The request's way through the gate. Raises SentAwayError and CutOffError."""
        deadline = asyncio.get_running_loop().time() + self._options.hold_seconds
        limit = asyncio.timeout_at(deadline)
        is_whole = False
        try:
            async with limit:
                async for chunk in request.content.iter_any():
                    place.add(chunk)
                is_whole = True
                answer = await self._passed_on(request, place, limit=limit, deadline=deadline)
        except TimeoutError:
            if not limit.expired():
                raise
            raise _expired(self._options.hold_seconds, is_whole=is_whole) from None
        place.freed()
        async with answer:
            return await passing.relayed(answer, request)

    async def _passed_on(
        self, request: web.Request, place: Place, *, limit: asyncio.Timeout, deadline: float
    ) -> aiohttp.ClientResponse:
        """A pod's answer, begun. `limit` holds while the request waits for a pod, not while a pod has it."""
        clock = asyncio.get_running_loop().time
        whole = clock()
        sent_at = 0.0
        tries = 0

        def sent() -> None:
            nonlocal sent_at
            sent_at = clock()
            self._line.leave(turn)

        turn = self._line.join()
        while True:
            try:
                pod = await turn.pod
                limit.reschedule(None)
                place.passed_on()
                answer = await passing.asked(self._session, pod, request, chunks=place.chunks, sent=sent)
            except passing.NotTakenError as cause:
                logger.info("held again: %s", cause)
            except passing.NotAnsweredError as cause:
                tries += 1
                logger.warning("not answered: %s", cause)
                if tries == TRIES:
                    message = "the pods that the request was passed on to broke off before they answered"
                    raise SentAwayError(HTTPStatus.BAD_GATEWAY, Outcome.FAILED, message) from cause
            else:
                begun = deadline - self._options.hold_seconds
                self._figures.sent(
                    held_seconds=sent_at - begun, added_seconds=sent_at - max(whole, self._pods.ready_since)
                )
                return answer
            finally:
                self._line.leave(turn)
            self._pods.failed(pod)
            place.held()
            limit.reschedule(deadline)
            turn = self._line.rejoin(pod)


def _expired(seconds: int, *, is_whole: bool) -> SentAwayError:
    if is_whole:
        status, message = HTTPStatus.SERVICE_UNAVAILABLE, f"no pod of this model became ready within {seconds} s"
    else:
        status, message = HTTPStatus.REQUEST_TIMEOUT, f"the body of the request did not come within {seconds} s"
    return SentAwayError(status, Outcome.EXPIRED, message)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
