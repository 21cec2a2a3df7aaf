"""The pinned vLLM takes every flag that we may give it, with every choice and both ends of every range."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.fixtures.environment import engine_environment
from deploy.local.layout import REPOSITORY
from tandem_contracts import engine_settings
from tandem_contracts.engine_settings import FLAGS, EngineSettings, OneOf, Whole
from tandem_contracts.launch import Access, InEngineKind, LaunchOptions, Role, Speculation
from tandem_runtime.launch.engine import Platform, engine_command
from tandem_runtime.launch.model_folder import ModelFolder

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROBE = Path(__file__).with_name("parser_probe.py")
PROBE_LIMIT_SECONDS = 300
MODEL = ModelFolder(path=Path("/models/m"), dtype="bfloat16", tokenizer_hash="")

CHOICES: dict[str, tuple[Any, ...]] = {
    "data_type": tuple(engine_settings.DataType),
    "max_model_length": (engine_settings.MODEL_LENGTH.least, engine_settings.MODEL_LENGTH.most),
    "kv_cache_dtype": tuple(engine_settings.KVCacheDtype),
    "quantization": tuple(engine_settings.OnlineQuantization),
    "attention_backend": tuple(engine_settings.AttentionBackend),
    "compilation": tuple(engine_settings.Compilation),
    "block_tokens": (engine_settings.BLOCK_TOKENS.least, engine_settings.BLOCK_TOKENS.most),
    "memory_percent": (engine_settings.MEMORY_PERCENT.least, engine_settings.MEMORY_PERCENT.most),
    "max_sequences": (engine_settings.SEQUENCES.least, engine_settings.SEQUENCES.most),
    "max_batched_tokens": (engine_settings.BATCHED_TOKENS.least, engine_settings.BATCHED_TOKENS.most),
    "chunked_prefill": tuple(engine_settings.Switch),
    "scheduling_policy": tuple(engine_settings.SchedulingPolicy),
    "prefix_caching": tuple(engine_settings.Switch),
    "prefix_hash": tuple(engine_settings.PrefixHash),
}
NEEDED = {"enable-auto-tool-choice": {"tool-call-parser": "hermes"}}


def with_settings(settings: EngineSettings) -> LaunchOptions:
    return LaunchOptions(role=Role.VERIFIER, model="/models/m", served_name="m", engine=settings)


def in_engine(kind: InEngineKind) -> LaunchOptions:
    return LaunchOptions(
        role=Role.VERIFIER,
        model="/models/m",
        served_name="m",
        speculation=Speculation.IN_ENGINE,
        max_depth=4,
        in_engine=kind,
        in_engine_model="/models/d" if kind.needs_model else "",
        access=Access.API_KEY,
    )


def cases() -> Iterator[tuple[str, LaunchOptions]]:
    for name, values in CHOICES.items():
        for value in values:
            yield f"{name}={value}", with_settings(EngineSettings(**{name: value}))
    for name, kind in FLAGS.items():
        for value in (kind.least, kind.most) if isinstance(kind, Whole) else kind.choices:
            flags = {**NEEDED.get(name, {}), name: value}
            yield f"{name}={value}", with_settings(EngineSettings(flags=flags))
    for kind in InEngineKind:
        yield f"in-engine {kind}", in_engine(kind)


CASES = list(cases())


def arguments_of(options: LaunchOptions) -> list[str]:
    command = engine_command(options, MODEL, platform=Platform.GPU)
    return command[command.index("--model") :]


@pytest.fixture(scope="module")
def probed() -> dict[str, Any]:
    refused = ["--seed=x"]
    lines = "\n".join(json.dumps(line) for line in [*(arguments_of(options) for _, options in CASES), refused])
    finished = subprocess.run(
        [str(engine_environment()), str(PROBE)],
        input=lines,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "runtime"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        },
        capture_output=True,
        text=True,
        timeout=PROBE_LIMIT_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def test_every_setting_is_tried() -> None:
    assert CHOICES.keys() == {field.name for field in dataclasses.fields(EngineSettings)} - {"flags"}


def test_vllms_parser_takes_every_flag_with_every_choice_and_both_ends_of_its_range(probed: dict[str, Any]) -> None:
    *complaints, refused = probed["complaints"]
    assert refused, "the probe accepts what is wrong"
    assert {name: said for (name, _), said in zip(CASES, complaints, strict=True) if said} == {}


@pytest.mark.parametrize("name", ["reasoning-parser", "tool-call-parser"])
def test_vllm_has_every_parser_of_answers_that_may_be_named(probed: dict[str, Any], name: str) -> None:
    kind = FLAGS[name]
    assert isinstance(kind, OneOf)
    assert set(kind.choices) <= set(probed["known"][name])
