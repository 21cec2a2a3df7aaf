"""One deployment: is it fast, by its target, and what keeps it from being faster."""

from __future__ import annotations

from deploy.grafana.parts import Dashboard, Row, Variable, series, stat
from deploy.grafana.promql import OF_DEPLOYMENT, OF_PODS, mean, per_second, quantile, ratio, total
from tandem_contracts import metrics

CHOSEN = (
    Variable("namespace", "Namespace", "label_values(tandem_deployment_condition, namespace)", has_all=False),
    Variable(
        "deployment",
        "Deployment",
        'label_values(tandem_deployment_condition{namespace=~"$namespace"}, deployment)',
        has_all=False,
    ),
)
"""One deployment: of one namespace, since another one may have a deployment of the same name."""
_BY = "namespace"
_QUANTILES = (0.5, 0.95, 0.99)


def _latency(histogram: str, target: str) -> tuple[tuple[str, str], ...]:
    """Quantiles, and the target where there is one."""
    asked = [(quantile(share, histogram, by=_BY), f"p{100 * share:.0f}") for share in _QUANTILES]
    return (*asked, (f'max(tandem_scaling_target_seconds{{target="{target}", {OF_DEPLOYMENT}}})', "target"))


_FIRST = _latency(metrics.ENGINE_FIRST_TOKEN_SECONDS, "timeToFirstToken")
_OUTPUT = _latency(metrics.ENGINE_OUTPUT_TOKEN_SECONDS, "timePerOutputToken")

DEPLOYMENT_PAGE = Dashboard(
    "tandem-deployment",
    "Tandem / Deployment",
    "One deployment: latency against its target, tokens, queue, KV cache, prefix cache and cost.",
    CHOSEN,
    (
        Row(
            "Now",
            (
                stat(
                    "Ready",
                    f'max(tandem_deployment_condition{{type="Ready", {OF_DEPLOYMENT}}})',
                    "bool_yes_no",
                    "Its condition Ready.",
                ),
                stat(
                    "Verifiers",
                    f'sum(tandem_deployment_ready_replicas{{role="verifier", {OF_DEPLOYMENT}}})',
                    "none",
                    "Ready pods of the serving revision.",
                ),
                stat(
                    "Within the target",
                    f"min(tandem_scaling_attainment_ratio{{{OF_DEPLOYMENT}}})",
                    "percentunit",
                    "Share of the last minutes' requests; of several targets the least.",
                ),
                stat("Requests", f"sum({per_second(metrics.ENGINE_FINISHED)})", "reqps", "Answered."),
                stat(
                    "Cost an hour",
                    f"max(tandem_scaling_cost_per_hour{{{OF_DEPLOYMENT}}})",
                    "currencyUSD",
                    "Of all its pods, by the accelerator table's prices.",
                ),
                stat(
                    "Cost of a million output tokens",
                    f'max(tandem_scaling_cost_per_million_tokens{{tokens="output", {OF_DEPLOYMENT}}})',
                    "currencyUSD",
                    "Over the tokens that were served in the last minutes.",
                ),
            ),
        ),
        Row(
            "Latency",
            (
                series("Time to first token", "From a request's arrival, against the target.", "s", *_FIRST),
                series("Time per output token", "A request's mean after its first token.", "s", *_OUTPUT),
                series(
                    "Within the target",
                    "Share of the last minutes' requests, and the share that is asked for.",
                    "percentunit",
                    (f"tandem_scaling_attainment_ratio{{{OF_DEPLOYMENT}}}", "{{target}}"),
                    (f"max(tandem_scaling_target_ratio{{{OF_DEPLOYMENT}}})", "asked for"),
                    highest=1.0,
                ),
                series(
                    "Where the time goes",
                    "Mean of a request's time in the queue, in prefill and in decoding.",
                    "s",
                    (mean("vllm:request_queue_time_seconds", by=_BY), "queue"),
                    (mean("vllm:request_prefill_time_seconds", by=_BY), "prefill"),
                    (mean("vllm:request_decode_time_seconds", by=_BY), "decode"),
                    is_stacked=True,
                ),
                series(
                    "A decode step",
                    "Of one row, however many tokens it gave.",
                    "s",
                    (quantile(0.5, metrics.ENGINE_STEP_SECONDS, by=_BY), "p50"),
                    (quantile(0.99, metrics.ENGINE_STEP_SECONDS, by=_BY), "p99"),
                ),
                series(
                    "Tokens of a request",
                    "Mean of prompts and of answers.",
                    "short",
                    (mean("vllm:request_prompt_tokens", by=_BY), "prompt"),
                    (mean(metrics.ENGINE_REQUEST_TOKENS, by=_BY), "answer"),
                ),
            ),
        ),
        Row(
            "Load",
            (
                series(
                    "Requests by how they ended",
                    "`length` and `stop` are whole answers; `abort` means that the client went away.",
                    "reqps",
                    (per_second(metrics.ENGINE_FINISHED, by="finished_reason"), "{{finished_reason}}"),
                    is_stacked=True,
                ),
                series(
                    "Tokens",
                    "Of prompts, of those the ones from the prefix cache, and of answers.",
                    "short",
                    (per_second(metrics.ENGINE_PROMPT_TOKENS, by=_BY), "prompt"),
                    (per_second(metrics.ENGINE_CACHED_TOKENS, by=_BY), "from the cache"),
                    (per_second(metrics.ENGINE_OUTPUT_TOKENS, by=_BY), "answer"),
                ),
                series(
                    "Requests in work",
                    "In the batch, and in the queue, by pod.",
                    "none",
                    (total(metrics.ENGINE_RUNNING, by="pod"), "{{pod}} runs"),
                    (total(metrics.ENGINE_WAITING, by="pod"), "{{pod}} waits"),
                ),
                series(
                    "KV cache in use",
                    "By pod. Near 1, requests are preempted and start anew.",
                    "percentunit",
                    (f"{metrics.ENGINE_KV_USAGE}{{{OF_PODS}}}", "{{pod}}"),
                    highest=1.0,
                ),
                series(
                    "Preemptions",
                    "Requests that lost their KV cache to others, by pod.",
                    "short",
                    (per_second("vllm:num_preemptions_total", by="pod"), "{{pod}}"),
                ),
                series(
                    "Prefix cache hits",
                    "Share of the prompts' tokens that were there already.",
                    "percentunit",
                    (
                        ratio(
                            per_second("vllm:prefix_cache_hits_total", by=_BY),
                            per_second("vllm:prefix_cache_queries_total", by=_BY),
                        ),
                        "hits",
                    ),
                    highest=1.0,
                ),
            ),
        ),
        Row(
            "Pods",
            (
                series(
                    "Ready pods",
                    "Of the serving revision, by role.",
                    "none",
                    (f"tandem_deployment_ready_replicas{{{OF_DEPLOYMENT}}}", "{{role}} ready"),
                    (f"tandem_deployment_replicas{{{OF_DEPLOYMENT}}}", "{{role}} wanted"),
                ),
                series(
                    "Start of each pod",
                    "By phase, from the process' begin on.",
                    "s",
                    (f'tandem_start_phase_seconds{{phase!="total", {OF_PODS}}}', "{{pod}} {{phase}}"),
                ),
                series(
                    "Cost of a million tokens",
                    "Over those served in the last minutes: of prompts and answers, and of answers alone.",
                    "currencyUSD",
                    (f"tandem_scaling_cost_per_million_tokens{{{OF_DEPLOYMENT}}}", "{{tokens}}"),
                ),
            ),
        ),
    ),
)
