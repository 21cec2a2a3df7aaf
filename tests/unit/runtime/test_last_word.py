"""How a Job's program ends: whatever happens, in a code and a word that the operator knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tandem_contracts.artifact_job import (
    MOST_TASKS,
    Evaluated,
    HubSource,
    Made,
    S3Source,
    TaskSettings,
    evaluate_arguments,
    fetch_arguments,
    source_from_data,
)
from tandem_contracts.recipe import InvalidRecipeError
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES, ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.artifacts.last_word import CODES, RefusedError, ended
from tandem_runtime.artifacts.task_files import InvalidTasksError
from tandem_runtime.artifacts.texts import InvalidTextsError
from tandem_runtime.artifacts.volume import VolumeFullError
from tests.unit.operator.models import LLAMA_8B
from tests.unit.runtime.test_quality import ARC, GOOD, RECALL


class SafetensorError(Exception):
    """As safetensors raises it for a volume without room: without a number."""


FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "code", "reason", "told"),
    [
        (RefusedError(Reason.SOURCE_DENIED, "no"), ExitCode.SOURCE_DENIED, Reason.SOURCE_DENIED, "no"),
        (InvalidRecipeError("bad"), ExitCode.RECIPE_UNSUPPORTED, Reason.RECIPE_UNSUPPORTED, "bad"),
        (InvalidTextsError("line 3"), ExitCode.TEXTS_INVALID, Reason.TEXTS_INVALID, "line 3"),
        (InvalidTasksError("a.yaml"), ExitCode.TASKS_INVALID, Reason.TASKS_INVALID, "a.yaml"),
        (VolumeFullError("7 are needed"), ExitCode.VOLUME_FULL, Reason.VOLUME_FULL, "7 are needed"),
        (FULL, ExitCode.VOLUME_FULL, Reason.VOLUME_FULL, "the volume is full: a file could not be written"),
        (OSError(28, "No space left on device"), ExitCode.VOLUME_FULL, Reason.VOLUME_FULL, "bytes are free"),
        (caused(RuntimeError("saving failed"), FULL), ExitCode.VOLUME_FULL, Reason.VOLUME_FULL, "the volume is full"),
        (OSError(5, "Input/output error"), ExitCode.READ_FAILED, Reason.READ_FAILED, "Input/output error"),
        (RuntimeError("odd"), ExitCode.STEP_FAILED, Reason.STEP_FAILED, "RuntimeError: odd"),
    ],
)
def test_whatever_happens_has_a_code_and_a_reason(
    tmp_path: Path, error: Exception, code: ExitCode, reason: Reason, told: str
) -> None:
    def step() -> str:
        raise error

    log = tmp_path / "log"
    assert ended(Phase.QUANTIZE, step, termination_log=log, volume=tmp_path) == code
    word = TerminationMessage.decode(log.read_text())
    assert (word.code, word.phase, word.reason) == (code, Phase.QUANTIZE, reason)
    assert told in word.message


def test_every_code_is_one_of_a_job_and_says_whether_another_try_is_of_use() -> None:
    assert all(10 <= code <= 29 for code in CODES.values())
    passing = {code for code in CODES.values() if code > ExitCode.VOLUME_FULL}
    assert passing == {
        ExitCode.NETWORK_FAILED,
        ExitCode.CHECKSUM_MISMATCH,
        ExitCode.READ_FAILED,
        ExitCode.STEP_FAILED,
    }


MADE = Made(
    model=LLAMA_8B,
    bytes=9,
    manifest="ab" * 32,
    free_bytes=7,
    capacity_bytes=99,
    seconds=1.5,
    revision="1" * 40,
    source="cd" * 32,
)


def test_good_ends_are_read_as_they_were_said_and_fit_into_a_termination_message() -> None:
    evaluated = Evaluated(quality=GOOD, seconds=2.5)
    assert Made.decode(MADE.encode()) == MADE
    assert Evaluated.decode(evaluated.encode()) == evaluated
    assert max(len(MADE.encode()), len(evaluated.encode())) < MESSAGE_LIMIT_BYTES


def test_as_many_tasks_as_there_may_be_fit_into_a_termination_message() -> None:
    result = replace(ARC, name="n" * 63, metric=f"exact_match,{'f' * 32}", source=0.123456789, recovery_percent=-1 / 3)
    quality = replace(GOOD, tasks=(result,) * MOST_TASKS, long_context=RECALL)
    assert len(Evaluated(quality=quality, seconds=12345.123456789).encode()) < MESSAGE_LIMIT_BYTES


def test_an_evaluation_is_started_with_what_is_wanted_of_it() -> None:
    assert evaluate_arguments(source="/model", key="v1-a") == ["--source=/model", "--key=v1-a"]
    tasks = (TaskSettings(name="gsm8k", limit=250), TaskSettings(name="arc"))
    told = evaluate_arguments(
        source="/model", key="v1-a", tasks_folder="/tasks", tasks=tasks, long_context_tokens=16384
    )
    *_, folder, listed, long_context = told
    assert (folder, long_context) == ("--tasks-folder=/tasks", "--long-context=16384")
    read = json.loads(listed.removeprefix("--tasks="))
    assert tuple(TaskSettings.from_data(data) for data in read) == tasks
    with pytest.raises(ValueError, match="17 tasks: at most 16"):
        evaluate_arguments(source="/model", key="v1-a", tasks_folder="/tasks", tasks=tasks[:1] * 17)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"name": "../etc", "limit": 1}, "must match"),
        ({"name": "a", "limit": -1}, "0 or more"),
        ({"name": "a"}, "name and limit"),
        ({"name": "a", "limit": 1, "code": "x"}, "name and limit"),
        ("a", "name and limit"),
    ],
)
def test_settings_of_a_task_that_are_none_are_refused(data: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TaskSettings.from_data(data)


@pytest.mark.parametrize("kind", [Made, Evaluated])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1}', '{"quality": {}, "seconds": 1}'])
def test_what_is_no_good_end_is_refused(kind: type[Made] | type[Evaluated], text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        kind.decode(text)


SOURCES: list[HubSource | S3Source] = [
    HubSource(repo="a/b", revision="main"),
    HubSource(repo="a/b", revision="main", endpoint="https://hub.example"),
    S3Source(bucket="a", prefix="b/c"),
    S3Source(bucket="a", prefix="", endpoint="https://minio.example", region="eu-central-1"),
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_comes_back_from_the_arguments_as_it_was(source: HubSource | S3Source) -> None:
    argument = fetch_arguments(source=source, key="key", owner="owner")[0].removeprefix("--source=")
    assert source_from_data(json.loads(argument)) == source


def test_the_arguments_for_the_hub_have_no_kind_and_those_for_s3_have_one() -> None:
    hub, s3 = (fetch_arguments(source=source, key="key", owner="owner") for source in (SOURCES[0], SOURCES[2]))
    assert hub == ['--source={"endpoint": "", "repo": "a/b", "revision": "main"}', "--key=key", "--owner=owner"]
    told = '{"bucket": "a", "endpoint": "", "kind": "S3", "prefix": "b/c", "region": ""}'
    assert s3 == [f"--source={told}", "--key=key", "--owner=owner"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "S3",
        {},
        {"repo": "a/b"},
        {"kind": "S3"},
        {"kind": "S3", "bucket": "a"},
        {"kind": "S3", "bucket": "a", "prefix": "b", "secret": "c"},
        {"kind": "S4", "bucket": "a", "prefix": "b"},
        {"kind": "S3", "repo": "a/b", "revision": "main"},
        {"bucket": "a", "prefix": "b"},
    ],
)
def test_what_is_no_source_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="source"):
        source_from_data(data)
