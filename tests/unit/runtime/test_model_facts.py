"""What a config.json says of a model, for configurations as they are published, and what is refused."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.model_facts import LARGEST, ModelFacts, model_facts_of
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES

HASH = "ab" * 32

LLAMA_31_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
QWEN25_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "sliding_window": 131072,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN3_06B = {
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 128,
    "hidden_size": 1024,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rope_scaling": None,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MISTRAL_7B = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
MIXTRAL_8X7B = {
    **MISTRAL_7B,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "sliding_window": None,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
}
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8"},
    "rope_scaling": {"factor": 40, "original_max_position_embeddings": 4096, "type": "yarn"},
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
GPT_OSS_20B = {
    "architectures": ["GptOssForCausalLM"],
    "head_dim": 64,
    "hidden_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "quantization_config": {"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"},
    "rope_scaling": {"factor": 32.0, "original_max_position_embeddings": 4096, "rope_type": "yarn"},
    "sliding_window": 128,
    "vocab_size": 201088,
}
GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
}
MISTRAL_SMALL_31 = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "model_type": "mistral3",
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5120,
        "max_position_embeddings": 131072,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 8,
        "sliding_window": None,
        "vocab_size": 131072,
    },
    "torch_dtype": "bfloat16",
}
LLAMA_W4A16 = {
    **LLAMA_31_8B,
    "quantization_config": {"format": "pack-quantized", "quant_method": "compressed-tensors"},
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
FALCON_7B = {
    "architectures": ["FalconForCausalLM"],
    "hidden_size": 4544,
    "model_type": "falcon",
    "multi_query": True,
    "num_attention_heads": 71,
    "num_hidden_layers": 32,
    "torch_dtype": "bfloat16",
    "vocab_size": 65024,
}


def facts_in(config: dict[str, Any], **generation: Any) -> ModelFacts:
    return model_facts_of(config, weights_bytes=10, tokenizer_hash=HASH, generation_config=generation)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            LLAMA_31_8B,
            {"architecture": "LlamaForCausalLM", "layers": 32, "hidden_size": 4096, "attention_heads": 32,
             "kv_heads": 8, "head_dim": 128, "vocabulary_size": 128256, "data_type": "bfloat16",
             "max_positions": 131072, "sliding_window": 0, "latent_kv_rank": 0, "quantization": "", "experts": 0,
             "active_experts": 0, "tokenizer_hash": HASH, "weights_bytes": 10, "generation_min_p": 0.0},
        ),
        (QWEN25_7B, {"kv_heads": 4, "head_dim": 128, "sliding_window": 0, "max_positions": 32768}),
        (QWEN3_06B, {"kv_heads": 8, "head_dim": 128, "sliding_window": 0}),
        (MISTRAL_7B, {"sliding_window": 4096, "max_positions": 32768}),
        (MIXTRAL_8X7B, {"experts": 8, "active_experts": 2, "sliding_window": 0}),
        (
            DEEPSEEK_V3,
            {"latent_kv_rank": 576, "head_dim": 128, "kv_heads": 128, "experts": 256, "active_experts": 8,
             "quantization": "fp8", "max_positions": 163840},
        ),
        (
            GPT_OSS_20B,
            {"sliding_window": 0, "experts": 32, "active_experts": 4, "quantization": "mxfp4", "data_type": "",
             "head_dim": 64, "max_positions": 131072},
        ),
        (
            GEMMA3_4B,
            {"architecture": "Gemma3ForConditionalGeneration", "layers": 34, "attention_heads": 8, "kv_heads": 4,
             "head_dim": 256, "vocabulary_size": 262208, "sliding_window": 0, "max_positions": 131072,
             "data_type": "bfloat16"},
        ),
        (MISTRAL_SMALL_31, {"layers": 40, "head_dim": 128, "vocabulary_size": 131072, "data_type": "bfloat16"}),
        (LLAMA_W4A16, {"quantization": "compressed-tensors"}),
        (GPT2, {"layers": 12, "kv_heads": 12, "head_dim": 64, "max_positions": 1024, "data_type": ""}),
        (FALCON_7B, {"kv_heads": 1, "head_dim": 64, "max_positions": 0}),
        ({**LLAMA_31_8B, "torch_dtype": "float16", "dtype": "bfloat16"}, {"data_type": "bfloat16"}),
        (
            {**QWEN25_7B, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
            {"max_positions": 131072},
        ),
        ({**LLAMA_31_8B, "rope_scaling": {"type": "linear", "factor": 2}}, {"max_positions": 262144}),
        ({**QWEN25_7B, "use_sliding_window": True, "max_window_layers": 21}, {"sliding_window": 0}),
    ],
)  # fmt: skip
def test_a_published_configuration_is_read(config: dict[str, Any], expected: dict[str, Any]) -> None:
    read = dataclasses.asdict(facts_in(config))
    assert {name: read[name] for name in expected} == expected


def test_min_p_comes_from_the_generation_configuration() -> None:
    assert facts_in(LLAMA_31_8B, min_p=0.05, temperature=0.6).generation_min_p == 0.05
    assert facts_in(LLAMA_31_8B, min_p=None).generation_min_p == 0.0


def test_the_weights_own_type_counts_only_where_the_configuration_is_silent() -> None:
    given = {"weights_bytes": 1, "tokenizer_hash": "", "generation_config": {}, "stored_data_type": "float16"}
    assert model_facts_of(GPT2, **given).data_type == "float16"  # type: ignore[arg-type]
    assert model_facts_of(LLAMA_31_8B, **given).data_type == "bfloat16"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers (is missing): must be a whole number from 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers (is 0): must be a whole number from 1"),
        ({"num_hidden_layers": "32"}, "num_hidden_layers (is '32'): must be a whole number from 0"),
        ({"num_attention_heads": True}, "num_attention_heads (is True): must be a whole number"),
        ({"num_key_value_heads": -1}, "num_key_value_heads (is -1): must be a whole number"),
        ({"vocab_size": 2**60}, "vocab_size (is 1152921504606846976): must be a whole number from 0 to"),
        ({"hidden_size": 4096.5}, "hidden_size (is 4096.5): must be a whole number"),
        ({"architectures": []}, "architectures (is []): must name a class"),
        ({"architectures": [{"a": 1}]}, "must name a class"),
        ({"architectures": ["a\nb"]}, "must name a class"),
        ({"torch_dtype": 16}, "torch_dtype (is 16): must be a data type"),
        ({"quantization_config": {"bits": 4}}, "quantization_config.quant_method (is ''): must name a method"),
        ({"quantization_config": {"quant_method": ["x"]}}, "quantization_config.quant_method (is ['x'])"),
        ({"rope_scaling": {"type": "yarn", "factor": math.nan}}, "rope_scaling.factor (is nan): must be above 0"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor (is '2'): must be above 0"),
        (
            {"rope_scaling": {"type": "yarn", "original_max_position_embeddings": "8k"}},
            "rope_scaling.original_max_position_embeddings (is '8k'): must be a whole number",
        ),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_with_key_and_value(
    changes: dict[str, Any], message: str
) -> None:
    config = {**LLAMA_31_8B, "model_type": None, **changes}
    with pytest.raises(ValueError, match="must") as refusal:
        facts_in(config)
    assert message in str(refusal.value)


def test_a_key_of_the_text_part_is_named_with_its_path() -> None:
    text = {**MISTRAL_SMALL_31["text_config"], "num_hidden_layers": "many"}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"text_config\.num_hidden_layers \(is 'many'\)"):
        facts_in({**MISTRAL_SMALL_31, "text_config": text})


@pytest.mark.parametrize("min_p", [-0.1, 1.1, math.nan, "0.1", True])
def test_a_min_p_outside_its_range_is_refused(min_p: object) -> None:
    with pytest.raises(ValueError, match=r"generation_config\.json min_p"):
        facts_in(LLAMA_31_8B, min_p=min_p)


words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", fullmatch=True)
counts, positive = st.integers(0, LARGEST), st.integers(1, LARGEST)
facts = st.builds(
    ModelFacts,
    architecture=words,
    layers=positive,
    hidden_size=positive,
    attention_heads=positive,
    kv_heads=positive,
    head_dim=positive,
    vocabulary_size=positive,
    tokenizer_hash=st.one_of(st.just(""), st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
    data_type=st.one_of(st.just(""), words),
    weights_bytes=counts,
    parameters=counts,
    max_positions=counts,
    sliding_window=counts,
    latent_kv_rank=counts,
    quantization=st.one_of(st.just(""), words),
    generation_min_p=st.floats(0, 1),
    experts=counts,
    active_experts=counts,
    linear_parameters=counts,
)


@given(facts)
def test_facts_fit_a_termination_message_and_read_back_as_they_were(facts: ModelFacts) -> None:
    text = facts.encode()
    assert len(text.encode()) <= MESSAGE_LIMIT_BYTES
    assert ModelFacts.decode(text) == facts


def test_facts_are_spelled_on_the_wire_as_the_resource_spells_them() -> None:
    data = facts_in(LLAMA_31_8B).to_data()
    assert list(data)[:6] == ["architecture", "layers", "hiddenSize", "attentionHeads", "kvHeads", "headDim"]
    assert data["generationMinP"] == 0.0
    assert ModelFacts.from_data(data) == facts_in(LLAMA_31_8B)


def test_a_number_that_the_api_server_wrote_without_its_fraction_reads_back() -> None:
    data = {**facts_in(LLAMA_31_8B).to_data(), "generationMinP": 0}
    read = ModelFacts.from_data(data)
    assert read == facts_in(LLAMA_31_8B)
    assert json.loads(read.encode())["generationMinP"] == 0.0


def test_facts_from_before_linear_layers_were_counted_read_back_as_not_known() -> None:
    data = facts_in(LLAMA_31_8B).to_data()
    del data["linearParameters"]
    assert ModelFacts.from_data(data) == facts_in(LLAMA_31_8B)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers (is 0): must be a whole number from 1"),
        ({"layers": "32"}, "layers (is '32'): must be a whole number from 1"),
        ({"layers": True}, "layers (is True): must be a whole number from 1"),
        ({"weightsBytes": -1}, "weightsBytes (is -1): must be a whole number from 0"),
        ({"tokenizerHash": "abc"}, "tokenizerHash (is 'abc'): must be empty or 64 hex digits"),
        ({"architecture": ""}, "architecture (is ''): must be 1 to 128 of letters"),
        ({"architecture": "x" * 129}, "architecture (is 'xxx"),
        ({"dataType": "bf 16"}, "dataType (is 'bf 16'): must be"),
        ({"generationMinP": 2}, "generationMinP (is 2.0): must be a number from 0 to 1"),
        ({"generationMinP": "0"}, "generationMinP (is '0'): must be a number from 0 to 1"),
        ({"layer": 1}, "'layer': is no model fact, allowed are architecture, layers"),
        ({"experts": ...}, "experts (is missing): must be given"),
    ],
)
def test_facts_that_are_not_whole_are_refused_with_name_and_value(changes: dict[str, Any], message: str) -> None:
    data = {**facts_in(LLAMA_31_8B).to_data(), **changes}
    text = json.dumps({name: value for name, value in data.items() if value is not ...})
    with pytest.raises(ValueError, match=r"must|no model fact") as refusal:
        ModelFacts.decode(text)
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "OOMKilled", "{", "[" * 2000, " " * 5000])
def test_text_that_is_no_facts_is_told_apart(text: str) -> None:
    with pytest.raises(ValueError, match="model facts"):
        ModelFacts.decode(text)


def test_facts_outside_their_range_are_never_written() -> None:
    broken = dataclasses.replace(facts_in(LLAMA_31_8B), layers=0)
    with pytest.raises(ValueError, match="layers"):
        broken.encode()
