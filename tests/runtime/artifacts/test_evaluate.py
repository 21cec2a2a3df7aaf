"""Tasks and long contexts by the program of a Job; the cache in FP8 is measured as an engine keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.fixtures.environment import artifacts_environment
from deploy.fixtures.pair import ModelPair
from tandem_contracts.artifact_job import (
    EVALUATE_MODULE,
    QUANTIZE_MODULE,
    Evaluated,
    TaskSettings,
    evaluate_arguments,
    quantize_arguments,
)
from tandem_contracts.recipe import Algorithm, CalibrationSettings, KVCache, Recipe, Scheme
from tandem_contracts.reference import WINDOWS, Reference
from tandem_contracts.termination import ExitCode, Reason
from tests.runtime.artifacts.programs import Ended, run
from tests.runtime.probes import answers_of

pytestmark = pytest.mark.timeout(900)

KEY = "v1-quantized"
RECIPE = Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.RTN, kv_cache=KVCache.FP8)
FEW = CalibrationSettings(samples=4, sequence_tokens=128)
SUMS = {
    "task": "sums",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "sums.jsonl"}},
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{first}} + {{second}} =",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "num_fewshot": 2,
}
WORDS = {
    **SUMS,
    "task": "words",
    "output_type": "generate_until",
    "doc_to_text": "import {{first}}\n",
    "doc_to_target": "{{first}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 0},
    "metric_list": [{"metric": "exact_match"}],
    "num_fewshot": 0,
}
del WORDS["doc_to_choice"]


@pytest.fixture(scope="module")
def answers(models: ModelPair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, probe = tmp_path_factory.mktemp("evaluation"), "artifacts/evaluation_probe.py"
    return answers_of(probe, str(models.draft), str(folder), python=artifacts_environment(), limit_seconds=600)


@pytest.fixture(scope="module")
def volume(models: ModelPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an artifact whose cache is in FP8."""
    folder = tmp_path_factory.mktemp("quantized")
    arguments = quantize_arguments(source=str(models.draft), key=KEY, owner="pod", recipe=RECIPE, calibration=FEW)
    ended = run(QUANTIZE_MODULE, [*arguments, f"--volume={folder}", "--metrics-port=0"], folder / "try")
    assert ended.code == ExitCode.OK, ended.output
    return folder


class Evaluating:
    """A folder of tasks, and an artifact."""

    def __init__(self, folder: Path, source: Path, volume: Path) -> None:
        self._folder, self._source, self._volume, self.tasks = folder, source, volume, folder / "tasks"
        self.tasks.mkdir()
        rows = [{"first": n, "second": 1, "choices": [str(n + 1), str(n + 2)], "answer": 0} for n in range(8)]
        (self.tasks / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def write(self, *tasks: dict[str, Any], more: str = "") -> None:
        for task in tasks:
            (self.tasks / f"{task['task']}.yaml").write_text(yaml.safe_dump(task) + more)

    def run(self, *tasks: TaskSettings, long_context_tokens: int = 0) -> Ended:
        arguments = evaluate_arguments(
            source=str(self._source),
            key=KEY,
            tasks_folder=str(self.tasks),
            tasks=tasks,
            long_context_tokens=long_context_tokens,
        )
        arguments += [f"--volume={self._volume}", "--metrics-port=0"]
        return run(EVALUATE_MODULE, arguments, self._folder / "try")


@pytest.fixture
def evaluating(tmp_path: Path, models: ModelPair, volume: Path) -> Evaluating:
    return Evaluating(tmp_path, models.draft, volume)


def test_what_is_wanted_is_measured_of_both_models(evaluating: Evaluating) -> None:
    evaluating.write(SUMS, WORDS)
    wanted = (TaskSettings(name="words", limit=3), TaskSettings(name="sums"))
    ended = evaluating.run(*wanted, long_context_tokens=16384)
    assert ended.code == ExitCode.OK, ended.output
    quality = Evaluated.decode(ended.last_word).quality
    words, sums = quality.tasks
    assert (words.name, words.metric) == ("words", "exact_match,none")
    assert (sums.name, sums.metric) == ("sums", "acc,none")
    assert sums.source > 0
    assert sums.recovery_percent == pytest.approx(100 * sums.quantized / sums.source)
    assert quality.long_context is not None
    assert (quality.long_context.tokens, quality.long_context.wanted_tokens) == (2048, 16384)


def test_a_task_that_would_run_code_ends_the_program_and_its_code_has_not_run(evaluating: Evaluating) -> None:
    mark = evaluating.tasks / "mark"
    (evaluating.tasks / "utils.py").write_text(f"open({str(mark)!r}, 'w')\ndef process(documents): return documents\n")
    evaluating.write(SUMS, more="process_docs: !function utils.process\n")
    ended = evaluating.run(TaskSettings(name="sums"))
    assert (ended.code, ended.refusal.reason) == (ExitCode.TASKS_INVALID, Reason.TASKS_INVALID), ended.output
    assert "sums.yaml: must be YAML of plain values, no `!function`" in ended.refusal.message
    assert not mark.exists()


def test_a_task_that_lm_eval_refuses_is_told_before_anything_is_compared(evaluating: Evaluating) -> None:
    evaluating.write({**SUMS, "doc_to_text": "{{ cycler.__init__.__globals__.os.getpid() }}"})
    ended = evaluating.run(TaskSettings(name="sums"))
    assert (ended.code, ended.refusal.reason) == (ExitCode.TASKS_INVALID, Reason.TASKS_INVALID), ended.output
    assert "Loading weights" not in ended.output


def test_a_context_that_is_too_short_to_say_anything_is_refused(evaluating: Evaluating) -> None:
    ended = evaluating.run(long_context_tokens=512)
    assert (ended.code, ended.refusal.reason) == (ExitCode.SOURCE_INVALID, Reason.CONFIG_INVALID), ended.output
    assert "must be 1024 or more" in ended.refusal.message


def test_keys_and_values_are_rounded_as_by_hand_with_the_scales_of_the_files(answers: dict[str, Any]) -> None:
    assert answers["by hand"] == pytest.approx(0, abs=1e-5)
    assert answers["with a cache"] == pytest.approx(0, abs=1e-4)
    assert answers["cache as computed"] > 0.01


def test_what_the_cache_costs_is_in_the_figures(answers: dict[str, Any]) -> None:
    assert answers["coarse scales"] > 0.1
    assert answers["divergence with coarse scales"] > 2 * answers["divergence"]


def test_a_cache_without_scales_has_those_that_an_engine_takes(answers: dict[str, Any]) -> None:
    assert set(answers["scales where there are none"]) == {1.0}


def test_what_is_recorded_is_what_the_quantized_model_says_of_windows_spread_over_all(answers: dict[str, Any]) -> None:
    found, windows = Reference.from_data(answers["recorded"]["plain"]), answers["recorded"]["windows"]
    assert [list(window.tokens) for window in found.windows] == windows[::5]
    assert len(found.windows) == WINDOWS
    assert list(found.windows[0].losses) == pytest.approx(answers["recorded"]["losses"], abs=0.02)
    assert 0 < found.spread < 0.1


def test_a_token_that_stands_before_every_text_stands_before_each_window(answers: dict[str, Any]) -> None:
    found, windows = Reference.from_data(answers["recorded"]["begun"]), answers["recorded"]["windows"]
    assert [list(window.tokens) for window in found.windows] == [[7, *window[:23]] for window in windows[::5]]


def test_recall_is_a_share_and_told_with_the_length_that_was_wanted(answers: dict[str, Any]) -> None:
    found = answers["long context"]
    assert (found["tokens"], found["wantedTokens"]) == (2048, 4096)
    assert 0 <= found["recall"] <= 1


def test_the_most_likely_tokens_are_those_of_a_whole_pass(answers: dict[str, Any]) -> None:
    assert answers["found"] == [True, True]


def test_a_template_cannot_leave_its_sandbox(answers: dict[str, Any]) -> None:
    assert not answers["escaped"]
    for told in answers["escapes"]:
        assert told.startswith("task sums: lm-eval refuses it"), told
        assert "unsafe" in told or "not safely callable" in told, told
    assert "'nothing' is undefined" in answers["undefined"]


def test_a_limit_takes_the_first_questions(answers: dict[str, Any]) -> None:
    assert answers["score of two"] in {0, 0.5, 1}
    assert 0 <= answers["score"] <= 1
