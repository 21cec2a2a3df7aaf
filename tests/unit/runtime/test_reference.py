"""What a quantized model said when it was measured, and what becomes of an engine that says something else."""

from __future__ import annotations

import hashlib
import io
import json
import math
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tandem_contracts.artifact_job import MOST_TASKS, Evaluated, Smoked, smoke_arguments
from tandem_contracts.launch import LaunchOptions, Role
from tandem_contracts.manifest import MANIFEST, Manifest
from tandem_contracts.reference import KERNEL_NOISE, SPREADS, WINDOW_TOKENS, WINDOWS, Reference, Window, deviation_of
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES, Reason
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.reference import UncomparableError, read_reference, required_deviation
from tests.unit.runtime.test_quality import ARC, GOOD

Answer = Mapping[str, Any]
MADE = Manifest(key="v1-model", nonce="1", files=(), provenance={})
REFERENCE = Reference(
    manifest=MADE.digest, spread=0.02, windows=(Window((5, 6, 7), (1.0, 2.0)), Window((8, 9), (3.0,)))
)  # fmt: skip
LARGE = Reference(
    manifest="a" * 64,
    spread=0.12345,
    windows=(Window((199_999,) * WINDOW_TOKENS, (12.3456,) * (WINDOW_TOKENS - 1)),) * WINDOWS,
)
"""As long as one is with a vocabulary of 200,000 tokens."""


def engine(*losses: float, **changes: Any) -> Callable[[Mapping[str, Any]], Answer]:
    """What tells these losses, the windows' one after the other, in vLLM's form."""
    left = list(losses)

    def complete(body: Mapping[str, Any]) -> Answer:
        assert body["prompt_logprobs"] == 0
        told = [None, *({str(token): {"logprob": -left.pop(0), "rank": 1}} for token in body["prompt"][1:])]
        return {"choices": [{"text": "x", "prompt_logprobs": told, **changes}]}

    return complete


def failing(code: int) -> Callable[[Mapping[str, Any]], Answer]:
    def complete(_: Mapping[str, Any]) -> Answer:
        raise urllib.error.HTTPError("http://engine", code, "no", Message(), io.BytesIO(b"it is off"))

    return complete


@pytest.fixture
def options(tmp_path: Path) -> LaunchOptions:
    """Of an engine that serves the files that were measured."""
    (tmp_path / MANIFEST).write_text(MADE.encode())
    return LaunchOptions(role=Role.VERIFIER, model=str(tmp_path), served_name="smoke")


def with_flags(options: LaunchOptions, **flags: str) -> LaunchOptions:
    return replace(options, engine=replace(options.engine, flags=flags))


# -- the record --------------------------------------------------------------------------------------------------------


def test_a_record_is_the_same_after_a_status_and_an_argument() -> None:
    (given,) = [
        each.removeprefix("--reference=")
        for each in smoke_arguments(key="k", owner="u", deadline_seconds=9, launch=["--a"], reference=REFERENCE)
        if each.startswith("--reference=")
    ]
    assert read_reference(given) == REFERENCE
    assert Reference.from_data(json.loads(json.dumps(LARGE.to_data()))).to_data() == LARGE.to_data()


def test_where_nothing_was_recorded_the_arguments_are_those_of_before() -> None:
    assert smoke_arguments(key="k", owner="u", deadline_seconds=9, launch=["--a"]) == [
        "--key=k",
        "--owner=u",
        "--deadline-seconds=9",
        "--",
        "--a",
    ]


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {"windows": []},
        {"spread": -1},
        {"spread": math.nan},
        {"spread": "0.1"},
        {"windows": [{"tokens": "1 2", "losses": "0.5 0.5"}]},
        {"windows": [{"tokens": "1", "losses": ""}]},
        {"windows": [{"tokens": "1 x", "losses": "0.5"}]},
        {"windows": [{"tokens": "1 -2", "losses": "0.5"}]},
        {"windows": [{"tokens": "1 2", "losses": "nan"}]},
        {"windows": [{"tokens": "1 2", "losses": "-0.5"}]},
        {"windows": [{"tokens": "1 2"}]},
        {"windows": "1 2"},
    ],
    ids=str,
)
def test_what_is_no_record_is_refused(spoilt: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"window|reference|literal|float"):
        Reference.from_data({**REFERENCE.to_data(), **spoilt} if spoilt else [])


def test_a_record_fits_into_a_last_word_beside_the_usual_figures() -> None:
    text = Evaluated(quality=GOOD, seconds=2.5, reference=LARGE).encode()
    assert len(text.encode()) <= MESSAGE_LIMIT_BYTES
    found = Evaluated.decode(text).reference
    assert found is not None
    assert len(found.windows) == WINDOWS


@pytest.mark.parametrize("name", ["arc", "a-task-with-a-name-as-long-as-any-may-be-which-is-63-characters"[:63]])
def test_beside_many_tasks_a_record_is_as_long_as_there_is_room(name: str) -> None:
    quality = replace(GOOD, tasks=(replace(ARC, name=name),) * MOST_TASKS)
    text = Evaluated(quality=quality, seconds=2.5, reference=LARGE).encode()
    assert len(text.encode()) <= MESSAGE_LIMIT_BYTES
    told = Evaluated.decode(text)
    assert told.quality == quality
    assert told.reference is None or 0 < len(told.reference.windows) < WINDOWS


def test_last_words_of_an_earlier_version_are_read() -> None:
    assert Evaluated.decode(json.dumps({"quality": GOOD.to_data(), "seconds": 1})).reference is None
    smoked = Smoked.decode(json.dumps({"ready_seconds": 1, "tokens_per_second": 2, "kernel": "K"}))
    assert (smoked.deviation, smoked.uncompared) == (None, "")
    again = replace(smoked, deviation=0.01, uncompared="why")
    assert Smoked.decode(again.encode()) == again


# -- the comparison ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "allowed"), [(0.0, KERNEL_NOISE), (0.01, KERNEL_NOISE), (1.0, SPREADS)], ids=["0", "little", "much"]
)
def test_what_is_allowed_follows_what_quantizing_has_changed_and_is_never_less_than_noise(
    spread: float, allowed: float
) -> None:
    assert replace(REFERENCE, spread=spread).allowed == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("losses", "mean", "is_allowed"),
    [
        ([[1.0, 2.0], [3.0]], 0.0, True),
        ([[1.1, 1.9], [3.1]], 0.1, True),
        ([[1.0 + KERNEL_NOISE, 2.0 - KERNEL_NOISE], [3.0 - KERNEL_NOISE / 2]], 5 / 6 * KERNEL_NOISE, True),
        ([[2.0, 1.0], [3.0]], 2 / 3, False),
        ([[8.0, 8.0], [8.0]], 6.0, False),
        ([[1.0, math.nan], [3.0]], math.nan, False),
    ],
    ids=["same", "noise", "just allowed", "the same mean loss, of other tokens", "nonsense", "no number"],
)
def test_an_engine_is_judged_by_the_mean_difference(losses: list[list[float]], mean: float, is_allowed: bool) -> None:
    found = deviation_of(REFERENCE, losses)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert (found.tokens, found.recorded_loss, found.is_allowed) == (3, 2.0, is_allowed)


def test_other_windows_are_not_compared() -> None:
    with pytest.raises(ValueError, match="other windows"):
        deviation_of(REFERENCE, [[1.0], [2.0, 3.0]])


# -- the engine --------------------------------------------------------------------------------------------------------


def test_an_engine_that_says_the_same_passes(options: LaunchOptions) -> None:
    assert required_deviation(REFERENCE, options, engine(1.1, 2.1, 2.9)).mean == pytest.approx(0.1)


def test_an_engine_that_is_finite_and_wrong_is_refused_with_the_figures(options: LaunchOptions) -> None:
    with pytest.raises(RefusedError) as refused:
        required_deviation(REFERENCE, options, engine(8.0, 8.0, 8.0))
    assert refused.value.reason is Reason.DIFFERS_FROM_REFERENCE
    assert str(refused.value) == (
        "the engine answers, and not as the model did when it was measured: over 3 tokens its log probabilities are "
        "6.000 nats from the recorded ones on average (allowed: 0.25), the mean loss is 8.000 (recorded: 2.000)"
    )


def test_probabilities_that_are_no_numbers_are_refused(options: LaunchOptions) -> None:
    with pytest.raises(RefusedError, match="no numbers"):
        required_deviation(REFERENCE, options, engine(1.0, math.nan, 3.0))


def test_other_files_than_were_measured_are_refused(options: LaunchOptions) -> None:
    made_again = replace(MADE, nonce="2")
    (Path(options.model) / MANIFEST).write_text(made_again.encode())
    with pytest.raises(RefusedError) as refused:
        required_deviation(REFERENCE, options, engine(1.0, 2.0, 3.0))
    assert refused.value.reason is Reason.DIFFERS_FROM_REFERENCE
    assert made_again.digest in str(refused.value)
    assert REFERENCE.manifest in str(refused.value)


def test_the_digest_of_a_manifest_is_that_of_its_file(options: LaunchOptions) -> None:
    assert hashlib.sha256((Path(options.model) / MANIFEST).read_bytes()).hexdigest() == MADE.digest


@pytest.mark.parametrize(
    ("complete", "told"),
    [
        (failing(400), "the engine refuses `prompt_logprobs`: HTTP 400: it is off"),
        (engine(1.0, 2.0, 3.0, prompt_logprobs=None), "the engine leaves `prompt_logprobs` out of its answer"),
        (engine(1.0, 2.0, 3.0, prompt_logprobs=[None, {"1": {}}, {"2": {}}]), "are of another form"),
        (engine(1.0, 2.0, 3.0, prompt_logprobs=[None]), "are of another form"),
    ],
    ids=["refused", "left out", "other tokens", "too few"],
)
def test_an_engine_that_does_not_say_is_not_compared_and_the_reason_told(
    options: LaunchOptions, complete: Callable[[Mapping[str, Any]], Answer], told: str
) -> None:
    with pytest.raises(UncomparableError, match=told):
        required_deviation(REFERENCE, options, complete)


@pytest.mark.parametrize("mode", ["raw_logits", "processed_logits"])
def test_an_engine_that_tells_logits_is_not_compared(options: LaunchOptions, mode: str) -> None:
    with pytest.raises(UncomparableError, match=f"logprobs-mode is {mode}"):
        required_deviation(REFERENCE, with_flags(options, **{"logprobs-mode": mode}), engine(9.0, 9.0, 9.0))


def test_an_engine_that_breaks_over_the_question_is_not_excused(options: LaunchOptions) -> None:
    with pytest.raises(urllib.error.HTTPError):
        required_deviation(REFERENCE, options, failing(500))
