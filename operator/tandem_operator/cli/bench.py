"""`tandem bench`: vLLM's own benchmark client, as a Job in the cluster, against the Service that clients use.

The Job is the user's, made with their rights, and belongs to the LLMDeployment. What it has measured is taken into the
status by the operator, so that it is not lost with this command.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tandem_contracts.benchmark import RANGES, Load, progress_in
from tandem_contracts.launch import InvalidLaunchOptionsError, Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.benchmark_facts import LABEL_JOB, Benchmark, results_in
from tandem_operator.benchmark_status import status_of_benchmark
from tandem_operator.causes import mishap_of, trouble_of
from tandem_operator.cli.bench_table import KEYS, table
from tandem_operator.cli.command import Command, on_a_resource, with_output, written
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import DIM, Screen
from tandem_operator.facts import Manifest, PodFacts
from tandem_operator.facts_parsing import pod_of
from tandem_operator.masking import one_line
from tandem_operator.objects.benchmark_job import benchmark_job_of

POLL_SECONDS = 2.0
STATUS_LIMIT_SECONDS = 15.0
"""In which an operator that runs has taken the result in."""
DEADLINE_SECONDS = 3600
OVERTIME_SECONDS = 60
"""In which a Job past its deadline has been ended."""
_RANGES = {**RANGES, "rate": (0.01, RANGES["rate"][1]), "deadline": (60, 86400)}
_LOG_LINES = 20
_CLEAR = "\r\x1b[K"


def _in_range(name: str, kind: type[int] | type[float]) -> Callable[[str], float]:
    least, most = _RANGES[name]

    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"(is {text}): must be from {least:g} to {most:.12g}")
        return value

    read.__name__ = "number"
    return read


def _add_arguments(command: argparse.ArgumentParser) -> None:
    on_a_resource(command)
    of = Load()
    numbers = {
        "prompts": (of.prompts, "requests"),
        "input_tokens": (of.input_tokens, "random tokens of each prompt"),
        "output_tokens": (of.output_tokens, "tokens of each answer, whatever the model would say"),
    }
    for name, (default, told) in numbers.items():
        flag = f"--{name.replace('_', '-')}"
        command.add_argument(flag, type=_in_range(name, int), metavar="N", default=default, help=told)
    pace = command.add_mutually_exclusive_group()
    pace.add_argument(
        "--concurrency",
        type=_in_range("concurrency", int),
        metavar="N",
        default=of.concurrency,
        help="requests at any time",
    )
    pace.add_argument(
        "--rate",
        type=_in_range("rate", float),
        metavar="N",
        help="requests a second, at random intervals, whatever is still being answered; instead of --concurrency",
    )
    command.add_argument(
        "--temperature", type=_in_range("temperature", float), metavar="T", default=of.temperature, help="0: greedy"
    )
    command.add_argument(
        "--seed",
        type=_in_range("seed", int),
        metavar="N",
        help="of the prompts; omitted: another one each time, since engines have prompts in their prefix cache that "
        "they have seen",
    )
    command.add_argument(
        "--deadline",
        type=_in_range("deadline", int),
        metavar="SECONDS",
        default=DEADLINE_SECONDS,
        help="after which the Job is given up, its start included",
    )
    command.add_argument("--detach", action="store_true", help="do not wait: the result will be in the status")
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    load = Load(
        prompts=options.prompts,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        concurrency=options.concurrency,
        rate=options.rate or 0.0,
        temperature=options.temperature,
        seed=seed,
    )
    bench = Bench(Connection.of(options), options.name, load, deadline_seconds=options.deadline)
    job = bench.start()
    if options.detach:
        note = f"Job {job} measures it; status.benchmark of the resource will tell"
        _show(options, screen, {"job": job}, [note], told=[f"{options.name}: {note}"])
        return 0
    told, notes = bench.finish(job, Progress(Screen.of(sys.stderr)))
    _show(options, screen, told, notes, told=table(options.name, told, notes=notes, paint=screen.paint))
    return 1 if told["failed"] else 0


def _show(
    options: argparse.Namespace, screen: Screen, benchmark: Manifest, notes: Sequence[str], *, told: Iterable[str]
) -> None:
    """To a program as `-o` asks for it, or what a person is told."""
    if options.output:
        screen.write(written({"name": options.name, "benchmark": benchmark, "notes": list(notes)}, options.output))
    else:
        screen.write("".join(f"{line}\n" for line in told))


BENCH = Command(
    "measure latency, throughput and memory under a load of your choice",
    _run,
    add_arguments=_add_arguments,
    description="Measure latency, throughput and memory: a Job asks the deployment's Service with random prompts, by "
    "vLLM's own benchmark client, and the result is shown and kept in status.benchmark, beside what quantizing has "
    "cost. Requests compete with those of others, and count for autoscaling. Ctrl-C deletes the Job. Exit code 1 also "
    "when a request was not answered. Wants the rights to get Deployments, list pods, and create, list, get and delete "
    "Jobs; with those to get pods/log and to list events it says how far it is.",
    keys=KEYS,
)


class JobFailedError(CommandError):
    """The Job has ended without a result."""


@dataclass
class Progress:
    """How far it is, for a person: one line that changes on a terminal, else a line where something is new."""

    screen: Screen
    _last: str = ""

    def show(self, line: str, *, is_news: bool = True) -> None:
        """`is_news`: worth a line of its own where lines stay."""
        if line == self._last or not (is_news or self.screen.is_terminal):
            return
        self._last = line
        text = self.screen.paint(line, DIM)
        self.screen.write(f"{_CLEAR}{text}" if self.screen.is_terminal else f"{text}\n")

    def end(self, line: str = "") -> None:
        """Nothing of it stays on a terminal but this last line."""
        if self.screen.is_terminal and self._last:
            self.screen.write(_CLEAR)
        self._last = ""
        if line:
            self.screen.write(f"{line}\n")


@dataclass
class Bench:
    """One benchmark. `wait` and `clock` are those of a test, where it has some."""

    connection: Connection
    name: str
    load: Load
    deadline_seconds: int = DEADLINE_SECONDS
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _revision: str = ""
    _tenth: int = -1

    def start(self) -> str:
        """Make the Job; its name. Raises CommandError, with exit code 2 when there is no such resource."""
        body = self.connection.get(names.KIND, self.name)
        self._revision = ((body.get("status") or {}).get(Role.VERIFIER.value) or {}).get("revision", "")
        pods = self._pods()
        if not self._revision or Role.VERIFIER not in pods:
            raise CommandError(f"{self.name} has no Ready verifier pod that could be measured")
        self._require_alone()
        workload = names.role_child_name(self.name, Role.VERIFIER, revision=self._revision)
        template = self.connection.get("Deployment", workload)["spec"]["template"]
        try:
            job = benchmark_job_of(
                Owner.of(body),
                self.load,
                ending=secrets.token_hex(3),
                template=template,
                revision=self._revision,
                pods=pods,
                deadline_seconds=self.deadline_seconds,
            )
        except InvalidLaunchOptionsError as error:
            told = f"Deployment {workload} was made by another version of the operator than this command's: {error}"
            raise CommandError(told) from error
        return str(self.connection.create(job)["metadata"]["name"])

    def finish(self, job: str, progress: Progress) -> tuple[Manifest, list[str]]:
        """Wait for the result: as the status has it, and what there is to say of it. Raises CommandError for a Job
        that failed. Ctrl-C deletes the Job.
        """
        try:
            seen = self._wait_for_end(job, progress)
        except KeyboardInterrupt:
            self.connection.delete("Job", job)
            progress.end(f"Job {job} is deleted")
            raise
        finally:
            progress.end()
        progress.show("waiting for the operator to take it in")
        try:
            return self._as_status_has_it(seen)
        finally:
            progress.end()

    def _pods(self) -> dict[Role, list[str]]:
        """Addresses of the Ready pods; a revision that is only coming up is not asked by anybody."""
        found: dict[Role, list[str]] = {}
        for item in self.connection.get("Pod", labelSelector=f"{names.LABEL_DEPLOYMENT}={self.name}")["items"]:
            pod = pod_of({**item, "kind": "Pod"})
            if pod is not None and self._is_asked(pod):
                found.setdefault(pod.role, []).append(pod.address)
        return {role: sorted(addresses) for role, addresses in found.items()}

    def _is_asked(self, pod: PodFacts) -> bool:
        is_serving = pod.role is Role.DRAFT or pod.revision == self._revision
        return pod.is_ready and not pod.is_going and bool(pod.address) and is_serving

    def _require_alone(self) -> None:
        selector = f"{names.LABEL_DEPLOYMENT}={self.name},{names.LABEL_COMPONENT}={names.BENCHMARK}"
        for job in self.connection.get("Job", labelSelector=selector)["items"]:
            if _end_of(job) is None:
                told = f"Job {job['metadata']['name']} measures {self.name} already; both would measure each other"
                raise CommandError(told)

    def _wait_for_end(self, job: str, progress: Progress) -> Benchmark:
        """A request that is not answered is tried again: the Job goes on whoever looks."""
        until = self.clock() + self.deadline_seconds + OVERTIME_SECONDS
        while True:
            try:
                seen = self._look(job, progress)
            except JobFailedError:
                raise
            except CommandError as error:
                if error.exit_code == 2 or self.clock() >= until:
                    raise
                seen = None
                progress.show(f"Job {job}: {error}")
            if seen is not None:
                return seen
            if self.clock() >= until:
                raise CommandError(
                    f"Job {job} has no end {self.deadline_seconds + OVERTIME_SECONDS} s after it was made"
                )
            self.wait(POLL_SECONDS)

    def _look(self, job: str, progress: Progress) -> Benchmark | None:
        end = _end_of(self.connection.get("Job", job))
        pods = self.connection.get("Pod", labelSelector=f"{LABEL_JOB}={job}")["items"]
        results = [result for pod in pods for result in results_in(pod)]
        if results:
            at, result = max(results, key=lambda each: each[0])
            return Benchmark(job, self._revision, at, result)
        if end is not None:
            told = next(_troubles(pods), "") or end or "it left no result"
            raise JobFailedError(f"Job {job} failed: {told}")
        self._say(job, pods, progress)
        return None

    def _say(self, job: str, pods: Sequence[Manifest], progress: Progress) -> None:
        running = next((pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"), None)
        if running is None:
            trouble = next(_troubles(pods), "") if pods else self._mishap(job)
            progress.show(f"Job {job}: {trouble or 'its pod starts'}")
            return
        done = self._done(running["metadata"]["name"])
        if done is None:
            progress.show(f"Job {job}: its pod runs")
            return
        tenth = 10 * done // self.load.prompts
        is_news, self._tenth = tenth != self._tenth, tenth
        progress.show(f"Job {job}: {done} of {self.load.prompts} requests", is_news=is_news)

    def _mishap(self, job: str) -> str:
        """Why it may make no pod (a quota, an admission policy), where events may be read."""
        try:
            found = self.connection.get("Event", fieldSelector=f"regarding.kind=Job,regarding.name={job}")
        except CommandError:
            return ""
        return mishap_of(found["items"])

    def _done(self, pod: str) -> int | None:
        """Requests that are over; None where that is not known."""
        try:
            log = self.connection.log(pod, names.BENCHMARK, lines=_LOG_LINES, is_previous=False)
        except CommandError:
            return None
        return progress_in(log, self.load.prompts)

    def _as_status_has_it(self, seen: Benchmark) -> tuple[Manifest, list[str]]:
        until = self.clock() + STATUS_LIMIT_SECONDS
        while True:
            status: Mapping[str, Manifest] = self.connection.get(names.KIND, self.name).get("status") or {}
            told = status.get("benchmark") or {}
            if told.get("job") == seen.job:
                return told, _errors(seen)
            if self.clock() >= until:
                note = "the operator has not taken it into the status yet; what quantizing has cost is not shown"
                shown = status_of_benchmark(seen, {}).model_dump(mode="json", by_alias=True, exclude_none=True)
                return shown, [*_errors(seen), note]
            self.wait(POLL_SECONDS)


def _errors(seen: Benchmark) -> list[str]:
    return [f"the first request that failed: {one_line(seen.result.error)}"] if seen.result.error else []


def _end_of(job: Manifest) -> str | None:
    """What its controller says of its end, perhaps nothing; None while it runs."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] in {"Complete", "Failed"} and condition.get("status") == "True":
            return one_line(condition.get("message", ""))
    return None


def _troubles(pods: Sequence[Manifest]) -> Iterator[str]:
    return (trouble for pod in pods if (trouble := trouble_of(pod)))
