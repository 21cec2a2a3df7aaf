"""A real engine with what a user may set: drafts of a small model in it, a key, and settings. One engine for all."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.fixtures.pair import ModelPair
from tandem_contracts.engine_settings import DataType, EngineSettings, PrefixHash, SchedulingPolicy, Switch
from tandem_contracts.launch import API_KEY_VARIABLE, Access, InEngineKind, Role, Speculation
from tests.runtime.engines import LOOPBACK, Engine
from tests.runtime.serving_pair import CONTINUATION_TOKENS

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

KEY = "the-key-of-the-test"
LIMIT_SECONDS = 120
PROMPTS = 10
SETTINGS = EngineSettings(
    data_type=DataType.FLOAT32,
    max_model_length=512,
    block_tokens=32,
    max_sequences=8,
    max_batched_tokens=512,
    chunked_prefill=Switch.ENABLED,
    scheduling_policy=SchedulingPolicy.PRIORITY,
    prefix_caching=Switch.ENABLED,
    prefix_hash=PrefixHash.SHA256_CBOR,
    flags={"seed": 3, "generation-config": "vllm", "enable-prompt-tokens-details": "Enabled", "max-logprobs": 5},
)


@pytest.fixture(scope="module")
def engine(start: Callable[..., Engine], models: ModelPair) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(API_KEY_VARIABLE, KEY)
        started = start(
            role=Role.VERIFIER,
            model=str(models.verifier),
            speculation=Speculation.IN_ENGINE,
            max_depth=4,
            in_engine=InEngineKind.DRAFT_MODEL,
            in_engine_model=str(models.draft),
            access=Access.API_KEY,
            drain_seconds=5,
            engine=SETTINGS,
        )
    started.wait_until_ready()
    yield started
    started.end()


def ask(engine: Engine, path: str, question: dict[str, object] | None = None, *, key: str = "") -> tuple[int, str]:
    """Status and text of an answer."""
    connection = http.client.HTTPConnection(LOOPBACK, engine.options.http_port, timeout=LIMIT_SECONDS)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        if question is None:
            connection.request("GET", path, headers=headers)
        else:
            connection.request("POST", path, json.dumps(question), headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_drafts_in_the_engine_give_plain_vllms_text(engine: Engine, prompts: list[str], plain_texts: list[str]) -> None:
    for prompt, expected in list(zip(prompts, plain_texts, strict=True))[:PROMPTS]:
        question = {"prompt": prompt, "max_tokens": CONTINUATION_TOKENS, "temperature": 0, "ignore_eos": True}
        status, text = ask(engine, "/v1/completions", question, key=KEY)
        assert status == http.HTTPStatus.OK, text
        assert json.loads(text)["choices"][0]["text"] == expected
    assert engine.metric("vllm:spec_decode_num_accepted_tokens_total") > 0


@pytest.mark.parametrize("key", ["", "another"])
def test_without_the_key_nothing_is_answered_but_probes_and_scrapes(engine: Engine, key: str) -> None:
    question: dict[str, object] = {"prompt": "a", "max_tokens": 1}
    for path in ("/v1/completions", "/invocations", "/tokenize", "/detokenize", "/pooling"):
        assert ask(engine, path, question, key=key)[0] == http.HTTPStatus.UNAUTHORIZED, path
    for path in ("/v1/models", "/version", "/openapi.json", "/load"):
        assert ask(engine, path, key=key)[0] == http.HTTPStatus.UNAUTHORIZED, path
    for path in ("/health", "/metrics"):
        assert ask(engine, path, key=key)[0] == http.HTTPStatus.OK, path


def test_the_key_is_in_no_argument_and_in_no_log(engine: Engine) -> None:
    assert KEY not in engine.log.read_text()
    command = Path(f"/proc/{engine.process.pid}/cmdline").read_text()
    assert KEY not in command
    assert str(engine.options.http_port) in command


def test_the_settings_are_the_engines(engine: Engine) -> None:
    model = json.loads(ask(engine, "/v1/models", key=KEY)[1])["data"][0]
    assert model["max_model_len"] == SETTINGS.max_model_length
    many: dict[str, object] = {"prompt": "a", "max_tokens": 1, "logprobs": 6}
    assert ask(engine, "/v1/completions", many, key=KEY)[0] == http.HTTPStatus.BAD_REQUEST
