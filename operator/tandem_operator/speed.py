"""What speculation should gain on given hardware, before anything runs: predicted, never measured. Pure.

A step reads the weights and the cache once and computes on every token of the batch; the slower of the two is its
time. From there the speed-up of k drafts a step is S = E(k) T(0) / (Tv(k) + R + k t_d + dT), with E(k) tokens a step,
verify step Tv, round trip R, draft time t_d a token and the tax dT of the mode (Leviathan et al., arXiv 2211.17192,
with a remote draft's terms). Every assumption is a field of `Assumptions`, and is shown with the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tandem_contracts.launch import Speculation
from tandem_contracts.model_facts import ModelFacts
from tandem_operator.accelerator_class import AcceleratorClass
from tandem_operator.sizing import Cache, SizingRequest, weights_bytes_of

WORTH_IT = 1.1
"""Below this predicted speed-up speculation is not worth its hardware."""


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What cannot be known before anything runs."""

    acceptance: float = 0.7
    """Probability that the verifier accepts a draft whose predecessors it accepted."""
    round_trip_seconds: float = 0.001
    """Network, serialisation and queue between verifier and draft pod, within one zone."""
    rows: int = 1
    """Sequences decoded at once. Speculation gains most at 1, so what does not pay there never does."""
    context_tokens: int = 2048
    """Length of each."""
    bandwidth_efficiency: float = 0.8
    """Share of the table's bandwidth that a decode step reaches."""
    compute_efficiency: float = 0.6
    """Share of the table's dense compute that it reaches."""
    remote_tax_seconds: float = 0.0009
    """What asking for remote drafts costs a step beside the waiting: synchronous scheduling; measured on CPUs."""
    remote_step_seconds: float = 0.0015
    """Shortest step of a draft pod's engine, however small the model: launching its kernels."""
    in_engine_step_seconds: float = 0.0004
    """The same inside the verifier's engine."""

    def sentence(self) -> str:
        return (
            f"assumed: acceptance {self.acceptance:.2f}, round trip {_ms(self.round_trip_seconds)}, "
            f"{self.context_tokens} tokens of context, {self.bandwidth_efficiency:.0%} of the bandwidth, "
            f"{self.compute_efficiency:.0%} of the compute, tax of Remote {_ms(self.remote_tax_seconds)} a step, "
            f"draft steps of at least {_ms(self.remote_step_seconds)}, {_ms(self.in_engine_step_seconds)} InEngine"
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A model on its accelerators."""

    model: ModelFacts
    accelerator: AcceleratorClass
    count: int = 1
    request: SizingRequest = field(default_factory=SizingRequest)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One method at its best depth. `depth` 0: plain decoding is faster."""

    method: str
    rows: int
    draft_token_seconds: float
    verify_seconds: float
    """Of a step that checks `depth` drafts a row."""
    depth: int
    tokens_per_step: float
    speedup: float

    @property
    def is_worth_it(self) -> bool:
        return self.speedup >= WORTH_IT

    def sentence(self) -> str:
        if self.method == Speculation.OFF:
            return f"{self.method}: {_ms(self.verify_seconds)} a step of 1 token"
        return (
            f"{self.method}: speed-up {self.speedup:.2f} at depth {self.depth} (draft {_ms(self.draft_token_seconds)} "
            f"a token, verify step {_ms(self.verify_seconds)}, {self.tokens_per_step:.2f} tokens a step)"
        )


@dataclass(frozen=True)
class Unpredictable:
    """Nothing can be predicted, and what is missing."""

    reason: str


def predict(
    verifier: Engine, draft: Engine | None, *, max_depth: int, assumptions: Assumptions
) -> tuple[Prediction, ...] | Unpredictable:
    """Off, and where the draft's model is known Remote and InEngine, each at its best depth of at most `max_depth`.

    InEngine puts the draft's model onto the verifier's accelerators. A method that they cannot run is left out.
    """
    for engine in (verifier, draft):
        if engine and not (engine.accelerator.bandwidth_gb_per_second and engine.accelerator.teraflops):
            name = engine.accelerator.name
            return Unpredictable(
                f"bandwidth and compute of {name} are not known: give accelerators.{name}.bandwidthGBPerSecond and "
                f"accelerators.{name}.teraflops"
            )

    def verify(depth: int) -> float:
        return step_seconds(verifier, tokens_per_row=depth + 1, assumptions=assumptions)

    plain = Prediction(
        method=Speculation.OFF,
        rows=assumptions.rows,
        draft_token_seconds=0.0,
        verify_seconds=verify(0),
        depth=0,
        tokens_per_step=1.0,
        speedup=1.0,
    )
    if draft is None:
        return (plain,)
    plain_draft = replace(draft.request, draft_scheme=None)  # vLLM knows no other
    inside = Engine(model=draft.model, accelerator=verifier.accelerator, count=verifier.count, request=plain_draft)
    remote_token = max(assumptions.remote_step_seconds, step_seconds(draft, tokens_per_row=1, assumptions=assumptions))
    inside_token = max(
        assumptions.in_engine_step_seconds, step_seconds(inside, tokens_per_row=1, assumptions=assumptions)
    )
    waited = assumptions.round_trip_seconds + assumptions.remote_tax_seconds
    methods = ((Speculation.REMOTE, remote_token, waited), (Speculation.IN_ENGINE, inside_token, 0.0))
    return (
        plain,
        *(
            best_depth(
                method,
                verify,
                draft_token_seconds=token,
                fixed_seconds=fixed,
                max_depth=max_depth,
                assumptions=assumptions,
            )
            for method, token, fixed in methods
            if method in verifier.accelerator.methods
        ),
    )


def step_seconds(engine: Engine, *, tokens_per_row: int, assumptions: Assumptions) -> float:
    """Time of one forward pass over `tokens_per_row` tokens of each row: max(bytes / bandwidth, operations / compute).

    A mixture of experts reads the experts that its tokens choose, 1 - (1 - active / experts)^tokens of them expected.
    """
    model, hardware = engine.model, engine.accelerator
    tokens = assumptions.rows * tokens_per_row
    cache = Cache(model, engine.request)
    weights = weights_bytes_of(model, engine.request.data_type, draft_scheme=engine.request.draft_scheme)
    share = model.active_experts / model.experts if model.experts else 1.0
    touched = 1 - (1 - share) ** tokens
    sharing = engine.count if hardware.is_cpu else cache.ranks_sharing(engine.count)  # shares of CPU are one rank
    read = weights * touched / engine.count + cache.of(assumptions.rows, assumptions.context_tokens) / sharing
    # Packed weights hide their number: 4 bits each is the most that there can be.
    parameters = model.parameters or 2 * model.weights_bytes
    operations = 2 * parameters * share * tokens / engine.count
    bandwidth = hardware.bandwidth_gb_per_second * 1e9 * assumptions.bandwidth_efficiency
    compute = hardware.teraflops * 1e12 * assumptions.compute_efficiency
    return max(read / bandwidth, operations / compute)


def tokens_per_step(acceptance: float, depth: int) -> float:
    """E(k) = (1 - a^(k+1)) / (1 - a): drafts accepted, and the one token that the verifier adds itself."""
    return sum(acceptance**position for position in range(depth + 1))


def best_depth(
    method: str,
    verify_seconds: Callable[[int], float],
    *,
    draft_token_seconds: float,
    fixed_seconds: float,
    max_depth: int,
    assumptions: Assumptions,
) -> Prediction:
    """The depth from 0 to `max_depth` with the largest speed-up S over plain decoding. At 0 nothing fixed is paid."""

    def at(depth: int) -> Prediction:
        waited = fixed_seconds + depth * draft_token_seconds if depth else 0.0
        expected = tokens_per_step(assumptions.acceptance, depth)
        return Prediction(
            method=method,
            rows=assumptions.rows,
            draft_token_seconds=draft_token_seconds,
            verify_seconds=verify_seconds(depth),
            depth=depth,
            tokens_per_step=expected,
            speedup=expected * verify_seconds(0) / (verify_seconds(depth) + waited),
        )

    return max((at(depth) for depth in range(max_depth + 1)), key=lambda made: (made.speedup, -made.depth))


def table_lines(predictions: tuple[Prediction, ...]) -> Iterator[str]:
    """Predictions as lines of a table, with a heading."""
    yield "method    batch  draft a token  verify step  depth  tokens a step  speed-up"
    for made in predictions:
        draft = _ms(made.draft_token_seconds) if made.draft_token_seconds else "-"
        yield (
            f"{made.method:<8}  {made.rows:>5}  {draft:>13}  {_ms(made.verify_seconds):>11}  {made.depth:>5}  "
            f"{made.tokens_per_step:>13.2f}  {made.speedup:>7.2f}x"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1000:.2f} ms"
