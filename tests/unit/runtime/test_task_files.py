"""Tasks of a user's: plain values get through, and whatever would run code of theirs does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_runtime.artifacts.task_files import InvalidTasksError, Task, read_tasks

QUESTIONS = [{"question": f"{number} + 1 =", "answer": str(number + 1)} for number in range(4)]
TASK = {
    "task": "sums",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "sums.jsonl"}},
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
}
CHOICE = {
    **TASK,
    "task": "choice",
    "tag": ["own"],
    "metadata": {"version": 1.0},
    "output_type": "multiple_choice",
    "doc_to_choice": ["1", "2"],
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}, {"metric": "acc"}],
}


def read(folder: Path, *said: object, names: tuple[str, ...] = ("sums",)) -> tuple[Task, ...]:
    for at, text in enumerate(said):
        (folder / f"task{at}.yaml").write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    questions = folder / "sums.jsonl"
    if not questions.exists():
        questions.write_text("\n".join(map(json.dumps, QUESTIONS)))
    return read_tasks(folder, names)


def test_a_task_is_read_with_its_questions_and_without_where_they_are_from(tmp_path: Path) -> None:
    sums, choice = read(tmp_path, CHOICE, TASK, names=("sums", "choice"))
    assert (sums.name, sums.metric, sums.questions) == ("sums", "exact_match,none", {"test": QUESTIONS})
    assert choice.metric == "acc_norm,none"
    assert not {"dataset_path", "dataset_kwargs", "metadata", "tag"} & choice.settings.keys()
    assert choice.settings["metric_list"][1] == {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


def test_the_figure_that_counts_is_the_first_metric_after_the_first_filter(tmp_path: Path) -> None:
    filters = [
        {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "take_first"}]},
        {"name": "loose", "filter": [{"function": "take_first"}]},
    ]
    (task,) = read(tmp_path, {**TASK, "filter_list": filters})
    assert task.metric == "exact_match,strict"


def test_files_of_a_config_map_are_links_inside_of_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    (folder / "..data").mkdir(parents=True)
    (folder / "..data" / "sums.jsonl").write_text(json.dumps(QUESTIONS[0]))
    (folder / "sums.jsonl").symlink_to("..data/sums.jsonl")
    (task,) = read(folder, TASK)
    assert task.questions["test"] == QUESTIONS[:1]


GSM8K = r"""
tag:
  - math_word_problems
task: gsm8k
dataset_path: json
dataset_kwargs: {data_files: {train: sums.jsonl, test: sums.jsonl}}
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: "{{answer}}" #" {{answer.split('### ')[-1].rstrip()}}"
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\$", "(?s).*#### ", "\\.$"]
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  do_sample: false
  temperature: 0.0
repeats: 1
num_fewshot: 5
filter_list:
  - name: "strict-match"
    filter:
      - function: "regex"
        regex_pattern: "#### (\\-?[0-9\\.\\,]+)"
      - function: "take_first"
metadata:
  version: 3.0
"""


def test_a_task_of_lm_evals_own_is_taken_once_its_questions_lie_beside_it(tmp_path: Path) -> None:
    (task,) = read(tmp_path, GSM8K, names=("gsm8k",))
    assert task.metric == "exact_match,strict-match"
    assert task.settings["num_fewshot"] == 5


WITHOUT_ALIASES = "a: &a [x, x]\nb: [*a, *a]\ntask: sums\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"{yaml.safe_dump(TASK)}process_docs: !function utils.process\n", "no `!function`"),
        (f"{yaml.safe_dump(TASK)}doc_to_text: !!python/object/apply:os.system ['true']\n", "must be YAML of plain"),
        (WITHOUT_ALIASES, "aliases are not allowed"),
        ("task: [", "must be YAML"),
        ("- task", "must be an object with `task`"),
        ({**TASK, "task": "../sums"}, "must be an object with `task`"),
        ({**TASK, "class": "os.system"}, "class is not allowed"),
        ({**TASK, "include": "/etc/passwd"}, "include is not allowed"),
        ({**TASK, "custom_dataset": "os.system"}, "custom_dataset is not allowed"),
        ({**TASK, "process_results": "utils.process"}, "process_results is not allowed"),
        ({**TASK, "use_prompt": "prompts.py:all"}, "use_prompt is not allowed"),
        ({**TASK, "unsafe_code": True}, "unsafe_code is not allowed"),
        ({**TASK, "group": "all"}, "group is not allowed"),
        ({**TASK, "dataset_path": "somebody/scripts"}, r"dataset_path \(is somebody/scripts\): must be one of 'json'"),
        ({**TASK, "dataset_kwargs": {**TASK["dataset_kwargs"], "trust_remote_code": True}}, "data_files alone"),  # type: ignore[dict-item]
        ({**TASK, "dataset_kwargs": {"data_files": {}}}, "data_files alone"),
        ({**TASK, "dataset_kwargs": {"data_files": {"test": "https://example.com/a.jsonl"}}}, "cannot be read"),
        ({**TASK, "dataset_kwargs": {"data_files": {"test": "../other.jsonl"}}}, "in the folder"),
        ({**TASK, "dataset_kwargs": {"data_files": {"test": "/etc/passwd"}}}, "in the folder"),
        ({**TASK, "dataset_kwargs": {"data_files": {"test": "nothing.jsonl"}}}, "cannot be read"),
        ({**TASK, "metric_list": [{"metric": "./metric.py"}]}, "metric is one of exact_match, with"),
        ({**TASK, "metric_list": [{"metric": "acc"}]}, "metric is one of exact_match, with"),
        (
            {**CHOICE, "task": "sums", "metric_list": [{"metric": "exact_match"}]},
            "metric is one of acc, acc_norm, with",
        ),
        ({**TASK, "metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "metric is one of"),
        ({**TASK, "metric_list": []}, "metric is one of"),
        ({**TASK, "generation_kwargs": {"custom_generate": "./x", "trust_remote_code": True}}, "max_gen_toks"),
        ({**TASK, "generation_kwargs": {"do_sample": True}}, "max_gen_toks"),
        ({**TASK, "generation_kwargs": {"max_gen_toks": 10**9}}, "at most 4096"),
        ({**TASK, "filter_list": [{"name": "f", "filter": [{"function": "custom"}]}]}, "function is one of"),
        ({**TASK, "fewshot_config": {"samples": "os.listdir"}}, "sampler alone"),
        ({**TASK, "test_split": "train"}, r"test_split \(is train\): must be one of test"),
        ({**TASK, "test_split": None}, "test_split or validation_split is needed"),
        ({**TASK, "output_type": "loglikelihood_rolling"}, "output_type"),
        ({key: value for key, value in TASK.items() if key != "doc_to_text"}, "doc_to_text is missing"),
        ({**TASK, "task": "other"}, r"task \(is sums\): must be one of other"),
    ],
)
def test_what_would_run_code_or_read_other_files_is_refused(tmp_path: Path, said: Any, told: str) -> None:
    (tmp_path.parent / "other.jsonl").write_text("{}")
    (tmp_path / "utils.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(InvalidTasksError, match=told):
        read(tmp_path, said)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\xff"])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "sums.jsonl").write_bytes(content.encode("latin-1") or b"\n")
    with pytest.raises(InvalidTasksError, match=r"sums\.jsonl"):
        read(tmp_path, TASK)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidTasksError, match="the folder of tasks cannot be read"):
        read_tasks(tmp_path / "nothing", ("sums",))
