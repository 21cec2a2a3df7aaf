"""The contract of a benchmark's Job, the command line of vLLM's client, and what pods say meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.benchmark import (
    ERROR_LIMIT,
    MOST,
    RANGES,
    Benchmarked,
    BenchmarkOptions,
    InvalidBenchmarkOptionsError,
    Latency,
    Load,
    progress_in,
)
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES
from tandem_runtime.benchmark.client import benchmarked_in, client_command
from tandem_runtime.benchmark.pods import Pods, Reading, reading_in
from tandem_runtime.launch.memory import MemoryCollector, working_set_bytes

WHERE = {"address": "http://pair.chat.svc", "served_name": "pair", "tokenizer": "/models/verifier"}
LATENCY = Latency(mean=0.1, p50=0.09, p95=0.2, p99=0.3)
RESULT = Benchmarked(
    load=Load(seed=7),
    completed=100,
    failed=0,
    seconds=12.5,
    input_tokens=51200,
    output_tokens=12800,
    requests_per_second=8.0,
    output_tokens_per_second=1024.0,
    first_token=LATENCY,
    output_token=LATENCY,
    piece=LATENCY,
    request=LATENCY,
    acceptance=0.71,
    kv_usage=0.4,
    verifier_memory_bytes=3 * 2**30,
)
METRICS = ("ttft", "tpot", "itl", "e2el")
WRITTEN: dict[str, Any] = {
    "completed": 2, "failed": 1, "duration": 4.0, "total_input_tokens": 10, "total_output_tokens": 20,
    "request_throughput": 0.5, "output_throughput": 5.0, "errors": ["", "Bad Request: too long", ""],
    **{f"{kind}_{metric}_ms": 100.0 for metric in METRICS for kind in ("mean", "p50", "p95", "p99")},
}  # fmt: skip


@given(
    st.builds(
        BenchmarkOptions,
        **{name: st.just(value) for name, value in WHERE.items()},
        verifiers=st.sampled_from(["", "10.0.0.1", "10.0.0.1,fd00::1"]),
        rate=st.floats(0, 10_000),
        **{
            name: st.integers(int(RANGES[name][0]), int(RANGES[name][1])) for name in ("prompts", "seed", "concurrency")
        },
    )
)
def test_options_are_parsed_as_they_are_spelled(options: BenchmarkOptions) -> None:
    assert BenchmarkOptions.parse(options.to_arguments()) == options


@pytest.mark.parametrize("name", RANGES)
def test_a_figure_out_of_its_range_is_refused_by_name_value_and_range(name: str) -> None:
    least, most = RANGES[name]
    for value in (least, most):
        BenchmarkOptions(**WHERE, **{name: value})  # type: ignore[arg-type]
    flag = f"--{name.replace('_', '-')}"
    for value in (least - 1, most + 1):
        with pytest.raises(InvalidBenchmarkOptionsError, match=rf"{flag}: {value:.12g} .* from {least:g} to"):
            BenchmarkOptions(**WHERE, **{name: value})  # type: ignore[arg-type]


def test_the_client_is_given_a_pace_or_a_rate_and_never_both() -> None:
    paced = client_command(BenchmarkOptions(**WHERE, concurrency=4), Path("/tmp/x/result.json"))
    assert paced[paced.index("--max-concurrency") + 1] == "4"
    assert "--request-rate" not in paced
    rated = client_command(BenchmarkOptions(**WHERE, rate=2.5), Path("/tmp/x/result.json"))
    assert rated[rated.index("--request-rate") + 1] == "2.5"
    assert "--max-concurrency" not in rated


def test_a_result_of_the_client_is_read_in_seconds_with_its_first_error() -> None:
    found = benchmarked_in(json.dumps(WRITTEN), Load(output_tokens=8))
    assert (found.completed, found.failed, found.seconds) == (2, 1, 4.0)
    assert found.request == Latency(mean=0.1, p50=0.1, p95=0.1, p99=0.1)
    assert found.error == "Bad Request: too long"


def test_nothing_answered_has_no_latency_and_one_token_none_behind_the_first() -> None:
    nothing = benchmarked_in(json.dumps({**WRITTEN, "completed": 0}), Load())
    assert {nothing.first_token, nothing.output_token, nothing.piece, nothing.request} == {None}
    single = benchmarked_in(json.dumps(WRITTEN), Load(output_tokens=1))
    assert single.first_token == single.request != None  # noqa: E711 -- a latency
    assert {single.output_token, single.piece} == {None}


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({**WRITTEN, "duration": None})])
def test_a_file_that_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no result of vLLM's benchmark client"):
        benchmarked_in(text, Load())


def test_a_last_word_is_read_as_it_was_said() -> None:
    assert Benchmarked.decode(RESULT.encode()) == RESULT
    assert Benchmarked.decode(replace(RESULT, error="a").encode()).error == "a"


def test_a_last_word_fits_into_a_termination_message_whatever_the_error() -> None:
    long = replace(RESULT, failed=3, error="\x00é" * (ERROR_LIMIT // 2), draft_memory_bytes=2**40)
    word = long.encode()
    assert len(word.encode()) <= MESSAGE_LIMIT_BYTES
    assert Benchmarked.decode(word).failed == 3


def _changed(**changes: object) -> str:
    return json.dumps({**json.loads(RESULT.encode()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", _changed(load=3), _changed(completed=-1), _changed(seconds=float("nan")),
        _changed(requestsPerSecond=float("inf")), _changed(acceptance="0.5"), _changed(completed=True),
        _changed(firstToken={"mean": 1}), _changed(verifierMemoryBytes=MOST * 2),
    ],
)  # fmt: skip
def test_what_is_no_last_word_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Benchmarked.decode(text)


def test_progress_is_that_of_the_last_bar_with_as_many_requests() -> None:
    log = "  0%|   | 0/100 [00:00<?]\n 100%|##| 8/8 [00:01]\n 12%|#  | 12/100 [00:01<00:07, 9.1it/s]\nother 3/100\n"
    assert progress_in(log, 100) == 12
    assert progress_in("Starting", 100) is None


PAGE = """\
# TYPE tandem_memory_working_set_bytes gauge
tandem_memory_working_set_bytes {memory}
vllm:kv_cache_usage_perc{{engine="0"}} {usage}
vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {drafted}
vllm:spec_decode_num_draft_tokens_total{{engine="1"}} {drafted}
vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {accepted}
"""


def test_a_page_is_read_and_what_it_does_not_have_is_not_known() -> None:
    page = PAGE.format(memory=7, usage=0.5, drafted=10, accepted=5)
    assert asdict(reading_in(page)) == {"memory_bytes": 7, "kv_usage": 0.5, "drafted": 20, "accepted": 5}
    assert reading_in("tandem_memory_working_set_bytes seven\n") == Reading()
    assert reading_in("") == Reading()


@pytest.fixture
def pages() -> Iterator[tuple[int, list[str]]]:
    """A port whose pages are taken from the list, the last one for ever."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = (told.pop(0) if len(told) > 1 else told[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port, told
    server.shutdown()
    server.server_close()
    thread.join()


def test_pods_are_read_before_and_after_and_one_that_does_not_answer_is_no_zero(
    pages: tuple[int, list[str]],
) -> None:
    port, told = pages
    first = PAGE.format(memory=900, usage=0.1, drafted=10, accepted=6)
    last = PAGE.format(memory=400, usage=0.3, drafted=60, accepted=56)
    told[:] = [first, "", last, ""]  # each pod has two ports, which are one here
    pods = Pods(["127.0.0.1", "127.0.0.9"], ["127.0.0.9"], http_port=port, metrics_port=port)
    pods.start()
    pods.stop()
    assert pods.acceptance() == 0.5
    assert pods.kv_usage() == 0.3
    assert pods.verifier_memory_bytes() == 900
    assert pods.draft_memory_bytes() is None


def test_the_working_set_is_what_the_kubelet_counts_with_either_version_of_cgroups(tmp_path: Path) -> None:
    assert working_set_bytes(tmp_path) is None
    assert list(MemoryCollector(tmp_path).collect()) == []
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.usage_in_bytes").write_text("1000\n")
    (old / "memory.stat").write_text("cache 500\ntotal_inactive_file 400\n")
    assert working_set_bytes(tmp_path) == 600
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 300\n")
    ((sample,),) = (family.samples for family in MemoryCollector(tmp_path).collect())
    assert (sample.name, sample.value) == ("tandem_memory_working_set_bytes", 1700)
