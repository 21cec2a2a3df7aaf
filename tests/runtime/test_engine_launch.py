"""The launcher around a real engine: what it tells of the start, and what of the end."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fixtures.pair import ModelPair
from tandem_contracts import metrics
from tandem_contracts.launch import DraftEngine, Role, Speculation
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tests.runtime.engines import LOOPBACK, Engine
from tests.runtime.serving_pair import CONTINUATION_TOKENS, ServingPair
from tests.runtime.traced import variables_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


NOWHERE = f"http://{LOOPBACK}:1"


def last_word(engine: Engine) -> TerminationMessage:
    return TerminationMessage.decode(Path(engine.options.termination_log).read_text())


def test_every_phase_of_the_start_is_measured(pair: ServingPair) -> None:
    def phase(name: str) -> float:
        return pair.verifier.own_metric(metrics.START_PHASE_SECONDS, f'phase="{name}"')

    parts = [phase("process"), phase("weights"), phase("warm_up")]
    assert all(seconds > 0 for seconds in parts)
    every = pair.verifier.own_metric(metrics.START_PHASE_SECONDS)  # with compiling, where the engine compiles
    assert every == pytest.approx(2 * phase("total"))


def test_the_root_cause_of_a_failed_start_reaches_the_termination_log(
    start: Callable[..., Engine], broken_model: Path
) -> None:
    engine = start(role=Role.DRAFT, draft_engine=DraftEngine.TRANSFORMERS, model=str(broken_model))
    assert engine.wait_for_end() == ExitCode.ENGINE_START_FAILED
    message = last_word(engine)
    assert (message.code, message.reason) == (ExitCode.ENGINE_START_FAILED, Reason.ENGINE_START_FAILED)
    assert message.phase is Phase.WEIGHTS
    assert "SafetensorError" in message.message


def test_an_engine_that_dies_in_service_is_told_apart_from_one_that_did_not_start(
    start: Callable[..., Engine], models: ModelPair
) -> None:
    engine = start(role=Role.VERIFIER, model=str(models.draft))
    engine.wait_until_ready()
    engine.signal_below(signal.SIGKILL)
    assert engine.wait_for_end() == ExitCode.ENGINE_FAILED
    assert last_word(engine).phase is Phase.SERVE
    assert "SIGKILL" in last_word(engine).message


def test_ngram_drafts_give_plain_vllms_text_and_sigterm_ends_the_engine_cleanly(
    start: Callable[..., Engine], models: ModelPair, prompts: list[str], plain_texts: list[str]
) -> None:
    """Though it is traced, and no collector answers."""
    engine = start(
        role=Role.VERIFIER,
        model=str(models.verifier),
        speculation=Speculation.NGRAM,
        max_depth=4,
        drain_seconds=10,  # so the launcher waits 15 s: with the library's own 10 s for each process that is too short
        traces_endpoint=NOWHERE,
        environment=variables_of(NOWHERE, "grpc"),
    )
    engine.wait_until_ready()
    assert engine.greedy_all(prompts, CONTINUATION_TOKENS) == plain_texts
    assert engine.metric("vllm:spec_decode_num_accepted_tokens_total") > 0
    engine.process.send_signal(signal.SIGTERM)
    assert engine.wait_for_end() == ExitCode.OK
    assert not Path(engine.options.termination_log).exists()
    assert engine.is_gone()
