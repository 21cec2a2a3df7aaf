"""An OTLP receiver of traces on loopback, by gRPC and by HTTP, that keeps what it is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

from tests.runtime.engines import LOOPBACK

SPAN_LIMIT_SECONDS = 60.0
"""vLLM sends them in batches, every five seconds."""


@dataclass(frozen=True)
class Span:
    """A span, and whose it is."""

    name: str
    trace: str
    """In hex."""
    resource: dict[str, Any]
    attributes: dict[str, Any]


class Collector(service.TraceServiceServicer):
    """Answers at two ports until it is closed."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._has_more = threading.Condition()
        self._grpc = grpc.server(ThreadPoolExecutor(max_workers=2))
        service.add_TraceServiceServicer_to_server(self, self._grpc)
        self.grpc_address = f"http://{LOOPBACK}:{self._grpc.add_insecure_port(f'{LOOPBACK}:0')}"
        self._http = ThreadingHTTPServer((LOOPBACK, 0), _handler_of(self))
        self.http_address = f"http://{LOOPBACK}:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def open(self) -> None:
        self._grpc.start()
        self._thread.start()

    def close(self) -> None:
        self._grpc.stop(grace=None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def Export(self, request: Any, _: Any) -> Any:  # noqa: N802 -- the service's word
        """As the service has it."""
        with self._has_more:
            self._spans += spans_in(request)
            self._has_more.notify_all()
        return messages.ExportTraceServiceResponse()

    def wait_for(self, trace: str) -> list[Span]:
        """The spans of a trace (in hex), at least one."""
        until = time.monotonic() + SPAN_LIMIT_SECONDS
        with self._has_more:
            while not (found := [span for span in self._spans if span.trace == trace]):
                left = until - time.monotonic()
                assert left > 0, f"no span of trace {trace} after {SPAN_LIMIT_SECONDS:.0f} s; {len(self._spans)} others"
                self._has_more.wait(left)
            return found


def spans_in(request: Any) -> Iterator[Span]:
    """What one request holds."""
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield Span(span.name, span.trace_id.hex(), resource, _values(span.attributes))


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _handler_of(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            is_found = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if is_found:
                collector.Export(messages.ExportTraceServiceRequest.FromString(raw), None)
            answer = messages.ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if is_found else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    return Handler
