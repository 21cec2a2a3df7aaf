"""The status of an LLMDeployment: what the operator says about it. Derived on every pass; losing it loses nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tandem_contracts.launch import Role
from tandem_operator.api.fields import ApiModel

SIZING_SENTENCES = 10
SIZING_LENGTH = 1024
CHANGES_TOLD, REASON_LENGTH = 5, 1024
MOST_REPLICAS = 10**6


class Condition(ApiModel):
    """A condition as in metav1.Condition."""

    type: Annotated[str, Field(max_length=64)]
    """What is said."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=128)]
    """One word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people."""
    last_transition_time: Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
    """When `status` last changed."""
    observed_generation: int = 0
    """The generation that this condition speaks of."""


class RoleStatus(ApiModel):
    """One role as it is."""

    revision: Annotated[str, Field(max_length=64)] = ""
    """The revision that serves."""
    target_revision: Annotated[str, Field(max_length=64)] = ""
    """The revision that this generation asks for."""
    replicas: int = 0
    """Pods of the serving revision."""
    ready_replicas: int = 0
    """Those of them that are Ready."""
    summary: Annotated[str, Field(max_length=64)] = ""
    """Ready and wanted replicas, for `kubectl get`."""
    selector: Annotated[str, Field(max_length=1024)] = ""
    """Label selector of the serving revision's pods, read by the scale subresource."""
    sizing: (
        Annotated[
            tuple[Annotated[str, Field(max_length=SIZING_LENGTH)], ...],
            Field(max_length=SIZING_SENTENCES, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
        ]
        | None
    ) = None
    """What the model needs of the accelerators, and why, once it has been inspected."""


class ColdStartStatus(ApiModel):
    """How long the last start of a verifier pod took, by phase; a phase that is not known is left out."""

    pod: Annotated[str, Field(max_length=253)]
    """The pod that was started."""
    schedule: Annotated[str, Field(max_length=16)] | None = None
    """From its creation until it had a node."""
    pull: Annotated[str, Field(max_length=16)] | None = None
    """Until its container ran: volumes are mounted and the image is pulled."""
    process: Annotated[str, Field(max_length=16)] | None = None
    """Until the engine began to load the model."""
    weights: Annotated[str, Field(max_length=16)] | None = None
    """Loading the weights."""
    compile: Annotated[str, Field(max_length=16)] | None = None
    """Compiling, as the engine itself measures it."""
    warm_up: Annotated[str, Field(max_length=16)] | None = None
    """The rest until the engine answered."""
    total: Annotated[str, Field(max_length=16)] | None = None
    """From its creation until it was Ready."""


class SpeculationStatus(ApiModel):
    """What verifiers have measured of remote drafts, under the traffic of the last minutes that had any."""

    depth: Annotated[int, Field(ge=0, le=64)] = 0
    """Tokens of a draft in the last steps; 0: the verifiers have found that drafts do not pay."""
    acceptance_rate: Annotated[str, Field(max_length=16)] = ""
    """Drafted tokens that verification took, a share."""
    tokens_per_step: Annotated[str, Field(max_length=16)] = ""
    """Tokens of a request that leave a step; 1 without drafts."""
    speedup: Annotated[str, Field(max_length=16)] | None = None
    """Tokens a second at the best depth over those of the steps without drafts in between; below 1 drafts lose."""
    speedup_interval: Annotated[str, Field(max_length=32)] | None = None
    """Lowest and highest that was read of any verifier."""


class AttainmentStatus(ApiModel):
    """Percent of the requests of the last minutes within the target."""

    asked: Annotated[str, Field(max_length=128)] = ""
    """The targets: `95 %: 2 s to the first token`."""
    time_to_first_token: Annotated[str, Field(max_length=16)] | None = None
    """Of the requests whose first token came, and of those that were turned away."""
    time_per_output_token: Annotated[str, Field(max_length=16)] | None = None
    """Of the requests that ended."""
    at_most_wrong_by: Annotated[str, Field(max_length=16)] | None = None
    """Points, where a target is no bound of the engines' histograms."""


class CostStatus(ApiModel):
    """By the prices of the operator's accelerator table, which are US dollars unless its administrator has others."""

    per_hour: Annotated[str, Field(max_length=16)]
    """Accelerators of all pods that have a node: of verifiers and drafts, those that start or go included."""
    per_million_tokens: Annotated[str, Field(max_length=16)] | None = None
    """The same over the tokens of prompts and answers that were served in the last minutes; absent without traffic."""
    per_million_output_tokens: Annotated[str, Field(max_length=16)] | None = None
    """The same over the tokens of answers alone."""


class ScalingChange(ApiModel):
    """Of a role's replicas."""

    at: Annotated[str, Field(max_length=32)]
    """When."""
    role: Role
    """Whose."""
    before: Annotated[int, Field(ge=0, le=MOST_REPLICAS, alias="from")]
    """How many before."""
    after: Annotated[int, Field(ge=0, le=MOST_REPLICAS, alias="to")]
    """How many since."""
    reason: Annotated[str, Field(max_length=REASON_LENGTH)]
    """Why."""


class ScalingStatus(ApiModel):
    """What autoscaling has decided, and by what. Figures are written anew with a decision, else every five minutes."""

    desired_verifiers: Annotated[int, Field(ge=0)]
    """Verifiers that are wanted."""
    reason: Annotated[str, Field(max_length=REASON_LENGTH)] = ""
    """The decision in a sentence."""
    desired_drafts: Annotated[int, Field(ge=0)] | None = None
    """Drafts that are wanted; absent where draft.replicas counts."""
    draft_reason: Annotated[str, Field(max_length=REASON_LENGTH)] | None = None
    """The decision on them in a sentence."""
    draft_health: Annotated[str, Field(max_length=16)] | None = None
    """Of what draft pods and verifiers say of drafts, as `health`. Off: they do not pay, as verifiers have measured."""
    health: Annotated[str, Field(max_length=16)] = ""
    """Good; Partial (some pods say nothing: none is taken away); Blind (most say nothing), NoPods (none is Ready), New
    (none was read yet), Paused, Conflict (somebody else writes replicas): nothing changes."""
    limited: Annotated[str, Field(max_length=32)] | None = None
    """AtMinimum, AtMaximum or Behavior: what keeps the replicas from being what the load asks for."""
    target: Literal["Met", "Missed", "Unknown"] = "Unknown"
    """Whether the requests of the last minutes kept the latency targets."""
    attainment: AttainmentStatus | None = None
    """How many of them did."""
    requests_per_second: Annotated[str, Field(max_length=16)] = ""
    """That arrive."""
    surge_per_second: Annotated[str, Field(max_length=16)] = ""
    """As many more are provided for as one cold start may bring."""
    capacity_per_second: Annotated[str, Field(max_length=16)] | None = None
    """Requests that one replica does within the targets, once that is learned."""
    cold_start: Annotated[str, Field(max_length=16)] = ""
    """That most replicas take from being made to being Ready."""
    cost: CostStatus | None = None
    """What the pods cost. Absent where that is not known: the accelerator table has no price for a class, or a pod may
    be on one of several classes that cost differently."""
    last_scale_time: Annotated[str, Field(max_length=32)] | None = None
    """When the number of replicas changed last."""
    changes: (
        Annotated[
            tuple[ScalingChange, ...],
            Field(max_length=CHANGES_TOLD, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
        ]
        | None
    ) = None
    """The last ones, the newest first; by what figures: `tandem why`."""
    updated: Annotated[str, Field(max_length=32)] = ""
    """When these figures were written."""


class BenchmarkLoad(ApiModel):
    """What was asked."""

    prompts: Annotated[int, Field(ge=0)]
    """Requests."""
    input_tokens: Annotated[int, Field(ge=0)]
    """Random tokens of each prompt."""
    output_tokens: Annotated[int, Field(ge=0)]
    """Of each answer."""
    concurrency: Annotated[int, Field(ge=0)] | None = None
    """Requests at any time. Absent with a rate."""
    requests_per_second: Annotated[str, Field(max_length=16)] | None = None
    """At which they were sent, whatever was still being answered."""
    temperature: Annotated[str, Field(max_length=16)] = "0"
    """Of sampling; 0: greedy."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the prompts. The same ones are in the engines' prefix cache the second time."""


class BenchmarkLatency(ApiModel):
    """The mean, and what so many percent of them took at most, as the client saw it."""

    mean: Annotated[str, Field(max_length=16)]
    """Of all."""
    p50: Annotated[str, Field(max_length=16)]
    """Half of them."""
    p95: Annotated[str, Field(max_length=16)]
    """95 %."""
    p99: Annotated[str, Field(max_length=16)]
    """99 %."""


class BenchmarkMemory(ApiModel):
    """The most that any pod of the role had as its working set meanwhile; absent where it did not say."""

    verifier: Annotated[str, Field(max_length=16)] | None = None
    """Of a verifier."""
    draft: Annotated[str, Field(max_length=16)] | None = None
    """Of a draft."""


class BenchmarkTask(ApiModel):
    """A task that a quantized model and its source have done."""

    name: Annotated[str, Field(max_length=63)]
    """The task."""
    metric: Annotated[str, Field(max_length=64)]
    """What is scored."""
    score: Annotated[str, Field(max_length=16)]
    """Of the quantized model."""
    source_score: Annotated[str, Field(max_length=16)]
    """Of the model that it was made from."""


class BenchmarkQuality(ApiModel):
    """What the model of a role is worth, as it was measured when it was quantized."""

    role: Annotated[str, Field(max_length=16)]
    """verifier or draft."""
    artifact: Annotated[str, Field(max_length=63)]
    """The ModelArtifact, which has more figures."""
    texts: Annotated[str, Field(max_length=2048)]
    """What it was measured on."""
    perplexity: Annotated[str, Field(max_length=16)]
    """Of the quantized model."""
    source_perplexity: Annotated[str, Field(max_length=16)]
    """Of the model that it was made from."""
    tasks: Annotated[
        tuple[BenchmarkTask, ...],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    """Tasks that both have done."""


class BenchmarkStatus(ApiModel):
    """What the last `tandem bench` has measured, by vLLM's own client."""

    job: Annotated[str, Field(max_length=63)]
    """The Job that has measured it."""
    ended: Annotated[str, Field(max_length=32)]
    """When."""
    revision: Annotated[str, Field(max_length=64)] = ""
    """Of the verifiers, when it began."""
    load: BenchmarkLoad
    """What was asked."""
    completed: Annotated[int, Field(ge=0)]
    """Requests that were answered."""
    failed: Annotated[int, Field(ge=0)]
    """Those that were not."""
    duration: Annotated[str, Field(max_length=16)]
    """From the first request to the last answer."""
    requests_per_second: Annotated[str, Field(max_length=16)]
    """That were answered."""
    output_tokens_per_second: Annotated[str, Field(max_length=16)]
    """Of all answers."""
    time_to_first_token: BenchmarkLatency | None = None
    """From sending a request."""
    time_per_output_token: BenchmarkLatency | None = None
    """The mean of a request's tokens after the first."""
    inter_token_latency: BenchmarkLatency | None = None
    """Between two pieces of an answer: a step of the engine, which with drafts gives several tokens."""
    request_latency: BenchmarkLatency | None = None
    """From sending a request to the end of its answer."""
    acceptance_rate: Annotated[str, Field(max_length=16)] | None = None
    """Share of the tokens drafted meanwhile that verifiers took. Of random prompts: real texts have another."""
    kv_cache_usage: Annotated[str, Field(max_length=16)] | None = None
    """The most that was in use of any verifier's KV cache, a share."""
    memory: BenchmarkMemory | None = None
    """Of the pods, without that of accelerators."""
    quality: Annotated[
        tuple[BenchmarkQuality, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Of quantized models. Empty: none is, or none was measured."""


class LLMDeploymentStatus(ApiModel):
    """What was observed at `observedGeneration`."""

    observed_generation: int = 0
    """The newest generation that the operator has worked on."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            max_length=32,
        ),
    ] = ()
    """Available: the Service has a Ready verifier. Ready: this generation is valid and fully rolled out.
    ArtifactsReady: the models have been inspected; one with a given count serves without it.
    Reconciling and Stalled are present only while true."""
    verifier: RoleStatus | None = None
    """The verifier pods."""
    draft: RoleStatus | None = None
    """The draft pods."""
    speculation: SpeculationStatus | None = None
    """What remote drafts gain, once there was traffic to measure it by."""
    scaling: ScalingStatus | None = None
    """What autoscaling has decided; absent without spec.autoscaling."""
    cold_start: ColdStartStatus | None = None
    """The last start that the operator has seen."""
    benchmark: BenchmarkStatus | None = None
    """The last benchmark, of whatever revision served then; absent: there was none."""
