"""Names of the metrics on the metrics port; the engine serves its own ones on the HTTP port."""

START_PHASE_SECONDS = "tandem_start_phase_seconds"
"""Gauge, label `phase` (process, weights, compile, warm_up, total): duration of each phase of the start, once over."""

START_TIME_SECONDS = "tandem_start_time_seconds"
"""Gauge: when the launcher was started, in seconds since 1970; there before the engine is. Another one when the
container is started again."""

ENGINE_READY = "tandem_engine_ready"
"""Gauge: 1 once the engine has answered its health check, 0 before."""

MEMORY_WORKING_SET = "tandem_memory_working_set_bytes"
"""Gauge: memory of the container as the kubelet counts it, without file pages that nobody uses. Absent where the kernel
does not tell."""

DRAFT_CALLS = "tandem_draft_calls_total"
"""Counter, label `outcome`: calls for remote drafts that were `answered` or `failed`."""

DRAFT_DEADLINES_MISSED = "tandem_draft_deadlines_missed_total"
"""Counter: steps that waited for remote drafts until the deadline and went on without."""

DRAFT_ROWS = "tandem_draft_rows_total"
"""Counter, label `outcome`: rows of decode steps that were `drafted` or `empty`."""

DRAFT_ROWS_INVALID = "tandem_draft_rows_invalid_total"
"""Counter: answers of which a part or all was no valid draft."""

DRAFT_WAIT_SECONDS = "tandem_draft_wait_seconds_total"
"""Counter: time that steps have spent on getting remote drafts."""

DRAFT_LONGEST_WAIT_SECONDS = "tandem_draft_longest_wait_seconds"
"""Gauge: the longest time that a step has spent on it since the engine started."""

DRAFT_TOKENS = "tandem_draft_tokens_total"
"""Counter, label `outcome`: tokens of remote drafts that the engine was given (`drafted`) and took (`accepted`)."""

DRAFT_DEPTH = "tandem_draft_depth"
"""Gauge: tokens that the last step asked for; 0 while drafts do not pay."""

DRAFT_SPEEDUP = "tandem_draft_speedup"
"""Gauge: tokens a second at the best depth above 0 over those at depth 0, both measured; absent until they are."""

DRAFT_ROUND_TRIP_SECONDS = "tandem_draft_round_trip_seconds_total"
"""Counter: from asking for remote drafts to each answer that came; over the answered calls, its mean."""

DRAFT_RESYNCS = "tandem_draft_resyncs_total"
"""Counter: contexts that a draft pod had lost and was sent again."""

DRAFT_PODS = "tandem_draft_pods"
"""Gauge: draft pods that the verifier knows of."""

DRAFT_BREAKERS_OPEN = "tandem_draft_breakers_open"
"""Gauge: those of them that are not asked now, or only tried, since they were gone, silent or wrong."""

DRAFT_ERRORS = "tandem_draft_errors_total"
"""Counter: steps in which the proposer itself failed; always 0, or a defect."""

ENGINE_RUNNING = "vllm:num_requests_running"
"""Gauge of the engine itself: requests in the batch."""
ENGINE_WAITING = "vllm:num_requests_waiting"
"""Gauge of the engine itself: requests in its queue."""
ENGINE_FINISHED = "vllm:request_success_total"
"""Counter of the engine itself, label `finished_reason`: requests that ended, whichever way."""
ENGINE_REJECTED = "vllm:admission_rejections_total"
"""Counter of the engine itself: requests that it did not let into its queue. Absent until there is one."""
ENGINE_PROMPT_TOKENS = "vllm:prompt_tokens_total"
"""Counter of the engine itself: tokens of prompts whose prefill is over."""
ENGINE_CACHED_TOKENS = "vllm:prompt_tokens_cached_total"
"""Counter of the engine itself: those of them that were in the prefix cache."""
ENGINE_OUTPUT_TOKENS = "vllm:generation_tokens_total"
"""Counter of the engine itself: tokens that were generated."""
ENGINE_KV_USAGE = "vllm:kv_cache_usage_perc"
"""Gauge of the engine itself: share of the KV cache in use, from 0 to 1."""
ENGINE_CACHE_CONFIG = "vllm:cache_config_info"
"""Gauge of the engine itself, always 1: labels `num_gpu_blocks` and `block_size` give the tokens of the KV cache."""
ENGINE_STEP_SECONDS = "vllm:inter_token_latency_seconds"
"""Histogram of the engine itself: one observation a decode step and request, however many tokens the step gave."""
ENGINE_FIRST_TOKEN_SECONDS = "vllm:time_to_first_token_seconds"  # noqa: S105 -- of text
"""Histogram of the engine itself: from a request's arrival to its first token, observed then."""
ENGINE_OUTPUT_TOKEN_SECONDS = "vllm:request_time_per_output_token_seconds"  # noqa: S105 -- of text
"""Histogram of the engine itself: a request's mean time per output token after the first, observed at its end."""
ENGINE_REQUEST_TOKENS = "vllm:request_generation_tokens"
"""Histogram of the engine itself: tokens that a request has generated, observed at its end."""
ENGINE_DRAFTS = "vllm:spec_decode_num_drafts_total"
"""Counter of the engine itself: rows of decode steps that had drafts. Absent without speculation."""
ENGINE_DRAFTED_TOKENS = "vllm:spec_decode_num_draft_tokens_total"
"""Counter of the engine itself: tokens that were drafted for them, by any method."""
ENGINE_ACCEPTED_TOKENS = "vllm:spec_decode_num_accepted_tokens_total"
"""Counter of the engine itself: those of them that it took."""

_MANTISSAS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
LATENCY_GRID = (*(round(m * 10.0**exponent, 9) for exponent in range(-3, 3) for m in _MANTISSAS), 1000.0)
"""Bounds of the engines' histograms of latencies, in seconds: ten a decade, from 1 ms to 1000 s, the same for every
deployment. The share of requests within a target that is one of them is exact, and another target restarts nothing."""

SECONDS_GRID = tuple(round(10 ** (step / 10), 10) for step in range(-50, 11))
"""Bounds of every histogram of times, in seconds: ten a decade, from 10 µs to 10 s."""

DRAFT_SERVER_STREAMS = "tandem_draft_server_streams"
"""Gauge: verifier engines that are connected to a draft server."""
DRAFT_SERVER_SESSIONS = "tandem_draft_server_sessions"
"""Gauge: contexts that a draft server keeps."""
DRAFT_SERVER_QUEUE_SECONDS = "tandem_draft_server_queue_seconds"
"""Histogram: from the arrival of a step to the beginning of the pass that answers it."""
DRAFT_SERVER_COMPUTE_SECONDS = "tandem_draft_server_compute_seconds"
"""Histogram: from there to the answer."""
DRAFT_SERVER_TOKENS = "tandem_draft_server_tokens_total"
"""Counter: tokens that were drafted."""
DRAFT_SERVER_ASKED_TOKENS = "tandem_draft_server_asked_tokens_total"
"""Counter: those of them that verifiers had asked for; the others were drafted ahead."""
DRAFT_SERVER_BUSY_SECONDS = "tandem_draft_server_busy_seconds_total"
"""Counter: time of the passes that drafted what was asked for. A pass for several verifiers counts once, one that only
drafts ahead not at all: it ends as soon as anybody asks."""
DRAFT_SERVER_SUPERSEDED = "tandem_draft_server_superseded_total"
"""Counter: rows that were not answered since a newer one of their session had come."""
DRAFT_SERVER_EVICTED = "tandem_draft_server_evicted_total"
"""Counter: contexts that were dropped for want of room."""
DRAFT_SERVER_RESYNCS = "tandem_draft_server_resyncs_total"
"""Counter: rows that built on a context which was not here, or was too long."""
DRAFT_SERVER_FAILURES = "tandem_draft_server_failures_total"
"""Counter: passes in which the draft engine failed."""

GATE_HELD = "tandem_gate_held"
"""Gauge: requests that a wake gate holds, from their arrival until they are passed on or over."""
GATE_HELD_BYTES = "tandem_gate_held_bytes"
"""Gauge: bodies that it keeps, until their answers begin."""
GATE_ANSWERING = "tandem_gate_answering"
"""Gauge: requests that it has passed on and that are not over; a gate may go when this and `GATE_HELD` are 0."""
GATE_ARRIVALS = "tandem_gate_arrivals_total"
"""Counter: requests for inference that came, whatever became of them; probes and wrong keys are none."""
GATE_REQUESTS = "tandem_gate_requests_total"
"""Counter, label `outcome`: those of them that are over. `answered` by a pod to the end, `expired` while held,
`refused` (no room, too large, or the gate stopped), `failed` (502: two pods did not answer), `cut_off` (a pod broke off
its answer), `gone` (the client went away)."""
GATE_HELD_SECONDS = "tandem_gate_held_seconds"
"""Histogram over LATENCY_GRID: from a request's arrival to its being passed on."""
GATE_ADDED_SECONDS = "tandem_gate_added_seconds"
"""Histogram over SECONDS_GRID: what the gate itself added, from when it knew of a pod and had all of the request until
it had sent it."""
GATE_PODS = "tandem_gate_pods"
"""Gauge: pods that answered their health check when a gate last looked. It looks only while it holds requests."""

ARTIFACT_DONE = "tandem_artifact_step_done"
"""Gauge, label `step`: parts of an artifact Job's step that are done: bytes, layers, files or windows."""
ARTIFACT_TOTAL = "tandem_artifact_step_total"
"""Gauge, label `step`: parts that the step has; 0 where it is not known."""
ARTIFACT_SECONDS = "tandem_artifact_step_seconds"
"""Gauge, label `step`: time since the step began."""
