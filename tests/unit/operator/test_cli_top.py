"""`tandem top`: figures by the difference of two pages, and what is said where there are none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_contracts import metrics
from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.main import main
from tandem_operator.cli.screen import PLAIN, Paint, Screen
from tandem_operator.cli.top import Top
from tandem_operator.cli.top_figures import Figures, Page, figures_between, latency_of
from tandem_operator.cli.top_table import KEYS
from tests.builders import NAME, NAMESPACE, make_body, make_raw_pod
from tests.unit.operator.documents_written import absent, untold
from tests.unit.operator.user_cluster import UserCluster, user_cluster

VERIFIER, OTHER, DRAFT = f"{NAME}-verifier-a", f"{NAME}-verifier-b", f"{NAME}-draft-c"
READY = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}


def page_of(*, running: int = 2, waiting: int = 1, tokens: int = 0, firsts: tuple[float, ...] = (), **more: int) -> str:
    """An engine's page. `firsts`: latencies of all first tokens so far."""
    lines = [
        f'{metrics.ENGINE_RUNNING}{{engine="0"}} {running}',
        f'{metrics.ENGINE_WAITING}{{engine="0"}} {waiting}',
        f'{metrics.ENGINE_OUTPUT_TOKENS}{{engine="0"}} {tokens}',
        f'{metrics.ENGINE_KV_USAGE}{{engine="0"}} 0.31',
        f"{metrics.ENGINE_FIRST_TOKEN_SECONDS}_sum {sum(firsts)}",
        *(
            f'{metrics.ENGINE_FIRST_TOKEN_SECONDS}_bucket{{le="{bound}"}} {sum(each <= bound for each in firsts)}'
            for bound in (0.1, 0.2, 0.5, float("inf"))
        ),
        *(f"{getattr(metrics, name)} {value}" for name, value in more.items()),
    ]
    return "\n".join(lines) + "\n"


def own_page_of(*, drafted: int, accepted: int) -> str:
    """What a launcher beside an engine serves."""
    return (
        f'{metrics.DRAFT_TOKENS}{{outcome="drafted"}} {drafted}\n'
        f'{metrics.DRAFT_TOKENS}{{outcome="accepted"}} {accepted}\n'
        f'{metrics.DRAFT_ROWS}{{outcome="drafted"}} 9\n{metrics.DRAFT_ROWS}{{outcome="empty"}} 1\n'
        f"{metrics.DRAFT_DEPTH} 4\n"
    )


def server_page_of(*, tokens: int, busy: float) -> str:
    """What a draft server serves."""
    return f"{metrics.DRAFT_SERVER_ASKED_TOKENS} {tokens}\n{metrics.DRAFT_SERVER_BUSY_SECONDS} {busy}\n"


def between(before: str, after: str, *, role: Role = Role.VERIFIER, seconds: float = 5.0) -> Figures:
    def page(at: float, text: str) -> Page:
        return Page(at, own=text) if role is Role.DRAFT else Page(at, engine=text)

    return figures_between(role, page(100.0, before), page(100.0 + seconds, after))


def test_rates_are_differences_and_gauges_are_those_of_the_second_page() -> None:
    found = between(page_of(tokens=1000, running=9), page_of(tokens=1500, running=3))
    assert found.tokens_per_second == 100
    assert (found.running, found.waiting, found.kv_usage) == (3, 1, 0.31)


def test_latencies_are_those_of_the_interval_alone() -> None:
    found = between(page_of(firsts=(0.4, 0.4)), page_of(firsts=(0.4, 0.4, 0.05, 0.15)))
    told = latency_of(found.first_token)
    assert (told["requests"], told["mean"]) == (2, pytest.approx(0.1))
    assert 0.1 < told["p95"] <= 0.2


def test_an_interval_without_requests_has_no_latency_and_no_acceptance() -> None:
    found = between(page_of(firsts=(0.4,)), page_of(firsts=(0.4,)))
    assert latency_of(found.first_token) == {"mean": None, "p95": None, "requests": 0}
    assert found.acceptance is None
    assert found.tokens_per_second == 0


@pytest.mark.parametrize(
    "after",
    [page_of(tokens=10), page_of(tokens=2000, firsts=())],
    ids=["tokens fall", "a histogram falls"],
)
def test_an_engine_that_has_started_anew_gives_no_figure_that_is_wrong(after: str) -> None:
    found = between(page_of(tokens=1000, firsts=(0.1,)), after)
    assert latency_of(found.first_token)["requests"] == 0
    assert found.tokens_per_second in (None, 200)
    assert found.running == 2


@pytest.mark.parametrize("text", ["", "no metrics", f"{metrics.ENGINE_RUNNING} NaN\n{metrics.ENGINE_WAITING} 0\n"])
def test_a_page_that_tells_nothing_is_no_idle_engine(text: str) -> None:
    assert between(page_of(), text) == Figures()
    assert between(text, page_of(tokens=7)).tokens_per_second is None


def test_acceptance_is_by_our_counters_and_else_by_the_engines_own() -> None:
    def engine(drafted: int, accepted: int) -> str:
        return page_of(ENGINE_DRAFTED_TOKENS=drafted, ENGINE_ACCEPTED_TOKENS=accepted)

    first, second = Page(0.0, engine(100, 50)), Page(5.0, engine(200, 70))
    assert figures_between(Role.VERIFIER, first, second).acceptance == 0.2
    first = Page(0.0, engine(100, 50), own_page_of(drafted=10, accepted=5))
    second = Page(5.0, engine(200, 70), own_page_of(drafted=20, accepted=13))
    assert figures_between(Role.VERIFIER, first, second).acceptance == 0.8


def test_a_draft_has_what_it_gives_and_how_busy_it_is() -> None:
    found = between(
        server_page_of(tokens=100, busy=1.0), server_page_of(tokens=1100, busy=3.0), role=Role.DRAFT, seconds=4
    )
    assert (found.tokens_per_second, found.busy) == (250, 0.5)
    assert between("", server_page_of(tokens=1, busy=1), role=Role.DRAFT) == Figures()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[UserCluster]:
    with user_cluster(tmp_path) as made:
        made.put(names.KIND, make_body())
        for name, role in ((OTHER, Role.VERIFIER), (VERIFIER, Role.VERIFIER), (DRAFT, Role.DRAFT)):
            made.put("Pod", make_raw_pod(role, "7f3a90c1", name=name, **READY))
        serve(made, tokens=0)
        yield made


def serve(cluster: UserCluster, *, tokens: int) -> None:
    """Pages of every pod: so many tokens since they started."""
    for name in (VERIFIER, OTHER):
        cluster.serve_page(name, HTTP_PORT, page_of(tokens=tokens, firsts=(0.15,) * (tokens // 100)))
        cluster.serve_page(name, METRICS_PORT, own_page_of(drafted=tokens, accepted=tokens // 2))
    cluster.serve_page(DRAFT, METRICS_PORT, server_page_of(tokens=tokens, busy=tokens / 1000))


class Time:
    """Goes on only while somebody waits; each time the engines have done more."""

    def __init__(self, cluster: UserCluster, *, waits: int = 1, then: Callable[[], None] | None = None) -> None:
        self.now, self.tokens, self.left = 1000.0, 0, waits
        self._cluster, self._then = cluster, then

    def wait(self, seconds: float) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.now += seconds
        self.tokens += 1000
        serve(self._cluster, tokens=self.tokens)
        if self._then:
            self._then()


def top_of(cluster: UserCluster, time: Time, name: str | None = NAME) -> Top:
    connection = Connection.open(kubeconfig=str(cluster.kubeconfig), context=None, namespace=NAMESPACE)
    return Top(connection, name, interval_seconds=5.0, wait=time.wait, clock=lambda: time.now)


def screen(*, is_terminal: bool = False, paint: Paint = PLAIN) -> Screen:
    return Screen(io.StringIO(), is_terminal=is_terminal, paint=paint)


def document(cluster: UserCluster, name: str | None = NAME) -> Any:
    return json.loads(top_of(cluster, Time(cluster), name).once(screen(), form="json"))


def test_one_table_has_each_pod_and_what_the_verifiers_do_together(cluster: UserCluster) -> None:
    shown = top_of(cluster, Time(cluster)).once(screen(), form=None)
    assert [line.split()[:4] for line in shown.splitlines()] == [
        ["POD", "RUNNING", "WAITING", "TOKENS/S"],
        [NAME, "4", "2", "400.0"],
        [VERIFIER, "2", "1", "200.0"],
        [OTHER, "2", "1", "200.0"],
        [DRAFT, "–", "–", "200.0"],
    ]
    verifier = shown.splitlines()[2]
    assert verifier.endswith("150 ms  195 ms          –    –      50 %  31 %     –")
    assert shown.splitlines()[4].endswith("20 %")


def test_a_program_reads_it_under_the_keys_that_the_help_tells(cluster: UserCluster) -> None:
    told = document(cluster)
    assert untold(told, KEYS) == set()
    assert absent(told, KEYS) == set()
    first = told["pods"][0]
    assert (first["name"], first["tokensPerSecond"], first["acceptance"]) == (VERIFIER, 200, 0.5)
    assert (told["intervalSeconds"], told["namespace"]) == (5.0, NAMESPACE)
    as_yaml = top_of(cluster, Time(cluster)).once(screen(), form="yaml")
    assert yaml.safe_load(as_yaml).keys() == told.keys()


def test_without_a_name_every_deployment_of_the_namespace_is_shown(cluster: UserCluster) -> None:
    lonely = make_raw_pod(Role.VERIFIER, "7f3a90c1", name="another-verifier-x", **READY)
    lonely["metadata"]["labels"][names.LABEL_DEPLOYMENT] = "another"
    cluster.put("Pod", lonely)
    cluster.serve_page("another-verifier-x", HTTP_PORT, page_of())
    pods = document(cluster, None)["pods"]
    assert [pod["deployment"] for pod in pods] == ["another", NAME, NAME, NAME]
    assert len(document(cluster)["pods"]) == 3


def test_the_right_that_is_missing_is_named(cluster: UserCluster) -> None:
    cluster.forbidden.add("/proxy/")
    with pytest.raises(CommandError, match="the right to get pods/proxy is missing"):
        document(cluster)


def test_a_pod_that_does_not_answer_keeps_nobody_from_seeing_the_others(cluster: UserCluster) -> None:
    cluster.forbidden.add(f"{OTHER}:{HTTP_PORT}")
    first, second, _ = document(cluster)["pods"]
    assert first["tokensPerSecond"] == 200
    assert (second["tokensPerSecond"], second["running"]) == (None, None)
    assert "pods/proxy is missing" in second["trouble"]
    shown = top_of(cluster, Time(cluster)).once(screen(), form=None)
    assert "pods/proxy is missing" in shown


def test_where_only_the_engines_port_answers_its_own_counters_do(cluster: UserCluster) -> None:
    cluster.forbidden.add(f"{VERIFIER}:{METRICS_PORT}")
    first = document(cluster)["pods"][0]
    assert (first["tokensPerSecond"], first["acceptance"], first["trouble"]) == (200, None, "")


def test_a_pod_that_has_not_started_says_why(cluster: UserCluster) -> None:
    waiting = {"name": "engine", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}
    cluster.put("Pod", make_raw_pod(Role.VERIFIER, "7f3a90c1", name=OTHER, containerStatuses=[waiting]))
    second = document(cluster)["pods"][1]
    assert second["trouble"]
    assert not any(f"{OTHER}:" in path for path in cluster.asked("GET"))


def test_a_deployment_whose_pods_all_start_is_shown_and_no_error(cluster: UserCluster) -> None:
    for name in (OTHER, VERIFIER, DRAFT):
        role = Role.DRAFT if name == DRAFT else Role.VERIFIER
        starting = {**READY, "conditions": [{"type": "Ready", "status": "False"}]}
        cluster.put("Pod", make_raw_pod(role, "7f3a90c1", name=name, **starting))
    cluster.forbidden.add("/proxy/")
    assert {pod["trouble"] for pod in document(cluster)["pods"]} == {"it is not Ready yet"}


def test_a_pod_that_is_new_has_no_rates_yet(cluster: UserCluster) -> None:
    late = make_raw_pod(Role.VERIFIER, "7f3a90c1", name="pair-verifier-new", **READY)

    def come() -> None:
        cluster.put("Pod", late)
        cluster.serve_page("pair-verifier-new", HTTP_PORT, page_of(tokens=50))

    shown = json.loads(top_of(cluster, Time(cluster, then=come)).once(screen(), form="json"))
    found = next(pod for pod in shown["pods"] if pod["name"] == "pair-verifier-new")
    assert (found["running"], found["tokensPerSecond"], found["trouble"]) == (2, None, "")


def test_without_pods_it_says_so(cluster: UserCluster) -> None:
    for path in [path for path in cluster.objects if "/pods/" in path]:
        del cluster.objects[path]
    assert top_of(cluster, Time(cluster)).once(screen(), form=None) == f"no pods of {NAME} in namespace {NAMESPACE}\n"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (f"{metrics.GATE_HELD}_bytes 99\n{metrics.GATE_HELD} 3\n", f"{NAME}: its wake gate holds 3 requests"),
        (f"{metrics.GATE_HELD} 1\n", f"{NAME}: its wake gate holds 1 request"),
        ("", f"{NAME}: its wake gate says nothing of requests"),
    ],
)
def test_at_zero_it_says_what_the_wake_gate_holds(cluster: UserCluster, page: str, told: str) -> None:
    for path in [path for path in cluster.objects if "/pods/" in path]:
        del cluster.objects[path]
    gate = make_raw_pod(Role.VERIFIER, "", name=f"{NAME}-gate-x", **READY)
    gate["metadata"]["labels"] = {names.LABEL_DEPLOYMENT: NAME, names.LABEL_COMPONENT: names.GATE}
    cluster.put("Pod", gate)
    cluster.serve_page(f"{NAME}-gate-x", METRICS_PORT, page)
    assert top_of(cluster, Time(cluster)).once(screen(), form=None) == f"{told}\n"
    assert document(cluster)["notes"] == [told]


def test_a_resource_that_is_not_there_is_exit_code_2(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(cluster.options("top", "nobody")) == 2
    assert "not found" in capsys.readouterr().err


def test_on_a_terminal_it_is_drawn_anew_until_somebody_ends_it(cluster: UserCluster) -> None:
    terminal = screen(is_terminal=True, paint=Paint(is_on=True))
    assert top_of(cluster, Time(cluster, waits=2)).live(terminal) == 0
    written = terminal.stream.getvalue()  # type: ignore[attr-defined]
    entered, _, rest = written.partition("\x1b[?1049h")
    assert entered == ""
    drawn, _, left = rest.partition("\x1b[?1049l")
    assert drawn.count("\x1b[H\x1b[J") == 3
    assert drawn.count(VERIFIER) == 2
    assert left.count(VERIFIER) == 1, "the last table stays"
    assert "\x1b[32m" in left
    assert drawn.endswith("\x1b[?25h\x1b[?7h"), "the cursor is there again"


def test_what_goes_wrong_on_a_terminal_is_told_and_tried_again(cluster: UserCluster) -> None:
    time = Time(cluster, waits=2)
    time._then = lambda: cluster.forbidden.add("/pods") if time.left else cluster.forbidden.clear()
    terminal = screen(is_terminal=True)
    assert top_of(cluster, time).live(terminal) == 0
    _, failed, good = terminal.stream.getvalue().split("\x1b[H\x1b[J")[1:]  # type: ignore[attr-defined]
    assert "is forbidden" in failed
    assert VERIFIER in good


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "soon"])
def test_an_interval_is_between_a_second_and_an_hour(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["top", "--interval", interval])
    assert ended.value.code == 2
    assert "--interval" in capsys.readouterr().err
