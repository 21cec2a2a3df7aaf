"""Texts for calibration and evaluation: read with care, cut evenly, and told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.evaluate import require_same_source, require_unseen
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.texts import (
    FEWEST_TOKENS,
    InvalidTextsError,
    Texts,
    built_in,
    read_texts,
    samples_of,
    windows_of,
)
from tandem_runtime.artifacts.volume import Volume, content_of


def encode(text: str) -> list[int]:
    return list(text.encode())


def chat(messages: list[dict[str, object]]) -> str:
    if any("role" not in message for message in messages):
        raise KeyError("role")
    return "|".join(f"{message['role']}: {message['content']}" for message in messages)


def read(folder: Path, *lines: object) -> Texts:
    path = folder / "data.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return read_texts(path, chat=chat)


def test_texts_and_conversations_are_read_in_their_order(tmp_path: Path) -> None:
    found = read(tmp_path, {"text": "one"}, "", {"messages": [{"role": "user", "content": "two"}]})
    assert found.documents == ("one", "user: two")
    assert len(set(found.digests)) == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: no JSON"),
        ({"texts": "x"}, 'line 1 .*must have "text"'),
        ({"text": 1}, 'line 1 .*must have "text"'),
        ({"messages": ["x"]}, "line 1"),
        ({"messages": [{"content": "x"}]}, "line 1: the chat template refuses it"),
        ("", "has no texts"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, line: object, told: str) -> None:
    with pytest.raises(InvalidTextsError, match=told):
        read(tmp_path, line)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTextsError, match="cannot be read"):
        read_texts(tmp_path / "none", chat=chat)


def test_the_built_in_texts_are_many_and_no_text_is_in_both() -> None:
    calibration, evaluation = built_in()
    assert min(len(calibration.documents), len(evaluation.documents)) > 100
    assert not set(calibration.digests) & set(evaluation.digests)
    assert built_in()[0].digest == calibration.digest != evaluation.digest


def test_samples_are_the_beginnings_of_documents_that_are_long_enough_in_an_order_of_the_seed() -> None:
    texts = Texts("t", (*(str(number) * 100 for number in range(10)), "short"))
    samples = samples_of(texts, encode, samples=5, tokens=40, seed=1)
    assert [len(sample) for sample in samples] == [40] * 5
    assert samples == samples_of(texts, encode, samples=5, tokens=40, seed=1)
    assert samples != samples_of(texts, encode, samples=5, tokens=40, seed=2)
    assert len(samples_of(texts, encode, samples=99, tokens=40, seed=1)) == 10
    with pytest.raises(InvalidTextsError, match=f"no text has {FEWEST_TOKENS} tokens"):
        samples_of(Texts("t", ("short",)), encode, samples=5, tokens=40, seed=1)


def test_windows_are_whole_apart_and_spread_over_all_documents() -> None:
    texts = Texts("t", tuple(chr(97 + number) * 500 for number in range(20)))
    windows = windows_of(texts, encode, windows=8, tokens=100)
    assert [len(window) for window in windows] == [100] * 8
    assert len({window[0] for window in windows}) >= 7
    few = windows_of(Texts("t", ("x" * 250,)), encode, windows=8, tokens=100)
    assert len(few) == 2
    with pytest.raises(InvalidTextsError, match="has 150 tokens: at least 200 are needed"):
        windows_of(Texts("t", ("x" * 150,)), encode, windows=8, tokens=100)


def test_a_model_is_not_evaluated_with_what_it_was_calibrated_with() -> None:
    seen, unseen = Texts("seen", ("a", "b")), Texts("unseen", ("c", "d"))
    provenance = {"calibration": {"documents": list(seen.digests)}}
    require_unseen(unseen, provenance)
    require_unseen(seen, {})
    with pytest.raises(InvalidTextsError, match="mixed: the model was calibrated with 1 of the texts: 2"):
        require_unseen(Texts("mixed", ("c", "b")), provenance)


def test_a_model_is_not_compared_with_another_source_than_it_was_made_from(tmp_path: Path) -> None:
    """A branch that has moved, fetched again for other texts, would be measured as if quantizing had changed it."""
    volume = Volume(tmp_path)
    for key, content in (("v1-a", "one"), ("v1-b", "two")):
        with volume.staging(key, "me") as folder:
            (folder / "model.safetensors").write_text(content)
            volume.publish(key, folder, {})
    provenance = {"source": content_of(volume.folder("v1-a"))}
    require_same_source(volume.folder("v1-a"), provenance)
    require_same_source(volume.folder("v1-b"), {})
    require_same_source(tmp_path / "lies-elsewhere", provenance)
    with pytest.raises(RefusedError, match="another one than the model was made from") as refused:
        require_same_source(volume.folder("v1-b"), provenance)
    assert refused.value.reason is Reason.SOURCE_CHANGED
