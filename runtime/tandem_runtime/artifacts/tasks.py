"""All contact with lm-evaluation-harness: lets a quantized model and its source do tasks.

Written against lm-eval 0.4.13. It gets tasks that `task_files` has let through, and models that are loaded: it has
nothing to fetch, and nothing of a user's to run. A task's templates are rendered in Jinja's sandbox: lm-eval's own
environment is none, and a template could start a program there.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from datasets import Dataset
from jinja2 import BaseLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval import utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from tandem_contracts.artifact_job import TaskSettings
from tandem_contracts.quality import TaskResult, recovery_percent_of
from tandem_contracts.termination import Phase
from tandem_runtime.artifacts.models import Models
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.task_files import InvalidTasksError, Task

BATCH = 8
SEED = 1234
"""Of the examples that are shown with a question: the same for both models."""


def _sandbox() -> ImmutableSandboxedEnvironment:
    sandbox = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters["regex_replace"] = utils.regex_replace
    return sandbox


# The one that `utils.apply_template` renders by.
utils.env = _sandbox()


def require_answerable(tasks: Sequence[Task]) -> None:
    """Refuse what lm-eval makes no task of, before models are loaded and compared. Raises InvalidTasksError."""
    for task in tasks:
        _asked(task)


def results_of(
    models: Models, tasks: Sequence[Task], wanted: Sequence[TaskSettings], *, tokenizer: Any, progress: Progress
) -> tuple[TaskResult, ...]:
    """One for each of `wanted`, which `tasks` are the files of. `tokenizer`: the source's. Raises InvalidTasksError."""
    done = 0
    progress.begin(Phase.EVALUATE, 0)
    progress.show(Phase.EVALUATE, lambda: float(done), 2 * len(tasks))
    results = []
    for task, settings in zip(tasks, wanted, strict=True):
        scores = []
        for model in (models.source, models.quantized):
            scores.append(score_of(model, task, limit=settings.limit, tokenizer=tokenizer))
            done += 1
        source, quantized = scores
        recovered = recovery_percent_of(source, quantized)
        results.append(
            TaskResult(
                name=task.name, metric=task.metric, source=source, quantized=quantized, recovery_percent=recovered
            )
        )
    return tuple(results)


def score_of(model: Any, task: Task, *, limit: int, tokenizer: Any) -> float:
    """The task's figure of one model, over the first `limit` questions, 0: all. Raises InvalidTasksError."""
    asked = _asked(task)
    asked.set_fewshot_seed(seed=SEED)
    answering = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH)
    try:
        with torch.inference_mode():
            told = evaluate(
                answering, {"tasks": {task.name: asked}}, limit=limit or None, bootstrap_iters=0, log_samples=False
            )
    except TemplateError as error:
        raise InvalidTasksError(f"task {task.name}: a template fails: {error}") from error
    return float(told["results"][task.name][task.metric])


def _asked(task: Task) -> ConfigurableTask:
    try:
        splits = {split: Dataset.from_list([dict(row) for row in rows]) for split, rows in task.questions.items()}
        return ConfigurableTask(config={**deepcopy(dict(task.settings)), "custom_dataset": lambda **_: splits})
    except Exception as error:  # lm-eval asks the first question, with whatever error
        raise InvalidTasksError(f"task {task.name}: lm-eval refuses it: {error}") from error
