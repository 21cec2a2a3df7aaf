"""The inspect Job on folders as they are, as they are left half copied, and as somebody hostile would make them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.model_reader import UnreadableModelError, read_model
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_contracts.tokenizer import tokenizer_hash_of
from tandem_runtime.artifacts.inspect import main
from tandem_runtime.artifacts.last_word import CODES

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 32,
}
TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<end>"}]}


def shard(tensors: dict[str, tuple[str, list[int]]], *, content: int | None = None, header: Any = None) -> bytes:
    """A safetensors file; `content` cuts or lengthens what the header tells of."""
    width = {"BF16": 2, "F32": 4, "I32": 4, "U8": 1}
    described, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        length = width[dtype]
        for dimension in shape:
            length *= dimension
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps({"__metadata__": {"format": "pt"}, **described} if header is None else header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end if content is None else content)


PLAIN = shard({"embed": ("BF16", [32, 8]), "norm": ("F32", [8])})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model folder."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (made / "model.safetensors").write_bytes(PLAIN)
    return made


def test_a_folder_is_read_into_facts(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"min_p": 0.1}')
    facts = read_model(folder)
    assert facts.architecture == "LlamaForCausalLM"
    assert (facts.layers, facts.head_dim, facts.kv_heads) == (3, 4, 2)
    assert facts.weights_bytes == len(PLAIN)
    assert facts.parameters == 32 * 8 + 8
    assert facts.data_type == "bfloat16"
    assert facts.tokenizer_hash == tokenizer_hash_of(TOKENIZER)
    assert facts.generation_min_p == 0.1


def test_linear_layers_are_told_from_what_is_never_quantized_on_loading(folder: Path) -> None:
    tensors = {
        "model.embed_tokens.weight": ("BF16", [32, 8]),
        "model.layers.0.self_attn.q_proj.weight": ("BF16", [8, 8]),
        "model.layers.0.self_attn.q_proj.bias": ("BF16", [8]),
        "model.layers.0.mlp.experts.0.up_proj.weight": ("BF16", [16, 8]),
        "model.layers.0.mlp.up_proj.weight": ("F32", [16, 8]),
        "lm_head.weight": ("BF16", [32, 8]),
    }
    (folder / "model.safetensors").write_bytes(shard(tensors))
    assert read_model(folder).linear_parameters == 8 * 8 + 16 * 8


def test_only_the_files_of_the_index_count(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(PLAIN)
    assert read_model(folder).weights_bytes == 2 * len(PLAIN)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"embed": "model.safetensors"}}')
    assert read_model(folder).weights_bytes == len(PLAIN)


def test_elements_of_packed_weights_are_no_parameters(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(shard({"packed": ("I32", [4, 4]), "scale": ("BF16", [4])}))
    facts = read_model(folder)
    assert (facts.parameters, facts.linear_parameters, facts.data_type) == (0, 0, "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", '{"a": 0, "b": 1, "<end>": 2}'),
        ("tokenizer.model", "sentencepiece"),
        ("tekken.json", "{}"),
    ],
)
def test_older_tokenizers_have_a_hash_too(folder: Path, name: str, content: str) -> None:
    (folder / "tokenizer.json").unlink()
    assert read_model(folder).tokenizer_hash == ""
    (folder / name).write_text(content)
    assert len(read_model(folder).tokenizer_hash) == 64


def test_a_tokenizer_in_the_older_files_is_the_same_tokenizer(folder: Path) -> None:
    before = read_model(folder).tokenizer_hash
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"b": 1, "a": 0}')
    (folder / "added_tokens.json").write_text('{"<end>": 2}')
    assert read_model(folder).tokenizer_hash == before


def test_a_folder_of_links_as_the_hub_makes_them_is_read(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    assert read_model(linked) == read_model(folder)


def refusal_of(folder: Path) -> tuple[Reason, str]:
    with pytest.raises(UnreadableModelError) as refusal:
        read_model(folder)
    message = str(refusal.value)
    assert "\n" not in message
    assert str(folder) in message
    return refusal.value.reason, message


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "none") == (Reason.MODEL_NOT_FOUND, f"{tmp_path / 'none'} does not exist")
    (tmp_path / "file").touch()
    assert refusal_of(tmp_path / "file") == (Reason.MODEL_NOT_FOUND, f"{tmp_path / 'file'} is not a folder")


@pytest.mark.parametrize(
    ("files", "reason", "said"),
    [
        ({"config.json": None}, Reason.CONFIG_INVALID, "has no config.json"),
        ({"config.json": b""}, Reason.CONFIG_INVALID, "config.json is not JSON"),
        ({"config.json": b"[]"}, Reason.CONFIG_INVALID, "config.json: must be a JSON object"),
        ({"config.json": b"[" * 10**6}, Reason.CONFIG_INVALID, "config.json is not JSON"),
        ({"config.json": b"\xff\xfe\x00"}, Reason.CONFIG_INVALID, "config.json is not JSON"),
        ({"config.json": b'{"a": ' + b"9" * 5000 + b"}"}, Reason.CONFIG_INVALID, "config.json is not JSON"),
        ({"config.json": b"{}"}, Reason.CONFIG_INVALID, "config.json: num_attention_heads (is missing)"),
        ({"config.json": b" " * (16 * 2**20 + 1)}, Reason.CONFIG_INVALID, "(allowed: at most 16777216)"),
        ({"generation_config.json": b'{"min_p": 7}'}, Reason.CONFIG_INVALID, "min_p (is 7): must be from 0 to 1"),
        ({"generation_config.json": b"nothing"}, Reason.CONFIG_INVALID, "generation_config.json is not JSON"),
        ({"tokenizer.json": b'{"model": 1}'}, Reason.CONFIG_INVALID, "the tokenizer: model.vocab: must be"),
        ({"model.safetensors": None}, Reason.NO_WEIGHTS, "has no weights (*.safetensors)"),
        (
            {"model.safetensors": None, "pytorch_model.bin": b"\x80\x04"},
            Reason.PICKLES_ONLY,
            "only as pickles ('pytorch_model.bin'), which run code",
        ),
        ({"model.safetensors": b""}, Reason.WEIGHTS_INVALID, "no safetensors header fits into its 0 bytes"),
        (
            {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
            Reason.WEIGHTS_INVALID,
            "is it cut off, or a pointer to it?",
        ),
        ({"model.safetensors": PLAIN[:-1]}, Reason.WEIGHTS_INVALID, "is it cut off?"),
        ({"model.safetensors": b"\x02" + bytes(7) + b"{]"}, Reason.WEIGHTS_INVALID, "its header is not JSON"),
        ({"model.safetensors": shard({})}, Reason.WEIGHTS_INVALID, "describes no tensor"),
        ({"model.safetensors": shard({}, header=[1])}, Reason.WEIGHTS_INVALID, "describes no tensor"),
        ({"model.safetensors": shard({}, header={"x": 1})}, Reason.WEIGHTS_INVALID, "tensor 'x' in no valid way"),
        (
            {"model.safetensors": shard({}, header={"a\nb": {"dtype": "F32", "shape": ["4"], "data_offsets": [0, 4]}})},
            Reason.WEIGHTS_INVALID,
            r"tensor 'a\nb' in no valid way",
        ),
        (
            {
                "model.safetensors": shard(
                    {}, header={"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}
                )
            },
            Reason.WEIGHTS_INVALID,
            "tensor 'x' in no valid way",
        ),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'},
            Reason.WEIGHTS_INVALID,
            "lacks 1 of 2 weight files: 'model-2.safetensors'",
        ),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "../../etc/passwd"}}'},
            Reason.WEIGHTS_INVALID,
            "lacks its weight file: '../../etc/passwd'",
        ),
        ({"model.safetensors.index.json": b"{"}, Reason.WEIGHTS_INVALID, "index.json is not JSON"),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused_with_the_cause(
    folder: Path, files: dict[str, bytes | None], reason: Reason, said: str
) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    told, message = refusal_of(folder)
    assert told is reason
    assert said in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal_of(folder) == (Reason.CONFIG_INVALID, f"{folder / name} is not a regular file")


def test_a_link_to_nothing_is_told_from_a_file_that_is_not_there(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(folder / "blob")
    assert refusal_of(folder)[0] is Reason.READ_FAILED


def test_a_link_in_a_circle_is_told(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "config.json")
    assert refusal_of(folder)[0] is Reason.READ_FAILED


def run(folder: Path, log: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "tandem_runtime.artifacts.inspect"]
    options = [f"--model={folder}", f"--termination-log={log}"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=60)


def test_the_program_ends_with_facts_as_its_last_word_and_imports_no_engine(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run(folder, log)
    assert done.returncode == 0
    assert ModelFacts.decode(log.read_text()) == read_model(folder)
    assert done.stdout.strip() == log.read_text()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "vllm", "transformers", "numpy", "pydantic", "socket", "prometheus_client"}


def test_the_program_ends_with_the_code_and_the_root_cause_of_a_refusal(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (folder / "model.safetensors").unlink()
    assert run(folder, log).returncode == ExitCode.SOURCE_INVALID
    told = TerminationMessage.decode(log.read_text())
    assert told == TerminationMessage(
        code=ExitCode.SOURCE_INVALID,
        phase=Phase.INSPECT,
        reason=Reason.NO_WEIGHTS,
        message=f"{folder} has no weights (*.safetensors)",
    )


def test_whatever_goes_wrong_is_told_where_the_operator_looks_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr("tandem_runtime.artifacts.inspect.read_model", fail)
    log = tmp_path / "log"
    assert main([f"--model={folder}", f"--termination-log={log}"]) == ExitCode.STEP_FAILED
    assert TerminationMessage.decode(log.read_text()).message.endswith("MemoryError: no more")


def test_a_termination_log_that_cannot_be_written_is_no_success(folder: Path, tmp_path: Path) -> None:
    assert main([f"--model={folder}", f"--termination-log={tmp_path / 'none' / 'log'}"]) == ExitCode.READ_FAILED


def test_every_code_of_a_refusal_belongs_to_artifact_jobs() -> None:
    assert all(10 <= code <= 29 for code in CODES.values())
    assert all(f"{reason}"[0].isupper() for reason in CODES)
