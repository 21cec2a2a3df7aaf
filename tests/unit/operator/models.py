"""Published models as facts, and cards as lines of the accelerator table, for tests of sizing and speed."""

from __future__ import annotations

from typing import Any

from tandem_contracts.model_facts import ModelFacts
from tandem_operator.accelerator_class import CPU, AcceleratorClass

GIB = 2**30
LLAMA_TOKENIZER = "a" * 64
QWEN_TOKENIZER = "b" * 64


def make_model(**parts: Any) -> ModelFacts:
    """Llama 3.1 8B in bfloat16, or what `parts` replace of it."""
    llama = {
        "architecture": "LlamaForCausalLM",
        "layers": 32,
        "hidden_size": 4096,
        "attention_heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "vocabulary_size": 128256,
        "tokenizer_hash": LLAMA_TOKENIZER,
        "data_type": "bfloat16",
        "weights_bytes": 16_060_522_496,
        "parameters": 8_030_261_248,
        "max_positions": 131072,
    }
    return ModelFacts(**{**llama, **parts})


LLAMA_8B = make_model()
LLAMA_70B = make_model(
    layers=80, hidden_size=8192, attention_heads=64, weights_bytes=141_107_412_992, parameters=70_553_706_496
)
LLAMA_1B = make_model(
    layers=16,
    hidden_size=2048,
    head_dim=64,
    weights_bytes=2_471_628_800,
    parameters=1_235_814_400,
)
QWEN_32B = make_model(
    architecture="Qwen3ForCausalLM",
    layers=64,
    hidden_size=5120,
    attention_heads=64,
    vocabulary_size=151936,
    tokenizer_hash=QWEN_TOKENIZER,
    weights_bytes=65_524_246_528,
    parameters=32_762_123_264,
    max_positions=40960,
)
DEEPSEEK_V3 = make_model(
    architecture="DeepseekV3ForCausalLM",
    layers=61,
    hidden_size=7168,
    attention_heads=128,
    kv_heads=128,
    latent_kv_rank=576,
    vocabulary_size=129280,
    tokenizer_hash="c" * 64,
    weights_bytes=688_586_727_753,
    parameters=684_531_386_000,
    max_positions=163840,
    quantization="fp8",
    experts=256,
    active_experts=8,
)
TINY = make_model(
    layers=8,
    hidden_size=512,
    attention_heads=8,
    kv_heads=4,
    head_dim=64,
    vocabulary_size=2048,
    weights_bytes=54_550_000,
    parameters=27_270_000,
    max_positions=2048,
)


def make_card(memory_gib: float, name: str = "card", **parts: Any) -> AcceleratorClass:
    """A GPU class with so much memory a card."""
    return AcceleratorClass(**{"name": name, "resource": "nvidia.com/gpu", "memory_gib": memory_gib, **parts})


def make_cpu(cache_gib: str = "1", **parts: Any) -> AcceleratorClass:
    """The class cpu with so much key-value cache."""
    cpu = {
        "name": CPU,
        "resource": CPU,
        "max_count": 16,
        "host_memory": "4Gi",
        "environment": {"VLLM_CPU_KVCACHE_SPACE": cache_gib},
    }
    return AcceleratorClass(**{**cpu, **parts})


L4 = make_card(22.5, "l4", bandwidth_gb_per_second=300, teraflops=121)
L40S = make_card(45, "l40s", bandwidth_gb_per_second=864, teraflops=362)
H100 = make_card(80, "h100", bandwidth_gb_per_second=3350, teraflops=989)
