"""What `tandem plan` says of the models, as comments: sizing with its arithmetic, the pair check, predicted speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_operator.accelerator_class import AcceleratorClass
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.assessment import Assessment, assess
from tandem_operator.sizing import Sizing
from tandem_operator.speed import WORTH_IT, Assumptions, Prediction, Unpredictable, table_lines

BATCHES = (1, 16)
OPTIONS: Mapping[Role, str] = {Role.VERIFIER: "--model", Role.DRAFT: "--draft-model"}


def prospect_lines(
    deployment: LLMDeployment, models: Mapping[Role, ModelFacts], *, table: Mapping[str, AcceleratorClass]
) -> Iterator[str]:
    """Sizing of each role, the pair check and the predicted speed; for what is not known, which option tells."""
    assumptions = Assumptions()
    assessment = assess(deployment, models, table=table, assumptions=assumptions)
    for role in Role:
        if deployment.uses(role) or role in assessment.sizings:
            yield from _sizing_lines(deployment, assessment, role)
    if deployment.model(Role.DRAFT) and not deployment.uses(Role.DRAFT) and Role.DRAFT not in models:
        yield f"the drafting model inside the engine is not known; {OPTIONS[Role.DRAFT]} DIR reads its folder"
    if assessment.pair is not None:
        yield f"pair: {assessment.pair.fit}: {assessment.pair.message}"
        yield from (f"  warning: {warning}" for warning in assessment.pair.warnings)
    if Role.VERIFIER not in models:
        return
    yield "predicted speed, not measured, on the first class of each role:"
    predictions: list[Prediction] = []
    for rows in BATCHES:
        made = assess(deployment, models, table=table, assumptions=replace(assumptions, rows=rows)).speed
        if isinstance(made, Unpredictable):
            yield f"  {made.reason}"
            return
        predictions += made
    yield from (f"  {line}" for line in table_lines(tuple(predictions)))
    yield f"  {assumptions.sentence()}"
    prediction = assessment.prediction
    if prediction is not None and not prediction.is_worth_it and prediction.method != "Off":
        yield f"  warning: {prediction.method} is predicted to gain less than {WORTH_IT} even for a single request"


def _sizing_lines(deployment: LLMDeployment, assessment: Assessment, role: Role) -> Iterator[str]:
    spec, sized = deployment.role(role), assessment.sizings.get(role)
    if spec is None:
        return
    if sized is None:
        yield f"{role}: what its model needs is not known; {OPTIONS[role]} DIR reads it from the model's folder"
        return
    if isinstance(sized, Sizing):
        how = "as asked" if spec.accelerator.count or spec.tensor_parallel else "by sizing"
        ranks = f", tensor parallelism {sized.tensor_parallel}" if sized.tensor_parallel > 1 else ""
        classes = " or ".join(spec.accelerator.classes)
        yield f"{role}: {sized.count} × {classes} a replica, {how}{ranks}"
    else:
        yield f"{role}: does not fit by this estimate"
    yield from (f"  {sentence}" for sentence in assessment.sentences_of(role))
