"""`ModelArtifact`, `tandem.dev/v1alpha1`: one model in one form, and what is known of it.

The operator makes one for every model that an LLMDeployment serves; those that serve the same one share it. Its name
is the key of its source (`tandem_contracts.artifact`), so its spec never changes. Here: a model as it is; what
prepares one comes with the code that does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tandem_contracts.artifact import artifact_key
from tandem_contracts.launch import Role
from tandem_operator.api.fields import ApiModel, Rule
from tandem_operator.api.model import ModelSource
from tandem_operator.api.status import Condition

Word = Annotated[str, Field(max_length=128)]


class ModelArtifactSpec(ApiModel):
    """What the artifact is made from."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            lambda _: True,  # only the API server sees both
            "a ModelArtifact never changes, since its name is the key of its source: make another one",
        ),
    )

    source: ModelSource
    """Where the files are."""


class InspectedModel(ApiModel):
    """What the model is: written by the Job that has looked into its folder. Units as in `ModelFacts`."""

    architecture: Word
    """The class that config.json names, as in LlamaForCausalLM."""
    layers: int
    """Transformer layers."""
    hidden_size: int
    """Values of a token between layers."""
    attention_heads: int
    """Attention heads of a layer."""
    kv_heads: int
    """Heads of keys and values of a layer."""
    head_dim: int
    """Values of a head."""
    vocabulary_size: int
    """Rows of the embedding."""
    tokenizer_hash: Annotated[str, Field(max_length=64)]
    """SHA-256 of which id stands for which text: the same for a draft and its verifier. Empty: no tokenizer found."""
    data_type: Word
    """What is computed with, as in bfloat16."""
    weights_bytes: int
    """Size of the weight files."""
    parameters: int
    """Values in them; 0: unknown."""
    max_positions: int
    """Longest context in tokens; 0: unknown."""
    sliding_window: int
    """Tokens that every layer looks back at most; 0: no such limit."""
    latent_kv_rank: int
    """Multi-head latent attention: values kept of a token and layer; 0: another kind of attention."""
    quantization: Word
    """Method of quantized weights; empty: as trained."""
    generation_min_p: float
    """min_p that the model makes the default; 0: none."""
    experts: int
    """Routed experts of a layer; 0: no mixture of experts."""
    active_experts: int
    """Routed experts that a token goes through."""


class ModelArtifactStatus(ApiModel):
    """What is known of the artifact. What a Job has found is kept here; everything else is derived."""

    observed_generation: int = 0
    """The newest generation that the operator has worked on."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            max_length=8,
        ),
    ] = ()
    """Ready: the model has been inspected. Reconciling and Stalled are present only while true."""
    source: Annotated[str, Field(max_length=1024)] = ""
    """The source in one line, for `kubectl get`."""
    summary: Annotated[str, Field(max_length=256)] = ""
    """The model in one line, for `kubectl get`."""
    model: InspectedModel | None = None
    """What the model is."""
    job: Annotated[str, Field(max_length=63)] = ""
    """The Job that inspects the model."""
    unused_since: Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})] | None = None
    """Since when nothing refers to the artifact. Absent while something does."""


def source_data(source: ModelSource) -> dict[str, Any]:
    """A source as the JSON values that its key is made from, defaults included."""
    data: dict[str, Any] = source.model_dump(mode="json", by_alias=True, exclude_none=True)
    return data


def source_of(written: object) -> ModelSource:
    """A source as it is written. Raises pydantic's ValidationError."""
    return ModelSource.model_validate_json(json.dumps(written, default=str), strict=True, by_alias=True, by_name=False)


def key_of_source(source: ModelSource) -> str:
    """The name of the artifact that a source needs."""
    return artifact_key(source_data(source))


def shown(source: ModelSource) -> str:
    """A source in one line, for people."""
    ((kind, value),) = source_data(source).items()
    if kind == "persistentVolumeClaim":
        return f"claim {value['claimName']}, folder {value['path']}"
    return f"{kind} {' '.join(str(part) for part in value.values())}"


def sources_written_in(spec: Mapping[str, Any]) -> tuple[object, ...]:
    """Every model source in a raw LLMDeployment spec, valid or not, used or not."""
    holders = [spec.get(role) for role in Role] + [_mapping(spec.get("speculation")).get("inEngine")]
    found = (_mapping(_mapping(holder).get("model")).get("source") for holder in holders)
    return tuple(source for source in found if source)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
