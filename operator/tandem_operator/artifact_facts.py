"""What the status of ModelArtifacts holds: of one, for its own pass; of those that a deployment needs. Pure.

Parses raw objects, decides nothing but what a measured loss is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from tandem_contracts.artifact import is_artifact_key
from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.quality import Quality, shortcomings
from tandem_contracts.reference import Reference
from tandem_contracts.termination import Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.api.artifact import (
    ArtifactFiles,
    ArtifactLoss,
    ArtifactReference,
    ArtifactSmoke,
    ModelArtifactSpec,
    shown,
)
from tandem_operator.api.quantization import Gate, GateFailure
from tandem_operator.artifact_needs import Need, Settings, all_needs_in
from tandem_operator.artifact_steps import Measurement, Step, first_step_of, is_evicting
from tandem_operator.facts import ArtifactFacts, Facts, Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason


@dataclass(frozen=True)
class Known:
    """What the Jobs of an artifact have found, as its status holds it."""

    model: ModelFacts | None = None
    files: ArtifactFiles | None = None
    losses: Mapping[str, Quality] = field(default_factory=dict)
    """By the name of the texts."""
    smokes: Mapping[str, ArtifactSmoke] = field(default_factory=dict)
    """By the name of the target."""
    reference: Reference | None = None
    """None where none was recorded. Which files it is of is for the smoke test to see, which has them before it."""


NOTHING_KNOWN = Known()


def known_in(status: Mapping[str, Any]) -> Known:
    """What an artifact's status holds; nothing where it holds nothing that can be read."""
    losses = {}
    for written in status.get("losses") or []:
        try:
            loss = ArtifactLoss.model_validate(written)
            losses[loss.texts] = loss.quality
        except (ValidationError, ValueError):
            continue  # it is measured again
    try:
        files = ArtifactFiles.model_validate(status["files"]) if status.get("files") else None
    except ValidationError:
        files = None
    smokes = {}
    for written in status.get("smokes") or []:
        with suppress(ValidationError):  # what cannot be read is asked again
            smoke = ArtifactSmoke.model_validate(written)
            smokes[smoke.target] = smoke
    reference = None
    if status.get("reference"):
        with suppress(ValidationError, ValueError):  # what cannot be read is not compared with
            reference = ArtifactReference.model_validate(status["reference"]).reference
    return Known(model_in(status), files, losses, smokes, reference)


def model_in(status: Mapping[str, Any]) -> ModelFacts | None:
    """The facts that an artifact's status holds; None where there are none, or none that can be read."""
    try:
        return ModelFacts.from_data(status.get("model"))
    except ValueError:
        return None


@dataclass(frozen=True)
class ArtifactQuality:
    """What an artifact is worth, by the texts that it was measured on."""

    name: str
    losses: Mapping[str, Quality]


def qualities_of(facts: Facts, *, find: Callable[[str], Manifest | None]) -> dict[Role, ArtifactQuality]:
    """Of the roles whose models were quantized and measured. `find`: an artifact by its name."""
    found = {}
    for role, artifact in facts.artifacts.items():
        there = find(artifact.name)
        losses = known_in(there.get("status") or {}).losses if there else {}
        if losses:
            found[role] = ArtifactQuality(artifact.name, losses)
    return found


def with_artifacts(facts: Facts, needs: Mapping[Role, Need], *, find: Callable[[str], Manifest | None]) -> Facts:
    """The facts of a deployment together with those of the artifacts that its roles need. `find`: one by its name."""
    artifacts = {role: artifact_facts_of(need, find) for role, need in needs.items()}
    models = {role: artifact.model for role, artifact in artifacts.items() if artifact.model is not None}
    return replace(facts, artifacts=artifacts, models=models)


_DOES = {
    Phase.INSPECT: "looks into",
    Phase.FETCH: "fetches",
    Phase.QUANTIZE: "quantizes",
    Phase.EVALUATE: "measures what quantizing has cost:",
    Phase.SMOKE: "asks, in the engine that is to serve it,",
    Phase.EVICT: "deletes the files of",
}
DOING = {
    Phase.INSPECT: Reason.INSPECTING,
    Phase.FETCH: Reason.FETCHING,
    Phase.QUANTIZE: Reason.QUANTIZING,
    Phase.EVALUATE: Reason.EVALUATING,
    Phase.SMOKE: Reason.SMOKE_TESTING,
    Phase.EVICT: Reason.EVICTING,
}
FAILED = {
    Phase.INSPECT: Reason.INSPECT_FAILED,
    Phase.FETCH: Reason.FETCH_FAILED,
    Phase.QUANTIZE: Reason.QUANTIZE_FAILED,
    Phase.EVALUATE: Reason.EVALUATE_FAILED,
    Phase.SMOKE: Reason.SMOKE_FAILED,
    Phase.EVICT: Reason.EVICT_FAILED,
}


def doing(step: Step, name: str, spec: ModelArtifactSpec) -> str:
    """What is said while nothing more is known: the same from the first moment on, so that it is written once."""
    how = f" to {form_of(spec)}" if step.phase is Phase.QUANTIZE else ""
    return f"Job {step.job_name(name)} {_DOES[step.phase]} {shown(spec.source)}{how}"


def form_of(spec: ModelArtifactSpec) -> str:
    """Scheme and algorithm in a line; empty for a model as it is."""
    made = spec.quantization
    return f"{made.scheme} by {made.algorithm}" if made else ""


def names_in(manifest: Manifest, settings: Settings) -> frozenset[str]:
    """Names of the artifacts that an object refers to: an LLMDeployment, a frozen revision of one, or an artifact."""
    if manifest["kind"] == names.KIND:
        return frozenset(spec.key for need in all_needs_in(manifest, settings) for spec in need.artifacts)
    if manifest["kind"] == "ControllerRevision":
        return frozenset(_names_in_revision(manifest.get("data")))
    if manifest["kind"] == names.ARTIFACT_KIND:
        try:
            spec = ModelArtifactSpec.parse(manifest.get("spec"))
        except ValidationError:
            return frozenset()
        return frozenset({spec.as_it_is.key} if spec.quantization else ())
    return frozenset()


def _names_in_revision(data: object) -> Iterable[str]:
    """The models that its pods mount: on the cache by the artifact's own name, elsewhere by where they lie."""
    parts: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    resolved, requested = _mapping(parts.get("resolved")), _mapping(parts.get("requested"))
    second = _mapping(resolved.get("in_engine_model"))
    yield from (
        path
        for path in (resolved.get("model_path"), second.get("path"))
        if isinstance(path, str) and is_artifact_key(path)
    )
    for holder in (requested, _mapping(requested.get("inEngine"))):
        source = _mapping(holder.get("model")).get("source")
        try:
            yield ModelArtifactSpec.parse({"source": source}).key
        except ValidationError:
            continue  # fetched, or nothing that could be made


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def artifact_facts_of(need: Need, find: Callable[[str], Manifest | None]) -> ArtifactFacts:
    """What a deployment sees of the artifact of its model."""
    there = find(need.key)
    seen = _seen(need.artifact, there)
    if need.artifact.quantization is None or seen.model is None or there is None:
        return _explained(need, seen)
    return _judged(need, seen, there.get("status") or {}, find)


def _explained(need: Need, seen: ArtifactFacts) -> ArtifactFacts:
    """With why it is this scheme, where the user has left it open."""
    if not need.why:
        return seen
    form = form_of(need.artifact)
    told = f"{form} is {need.why}" if form else need.why
    return replace(seen, message="; ".join(part for part in (seen.message, told) if part))


def _seen(spec: ModelArtifactSpec, there: Manifest | None) -> ArtifactFacts:
    """An artifact on its own; None: it is not made yet."""
    name, lies = spec.key, ModelFiles.of(spec.source) if spec.claim_name is None else None
    first = first_step_of(spec)
    if there is None:
        return ArtifactFacts(name, None, DOING[first.phase], doing(first, name, spec), files=lies)
    if not _is_of(spec, there):
        message = f"ModelArtifact {name} was made by somebody else, for another source: delete it"
        return ArtifactFacts(name, None, Reason.KEY_MISMATCH, message, files=lies, is_stuck=True)
    status = there.get("status") or {}
    ready, is_stuck = _said_in(status)
    known = known_in(status)
    if known.model is not None and (lies is not None or known.files is not None):
        files = lies or ModelFiles(claim_name=spec.claim_name or "", path=name)
        reason = Reason.INSPECTED if lies else Reason.PUBLISHED
        return ArtifactFacts(
            name,
            known.model,
            reason,
            status.get("summary", ""),
            files=files,
            is_stuck=is_stuck,
            smoked=frozenset(known.smokes) if spec.quantization else None,
            job=status.get("job", ""),
            telling=ready.get("message", ""),
        )
    phase = Phase.EVICT if is_evicting(status, name) else first.phase
    message = ready.get("message", "") or doing(first, name, spec)
    return ArtifactFacts(name, None, _reason(ready, phase), message, files=lies, is_stuck=is_stuck)


def _is_of(spec: ModelArtifactSpec, there: Manifest) -> bool:
    try:
        return ModelArtifactSpec.parse(there.get("spec")).key == spec.key
    except ValidationError:
        return False


def _said_in(status: Manifest) -> tuple[Manifest, bool]:
    """The condition Ready of an artifact, and whether it is stalled."""
    said = {c.get("type"): c for c in status.get("conditions") or []}
    return said.get("Ready", {}), said.get("Stalled", {}).get("status") == "True"


def _reason(condition: Manifest, phase: Phase) -> Reason | Cause:
    """Why an artifact is not ready, while this step is due: in the operator's words, or in those of a Job's program."""
    told = condition.get("reason", "")
    for words in (Reason, Cause):
        with suppress(ValueError):
            return words(told)
    return FAILED[phase] if told and condition.get("status") == "False" else DOING[phase]


def _judged(need: Need, made: ArtifactFacts, status: Manifest, find: Callable[[str], Manifest | None]) -> ArtifactFacts:
    """A quantized model with what its loss is worth to this deployment."""
    spec, gate = need.artifact, need.gate
    texts = Measurement.of_need(gate, spec)
    quality, form = known_in(status).losses.get(str(texts)), form_of(spec)
    if quality is None:
        ready, is_stuck = _said_in(status)
        step = Step(Phase.EVALUATE, texts)
        is_told = ready.get("status") == "False"
        reason = _reason(ready, step.phase) if is_told else Reason.EVALUATING
        message = ready.get("message", "") if is_told else doing(step, need.key, spec)
        waits = replace(made, model=None, files=None, reason=reason, message=message, is_stuck=is_stuck)
        return _explained(need, waits)
    assert spec.quantization is not None  # noqa: S101 -- narrows the type: only a quantized one is judged
    scheme = spec.quantization.scheme
    lacks = shortcomings(quality, (gate or Gate()).thresholds(scheme, spec.quantization.kv_cache))
    chosen = f" ({need.why})" if need.why else ""
    told = f"{form}{chosen}: {loss_line(quality)}"
    if not lacks:
        return replace(made, reason=Reason.GATE_PASSED, message=f"{made.message}; {told}")
    failing = gate.on_failure if gate else GateFailure.WARN
    lacking = f"{told}: not good enough: {'; '.join(lacks)}"
    if failing is GateFailure.WARN:
        return replace(made, reason=Reason.BELOW_GATE, message=f"{made.message}; {lacking}")
    if failing is GateFailure.FAIL:
        return replace(made, model=None, files=None, reason=Reason.GATE_FAILED, message=lacking, is_stuck=True)
    source = spec.as_it_is
    plain = _seen(source, find(source.key))
    if plain.model is None or plain.files is None:
        return replace(plain, message=f"{plain.message}; the source is to be served: {lacking}")
    return replace(plain, reason=Reason.SERVES_UNQUANTIZED, message=f"the source is served: {lacking}")


def loss_line(quality: Quality) -> str:
    """What quantizing has cost, in a line."""
    return (
        f"perplexity {quality.increase_percent:+z.2f} % (at most {quality.increase_percent_upper:+z.2f} %), "
        f"KL {quality.kl_divergence:.4f}, top-1 {100 * quality.top1_agreement:.1f} %"
    )
