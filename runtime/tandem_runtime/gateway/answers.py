"""What the gate itself says to clients, in the form of the OpenAI API as vLLM writes it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from tandem_runtime.gateway.figures import Outcome

_TYPES = {
    HTTPStatus.REQUEST_TIMEOUT: "RequestTimeoutError",
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.BAD_GATEWAY: "BadGatewayError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}


class SentAwayError(Exception):
    """A request that no pod answers; the message is for the client."""

    def __init__(self, status: HTTPStatus, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.status, self.outcome = status, outcome


def told(data: Mapping[str, object]) -> web.Response:
    """A good answer."""
    return _closing(web.json_response(data))


def refusal(status: HTTPStatus, message: str, *, retry_after_seconds: int) -> web.Response:
    """A bad one. Who finds no service is told when to come again."""
    body = {"error": {"message": message, "type": _TYPES[status], "param": None, "code": int(status)}}
    response = web.json_response(body, status=status)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(retry_after_seconds)
    return _closing(response)


def _closing(response: web.Response) -> web.Response:
    # The client's next connection shall go where the Service points to by then.
    response.force_close()
    return response
