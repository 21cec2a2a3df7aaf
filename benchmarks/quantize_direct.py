"""Runs inside the environment of artifact Jobs: llm-compressor called as its documentation has it, for `quantize`.

`direct SOURCE TARGET SCHEME ALGORITHM SAMPLES TOKENS` quantizes; `imports` only imports what that needs; `large FOLDER`
makes a model of 409 M random parameters in shards of 300 MB.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from datasets import Dataset
from llmcompressor import model_free_ptq, oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tandem_runtime.artifacts.texts import built_in, samples_of


def direct(source: str, target: str, scheme: str, algorithm: str, samples: int, tokens: int) -> None:
    """The same recipe on the same samples."""
    if algorithm == "RTN":
        model_free_ptq(source, target, scheme=scheme, ignore=["lm_head", "re:.*embed_tokens"], device="cpu")
        return
    tokenizer = AutoTokenizer.from_pretrained(source)
    chosen = samples_of(
        built_in()[0],
        lambda text: list(tokenizer(text, verbose=False)["input_ids"]),
        samples=samples,
        tokens=tokens,
        seed=42,
    )
    data = Dataset.from_dict({"input_ids": chosen, "attention_mask": [[1] * len(sample) for sample in chosen]})
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    recipe = [GPTQModifier(targets="Linear", scheme=scheme, ignore=["lm_head"])]
    if algorithm == "SmoothQuantGPTQ":
        recipe.insert(0, SmoothQuantModifier(smoothing_strength=0.8))
    oneshot(
        model=model,
        dataset=data,
        recipe=recipe,
        max_seq_length=tokens,
        num_calibration_samples=len(chosen),
        shuffle_calibration_samples=False,
    )
    model.save_pretrained(target, save_compressed=True)
    tokenizer.save_pretrained(target)


def large(folder: Path, tokenizer: str) -> None:
    """What its weights are does not matter to memory and time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=22, num_attention_heads=16, num_key_value_heads=8,
        vocab_size=16384, max_position_embeddings=2048, tie_word_embeddings=False, torch_dtype="bfloat16",
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="300MB")
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["direct", source, target, scheme, algorithm, samples, tokens]:
            direct(source, target, scheme, algorithm, int(samples), int(tokens))
        case ["imports"]:
            pass
        case ["large", folder, tokenizer]:
            large(Path(folder), tokenizer)
        case _:
            sys.exit(__doc__)
