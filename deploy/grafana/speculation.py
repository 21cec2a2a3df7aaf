"""Is speculation worth it: what drafts save, what they cost, and who keeps whom waiting."""

from __future__ import annotations

from deploy.grafana.deployment import CHOSEN
from deploy.grafana.parts import Dashboard, Row, series, stat
from deploy.grafana.promql import OF_DEPLOYMENT, OF_PODS, per_second, quantile, ratio
from tandem_contracts import metrics

_BY = "namespace"
_ACCEPTED = metrics.ENGINE_ACCEPTED_TOKENS
_BY_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
_DRAFTED_ROWS = per_second(metrics.ENGINE_DRAFTS, by=_BY)
_STEPS = per_second(f"{metrics.ENGINE_STEP_SECONDS}_count", by=_BY)
_TOKENS_A_STEP = f"1 + {ratio(per_second(_ACCEPTED, by=_BY), _STEPS)}"


def _of(outcome: str, counter: str = metrics.DRAFT_TOKENS, by: str = _BY) -> str:
    return per_second(counter, of=f'outcome="{outcome}", {OF_PODS}', by=by)


SPECULATION = Dashboard(
    "tandem-speculation",
    "Tandem / Speculation",
    "What remote drafts save and cost, as verifiers and draft servers measure it.",
    CHOSEN,
    (
        Row(
            "Now",
            (
                stat(
                    "Benefit",
                    f"avg(tandem_draft_speedup{{{OF_PODS}}})",
                    "short",
                    "Tokens a second with drafts over those without, both measured. Below 1 they are left off.",
                ),
                stat(
                    "Effective",
                    f'max(tandem_deployment_condition{{type="SpeculationEffective", {OF_DEPLOYMENT}}})',
                    "bool_yes_no",
                    "The condition SpeculationEffective: `kubectl describe llm` has its figures.",
                ),
                stat("Accepted", ratio(_of("accepted"), _of("drafted")), "percentunit", "Of the tokens proposed."),
                stat(
                    "Tokens a step",
                    _TOKENS_A_STEP,
                    "short",
                    "Of a row: its own token, and what was accepted.",
                ),
                stat(
                    "Depth", f"avg({metrics.DRAFT_DEPTH}{{{OF_PODS}}})", "short", "Tokens that are asked for; 0: none."
                ),
                stat(
                    "Draft pods known",
                    f"max({metrics.DRAFT_PODS}{{{OF_PODS}}})",
                    "none",
                    "By the verifier that knows the most.",
                ),
            ),
        ),
        Row(
            "What they save",
            (
                series(
                    "Benefit",
                    "Tokens a second at the best depth over those at depth 0, by verifier.",
                    "short",
                    (f"tandem_draft_speedup{{{OF_PODS}}}", "{{pod}}"),
                ),
                series(
                    "Accepted by position",
                    "Of the steps with drafts, how many took the token at this place.",
                    "percentunit",
                    (
                        f"{per_second(_BY_POSITION, by='namespace, position')} "
                        f"/ on(namespace) group_left() ({_DRAFTED_ROWS} > 0)",
                        "{{position}}",
                    ),
                    highest=1.0,
                ),
                series(
                    "Tokens a step",
                    "Of a row: its own token, and what was accepted of its draft.",
                    "short",
                    (_TOKENS_A_STEP, "tokens"),
                ),
                series(
                    "Depth",
                    "Tokens that the last step has asked for, by verifier.",
                    "short",
                    (f"{metrics.DRAFT_DEPTH}{{{OF_PODS}}}", "{{pod}}"),
                ),
                series(
                    "Steps with drafts",
                    "Share of the decode steps' rows.",
                    "percentunit",
                    (ratio(_DRAFTED_ROWS, _STEPS), "with drafts"),
                    highest=1.0,
                ),
                series(
                    "Tokens",
                    "That drafts proposed and verifiers took.",
                    "short",
                    (_of("drafted"), "drafted"),
                    (_of("accepted"), "accepted"),
                ),
            ),
        ),
        Row(
            "What they cost",
            (
                series(
                    "Wait for drafts",
                    "Of a step, the mean, and the longest one since each engine started.",
                    "s",
                    (
                        ratio(
                            per_second(metrics.DRAFT_WAIT_SECONDS, by="pod"),
                            _of("answered", metrics.DRAFT_CALLS, "pod"),
                        ),
                        "{{pod}}",
                    ),
                    (f"{metrics.DRAFT_LONGEST_WAIT_SECONDS}{{{OF_PODS}}}", "{{pod}} longest"),
                ),
                series(
                    "Round trip",
                    "From asking to the answer, the mean.",
                    "s",
                    (
                        ratio(
                            per_second(metrics.DRAFT_ROUND_TRIP_SECONDS, by="pod"),
                            _of("answered", metrics.DRAFT_CALLS, "pod"),
                        ),
                        "{{pod}}",
                    ),
                ),
                series(
                    "What went wrong",
                    "Calls that failed, deadlines that were missed, answers that were no drafts.",
                    "short",
                    (_of("failed", metrics.DRAFT_CALLS), "failed"),
                    (per_second(metrics.DRAFT_DEADLINES_MISSED, by=_BY), "too late"),
                    (per_second(metrics.DRAFT_ROWS_INVALID, by=_BY), "invalid"),
                ),
                series(
                    "Breakers",
                    "Draft pods that a verifier knows, and those of them that it does not ask now.",
                    "none",
                    (f"{metrics.DRAFT_PODS}{{{OF_PODS}}}", "{{pod}} knows"),
                    (f"{metrics.DRAFT_BREAKERS_OPEN}{{{OF_PODS}}}", "{{pod}} does not ask"),
                ),
            ),
        ),
        Row(
            "Draft servers",
            (
                series(
                    "Tokens",
                    "That were drafted, and those of them that a verifier had asked for.",
                    "short",
                    (per_second(metrics.DRAFT_SERVER_TOKENS, by="pod"), "{{pod}} drafted"),
                    (per_second(metrics.DRAFT_SERVER_ASKED_TOKENS, by="pod"), "{{pod}} asked for"),
                ),
                series(
                    "Queue and compute",
                    "p95 of a step's time at a draft server.",
                    "s",
                    (quantile(0.95, metrics.DRAFT_SERVER_QUEUE_SECONDS, by="pod"), "{{pod}} queue"),
                    (quantile(0.95, metrics.DRAFT_SERVER_COMPUTE_SECONDS, by="pod"), "{{pod}} compute"),
                ),
                series(
                    "Busy",
                    "Share of the time in which a server drafts what it was asked for.",
                    "percentunit",
                    (per_second(metrics.DRAFT_SERVER_BUSY_SECONDS, by="pod"), "{{pod}}"),
                    highest=1.0,
                ),
                series(
                    "Contexts",
                    "That are kept, and those that had to go for want of room.",
                    "short",
                    (f"{metrics.DRAFT_SERVER_SESSIONS}{{{OF_PODS}}}", "{{pod}} kept"),
                    (per_second(metrics.DRAFT_SERVER_EVICTED, by="pod"), "{{pod}} dropped a second"),
                ),
            ),
        ),
    ),
)
