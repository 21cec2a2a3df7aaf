"""`tandem bench`: the Job that it makes, what it says while it waits, and what it shows at the end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_contracts.benchmark import BenchmarkOptions, Load
from tandem_contracts.launch import Role
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.cli import bench
from tandem_operator.cli.bench import Bench, Progress
from tandem_operator.cli.bench_table import KEYS, table
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.main import main
from tandem_operator.cli.screen import PLAIN, Screen
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tandem_operator.objects.pod_template import pod_template_of
from tests.builders import NAME, NAMESPACE, UID, make_body, make_inputs, make_raw_pod
from tests.unit.operator.benchmarks import RESULT, REVISION, ended, make_job, make_job_pod
from tests.unit.operator.user_cluster import UserCluster, user_cluster

LOAD = Load(prompts=20, seed=7)
READY = [{"type": "Ready", "status": "True"}]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[UserCluster]:
    with user_cluster(tmp_path) as made:
        body = {**make_body(), "status": {"verifier": {"revision": REVISION}}}
        made.put(names.KIND, body)
        template = pod_template_of(Owner(name=NAME, namespace=NAMESPACE, uid=UID), make_inputs())
        workload = names.role_child_name(NAME, Role.VERIFIER, revision=REVISION)
        made.put("Deployment", {"metadata": {"name": workload}, "spec": {"template": template}})
        for name, role, revision, address in (
            ("v", Role.VERIFIER, REVISION, "10.0.0.1"),
            ("next", Role.VERIFIER, "aaaaaaaa", "10.0.0.2"),
            ("d", Role.DRAFT, "51c0aa72", "10.0.0.3"),
        ):
            made.put("Pod", make_raw_pod(role, revision, name=name, podIP=address, conditions=READY))
        yield made


def of_user(cluster: UserCluster) -> Connection:
    return Connection.open(kubeconfig=str(cluster.kubeconfig), context=None, namespace=NAMESPACE)


def job_in(cluster: UserCluster) -> Manifest:
    (found,) = (each for path, each in cluster.objects.items() if path.startswith(KINDS["Job"].path(NAMESPACE)))
    return found


def at_each_wait(*steps: Callable[[], object]) -> Callable[[float], None]:
    """What happens in the cluster while the command waits, one thing at a time."""
    left = list(steps)

    def wait(_: float) -> None:
        assert left, "it still waits when all has happened"
        left.pop(0)()

    return wait


def finished(cluster: UserCluster, *, is_taken_in: bool = True, **changes: Any) -> None:
    """The pod has said its last word, and the operator has read it."""
    job = job_in(cluster)["metadata"]["name"]
    result = replace(RESULT, **changes)
    cluster.put("Pod", make_job_pod(job, **ended(result.encode())))
    if is_taken_in:
        told = {"job": job, "ended": "2030-01-01T00:00:00Z", "completed": result.completed, "failed": result.failed}
        load = {"prompts": 20, "inputTokens": 64, "outputTokens": 32, "concurrency": 4}
        path = KINDS[names.KIND].path(NAMESPACE, NAME)
        cluster.objects[path]["status"]["benchmark"] = {**told, "duration": "12.5s", "load": load}


def test_the_job_asks_the_pods_that_serve_and_belongs_to_the_resource(cluster: UserCluster) -> None:
    name = Bench(of_user(cluster), NAME, LOAD).start()
    job = job_in(cluster)
    assert job["metadata"]["name"] == name
    assert name.startswith(f"{NAME}-benchmark-")
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == (names.KIND, UID)
    options = BenchmarkOptions.parse(job["spec"]["template"]["spec"]["containers"][0]["args"])
    assert (options.verifiers, options.drafts, options.load) == ("10.0.0.1", "10.0.0.3", LOAD)


def test_what_is_asked_is_a_matter_of_options(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--prompts",
        "5",
        "--input-tokens",
        "9",
        "--output-tokens",
        "3",
        "--rate",
        "2.5",
        "--seed",
        "4",
        "--detach",
    )
    assert main(cluster.options("bench", NAME, *words, "--deadline", "90")) == 0
    job = job_in(cluster)
    options = BenchmarkOptions.parse(job["spec"]["template"]["spec"]["containers"][0]["args"])
    assert options.load == Load(prompts=5, input_tokens=9, output_tokens=3, rate=2.5, seed=4)
    assert job["spec"]["activeDeadlineSeconds"] == 90
    said = capsys.readouterr().out
    assert said == f"{NAME}: Job {job['metadata']['name']} measures it; status.benchmark of the resource will tell\n"


def test_prompts_are_others_each_time_unless_a_seed_is_given(cluster: UserCluster) -> None:
    seeds = set()
    for _ in range(2):
        assert main(cluster.options("bench", NAME, "--detach")) == 0
        job = job_in(cluster)
        seeds.add(BenchmarkOptions.parse(job["spec"]["template"]["spec"]["containers"][0]["args"]).seed)
        del cluster.objects[KINDS["Job"].path(NAMESPACE, job["metadata"]["name"])]
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompts", "0"), "(is 0): must be from 1 to 100000"),
        (("--rate", "0"), "(is 0): must be from 0.01 to 10000"),
        (("--deadline", "5"), "(is 5): must be from 60 to 86400"),
        (("--prompts", "x"), "invalid number value: 'x'"),
        (("--rate", "1", "--concurrency", "2"), "not allowed with argument"),
    ],
)
def test_options_out_of_their_ranges_are_refused(
    cluster: UserCluster, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(cluster.options("bench", NAME, *words))
    assert refused.value.code == 2
    assert said in capsys.readouterr().err
    assert cluster.asked("POST") == []


def test_progress_is_told_and_the_result_is_what_the_status_has(cluster: UserCluster) -> None:
    stream = io.StringIO()
    found = Bench(of_user(cluster), NAME, LOAD)
    name = found.start()
    waiting = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]
    log = f"{KINDS['Pod'].path(NAMESPACE, f'{name}-x2k9p')}/log"

    def at_work(done: int) -> None:
        cluster.put("Pod", make_job_pod(name, phase="Running"))
        cluster.texts[log] = f" 10%|#    | {done}/20 [00:01<00:09, 1.0it/s]\n"

    found.wait = at_each_wait(
        lambda: cluster.put("Pod", make_job_pod(name, phase="Pending", conditions=waiting)),
        lambda: cluster.put("Pod", make_job_pod(name, phase="Running")),
        lambda: at_work(5),
        lambda: at_work(5),
        lambda: at_work(15),
        lambda: finished(cluster, is_taken_in=False),
        lambda: finished(cluster),
    )
    told, notes = found.finish(name, Progress(Screen(stream, is_terminal=False, paint=PLAIN)))
    assert (told["job"], notes) == (name, [])
    assert stream.getvalue().splitlines() == [
        f"Job {name}: its pod starts",
        f"Job {name}: Unschedulable: 0/3 nodes",
        f"Job {name}: its pod runs",
        f"Job {name}: 5 of 20 requests",
        f"Job {name}: 15 of 20 requests",
        "waiting for the operator to take it in",
    ]


def test_why_a_job_may_make_no_pod_is_told_and_a_server_that_is_silent_for_a_while_ends_nothing(
    cluster: UserCluster,
) -> None:
    stream = io.StringIO()
    found = Bench(of_user(cluster), NAME, LOAD)
    name = found.start()
    event = {"type": "Warning", "reason": "FailedCreate", "note": "exceeded quota: none"}
    cluster.put("Event", {"metadata": {"name": "e"}, **event})
    found.wait = at_each_wait(
        lambda: cluster.forbidden.add("/events"),
        lambda: cluster.forbidden.add("/jobs/"),
        lambda: cluster.forbidden.clear(),
        lambda: finished(cluster),
    )
    assert found.finish(name, Progress(Screen(stream, is_terminal=False, paint=PLAIN)))[0]["job"] == name
    quota, unknown, silent, again, *_ = stream.getvalue().splitlines()
    assert quota == again == f"Job {name}: FailedCreate: exceeded quota: none"
    assert unknown == f"Job {name}: its pod starts"
    assert "is forbidden" in silent


def test_a_job_that_somebody_deletes_ends_it_and_so_does_one_without_an_end(cluster: UserCluster) -> None:
    progress = Progress(Screen(io.StringIO(), is_terminal=False, paint=PLAIN))
    found = Bench(of_user(cluster), NAME, LOAD)
    name = found.start()
    path = KINDS["Job"].path(NAMESPACE, name)
    job = cluster.objects[path]
    found.wait = at_each_wait(lambda: cluster.objects.pop(path))
    with pytest.raises(CommandError) as gone:
        found.finish(name, progress)
    assert gone.value.exit_code == 2
    now = [0.0]
    found.clock = lambda: now[0]
    cluster.objects[path] = job
    found.wait = at_each_wait(lambda: now.append(now.pop() + found.deadline_seconds + bench.OVERTIME_SECONDS))
    with pytest.raises(CommandError, match="has no end 3660 s after it was made"):
        found.finish(name, progress)


def test_without_the_right_to_logs_it_waits_all_the_same(cluster: UserCluster) -> None:
    cluster.forbidden.add("/log")
    found = Bench(of_user(cluster), NAME, LOAD)
    name = found.start()
    cluster.put("Pod", make_job_pod(name, phase="Running"))
    found.wait = at_each_wait(lambda: finished(cluster))
    assert found.finish(name, Progress(Screen(io.StringIO(), is_terminal=False, paint=PLAIN)))[0]["job"] == name


def test_without_an_operator_the_jobs_own_word_is_shown(cluster: UserCluster) -> None:
    now = [0.0]
    found = Bench(of_user(cluster), NAME, LOAD, clock=lambda: now[0])
    name = found.start()
    finished(cluster, is_taken_in=False, failed=1, error="Bad Request\n")
    found.wait = at_each_wait(lambda: now.append(now.pop() + bench.STATUS_LIMIT_SECONDS))
    told, notes = found.finish(name, Progress(Screen(io.StringIO(), is_terminal=False, paint=PLAIN)))
    assert (told["job"], told["timeToFirstToken"]["mean"], told["revision"]) == (name, "112ms", REVISION)
    assert notes[0] == "the first request that failed: Bad Request"
    assert notes[1].startswith("the operator has not taken it into the status yet")


FAILED = TerminationMessage(
    code=ExitCode.STEP_FAILED,
    phase=Phase.BENCHMARK,
    reason=Reason.STEP_FAILED,
    message="none of 20 requests was answered",
)


def test_a_job_that_failed_is_told_with_its_cause(cluster: UserCluster) -> None:
    found = Bench(of_user(cluster), NAME, LOAD)
    name = found.start()
    cluster.put("Pod", make_job_pod(name, **ended(FAILED.encode(), code=24)))
    cluster.put("Job", make_job(name, conditions=[{"type": "Failed", "status": "True", "message": "BackoffLimit"}]))
    with pytest.raises(CommandError, match=f"Job {name} failed: StepFailed: none of 20 requests was answered"):
        found.finish(name, Progress(Screen(io.StringIO(), is_terminal=False, paint=PLAIN)))


def test_a_job_past_its_deadline_is_told_in_its_controllers_words(cluster: UserCluster) -> None:
    found = Bench(of_user(cluster), NAME, LOAD)
    name = found.start()
    over = {"type": "Failed", "status": "True", "message": "Job was active longer than specified deadline"}
    cluster.put("Job", make_job(name, conditions=[over]))
    with pytest.raises(CommandError, match="Job was active longer than specified deadline"):
        found.finish(name, Progress(Screen(io.StringIO(), is_terminal=False, paint=PLAIN)))


def test_ctrl_c_deletes_the_job(cluster: UserCluster) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    found = Bench(of_user(cluster), NAME, LOAD, wait=interrupted)
    name = found.start()
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        found.finish(name, Progress(Screen(stream, is_terminal=False, paint=PLAIN)))
    assert cluster.asked("DELETE") == [KINDS["Job"].path(NAMESPACE, name)]
    assert stream.getvalue().splitlines()[-1] == f"Job {name} is deleted"


def test_ctrl_c_after_its_end_deletes_nothing(cluster: UserCluster) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    found = Bench(of_user(cluster), NAME, LOAD, wait=interrupted)
    name = found.start()
    finished(cluster, is_taken_in=False)
    with pytest.raises(KeyboardInterrupt):
        found.finish(name, Progress(Screen(io.StringIO(), is_terminal=False, paint=PLAIN)))
    assert cluster.asked("DELETE") == [], "the operator may still read it"


def test_on_a_terminal_one_line_changes_and_nothing_of_it_stays() -> None:
    stream = io.StringIO()
    progress = Progress(Screen(stream, is_terminal=True, paint=PLAIN))
    progress.show("1 of 20", is_news=False)
    progress.show("2 of 20", is_news=False)
    progress.end("over")
    progress.end()
    assert stream.getvalue() == "\r\x1b[K1 of 20\r\x1b[K2 of 20\r\x1b[Kover\n"


def test_two_at_once_would_measure_each_other(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.put("Job", make_job("running", active=1))
    assert main(cluster.options("bench", NAME)) == 1
    assert "Job running measures pair already" in capsys.readouterr().err
    cluster.put("Job", make_job("running", conditions=[{"type": "Complete", "status": "True"}]))
    assert main(cluster.options("bench", NAME, "--detach")) == 0


def test_without_a_ready_verifier_there_is_nothing_to_measure(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    del cluster.objects[KINDS["Pod"].path(NAMESPACE, "v")]
    assert main(cluster.options("bench", NAME)) == 1
    assert "pair has no Ready verifier pod that could be measured" in capsys.readouterr().err


def test_a_template_of_another_version_is_refused_with_its_flag(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = names.role_child_name(NAME, Role.VERIFIER, revision=REVISION)
    template = cluster.objects[KINDS["Deployment"].path(NAMESPACE, workload)]["spec"]["template"]
    template["spec"]["containers"][0]["args"].append("--of-tomorrow=1")
    assert main(cluster.options("bench", NAME)) == 1
    said = capsys.readouterr().err
    assert "another version of the operator" in said
    assert "--of-tomorrow" in said


def test_a_resource_that_is_not_there_is_exit_code_2(cluster: UserCluster) -> None:
    assert main(cluster.options("bench", "other")) == 2


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 1)])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_for_programs_it_is_one_document_and_the_exit_code_tells_of_failures(
    cluster: UserCluster, form: str, failed: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.controllers.append(lambda _: finished(cluster, failed=failed))
    assert main(cluster.options("bench", NAME, "-o", form)) == code
    text = capsys.readouterr().out
    document = json.loads(text) if form == "json" else yaml.safe_load(text)
    assert document.keys() == KEYS.keys()
    assert document["benchmark"]["failed"] == failed


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_for_programs_who_do_not_wait_the_document_has_the_job(
    cluster: UserCluster, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(cluster.options("bench", NAME, "--detach", "-o", form)) == 0
    text = capsys.readouterr().out
    document = json.loads(text) if form == "json" else yaml.safe_load(text)
    assert document.keys() == KEYS.keys()
    assert document["benchmark"] == {"job": job_in(cluster)["metadata"]["name"]}
    assert "status.benchmark" in document["notes"][0]


def test_status_shows_it_in_a_line_and_to_programs_whole(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.objects[KINDS[names.KIND].path(NAMESPACE, NAME)]["status"]["benchmark"] = TOLD
    main(cluster.options("status", NAME))
    line = "last benchmark (revision 7f3a90c1, 2030-01-01T00:01:00Z): first token 200ms, per output token – (p95), "
    assert f"{line}51 output tokens/s" in capsys.readouterr().out
    main(cluster.options("status", NAME, "-o", "json"))
    assert json.loads(capsys.readouterr().out)["benchmark"] == TOLD


TOLD: Manifest = {
    "job": "pair-benchmark-1a2b3c", "ended": "2030-01-01T00:01:00Z", "revision": REVISION, "completed": 19, "failed": 1,
    "load": {"prompts": 20, "inputTokens": 64, "outputTokens": 32, "concurrency": 4, "temperature": "0", "seed": 7},
    "duration": "12.5s", "requestsPerSecond": "1.6", "outputTokensPerSecond": "51",
    "timeToFirstToken": {"mean": "112ms", "p50": "100ms", "p95": "200ms", "p99": "1.5s"},
    "requestLatency": {"mean": "1s", "p50": "1s", "p95": "2s", "p99": "2s"},
    "acceptanceRate": "0.712", "memory": {"verifier": "3072Mi"},
    "quality": [{
        "role": "verifier", "artifact": "m-1", "texts": "built-in", "perplexity": "5.32", "sourcePerplexity": "5.28",
        "tasks": [{"name": "gsm8k", "metric": "acc,none", "score": "0.41", "sourceScore": "0.42"}],
    }],
}  # fmt: skip


def test_a_person_gets_a_table_in_which_what_is_not_known_is_no_number() -> None:
    assert list(table(NAME, TOLD, notes=["the first request that failed: x"], paint=PLAIN)) == [
        "pair: 19 requests answered, 1 failed, in 12.5s",
        "  20 prompts of 64 random tokens, answers of 32, 4 at a time, temperature 0, seed 7; "
        "verifier revision 7f3a90c1",
        "LATENCY            MEAN    P50    P95   P99",
        "first token       112ms  100ms  200ms  1.5s",
        "per output token      –      –      –     –",
        "between pieces        –      –      –     –",
        "request              1s     1s     2s    2s",
        "requests/s        1.6",
        "output tokens/s   51",
        "accepted drafts   71 %",
        "most KV cache     –",
        "most memory       3072Mi of a verifier, – of a draft",
        "perplexity        5.32, source 5.28 (verifier, built-in)",
        "gsm8k             0.41, source 0.42 (verifier, acc,none)",
        "the first request that failed: x",
    ]
