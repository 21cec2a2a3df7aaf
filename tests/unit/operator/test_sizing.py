"""How many accelerators a model needs, by the published table, by properties, and in words for what does not fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.engine_settings import KVCacheDtype
from tandem_contracts.model_facts import ModelFacts
from tandem_operator.sizing import COUNTS, Cache, Sizing, SizingRequest, Unfit, size, size_over, split_problem
from tests.unit.operator.models import (
    DEEPSEEK_V3,
    GIB,
    H100,
    LLAMA_8B,
    LLAMA_70B,
    QWEN_32B,
    TINY,
    make_card,
    make_cpu,
    make_model,
)

CARDS = (24, 48, 80, 141)
EIGHT_K = SizingRequest(max_model_length=8192)


def counts(model: ModelFacts, weights_gib: float, kv_cache_dtype: str) -> str:
    """The smallest count on each card, `>8` where a node of eight is too small."""
    held = replace(model, weights_bytes=int(weights_gib * GIB))
    request = replace(EIGHT_K, kv_cache_dtype=kv_cache_dtype)
    sized = [size(held, make_card(memory), request=request) for memory in CARDS]
    return "/".join(str(outcome.count) if isinstance(outcome, Sizing) else ">8" for outcome in sized)


@pytest.mark.parametrize(
    ("model", "weights_gib", "with_bf16_cache", "with_fp8_cache"),
    [
        pytest.param(LLAMA_8B, 15.0, "2/1/1/1", "2/1/1/1", id="8B BF16"),
        pytest.param(LLAMA_8B, 8.5, "2/1/1/1", "1/1/1/1", id="8B FP8"),
        pytest.param(LLAMA_8B, 5.3, "2/1/1/1", "1/1/1/1", id="8B W4A16"),
        pytest.param(LLAMA_8B, 5.6, "2/1/1/1", "1/1/1/1", id="8B NVFP4"),
        pytest.param(QWEN_32B, 61.1, "8/4/2/1", "8/4/2/1", id="32B BF16"),
        pytest.param(QWEN_32B, 32.1, "4/2/2/1", "4/2/1/1", id="32B FP8"),
        pytest.param(QWEN_32B, 17.9, "4/2/1/1", "2/1/1/1", id="32B W4A16"),
        pytest.param(QWEN_32B, 19.3, "4/2/1/1", "4/1/1/1", id="32B NVFP4"),
        pytest.param(LLAMA_70B, 131.5, ">8/8/4/2", ">8/8/4/2", id="70B BF16"),
        pytest.param(LLAMA_70B, 67.9, "8/4/2/1", "8/4/2/1", id="70B FP8"),
        pytest.param(LLAMA_70B, 36.8, "8/4/2/1", "4/2/1/1", id="70B W4A16"),
        pytest.param(LLAMA_70B, 39.8, "8/4/2/1", "4/2/1/1", id="70B NVFP4"),
    ],
)
def test_sixteen_sequences_of_8192_tokens_need_the_published_counts(
    model: ModelFacts, weights_gib: float, with_bf16_cache: str, with_fp8_cache: str
) -> None:
    assert counts(model, weights_gib, "bfloat16") == with_bf16_cache
    assert counts(model, weights_gib, "fp8") == with_fp8_cache


@pytest.mark.parametrize(
    ("model", "kib"), [(LLAMA_8B, 128), (LLAMA_70B, 320), (QWEN_32B, 256), (DEEPSEEK_V3, 61 * 576 * 2 / 1024)]
)
def test_a_token_takes_the_published_amount_of_cache(model: ModelFacts, kib: float) -> None:
    assert Cache(model, SizingRequest()).bytes_per_token == kib * 1024


def sized(model: ModelFacts = LLAMA_8B, accelerator: Any = H100, **asked: Any) -> Sizing:
    outcome = size(model, accelerator, request=SizingRequest(**asked))
    assert isinstance(outcome, Sizing), outcome
    return outcome


def unfit(model: ModelFacts = LLAMA_8B, accelerator: Any = H100, **asked: Any) -> str:
    outcome = size(model, accelerator, request=SizingRequest(**asked))
    assert isinstance(outcome, Unfit), outcome
    return outcome.reason


def test_the_arithmetic_can_be_checked_by_a_person() -> None:
    assert sized(accelerator=make_card(24), max_model_length=8192).arithmetic == (
        "weights: 15.0 GiB of safetensors",
        "cache of a token: 2 × 32 layers × 8 key-value heads × 128 × 2 bytes (bfloat16) = 128 KiB",
        "cache wanted: 16 sequences × 8192 tokens = 16.0 GiB",
        "1 × card: 1.02 × 15.0 / 1 × 1.05 + 16.0 / 1 + 2.3 = 34.3 GiB > 24 × 0.90 × 0.95 = 20.5 GiB, too little",
        "2 × card: 1.02 × 15.0 / 2 × 1.05 + 16.0 / 2 + 2.3 = 18.3 GiB ≤ 24 × 0.90 × 0.95 = 20.5 GiB",
        "room for 167284 tokens of cache: 20 sequences of 8192 at once",
    )


def test_the_cache_holds_at_least_one_sequence_of_full_length() -> None:
    """The engine refuses to start otherwise."""
    model = make_model(max_positions=1_000_000)
    outcome = sized(model)
    assert outcome.count == 4
    assert outcome.kv_tokens >= 1_000_000
    assert "cache wanted: 1 sequence × 1000000 tokens = 122.1 GiB" in outcome.arithmetic
    assert outcome.arithmetic[-1].endswith("sequences of 8192, or 2 of 1000000 at once")


def test_a_shorter_limit_makes_more_room() -> None:
    short, long = sized(max_model_length=2048), sized(max_model_length=8192)
    assert short.kv_tokens == long.kv_tokens
    assert short.concurrent_sequences == 4 * long.concurrent_sequences


def test_a_model_whose_length_is_unknown_is_sized_for_the_context_that_is_asked_for() -> None:
    assert sized(make_model(max_positions=0)).count == sized(max_model_length=8192).count


def test_a_limit_above_what_the_model_was_made_for_is_refused_with_both_values() -> None:
    assert unfit(max_model_length=200_000) == (
        "maxModelLength (is 200000): the model was made for 131072 tokens at most"
    )


def test_latent_attention_keeps_the_whole_cache_on_every_rank() -> None:
    few, many = (sized(DEEPSEEK_V3, make_card(memory), max_model_length=8192) for memory in (141, 288))
    assert (few.count, many.count) == (8, 4)
    assert "latent values" in few.arithmetic[1]
    for outcome in (few, many):
        assert "+ 8.58 / 1 +" in outcome.arithmetic[-2]


def test_key_value_heads_are_copied_onto_ranks_beyond_their_number() -> None:
    model = make_model(kv_heads=2)
    assert "/ 2 + 2.3" in sized(model, count=4).arithmetic[-2]


def test_a_window_bounds_the_cache_of_a_sequence() -> None:
    whole, windowed = make_model(max_positions=32768), make_model(max_positions=32768, sliding_window=4096)
    assert Cache(windowed, SizingRequest()).wanted == Cache(whole, SizingRequest(context_tokens=4096)).wanted
    assert sized(windowed).concurrent_sequences >= 2 * sized(whole).concurrent_sequences
    assert (
        "cache wanted: 16 sequences × 8192 tokens, the last 4096 of each kept = 8.00 GiB" in sized(windowed).arithmetic
    )


def test_all_experts_are_held_although_few_are_active() -> None:
    experts = make_model(experts=64, active_experts=2)
    assert sized(experts).arithmetic == sized(make_model()).arithmetic


def test_another_data_type_changes_weights_and_cache_but_not_packed_weights() -> None:
    wide = sized(data_type="float32", max_model_length=8192)
    assert wide.arithmetic[0] == "weights: 29.9 GiB as float32"
    assert "× 4 bytes (float32) = 256 KiB" in wide.arithmetic[1]
    packed = sized(make_model(quantization="awq"), data_type="float32", max_model_length=8192)
    assert packed.arithmetic[0] == "weights: 15.0 GiB of safetensors"
    assert sized(data_type="auto", kv_cache_dtype="auto") == sized()


@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        ("bfloat16", "× 2 bytes (bfloat16) = 128 KiB"),
        ("fp8_e5m2", "× 1 bytes (fp8_e5m2) = 64 KiB"),
        ("fp8_per_token_head", "× 1 bytes (fp8_per_token_head) = 64 KiB"),
        ("int8_per_token_head", "× 1 bytes (int8_per_token_head) = 64 KiB"),
        ("nvfp4", "× 0.5625 bytes (nvfp4) = 36 KiB"),
    ],
)
def test_each_data_type_of_the_cache_takes_its_bytes(dtype: str, told: str) -> None:
    assert told in sized(kv_cache_dtype=dtype).arithmetic[1]


def test_every_data_type_of_the_cache_is_known() -> None:
    sizes = {each: Cache(LLAMA_8B, SizingRequest(kv_cache_dtype=each)).bytes_per_value for each in KVCacheDtype}
    two = {KVCacheDtype.AUTO, KVCacheDtype.BFLOAT16, KVCacheDtype.FLOAT16}
    assert {each for each, size_bytes in sizes.items() if size_bytes == 2} == two


def test_a_window_of_the_verifier_does_not_bound_the_cache_of_what_drafts_in_its_engine() -> None:
    windowed = make_model(max_positions=32768, sliding_window=4096)
    alone = Cache(windowed, SizingRequest()).wanted
    both = Cache(windowed, SizingRequest(beside=LLAMA_8B)).wanted
    assert both - alone == Cache(LLAMA_8B, SizingRequest(max_model_length=32768)).wanted


def test_a_given_count_is_kept_although_a_smaller_one_would_do() -> None:
    outcome = sized(TINY, count=4)
    assert (outcome.count, outcome.tensor_parallel) == (4, 4)


def test_a_given_split_is_the_count() -> None:
    outcome = sized(tensor_parallel=4)
    assert (outcome.count, outcome.tensor_parallel) == (4, 4)


def test_a_count_beside_another_split_is_refused() -> None:
    assert unfit(count=4, tensor_parallel=2).startswith("tensorParallel (is 2): must be accelerator.count, 4")


@pytest.mark.parametrize(
    ("model", "ranks", "problem"),
    [
        (LLAMA_8B, 3, "32 attention heads are not divisible by 3"),
        (make_model(attention_heads=14, kv_heads=2), 4, "14 attention heads are not divisible by 4"),
        (make_model(attention_heads=48, kv_heads=8), 6, "8 key-value heads cannot be spread over 6 ranks"),
        (
            make_model(attention_heads=40, kv_heads=40, vocabulary_size=151936),
            5,
            "151936 rows of the vocabulary are not divisible by 5",
        ),
        (make_model(vocabulary_size=32001), 8, ""),
        (DEEPSEEK_V3, 16, ""),
        (replace(DEEPSEEK_V3, kv_heads=6), 16, ""),
        (LLAMA_8B, 16, ""),
    ],
)
def test_heads_and_vocabulary_decide_over_how_many_ranks_a_model_can_be_split(
    model: ModelFacts, ranks: int, problem: str
) -> None:
    assert split_problem(model, ranks) == problem


def test_a_count_that_divides_nothing_is_refused_with_those_that_do() -> None:
    assert unfit(count=3) == "3 × h100: 32 attention heads are not divisible by 3; 1, 2, 4, 8 would do"


def test_sizing_chooses_no_count_that_the_model_cannot_be_split_over() -> None:
    model = make_model(attention_heads=14, kv_heads=2, weights_bytes=40 * GIB)
    assert "2 × card:" in unfit(model, make_card(24))


def test_what_does_not_fit_is_told_with_what_would() -> None:
    assert unfit(LLAMA_70B, make_card(24)) == (
        "8 × card: 1.02 × 131.4 / 8 × 1.05 + 40.0 / 8 + 2.3 = 24.9 GiB > 24 × 0.90 × 0.95 = 20.5 GiB, too little; "
        "would fit: engine.maxModelLength of at most 1026, or a class with 30 GiB for 8 of them"
    )
    said = unfit(QWEN_32B, make_card(48), count=2)
    assert "engine.maxModelLength of at most" in said
    assert "or a count of 4" in said
    packed = replace(QWEN_32B, weights_bytes=int(19.3 * GIB))
    assert "or engine.kvCacheDtype fp8" in unfit(packed, make_card(48), count=1, max_model_length=8192)


def test_every_remedy_that_is_named_works() -> None:
    """Each is tried on the case that it was named for."""
    card, tight = make_card(48), SizingRequest(count=2)
    said = unfit(QWEN_32B, card, count=2)
    length = int(said.split("maxModelLength of at most ")[1].split(",")[0])
    assert isinstance(size(QWEN_32B, card, request=replace(tight, max_model_length=length)), Sizing)
    assert isinstance(size(QWEN_32B, card, request=replace(tight, max_model_length=length + 1)), Unfit)
    memory = int(said.split("a class with ")[1].split(" ")[0])
    assert isinstance(size(QWEN_32B, make_card(memory), request=tight), Sizing)


def test_no_more_are_chosen_or_taken_than_one_replica_can_use() -> None:
    slice_of_one = make_card(20, "slice", max_count=1)
    assert unfit(accelerator=slice_of_one).startswith("1 × slice: ")
    assert unfit(accelerator=slice_of_one, count=2) == "2 × slice: one replica can use at most 1"
    assert sized(LLAMA_70B, make_card(24, max_count=16), max_model_length=8192).count == 16


def test_memory_that_is_not_known_is_asked_for() -> None:
    assert unfit(accelerator=make_card(0, "npu")) == (
        "the memory of npu is not known: give it in accelerators.npu.memoryGib"
    )


def test_several_classes_get_the_count_of_the_most_demanding_and_the_smallest_cache() -> None:
    small, large = make_card(24, "small"), make_card(80, "large")
    for order in ((small, large), (large, small)):
        outcome = size_over(LLAMA_8B, order, request=EIGHT_K)
        assert isinstance(outcome, Sizing)
        assert outcome.count == 2
        assert outcome.kv_tokens == sized(accelerator=small, count=2, max_model_length=8192).kv_tokens
    outcome = size_over(LLAMA_70B, (large, small), request=EIGHT_K)
    assert isinstance(outcome, Unfit)
    assert "8 × small" in outcome.reason


def test_a_class_that_does_not_take_the_count_of_the_most_demanding_one_is_named() -> None:
    small, alone = make_card(24, "small"), make_card(80, "alone", max_count=1)
    outcome = size_over(LLAMA_8B, (small, alone), request=EIGHT_K)
    assert isinstance(outcome, Unfit)
    assert outcome.reason == "2 are needed, and 2 × alone: one replica can use at most 1"


def test_cpus_are_sized_by_host_memory_with_a_cache_of_fixed_size() -> None:
    outcome = sized(TINY, make_cpu())
    assert (outcome.count, outcome.tensor_parallel, outcome.kv_tokens) == (1, 1, 131072)
    assert outcome.arithmetic == (
        "weights: 0.05 GiB of safetensors",
        "cache of a token: 2 × 8 layers × 4 key-value heads × 64 × 2 bytes (bfloat16) = 8 KiB",
        "1 × cpu: 1.02 × 0.05 × 1.05 + 1 × (1.00 of cache + 2.3) = 3.35 GiB ≤ 1 × 4Gi",
        "room for 131072 tokens of cache: 64 sequences of 2048 at once",
    )
    larger = sized(LLAMA_8B, make_cpu("16"), max_model_length=8192)
    assert (larger.count, larger.tensor_parallel) == (9, 1)
    assert sized(TINY, make_cpu("nonsense")).kv_tokens == outcome.kv_tokens


def test_each_rank_on_cpus_has_a_cache_of_its_own_and_copies_hold_no_more() -> None:
    outcome = sized(TINY, make_cpu(), tensor_parallel=2)
    assert (outcome.count, outcome.tensor_parallel, outcome.kv_tokens) == (2, 2, 2 * 131072)
    assert "2 × (1.00 of cache + 2.3) = 6.65 GiB ≤ 2 × 4Gi" in outcome.arithmetic[2]
    one_head = replace(TINY, kv_heads=1)
    one, two = (sized(one_head, make_cpu(), tensor_parallel=ranks) for ranks in (1, 2))
    assert one.kv_tokens == two.kv_tokens


def test_a_cpu_cache_that_holds_no_whole_sequence_is_too_small() -> None:
    assert unfit(LLAMA_8B, make_cpu("1")) == (
        "1 sequence × 131072 tokens = 16.0 GiB > 1.00 GiB of cache (VLLM_CPU_KVCACHE_SPACE of class cpu); "
        "would fit: engine.maxModelLength of at most 8192"
    )


def test_too_few_shares_are_told_with_how_many_would_do() -> None:
    assert unfit(LLAMA_8B, make_cpu("16"), max_model_length=8192, count=2).endswith(
        "= 34.3 GiB > 2 × 4Gi; would fit: 9 shares"
    )
    assert "16 × 4Gi; would fit: 37 shares, where one replica can use 16" in unfit(
        LLAMA_70B, make_cpu(), max_model_length=1024
    )


MODELS = st.builds(
    make_model,
    layers=st.integers(1, 128),
    attention_heads=st.sampled_from([8, 14, 16, 32, 40, 64, 96]),
    kv_heads=st.sampled_from([1, 2, 4, 8]),
    head_dim=st.sampled_from([64, 128, 256]),
    weights_bytes=st.integers(10**6, 4 * 10**11),
    max_positions=st.sampled_from([0, 2048, 8192, 131072]),
    sliding_window=st.sampled_from([0, 4096]),
    latent_kv_rank=st.sampled_from([0, 576]),
)
MEMORIES = st.floats(8, 300)


@given(MODELS, MEMORIES, MEMORIES)
def test_a_larger_card_never_needs_more_of_them(model: ModelFacts, one: float, other: float) -> None:
    small, large = (size(model, make_card(memory), request=SizingRequest()) for memory in sorted((one, other)))
    if isinstance(small, Sizing):
        assert isinstance(large, Sizing)
        assert large.count <= small.count


@given(MODELS, MEMORIES)
def test_what_is_chosen_holds_what_was_asked_for_and_is_the_smallest(model: ModelFacts, memory: float) -> None:
    card, request = make_card(memory), SizingRequest()
    outcome = size(model, card, request=request)
    if isinstance(outcome, Unfit):
        return
    assert split_problem(model, outcome.count) == ""
    assert outcome.concurrent_sequences >= min(request.concurrency, Cache(model, request).wanted)
    smaller = [count for count in COUNTS if count < outcome.count]
    assert all(isinstance(size(model, card, request=replace(request, count=count)), Unfit) for count in smaller)


@given(MODELS, MEMORIES)
def test_more_cards_never_hold_less(model: ModelFacts, memory: float) -> None:
    card = make_card(memory)
    counts = [count for count in COUNTS if count <= card.max_count and not split_problem(model, count)]
    held = [size(model, card, request=SizingRequest(count=count)) for count in counts]
    tokens = [outcome.kv_tokens if isinstance(outcome, Sizing) else -1 for outcome in held]
    assert all(fewer <= more for fewer, more in pairwise(tokens))
