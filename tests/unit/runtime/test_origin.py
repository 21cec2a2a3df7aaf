"""What is taken of a model that is fetched, and how far a try says that it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tandem_contracts.model_reader import WEIGHTS_INDEX
from tandem_runtime.artifacts.fetch import bytes_brought
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.origin import RemoteFile, files_of_engines, require_no_code_in

SHARDS = ("model-1.safetensors", "model-2.safetensors")


def files(*names: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(path=name, bytes=1) for name in ("config.json", *names))


@pytest.mark.parametrize(
    ("names", "index", "taken"),
    [
        ((*SHARDS, "consolidated.safetensors"), {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}, SHARDS),
        ((*SHARDS, "consolidated.safetensors"), None, (*SHARDS, "consolidated.safetensors")),
        (("model.safetensors", "consolidated.safetensors"), None, ("model.safetensors",)),
        (SHARDS, {"weight_map": {"a": "model-9.safetensors"}}, SHARDS),
        (SHARDS, {"weight_map": 7}, SHARDS),
        (SHARDS, [], SHARDS),
    ],
)
def test_weights_in_another_form_are_left_where_they_are(
    tmp_path: Path, names: tuple[str, ...], index: object, taken: tuple[str, ...]
) -> None:
    path = tmp_path / WEIGHTS_INDEX
    if index is not None:
        path.write_text(json.dumps(index))
    assert files_of_engines(files(*names), path) == files(*taken)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "video_preprocessor_config.json"])
def test_a_configuration_that_names_code_is_refused_wherever_engines_look_for_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"auto_map": {"AutoProcessor": "code.Mine"}}))
    with pytest.raises(RefusedError, match=f"{name} has auto_map"):
        require_no_code_in(tmp_path)


def test_progress_counts_the_file_that_is_being_written_and_never_more_than_there_is_to_bring(tmp_path: Path) -> None:
    assert bytes_brought(tmp_path, 5, 100) == 5
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "model.safetensors.incomplete").write_bytes(b"x" * 30)
    assert bytes_brought(tmp_path, 5, 100) == 35
    assert bytes_brought(tmp_path, 90, 100) == 100
    assert bytes_brought(tmp_path / "gone", 5, 100) == 5
