"""Which revision a spec asks for: a frozen one where one fits, else a new one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from tandem_contracts.artifact import is_artifact_key
from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tandem_operator.api.quantization import Gate
from tandem_operator.api.rollout import Rollout
from tandem_operator.artifact_needs import Need, Settings, need_of, needs_of
from tandem_operator.artifact_smoke import SmokeTarget
from tandem_operator.assessment import UNASSESSED, Assessment, assess, pair_of
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import ArtifactFacts, Facts, Manifest, RevisionFacts
from tandem_operator.inputs import (
    ModelNotReadyError,
    is_same_form,
    is_same_request,
    requested_of,
    require_servable,
    require_smoked,
    resolve,
)
from tandem_operator.names import ConditionType, Reason
from tandem_operator.objects.gate import GateTerms
from tandem_operator.objects.revision import frozen_revision
from tandem_operator.pairing import Fit
from tandem_operator.protection_plan import ANYBODY, Terms, terms_of
from tandem_operator.rejection import RejectedSpecError
from tandem_operator.role_inputs import RoleInputs, differing
from tandem_operator.rollout import Wait, Want
from tandem_operator.scaling.drafts import DraftPolicy
from tandem_operator.scaling.policy import Policy
from tandem_operator.scaling_terms import (
    draft_policy_of,
    first_drafts,
    first_replicas,
    gate_terms_of,
    policy_of,
    unheeded_of,
)

WORDINGS_KEPT = 4
PATHS_TOLD = 4


@dataclass(frozen=True)
class Problem:
    """Why the spec is not acted on, for the person who wrote it."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Intent:
    """What a resource asks for, as far as it can be acted on."""

    wants: Mapping[Role, Want] = field(default_factory=dict)
    asked_replicas: Mapping[Role, int] = field(default_factory=dict)
    limits: Rollout = field(default_factory=Rollout)
    terms: Terms = ANYBODY
    problem: Problem | None = None
    waits: tuple[Wait, ...] = ()
    """Roles that want nothing yet, and what for."""
    smokes: tuple[SmokeTarget, ...] = ()
    """On which models have to be asked before pods serve them."""
    assessment: Assessment = UNASSESSED
    scaling: Policy | None = None
    """How the verifiers are scaled; None: replicas are the spec's."""
    first_replicas: int = 0
    """Of verifiers, where scaling remembers nothing."""
    draft_scaling: DraftPolicy | None = None
    """How the drafts are scaled; None: replicas are the spec's."""
    first_drafts: int = 0
    """Of drafts, where scaling remembers nothing."""
    gate: GateTerms | None = None
    """What holds requests at zero; None: there is no zero."""
    unheeded: str = ""
    """What somebody has asked for that scaling takes no notice of."""

    def scaled(self, replicas: int, role: Role = Role.VERIFIER) -> Intent:
        """The same with so many of a role."""
        wants = {each: replace(w, replicas=replicas) if each is role else w for each, w in self.wants.items()}
        return replace(self, wants=wants, asked_replicas={**self.asked_replicas, role: replicas})


def intent_of(body: Manifest, facts: Facts, *, config: OperatorConfig, table: Mapping[str, AcceleratorClass]) -> Intent:
    """The intent of a raw resource. One that is refused as a whole wants nothing, and still scales if it says how."""
    try:
        deployment = LLMDeployment.parse(body)
    except InvalidSpecError as error:
        return Intent(terms=terms_of(None, config), problem=Problem(Reason.INVALID_SPEC, str(error)))
    asked = {role: _replicas(deployment, role) for role in Role if deployment.role(role)}
    refresh, policy = _refresh_of(body), policy_of(deployment)
    known = Intent(
        asked_replicas=asked,
        limits=deployment.spec.rollout,
        terms=terms_of(deployment.spec, config),
        assessment=assess(deployment, facts.models, table=table),
        scaling=policy,
        first_replicas=first_replicas(deployment, facts),
        draft_scaling=draft_policy_of(deployment),
        first_drafts=first_drafts(deployment, facts),
        gate=gate_terms_of(deployment, config),
        unheeded=unheeded_of(body),
    )
    try:
        wanted = wants_of(deployment, facts, config=config, table=table, refresh=refresh)
    except RejectedSpecError as error:
        return replace(known, problem=Problem(error.reason, str(error)))
    return replace(known, wants=wanted.roles, waits=wanted.waits, smokes=wanted.smokes)


def needed_by(
    body: Manifest, facts: Facts, settings: Settings, *, find: Callable[[str], Manifest | None]
) -> dict[Role, Need]:
    """What the models of a raw resource need. A frozen revision keeps the artifacts that it was made with, whatever
    a newer operator or another table would make of the same request. `find`: an artifact by its name.
    """
    try:
        deployment = LLMDeployment.parse(body)
    except InvalidSpecError:
        return {}
    needs: dict[Role, Need] = {}
    for role in Role:
        kept = _kept_artifact(deployment, role, facts, refresh=_refresh_of(body))
        try:
            today = need_of(deployment, role, settings)
        except RejectedSpecError:
            there = _spec_in(find(kept.name)) if kept.is_request else None
            if there is None:
                return {}  # as for every spec that is refused
            needs[role] = Need(there, _gate_of(deployment, role))  # what runs was allowed when it was made
            continue
        need = today and _as_kept(today, kept, find)
        if need is not None:
            needs[role] = need
    return needs


@dataclass(frozen=True)
class _Kept:
    """The artifact that a frozen revision mounts; without a name there is none."""

    name: str = ""
    is_request: bool = False
    """The revision is what is asked for; otherwise only its gate or its Job was another one."""
    is_mounted: bool = False
    """Pods of the revision are there, or are to be."""


def _as_kept(today: Need, kept: _Kept, find: Callable[[str], Manifest | None]) -> Need | None:
    """What is needed of a model, where another artifact may be kept than would be made today."""
    there = _spec_in(find(kept.name)) if kept.name and kept.name != today.key else None
    is_of_source = kept.name == today.artifact.as_it_is.key
    if there is None:
        # Files whose artifact somebody has deleted are served on. No other one is made, which nobody would mount.
        is_lost = kept.is_request and kept.is_mounted and kept.name != today.key and not is_of_source
        return None if is_lost else today
    if is_of_source and (not kept.is_request or find(today.key) is not None):
        return today  # it is served in place of one that is judged anew
    return replace(today, artifact=there)


def _spec_in(artifact: Manifest | None) -> ModelArtifactSpec | None:
    try:
        return ModelArtifactSpec.parse(artifact.get("spec")) if artifact is not None else None
    except ValidationError:
        return None


def _gate_of(deployment: LLMDeployment, role: Role) -> Gate | None:
    spec = deployment.role(role)
    return spec.model.quantization.gate if spec is not None and spec.model.quantization else None


def _kept_artifact(deployment: LLMDeployment, role: Role, facts: Facts, *, refresh: str) -> _Kept:
    """The artifact that the newest frozen revision of the same request mounts, unless a newer one is asked for."""
    is_in_engine = role is Role.DRAFT and deployment.spec.speculation.in_engine is not None
    holder = Role.VERIFIER if is_in_engine else role
    if deployment.role(holder) is None:
        return _Kept()
    requested, history = requested_of(deployment, holder), facts.revisions_of(holder)
    asked = next((each for each in history if is_request_of(each, requested)), None)
    frozen = asked or next((each for each in history if is_form_of(each, requested)), None)
    if frozen is None or refresh not in {"", frozen.refreshed}:
        return _Kept()
    resolved = frozen.resolved
    path = (resolved.get("in_engine_model") or {}).get("path") if is_in_engine else resolved.get("model_path")
    if not isinstance(path, str) or not is_artifact_key(path):
        return _Kept()
    is_mounted = facts.workload(holder, frozen.revision) is not None
    return _Kept(path, is_request=asked is not None, is_mounted=is_mounted)


@dataclass(frozen=True)
class Wanted:
    """What a spec wants of the roles that it uses, and which of them wait for their model to be known."""

    roles: Mapping[Role, Want]
    waits: tuple[Wait, ...] = ()
    smokes: tuple[SmokeTarget, ...] = ()


def wants_of(
    deployment: LLMDeployment,
    facts: Facts,
    *,
    config: OperatorConfig,
    table: Mapping[str, AcceleratorClass],
    refresh: str = "",
) -> Wanted:
    """What the spec wants of each role that it uses.

    `refresh`: the last `tandem refresh` of the deployment; what was frozen before it counts only if it is what the
    spec resolves to today. Raises RejectedSpecError when a new revision cannot be resolved.
    """
    _require_a_pair(deployment, facts)
    wants: dict[Role, Want] = {}
    waits: list[Wait] = []
    smokes: list[SmokeTarget] = []
    for role in Role:
        spec = deployment.role(role)
        if spec is not None and deployment.uses(role):
            _require_a_servable_model(deployment, role, facts, table)
            today = _Today(deployment, role, config, table, facts)
            try:
                target = _target(today, facts.revisions_of(role), refresh=refresh)
            except ModelNotReadyError as error:
                waits.append(Wait(ROLE_CONDITIONS[role], error.reason, _told(error, facts.artifacts.get(role))))
                smokes += [error.smoke] if error.smoke else []
                continue
            wants[role] = Want(target, _replicas(deployment, role), _outdated_by(today, target))
    return Wanted(wants, tuple(waits), tuple(smokes))


def _told(error: ModelNotReadyError, artifact: ArtifactFacts | None) -> str:
    """What is missing, and how far it is."""
    if error.reason is not Reason.MODEL_NOT_INSPECTED or artifact is None or not artifact.message:
        return str(error)
    return f"{error}: {artifact.message}"


def _replicas(deployment: LLMDeployment, role: Role) -> int:
    """As the spec says, or an autoscaled role begins with; no drafts while there are no verifiers to draft for."""
    spec, autoscaling = deployment.role(role), deployment.spec.autoscaling
    bounds = autoscaling and (autoscaling.verifier if role is Role.VERIFIER else autoscaling.draft)
    if bounds and spec:
        return bounds.clamped(spec.replicas)
    has_verifiers = autoscaling is not None or deployment.spec.verifier.replicas
    return spec.replicas if spec and has_verifiers else 0


ROLE_CONDITIONS: Mapping[Role, ConditionType] = {
    Role.VERIFIER: ConditionType.VERIFIER_READY,
    Role.DRAFT: ConditionType.DRAFT_READY,
}


def _require_a_pair(deployment: LLMDeployment, facts: Facts) -> None:
    """Refuse a draft of another tokenizer, where both models are known. One that cannot be compared is tried."""
    check = pair_of(deployment, facts.models)
    if check is not None and check.fit is Fit.MISFIT and deployment.model(Role.DRAFT):
        path = "spec.draft.model" if deployment.uses(Role.DRAFT) else "spec.speculation.inEngine.model"
        raise RejectedSpecError(Reason.PAIR_DOES_NOT_FIT, f"{path}: {check.message}")


def _require_a_servable_model(
    deployment: LLMDeployment, role: Role, facts: Facts, table: Mapping[str, AcceleratorClass]
) -> None:
    """Refuse what no engine can do with the model, also when it becomes known only after the first pass."""
    spec, model = deployment.role(role), facts.models.get(role)
    first = table.get(spec.accelerator.classes[0]) if spec else None
    if model is not None and first is not None:
        require_servable(deployment, role, model, is_cpu=first.is_cpu)


class _Today:
    """What a role's spec resolves to under the present table and configuration."""

    def __init__(
        self,
        deployment: LLMDeployment,
        role: Role,
        config: OperatorConfig,
        table: Mapping[str, AcceleratorClass],
        facts: Facts,
    ) -> None:
        self.deployment, self.role, self._config, self._table, self._facts = deployment, role, config, table, facts
        self.requested = requested_of(deployment, role)

    @property
    def artifact(self) -> ArtifactFacts | None:
        return self._facts.artifacts.get(self.role)

    def has_files(self, frozen: RevisionFacts) -> bool:
        """Whether there is what a frozen revision mounts: artifacts may have been evicted since it had pods."""
        if self._facts.workload(self.role, frozen.revision) is not None:
            return True
        mounted = {self.role: frozen.resolved.get("model_path")}
        if self.role is Role.VERIFIER:
            mounted[Role.DRAFT] = (frozen.resolved.get("in_engine_model") or {}).get("path")
        return all(
            self._files_of(role) == path
            for role, path in mounted.items()
            if isinstance(path, str) and is_artifact_key(path)
        )

    def _files_of(self, role: Role) -> str:
        artifact = self._facts.artifacts.get(role)
        return artifact.files.path if artifact is not None and artifact.files is not None else ""

    def inputs(self) -> RoleInputs:
        needs_of(self.deployment, Settings(self._table, self._config))  # what is frozen was allowed when it was made
        return resolve(
            self.deployment,
            self.role,
            config=self._config,
            table=self._table,
            artifacts=self._facts.artifacts,
            models=self._facts.models,
        )


def _target(today: _Today, history: tuple[RevisionFacts, ...], *, refresh: str) -> RevisionFacts:
    requested = today.requested
    asked = next((frozen for frozen in history if is_request_of(frozen, requested)), None)
    if asked and refresh in {"", asked.refreshed} and today.has_files(asked):
        return asked
    inputs = today.inputs()
    for frozen in history:
        if frozen.revision == inputs.revision:
            # Asked for in other words (a default written out), or refreshed to what it is: the same pods. Written
            # down, so that it stays what this request asks for when the defaults are others.
            known = is_request_of(frozen, requested)
            wordings = frozen.wordings if known else (*frozen.wordings, requested)[-WORDINGS_KEPT:]
            return replace(frozen, wordings=wordings, refreshed=refresh)
    require_smoked(inputs, today.artifact)
    number = 1 + max((frozen.number for frozen in history), default=0)
    made = frozen_revision(today.deployment.owner, inputs, requested=requested, number=number)
    return replace(made, refreshed=refresh)


def is_request_of(frozen: RevisionFacts, requested: Manifest) -> bool:
    return any(is_same_request(wording, requested) for wording in (frozen.requested, *frozen.wordings))


def is_form_of(frozen: RevisionFacts, requested: Manifest) -> bool:
    """The same but for the gate and the Jobs."""
    return any(is_same_form(wording, requested) for wording in (frozen.requested, *frozen.wordings))


def _refresh_of(body: Manifest) -> str:
    """The last `tandem refresh` of a resource."""
    found: str = (body["metadata"].get("annotations") or {}).get(names.ANNOTATION_REFRESH, "")
    return found


def _outdated_by(today: _Today, target: RevisionFacts) -> str:
    """The revision that a newer operator or configuration would make of the same request, and in what it differs."""
    try:
        inputs = today.inputs()
    except (RejectedSpecError, ModelNotReadyError):
        return ""  # what runs was allowed when it was made
    if inputs.revision == target.revision:
        return ""
    paths = sorted(differing(target.resolved, inputs.as_data()))
    more = f" and {len(paths) - PATHS_TOLD} more" if len(paths) > PATHS_TOLD else ""
    return f"{inputs.revision}, which differs in {', '.join(paths[:PATHS_TOLD])}{more}"
