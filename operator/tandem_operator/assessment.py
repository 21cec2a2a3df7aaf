"""What follows from the models of a deployment, as far as they are known: sizing, pair check, predicted speed. Pure.

Decides nothing: `inputs.py` takes a count from sizing where the user gave none, `targets.py` refuses a pair that does
not fit. Here is what a person is told, in `tandem plan` and in the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tandem_contracts.launch import InEngineKind, Role, Speculation
from tandem_contracts.model_facts import ModelFacts
from tandem_operator.accelerator_class import AcceleratorClass
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.inputs import sizing_request_of
from tandem_operator.pairing import PairCheck, in_engine_check, pair_check
from tandem_operator.sizing import Sizing, Unfit, size_over
from tandem_operator.speed import Assumptions, Engine, Prediction, Unpredictable, predict

NOT_INSPECTED = Unpredictable("the verifier's model has not been inspected")


@dataclass(frozen=True)
class Assessment:
    """What is known before anything runs. What has no entry is not known."""

    method: Speculation = Speculation.OFF
    """The method that is asked for."""
    sizings: Mapping[Role, Sizing | Unfit] = field(default_factory=dict)
    pair: PairCheck | None = None
    speed: tuple[Prediction, ...] | Unpredictable = NOT_INSPECTED

    @property
    def prediction(self) -> Prediction | None:
        """Of the method that is asked for."""
        if isinstance(self.speed, Unpredictable):
            return None
        return next((made for made in self.speed if made.method == self.method), None)

    def sentences_of(self, role: Role) -> tuple[str, ...]:
        """The arithmetic of a role's sizing; for one that does not fit, with the reason last."""
        match self.sizings.get(role):
            case Sizing(arithmetic=arithmetic):
                return arithmetic
            case Unfit(reason=reason, arithmetic=arithmetic):
                return (*(sentence for sentence in arithmetic if sentence not in reason), reason)
            case _:
                return ()


UNASSESSED = Assessment()


def assess(
    deployment: LLMDeployment,
    models: Mapping[Role, ModelFacts],
    *,
    table: Mapping[str, AcceleratorClass],
    assumptions: Assumptions | None = None,
) -> Assessment:
    """Assess a deployment under the accelerator table. A class that the table does not have is left out."""
    sizings: dict[Role, Sizing | Unfit] = {}
    engines: dict[Role, Engine] = {}
    is_inside = deployment.spec.method is Speculation.IN_ENGINE
    for role in Role:
        spec, model = deployment.role(role), models.get(role)
        if spec is None or model is None or (role is Role.DRAFT and is_inside):
            continue
        accelerators = tuple(table[name] for name in spec.accelerator.classes if name in table)
        if not accelerators:
            continue
        request = sizing_request_of(deployment, role, models=models)
        sizings[role] = sized = size_over(model, accelerators, request=request)
        given = request.count or request.tensor_parallel or 1
        engines[role] = Engine(
            model=model,
            accelerator=accelerators[0],
            count=sized.count if isinstance(sized, Sizing) else given,
            request=replace(request, beside=None),
        )
    return Assessment(
        method=deployment.spec.method,
        sizings=sizings,
        pair=pair_of(deployment, models),
        speed=_speed(deployment, engines, models, assumptions=assumptions or Assumptions()),
    )


def pair_of(deployment: LLMDeployment, models: Mapping[Role, ModelFacts]) -> PairCheck | None:
    """The check of the two models; None where one is not known, or is no model of its own, as a head is not."""
    verifier, draft = models.get(Role.VERIFIER), models.get(Role.DRAFT)
    if verifier is None or draft is None:
        return None
    in_engine = deployment.spec.speculation.in_engine
    if in_engine is None:
        return pair_check(verifier, draft)
    return in_engine_check(verifier, draft) if in_engine.kind is InEngineKind.DRAFT_MODEL else None


def _speed(
    deployment: LLMDeployment,
    engines: Mapping[Role, Engine],
    models: Mapping[Role, ModelFacts],
    *,
    assumptions: Assumptions,
) -> tuple[Prediction, ...] | Unpredictable:
    verifier, draft, model = engines.get(Role.VERIFIER), engines.get(Role.DRAFT), models.get(Role.DRAFT)
    in_engine, most = deployment.spec.speculation.in_engine, deployment.spec.speculation.max_depth
    if verifier is None:
        return NOT_INSPECTED
    if in_engine is None:
        return predict(verifier, draft, max_depth=most, assumptions=assumptions)
    inside = replace(verifier, model=model) if model and in_engine.kind is InEngineKind.DRAFT_MODEL else None
    made = predict(verifier, inside, max_depth=most, assumptions=assumptions)
    if isinstance(made, Unpredictable):
        return made
    return tuple(each for each in made if each.method != Speculation.REMOTE)  # it has no hardware of its own
