"""A real engine with the variables of a pod template sends a trace of a request to a real OTLP receiver."""

from __future__ import annotations

import http.client
import json
import secrets

import pytest

from tests.runtime.collector import Collector
from tests.runtime.engines import LOOPBACK, Engine
from tests.runtime.serving_pair import ServingPair
from tests.runtime.traced import RESOURCE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

TOKENS = 4


def ask(engine: Engine, trace: str) -> None:
    """One completion, as a client asks that is traced itself."""
    connection = http.client.HTTPConnection(LOOPBACK, engine.options.http_port, timeout=60)
    try:
        headers = {"Content-Type": "application/json", "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        question = {"prompt": "def add(a, b):", "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        connection.request("POST", "/v1/completions", body=json.dumps(question), headers=headers)
        response = connection.getresponse()
        assert response.status == http.HTTPStatus.OK, response.read()
        response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_span_of_a_request_arrives_with_whose_it_is(
    protocol: str, shared_pair: ServingPair, collector: Collector
) -> None:
    """The plain engine of the pair sends by gRPC, the one with drafts by HTTP."""
    engine = shared_pair.plain if protocol == "grpc" else shared_pair.verifier
    trace = secrets.token_hex(16)
    ask(engine, trace)
    (span,) = collector.wait_for(trace)
    assert span.name == "llm_request"
    assert span.resource.items() >= RESOURCE.items()
    assert span.resource["vllm.instrumenting_module_name"] == "vllm.llm_engine"
    assert span.attributes["gen_ai.usage.completion_tokens"] == TOKENS
