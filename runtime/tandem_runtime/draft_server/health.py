"""`grpc.health.v1.Health/Check`, which the kubelet asks. Two constant answers need no generated messages.

The service is published in https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

SERVICE = "grpc.health.v1.Health"
CHECK = f"/{SERVICE}/Check"
SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"
"""Field 1 of HealthCheckResponse, an enum, as it goes over the wire."""


def health_of(is_serving: Callable[[], bool]) -> grpc.GenericRpcHandler:
    """The handlers of the health service of a server that is one service."""

    def check(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return SERVING if is_serving() else NOT_SERVING

    return grpc.method_handlers_generic_handler(SERVICE, {"Check": grpc.unary_unary_rpc_method_handler(check)})
