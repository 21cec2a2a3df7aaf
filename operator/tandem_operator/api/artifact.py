"""`ModelArtifact`, `tandem.dev/v1alpha1`: one model in one form, and what is known of it.

The operator makes one for every model that an LLMDeployment serves; those that serve the same one share it. Its name
is the key of all that it is made from (`tandem_contracts.artifact`), so its spec never changes. A quantized one is made
from another one, the model as it is.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from tandem_contracts.artifact import artifact_key
from tandem_contracts.quality import Quality
from tandem_contracts.recipe import Algorithm, KVCache, Recipe, Scheme
from tandem_contracts.reference import WINDOWS, Reference
from tandem_operator.api.fields import ApiModel, DnsLabel, DnsSubdomain, Rule
from tandem_operator.api.model import ModelSource
from tandem_operator.api.quantization import Calibration, ModuleName
from tandem_operator.api.status import Condition

BUILT_IN = "built-in"
"""What stands for texts where nobody names any."""
LOSSES_KEPT = 32
"""Sets of texts whose figures are kept: those that somebody's gate names first."""
SMOKES_KEPT = 16
"""Smoke tests that are kept: those that a deployment waits for first."""
MEMORIES_KEPT = 32
CLASSES_LIMIT, SUMMARY_LIMIT = 512, 256
Word = Annotated[str, Field(max_length=128)]


class ArtifactQuantization(ApiModel):
    """How the model is quantized: every word that decides what its files say, with nothing left open."""

    scheme: Scheme
    """What weights and activations become."""
    algorithm: Algorithm
    """How the weights are found."""
    kv_cache: Annotated[KVCache, Field(alias="kvCache")] = KVCache.AS_COMPUTED
    """What the cache of keys and values is kept in."""
    ignore: Annotated[
        tuple[ModuleName, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Modules that stay as they are."""
    calibration: Calibration | None = None
    """What the model is run on. Absent where the algorithm needs none."""
    toolchain: Annotated[dict[str, Word], Field(max_length=8)] = Field(default_factory=dict)
    """Versions of what writes the files."""

    @property
    def recipe(self) -> Recipe:
        """Raises InvalidRecipeError."""
        return Recipe(scheme=self.scheme, algorithm=self.algorithm, kv_cache=self.kv_cache, ignore=self.ignore)


class ModelArtifactSpec(ApiModel):
    """What the artifact is made from."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            lambda _: True,  # only the API server sees both
            "a ModelArtifact never changes, since its name is the key of what it is made from: make another one",
        ),
        Rule(
            "has(self.claimName) || !(has(self.source.huggingFace) || has(self.source.s3) || has(self.quantization))",
            lambda spec: spec.claim_name is not None or not (spec.source.is_fetched or spec.quantization),
            "claimName is required for a source that is fetched, and for a quantized model",
            path=".claimName",
        ),
    )

    source: ModelSource
    """Where the files are."""
    claim_name: DnsSubdomain | None = None
    """The PersistentVolumeClaim that the artifact is published on. Absent: the model is served from where it lies."""
    quantization: ArtifactQuantization | None = None
    """How it is quantized. Absent: it stays as it is."""
    tenant: DnsLabel | None = None
    """The namespace that may use the files, where others have the same storage. Absent: whoever mounts them."""

    @property
    def key(self) -> str:
        """The name that the artifact must have."""
        made = self.quantization
        data = made.calibration if made else None
        return artifact_key(
            source_data(self.source),
            volume=self.claim_name or "",
            recipe=made.recipe.to_data() if made else None,
            calibration=data.model_dump(mode="json", by_alias=True, exclude_none=True) if data else None,
            toolchain=made.toolchain if made else None,
            tenant=self.tenant or "",
        )

    @property
    def as_it_is(self) -> ModelArtifactSpec:
        """The artifact that this one is made from: the source, fetched where it has to be. Itself for one of those."""
        if self.quantization is None:
            return self
        if self.source.is_fetched:
            return self.model_copy(update={"quantization": None})
        return ModelArtifactSpec(source=self.source)

    def to_data(self) -> dict[str, Any]:
        """As JSON values. What opens the source is left out: it belongs to who asks, not to what is made."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {**data, "source": source_data(self.source)}

    @classmethod
    def parse(cls, written: object) -> Self:
        """A spec as it is written. Raises pydantic's ValidationError."""
        return cls.model_validate_json(json.dumps(written, default=str), strict=True, by_alias=True, by_name=False)


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
    linear_parameters: int = 0
    """Values in the matrices of linear layers; 0: unknown."""


class ArtifactTask(ApiModel):
    """What both models have scored in a task."""

    name: Annotated[str, Field(max_length=63)]
    """The task."""
    metric: Annotated[str, Field(max_length=64)]
    """What is scored."""
    source: float
    """Score of the model that it was made from."""
    quantized: float
    """Score of the quantized model."""
    recovery_percent: float
    """The one in percent of the other."""


class ArtifactRecall(ApiModel):
    """What both models recall from a long context."""

    tokens: int
    """Length of the context."""
    wanted_tokens: int
    """Length that was asked for; the model may be made for less."""
    recall_source: float
    """Share that the model recalls that it was made from."""
    recall: float
    """Share that the quantized model recalls."""


class ArtifactLoss(ApiModel):
    """What quantizing has cost, on one set of texts. `Quality` says what each figure is."""

    texts: Annotated[str, Field(max_length=2048)]
    """What it was measured on: ConfigMap and key of the texts (built-in: Python's own library), tasks, context."""
    tokens: int
    """Tokens that both models predicted."""
    perplexity_source: float
    """Of the model that it was made from."""
    perplexity: float
    """Of the quantized model."""
    increase_percent: float
    """Rise of the perplexity, paired."""
    increase_percent_upper: float
    """End of its 95 % interval."""
    kl_divergence: float
    """From the source's next token, the mean over tokens, in nats."""
    top1_agreement: float
    """Share of tokens for which both put the same one first."""
    evaluation: Annotated[str, Field(max_length=64)]
    """SHA-256 of the texts."""
    tasks: Annotated[
        tuple[ArtifactTask, ...],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    """Tasks that were done."""
    long_context: ArtifactRecall | None = None
    """Recall from a long context, where it was measured."""

    @property
    def quality(self) -> Quality:
        """The same as a Job says it. Raises ValueError."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Quality.from_data({name: value for name, value in data.items() if value != []})

    @classmethod
    def of(cls, texts: str, quality: Quality) -> Self:
        return cls.model_validate({"texts": texts, **quality.to_data()})


class ArtifactFiles(ApiModel):
    """What was published."""

    path: Annotated[str, Field(max_length=64)]
    """Folder on the claim."""
    bytes: int
    """Of all files."""
    manifest: Annotated[str, Field(max_length=64)]
    """SHA-256 of manifest.json, which names each file with its size and its own SHA-256."""
    seconds: float
    """That making it took."""
    revision: Annotated[str, Field(max_length=128)] = ""
    """The commit that was fetched."""
    content: Annotated[str, Field(max_length=64)] = ""
    """SHA-256 over paths, sizes and digests of what was fetched: the same from every mirror."""
    free_bytes: int = 0
    """That were free on the volume afterwards."""
    capacity_bytes: int = 0
    """Of the volume. 0: not known."""
    shared_bytes: int = 0
    """Of all artifacts on the volume, this one included, at that time."""
    published_at: Annotated[str, Field(max_length=32)] = ""
    """When that was."""


class RecordedWindow(ApiModel):
    """A few tokens in a row."""

    tokens: Annotated[str, Field(max_length=512)]
    """Their ids."""
    losses: Annotated[str, Field(max_length=512)]
    """Of each but the first: its negative log probability, in nats."""


class ArtifactReference(ApiModel):
    """What the quantized model said when it was measured, which an engine that is to serve it has to say again."""

    manifest: Annotated[str, Field(max_length=64)]
    """SHA-256 of manifest.json of the files that were measured."""
    spread: float
    """From the same log probabilities of the model that it was made from, the mean, in nats."""
    windows: Annotated[
        tuple[RecordedWindow, ...],
        Field(min_length=1, max_length=WINDOWS, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ]
    """Of held-out text."""

    @property
    def reference(self) -> Reference:
        """The same as a Job says it. Raises ValueError."""
        return Reference.from_data(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def of(cls, reference: Reference) -> Self:
        return cls.model_validate(reference.to_data())


class ArtifactSmoke(ApiModel):
    """A smoke test that was passed: the model has answered in the engine that is to serve it."""

    target: Annotated[str, Field(max_length=8)]
    """8 hex digits over image, settings and hardware."""
    image: Annotated[str, Field(max_length=512)]
    """The engine's image."""
    classes: Annotated[str, Field(max_length=CLASSES_LIMIT)]
    """Accelerator classes, and how many of them."""
    kernel: Annotated[str, Field(max_length=128)] = ""
    """That the engine has chosen for the quantized weights."""
    ready_seconds: float = 0.0
    """From the start of the engine until it answered."""
    tokens_per_second: float = 0.0
    """Of one request after the other."""
    compile_cache_bytes: int = 0
    """Of what the engine has compiled, published beside the weights so that later pods start sooner. 0: nothing."""
    deviation: float | None = None
    """From the recorded log probabilities, the mean, in nats. Absent: nothing was compared."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Why it was not asked, where no node had room for it, or why nothing was compared though there is a record."""


class ArtifactProgress(ApiModel):
    """How far a running Job is."""

    step: Annotated[str, Field(max_length=16)]
    """fetch, quantize or evaluate."""
    done: Annotated[str, Field(max_length=64)] = ""
    """Parts that are done, of how many: bytes that were fetched, layers, windows of text."""
    left: Annotated[str, Field(max_length=16)] = ""
    """Estimate of the time that the step still takes."""


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
    """Ready: the model has been inspected, or published, and measured if it was quantized. Reconciling and Stalled are
    present only while true."""
    source: Annotated[str, Field(max_length=2048)] = ""
    """The source in one line, for `kubectl get`."""
    summary: Annotated[str, Field(max_length=SUMMARY_LIMIT)] = ""
    """The model in one line, for `kubectl get`."""
    scheme: Annotated[str, Field(max_length=64)] = ""
    """Scheme and algorithm, for `kubectl get`."""
    loss: Annotated[str, Field(max_length=128)] = ""
    """The last measured loss in one line, for `kubectl get`."""
    model: InspectedModel | None = None
    """What the model is."""
    files: ArtifactFiles | None = None
    """What was published. Absent for a model that is served from where it lies."""
    losses: Annotated[
        tuple[ArtifactLoss, ...],
        Field(
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["texts"]},
            max_length=LOSSES_KEPT,
        ),
    ] = ()
    """What quantizing has cost, for each set of texts that somebody's gate names."""
    reference: ArtifactReference | None = None
    """What smoke tests compare with. Absent where none was recorded: the model is not quantized, or an earlier version
    has measured it."""
    smokes: Annotated[
        tuple[ArtifactSmoke, ...],
        Field(
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["target"]},
            max_length=SMOKES_KEPT,
        ),
    ] = ()
    """In which engines, on which hardware, it has answered."""
    progress: ArtifactProgress | None = None
    """How far the Job is that runs."""
    job: Annotated[str, Field(max_length=63)] = ""
    """The Job of the step that is due, or that was the last."""
    memory: Annotated[dict[str, Word], Field(max_length=MEMORIES_KEPT)] = Field(default_factory=dict)
    """By the Job's name: what it gets after one of less was killed for want of memory."""
    full_beside_bytes: int | None = None
    """Of the other artifacts on the volume, when a Job found it full: with fewer it tries again. Absent: none did."""
    unused_since: Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})] | None = None
    """Since when nothing refers to the artifact. Absent while something does."""
    ttl_seconds: int | None = None
    """The longest time that any of those who referred to it wanted it kept. Absent: as the operator's configuration."""


def source_data(source: ModelSource) -> dict[str, Any]:
    """A source as the JSON values that a key is made from, defaults included, and without what opens it."""
    opens = {"hugging_face": {"secret_key_ref"}, "s3": {"secret_name"}}
    data: dict[str, Any] = source.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=opens)
    return data


def source_of(written: object) -> ModelSource:
    """A source as it is written. Raises pydantic's ValidationError."""
    return ModelSource.model_validate_json(json.dumps(written, default=str), strict=True, by_alias=True, by_name=False)


def shown(source: ModelSource) -> str:
    """A source in one line, for people."""
    ((kind, value),) = source_data(source).items()
    if kind == "persistentVolumeClaim":
        return f"claim {value['claimName']}, folder {value['path']}"
    if kind == "huggingFace":
        where = f", hub {value['hub']}" if "hub" in value else ""
        return f"{value['repo']} at {value['revision']}{where}"
    if kind == "s3":
        where = f", store {value['store']}" if "store" in value else ""
        return f"s3://{value['bucket']}/{value['prefix']}{where}"
    return f"{kind} {' '.join(str(part) for part in value.values())}"
