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

DRAFT_ERRORS = "tandem_draft_errors_total"
"""Counter: steps in which the proposer itself failed; always 0, or a defect."""

ENGINE_RUNNING = "vllm:num_requests_running"
"""Gauge of the engine itself: requests in the batch."""
ENGINE_WAITING = "vllm:num_requests_waiting"
"""Gauge of the engine itself: requests in its queue."""
