"""Names of the metrics on the metrics port; the engine serves its own ones on the HTTP port."""

START_PHASE_SECONDS = "tandem_start_phase_seconds"
"""Gauge, label `phase` (process, weights, compile, warm_up, total): duration of each phase of the start, once over."""

ENGINE_READY = "tandem_engine_ready"
"""Gauge: 1 once the engine has answered its health check, 0 before."""

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
DRAFT_SERVER_SUPERSEDED = "tandem_draft_server_superseded_total"
"""Counter: rows that were not answered since a newer one of their session had come."""
DRAFT_SERVER_EVICTED = "tandem_draft_server_evicted_total"
"""Counter: contexts that were dropped for want of room."""
DRAFT_SERVER_RESYNCS = "tandem_draft_server_resyncs_total"
"""Counter: rows that built on a context which was not here, or was too long."""
DRAFT_SERVER_FAILURES = "tandem_draft_server_failures_total"
"""Counter: passes in which the draft engine failed."""

ARTIFACT_DONE = "tandem_artifact_step_done"
"""Gauge, label `step`: parts of an artifact Job's step that are done: bytes, layers, files or windows."""
ARTIFACT_TOTAL = "tandem_artifact_step_total"
"""Gauge, label `step`: parts that the step has; 0 where it is not known."""
ARTIFACT_SECONDS = "tandem_artifact_step_seconds"
"""Gauge, label `step`: time since the step began."""
