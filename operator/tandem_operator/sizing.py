"""How many accelerators a model needs, how it is split over them, and what then fits: with the arithmetic. Pure.

One formula, of `Sizing` below, with constants that KAITO measured: CUDA context, activations and graphs take
2.3 GiB and 5 % of a GPU's share of the weights, loaded weights take 2 % more than their files. An estimate: the
engine measures for itself what is left for its cache, and says so when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.recipe import DraftScheme
from tandem_operator.accelerator_class import AcceleratorClass
from tandem_operator.quantities import in_bytes

GIB = 2**30
COUNTS = (1, 2, 4, 8, 16)
"""What sizing chooses from, up to the class's largest: powers of two divide every layer of a usual model. A user may
ask for another count; it is checked against what must be divided."""
LOADED = 1.02
ACTIVATIONS = 1.05
FIXED_GIB = 2.3
KEPT_FREE = 0.95
VOCABULARY_PADDING = 64
CPU_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
"""GiB of key-value cache of a CPU engine; vLLM's own variable, from the class's environment."""
CPU_CACHE_GIB = 1.0
_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2, "int8": 1}
_CACHE_BYTES = {"nvfp4": 0.5 + 1 / 16}
"""Of a value with its share of the scale of 16; a scale for each token and head is too little to count."""


@dataclass(frozen=True, kw_only=True)
class SizingRequest:
    """What the engine is asked to hold. 0 or an empty text: not given."""

    max_model_length: int = 0
    """Longest sequence in tokens; not given: what the model was made for."""
    concurrency: int = 16
    """Sequences that should fit at once, each of `context_tokens`."""
    context_tokens: int = 8192
    data_type: str = ""
    """Not given, or auto: the model's own."""
    kv_cache_dtype: str = ""
    """Not given, or auto: as `data_type`."""
    memory_utilization_percent: int = 90
    """Share of an accelerator's memory that the engine may take."""
    count: int = 0
    """Given: only this count is looked at."""
    tensor_parallel: int = 0
    """Given: only this split is looked at."""
    draft_scheme: DraftScheme | None = None
    """What bitsandbytes makes of the linear layers."""
    beside: ModelFacts | None = None
    """A second model in the same engine, which drafts there: its weights and its cache are divided like the first's."""


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """A count that holds the model.

    Per GPU: 1.02 × weights / TP × 1.05 + cache / min(TP, key-value heads) + 2.3 GiB ≤ memory × utilization × 0.95,
    where cache is that of `concurrency` sequences, and at least of one of full length. Multi-head latent attention
    keeps the whole cache on every rank. On CPUs the cache has a fixed size, and what is sized is host memory.
    """

    count: int
    tensor_parallel: int
    kv_tokens: int
    """Tokens that the key-value cache holds, in sequences of the request's context."""
    concurrent_sequences: int
    """Sequences of the request's context that it holds at once."""
    arithmetic: tuple[str, ...]
    """Sentences that a person can check."""


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """Why no count holds the model, with the numbers, and what would."""

    reason: str
    arithmetic: tuple[str, ...] = ()


def size(model: ModelFacts, accelerator: AcceleratorClass, *, request: SizingRequest) -> Sizing | Unfit:
    """The smallest count of `accelerator` that holds the model and the sequences that are asked for.

    A count or a split that the user gave is checked, never changed.
    """
    if request.max_model_length > model.max_positions > 0:
        return Unfit(
            reason=f"maxModelLength (is {request.max_model_length}): the model was made for {model.max_positions} "
            "tokens at most"
        )
    need = Cache(model, request)
    if accelerator.is_cpu:
        return _Shares(model, accelerator, need=need).size()
    return _Gpus(model, accelerator, need=need).size()


def size_over(
    model: ModelFacts, accelerators: tuple[AcceleratorClass, ...], *, request: SizingRequest
) -> Sizing | Unfit:
    """One count for a role that may land on any of `accelerators`: what the most demanding of them needs.

    The cache that is told is the smallest of all, the arithmetic that of the class which decided.
    """
    sized = [size(model, accelerator, request=request) for accelerator in accelerators]
    unfit = next((outcome for outcome in sized if isinstance(outcome, Unfit)), None)
    if unfit is not None:
        return unfit
    largest = max((outcome for outcome in sized if isinstance(outcome, Sizing)), key=lambda sizing: sizing.count)
    if request.count:
        again = sized
    else:
        again = [size(model, a, request=replace(request, count=largest.count)) for a in accelerators]
        unfit = next((outcome for outcome in again if isinstance(outcome, Unfit)), None)
        if unfit is not None:
            return Unfit(reason=f"{largest.count} are needed, and {unfit.reason}", arithmetic=largest.arithmetic)
    least = min((outcome for outcome in again if isinstance(outcome, Sizing)), key=lambda s: s.kv_tokens)
    return replace(largest, kv_tokens=least.kv_tokens, concurrent_sequences=least.concurrent_sequences)


def split_problem(model: ModelFacts, tensor_parallel: int) -> str:
    """Why a model cannot be split over so many ranks; empty when it can. The rules are vLLM's own."""
    ranks, rows = tensor_parallel, -(-model.vocabulary_size // VOCABULARY_PADDING) * VOCABULARY_PADDING
    if model.attention_heads % ranks:
        return f"{model.attention_heads} attention heads are not divisible by {ranks}"
    if not model.latent_kv_rank and model.kv_heads % ranks and ranks % model.kv_heads:
        return f"{model.kv_heads} key-value heads cannot be spread over {ranks} ranks"
    if rows % ranks:
        return f"{rows} rows of the vocabulary are not divisible by {ranks}"
    return ""


class Cache:
    """The key-value cache of one model under one request: bytes, on how many ranks, and the words for it."""

    def __init__(self, model: ModelFacts, request: SizingRequest) -> None:
        self.model, self.request = model, request
        self.longest = request.max_model_length or model.max_positions or request.context_tokens
        self.context = min(request.context_tokens, self.longest)
        self.data_type = _given(request.data_type) or model.data_type or "bfloat16"
        self.dtype = _given(request.kv_cache_dtype) or self.data_type
        self.bytes_per_value = _bytes_per_value(self.dtype)

    @property
    def bytes_per_token(self) -> float:
        """Of one token in all layers and heads, of every model in the engine."""
        return sum(self._bytes_of(model) for model in self._models)

    @property
    def _models(self) -> tuple[ModelFacts, ...]:
        return (self.model, self.request.beside) if self.request.beside else (self.model,)

    def _bytes_of(self, model: ModelFacts) -> float:
        values = model.latent_kv_rank or 2 * model.kv_heads * model.head_dim
        return model.layers * values * self.bytes_per_value

    def of(self, sequences: int, tokens: int) -> float:
        """Bytes of `sequences` with `tokens` each. A model whose every layer looks back so far keeps no more."""
        kept = (min(tokens, model.sliding_window or tokens) * self._bytes_of(model) for model in self._models)
        return sequences * sum(kept)

    @property
    def wanted(self) -> float:
        """Bytes that must fit: the sequences that are asked for, and one of full length, or the engine refuses."""
        return max(self.of(self.request.concurrency, self.context), self.of(1, self.longest))

    def ranks_sharing(self, tensor_parallel: int) -> int:
        """Over how many ranks one token's cache is divided; the others hold copies."""
        return 1 if self.model.latent_kv_rank else min(tensor_parallel, self.model.kv_heads)

    def sequences_in(self, size_bytes: float) -> int:
        return max(0, int(size_bytes // self.of(1, self.context)))

    def tokens_in(self, size_bytes: float) -> int:
        """Tokens that fit, in sequences of the context that is asked for."""
        return max(0, int(size_bytes * self.context // self.of(1, self.context)))

    def sentences(self) -> Iterator[str]:
        model, request = self.model, self.request
        if model.latent_kv_rank:
            formula = f"{model.layers} layers × {model.latent_kv_rank} latent values × {self.bytes_per_value:.4g} bytes"
        else:
            formula = (
                f"2 × {model.layers} layers × {model.kv_heads} key-value heads × {model.head_dim} × "
                f"{self.bytes_per_value:.4g} bytes"
            )
        own, all_of_it = self._bytes_of(model) / 1024, self.bytes_per_token / 1024
        drafting = f", with the drafting model's {all_of_it:.4g} KiB" if request.beside else ""
        yield f"cache of a token: {formula} ({self.dtype}) = {own:.4g} KiB{drafting}"
        shown = _gib(self.wanted)
        window = f", the last {model.sliding_window} of each kept" if model.sliding_window else ""
        if self.wanted > self.of(request.concurrency, self.context):
            yield f"cache wanted: 1 sequence × {self.longest} tokens{window} = {shown} GiB"
        else:
            yield f"cache wanted: {request.concurrency} sequences × {self.context} tokens{window} = {shown} GiB"

    def room(self, size_bytes: float) -> str:
        at_once = f"{self.sequences_in(size_bytes)} sequences of {self.context}"
        if self.longest != self.context:
            at_once += f", or {int(size_bytes // self.of(1, self.longest))} of {self.longest}"
        return f"room for {self.tokens_in(size_bytes)} tokens of cache: {at_once} at once"


def _bytes_per_value(dtype: str) -> float:
    """Of a value in the cache: `fp8_e4m3` or `int8_per_token_head` take one byte."""
    return _CACHE_BYTES.get(dtype) or _BYTES.get(dtype) or (1 if dtype.startswith(("fp8", "int8")) else 2)


def weights_of(model: ModelFacts, request: SizingRequest) -> tuple[float, str]:
    """Bytes of all weights in the engine, and the sentence for it."""
    own = weights_bytes_of(model, request.data_type, draft_scheme=request.draft_scheme)
    how = "of safetensors" if own == model.weights_bytes else f"as {request.draft_scheme or request.data_type}"
    if request.beside is None:
        return own, f"weights: {_gib(own)} GiB {how}"
    beside = weights_bytes_of(request.beside, request.data_type)
    said = f"weights: {_gib(own)} GiB {how} + {_gib(beside)} of the drafting model = {_gib(own + beside)} GiB"
    return own + beside, said


def weights_bytes_of(model: ModelFacts, data_type: str, *, draft_scheme: DraftScheme | None = None) -> float:
    """Bytes of the loaded weights: those of the files, but for another form that the engine is told to make of them.

    bitsandbytes leaves all but linear layers as they are; nothing is saved where it is not known how large those are.
    """
    if draft_scheme is not None and 0 < model.linear_parameters <= model.parameters:
        linear, stored = model.linear_parameters, model.weights_bytes / model.parameters
        return (model.parameters - linear) * stored + draft_scheme.loaded_bytes(linear, row=model.hidden_size)
    asked, stored = _BYTES.get(_given(data_type), 0), _BYTES.get(model.data_type, 0)
    if asked and stored and not model.quantization:
        return model.weights_bytes * asked / stored
    return float(model.weights_bytes)


class _Gpus:
    """Sizing on accelerators with memory of their own."""

    def __init__(self, model: ModelFacts, accelerator: AcceleratorClass, *, need: Cache) -> None:
        self.model, self.accelerator, self.need, self.request = model, accelerator, need, need.request
        self.weights, self.told = weights_of(model, self.request)
        self.usable = accelerator.memory_gib * self.request.memory_utilization_percent / 100 * KEPT_FREE * GIB

    def size(self) -> Sizing | Unfit:
        name = self.accelerator.name
        if not self.accelerator.memory_gib:
            return Unfit(reason=f"the memory of {name} is not known: give it in accelerators.{name}.memoryGib")
        given = self.request.count or self.request.tensor_parallel
        if given and (self.request.tensor_parallel or given) != given:
            return Unfit(
                reason=f"tensorParallel (is {self.request.tensor_parallel}): must be accelerator.count, {given}, "
                "since a replica is split over all of its accelerators"
            )
        if given > self.accelerator.max_count:
            return Unfit(reason=f"{given} × {name}: one replica can use at most {self.accelerator.max_count}")
        problem = split_problem(self.model, given) if given else ""
        if problem:
            return Unfit(reason=f"{given} × {name}: {problem}; {_listed(self._splits())} would do")
        sentences = [self.told, *self.need.sentences()]
        for count in [given] if given else self._splits():
            sentences.append(self._sum(count))
            if self._fits(count):
                room = self._room(count)
                return Sizing(
                    count=count,
                    tensor_parallel=count,
                    kv_tokens=self.need.tokens_in(room),
                    concurrent_sequences=self.need.sequences_in(room),
                    arithmetic=(*sentences, self.need.room(room)),
                )
        most = given or self._splits()[-1]
        return Unfit(reason=f"{self._sum(most)}{self._remedies(most)}", arithmetic=tuple(sentences))

    def _splits(self) -> list[int]:
        most = self.accelerator.max_count
        return [count for count in COUNTS if count <= most and not split_problem(self.model, count)]

    def _share(self, count: int) -> float:
        """Bytes of a GPU that are not cache."""
        return LOADED * self.weights / count * ACTIVATIONS + FIXED_GIB * GIB

    def _taken(self, count: int) -> float:
        return self._share(count) + self.need.wanted / self.need.ranks_sharing(count)

    def _fits(self, count: int) -> bool:
        return self._taken(count) <= self.usable

    def _room(self, count: int) -> float:
        """Bytes of cache in all, copies on several ranks counted once."""
        return max(0.0, self.usable - self._share(count)) * self.need.ranks_sharing(count)

    def _sum(self, count: int) -> str:
        fits = self._fits(count)
        ranks = self.need.ranks_sharing(count)
        return (
            f"{count} × {self.accelerator.name}: {LOADED} × {_gib(self.weights)} / {count} × {ACTIVATIONS} + "
            f"{_gib(self.need.wanted)} / {ranks} + {FIXED_GIB} = {_gib(self._taken(count))} GiB "
            f"{'≤' if fits else '>'} {self.accelerator.memory_gib:g} × "
            f"{self.request.memory_utilization_percent / 100:.2f} × {KEPT_FREE} = {_gib(self.usable)} GiB"
            f"{'' if fits else ', too little'}"
        )

    def _remedies(self, most: int) -> str:
        """What would fit, in the order of what costs least."""
        remedies = []
        if self._room(most) > 0 and (length := _longest_fitting(self.need, self._room(most))):
            remedies.append(f"engine.maxModelLength of at most {length}")
        if self.need.bytes_per_value > 1:
            smaller = replace(self.request, kv_cache_dtype="fp8")
            if isinstance(size(self.model, self.accelerator, request=smaller), Sizing):
                remedies.append("engine.kvCacheDtype fp8")
        if self.request.count or self.request.tensor_parallel:
            free = size(self.model, self.accelerator, request=replace(self.request, count=0, tensor_parallel=0))
            if isinstance(free, Sizing):
                remedies.append(f"a count of {free.count}")
        per_gib = GIB * KEPT_FREE * self.request.memory_utilization_percent / 100
        remedies.append(f"a class with {-(-self._taken(most) // per_gib):.0f} GiB for {most} of them")
        return "; would fit: " + ", or ".join(remedies)


class _Shares:
    """Sizing on CPUs: shares of host memory; the cache has the size that the class's environment gives each rank."""

    def __init__(self, model: ModelFacts, accelerator: AcceleratorClass, *, need: Cache) -> None:
        self.model, self.accelerator, self.need, self.request = model, accelerator, need, need.request
        self.ranks = self.request.tensor_parallel or 1
        self.weights, self.told = weights_of(model, self.request)
        self.share = in_bytes(accelerator.host_memory)
        self.space = _number(accelerator.environment.get(CPU_CACHE_VARIABLE, "")) * GIB
        self.cache = self.space * need.ranks_sharing(self.ranks)

    def size(self) -> Sizing | Unfit:
        name = self.accelerator.name
        problem = split_problem(self.model, self.ranks)
        if problem:
            return Unfit(reason=f"tensorParallel (is {self.ranks}) on class {name}: {problem}")
        head = (self.told, next(self.need.sentences()))
        one = self.need.of(1, self.need.longest)
        if one > self.cache:
            fitting = self.need.tokens_in(self.cache)
            hint = f"; would fit: engine.maxModelLength of at most {fitting}" if fitting else ""
            return Unfit(
                reason=f"1 sequence × {self.need.longest} tokens = {_gib(one)} GiB > {_gib(self.cache)} GiB of cache "
                f"({CPU_CACHE_VARIABLE} of class {name}){hint}",
                arithmetic=head,
            )
        taken = LOADED * self.weights * ACTIVATIONS + self.ranks * (self.space + FIXED_GIB * GIB)
        fewest, most = max(self.ranks, int(-(-taken // self.share))), self.accelerator.max_count
        count = self.request.count or min(fewest, most)
        fits = fewest <= count <= most
        total = (
            f"{count} × {name}: {LOADED} × {_gib(self.weights)} × {ACTIVATIONS} + {self.ranks} × "
            f"({_gib(self.space)} of cache + {FIXED_GIB}) = {_gib(taken)} GiB {'≤' if fits else '>'} "
            f"{count} × {self.accelerator.host_memory}"
        )
        if not fits:
            remedy = f"{fewest} shares" if fewest <= most else f"{fewest} shares, where one replica can use {most}"
            return Unfit(reason=f"{total}; would fit: {remedy}", arithmetic=head)
        return Sizing(
            count=count,
            tensor_parallel=self.ranks,
            kv_tokens=self.need.tokens_in(self.cache),
            concurrent_sequences=self.need.sequences_in(self.cache),
            arithmetic=(*head, total, self.need.room(self.cache)),
        )


def _longest_fitting(need: Cache, size_bytes: float) -> int:
    """The longest sequence with which what is asked for still fits; 0 when not even a short one does."""
    low, high = 0, need.longest
    while low < high:
        middle = (low + high + 1) // 2
        request = replace(need.request, max_model_length=middle)
        if Cache(need.model, request).wanted <= size_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _given(text: str) -> str:
    return "" if text == "auto" else text


def _number(text: str) -> float:
    """GiB in the environment of a class; an administrator's text that is no number is the engine's to refuse."""
    try:
        return float(text)
    except ValueError:
        return CPU_CACHE_GIB


def _gib(size_bytes: float) -> str:
    gib = size_bytes / GIB
    return f"{gib:.1f}" if gib >= 10 else f"{gib:.2f}"


def _listed(counts: list[int]) -> str:
    return ", ".join(str(count) for count in counts)
