"""A real pair on the real node: the text is that of plain decoding, and kubectl does what a user expects.

The tests share one deployment, since an engine takes most of a minute to start; each leaves it Ready.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deploy import openai
from deploy.demo.steps import CRD
from deploy.fixtures.pair import ModelPair
from deploy.load import Load
from tandem_contracts import metrics
from tandem_contracts.ports import METRICS_PORT
from tandem_operator.cli.main import main as tandem
from tests.cluster.world import sample
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]

NAME = "pair"
PROMPTS = 50
BUSY_CLIENTS = 32
SAMPLING = 0.8
"""Their temperature."""
MAX_TOKENS = 32
ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"


def _sample(method: str) -> dict[str, Any]:
    body = sample("cpu-pair")
    body["spec"]["speculation"]["method"] = method
    return body


def _texts(site: Site, prompts: list[str]) -> list[str]:
    address = site.address(NAME)

    def ask(prompt: str) -> str:
        return openai.complete(address, model=NAME, prompt=prompt, max_tokens=MAX_TOKENS)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(ask, prompts))


def _fields(schema: dict[str, Any]) -> set[str]:
    """Names of all properties, at any depth."""
    properties = schema.get("properties", {})
    below = [_fields(part) for part in (*properties.values(), schema.get("items", {})) if part]
    return set(properties).union(*below)


def _draft_pods(site: Site) -> set[str]:
    return {pod["metadata"]["uid"] for pod in site.get("pods", "-l", "tandem.dev/role=draft")["items"]}


def _metrics_of(site: Site, role: str) -> dict[str, str]:
    """Addresses of our own metrics by pod."""
    pods = site.get("pods", "-l", f"tandem.dev/role={role}")["items"]
    return {pod["metadata"]["name"]: f"http://{pod['status'].get('podIP')}:{METRICS_PORT}" for pod in pods}


def _wait_until_drafts_come_from(site: Site, count: int) -> None:
    """A verifier looks for draft pods every few seconds and says how many it knows with each step."""
    site.wait_until(lambda: len(_metrics_of(site, "verifier")) == 1, "one verifier pod", limit_seconds=120)
    (verifier,) = _metrics_of(site, "verifier").values()

    def knows_them() -> bool:
        openai.complete(site.address(NAME), model=NAME, prompt="def f(", max_tokens=MAX_TOKENS)
        return openai.counter(verifier, metrics.DRAFT_PODS) == count

    site.wait_until(knows_them, f"the verifier knows {count} draft pods")


@pytest.fixture(scope="module")
def plain_texts(site: Site, models: ModelPair) -> list[str]:
    """What the verifier writes by itself, before it has ever seen a draft."""
    site.apply(_sample("Off"))
    site.wait_ready(NAME)
    assert site.get("llm", NAME)["status"].get("draft") is None
    return _texts(site, models.prompts()[:PROMPTS])


@pytest.fixture(scope="module")
def pair(site: Site, plain_texts: list[str]) -> Iterator[Site]:
    """The same deployment with drafts, rolled out under the Service's address."""
    site.apply(_sample("Remote"))
    site.wait_ready(NAME)
    _wait_until_drafts_come_from(site, 1)
    yield site
    site.run("delete", f"llm/{NAME}", "--ignore-not-found", "--timeout=60s", limit_seconds=70)


def test_a_chat_completion_is_answered_through_the_service_and_drafts_are_accepted(pair: Site) -> None:
    address = pair.address(NAME)
    before = openai.counter(address, ACCEPTED)
    answer = openai.chat(address, model=NAME, prompt="def read_lines(path):", max_tokens=MAX_TOKENS)
    assert answer["choices"][0]["message"]["content"].strip()
    assert openai.counter(address, ACCEPTED) > before


def test_logprobs_are_answered_although_the_image_has_no_compiler(pair: Site) -> None:
    """vLLM compiles a function for them at the first request, which ended the engine."""
    asked = {"logprobs": True, "top_logprobs": 2}
    answer = openai.chat(pair.address(NAME), model=NAME, prompt="def f(", max_tokens=4, **asked)
    told = answer["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in told] == [2] * len(told)
    assert told


def test_drafts_change_no_text_for_fifty_prompts(pair: Site, models: ModelPair, plain_texts: list[str]) -> None:
    accepted = openai.counter(pair.address(NAME), ACCEPTED)
    assert _texts(pair, models.prompts()[:PROMPTS]) == plain_texts
    assert openai.counter(pair.address(NAME), ACCEPTED) > accepted + PROMPTS


def test_killing_the_draft_pod_in_the_middle_changes_no_text(
    pair: Site, models: ModelPair, plain_texts: list[str]
) -> None:
    prompts = models.prompts()[:PROMPTS]
    with ThreadPoolExecutor(max_workers=1) as pool:
        answers = pool.submit(_texts, pair, prompts)
        address = pair.address(NAME)
        begun = openai.counter(address, ACCEPTED)
        pair.wait_until(lambda: openai.counter(address, ACCEPTED) > begun, "drafts are being accepted")
        killed = _draft_pods(pair)
        pair.run("delete", "pod", "-l", "tandem.dev/role=draft", "--grace-period=0", "--force", "--wait=false")
        assert not answers.done()
        assert answers.result() == plain_texts
    conditions = {c["type"]: c["status"] for c in pair.get("llm", NAME)["status"]["conditions"]}
    assert conditions["Available"] == "True"
    pair.wait_until(lambda: bool(_draft_pods(pair) - killed), "another draft pod in the place of the killed one")
    pair.wait_ready(NAME)


def test_two_draft_pods_share_the_work_and_one_that_drains_costs_no_text(
    pair: Site, models: ModelPair, plain_texts: list[str]
) -> None:
    prompts = models.prompts()[:PROMPTS]
    pair.run("patch", f"llm/{NAME}", "--type=merge", "-p", '{"spec": {"draft": {"replicas": 2}}}')
    pair.wait_ready(NAME)
    drafts, (verifier,) = _metrics_of(pair, "draft"), _metrics_of(pair, "verifier").values()
    assert len(drafts) == 2
    _wait_until_drafts_come_from(pair, 2)
    before = {name: openai.counter(address, metrics.DRAFT_SERVER_TOKENS) for name, address in drafts.items()}
    assert _texts(pair, prompts) == plain_texts
    drafted = {name: openai.counter(drafts[name], metrics.DRAFT_SERVER_TOKENS) - was for name, was in before.items()}
    assert all(tokens > PROMPTS for tokens in drafted.values()), drafted
    lost = openai.counter(verifier, metrics.DRAFT_BREAKERS_OPEN)
    leaving, staying = sorted(drafts)
    pair.run("delete", "pod", leaving, "--wait=false")
    rounds = 0
    while leaving in _metrics_of(pair, "draft"):  # the kubelet ends it when its grace period is over
        assert _texts(pair, prompts) == plain_texts
        assert openai.counter(verifier, metrics.DRAFT_BREAKERS_OPEN) == lost == 0, "it said goodbye"
        rounds += 1
    assert rounds > 0
    accepted = openai.counter(pair.address(NAME), ACCEPTED)
    assert _texts(pair, prompts) == plain_texts
    assert openai.counter(pair.address(NAME), ACCEPTED) > accepted + PROMPTS
    assert openai.counter(drafts[staying], metrics.DRAFT_SERVER_TOKENS) > before[staying] + drafted[staying]
    pair.run("patch", f"llm/{NAME}", "--type=merge", "-p", '{"spec": {"draft": {"replicas": 1}}}')
    pair.wait_ready(NAME)
    pair.wait_until(lambda: len(_draft_pods(pair)) == 1, "one draft pod", limit_seconds=120)


def _share_with_drafts(site: Site, *, seconds: float) -> float:
    """Of the rows of the decode steps of so many seconds, how many had drafts."""
    address = site.address(NAME)
    names = (metrics.ENGINE_DRAFTS, f"{metrics.ENGINE_STEP_SECONDS}_count")
    before = [openai.counter(address, name) for name in names]
    time.sleep(seconds)
    drafted, steps = (openai.counter(address, name) - then for name, then in zip(names, before, strict=True))
    return drafted / steps if steps else 0.0


def test_speculation_goes_off_under_load_and_comes_back_by_measurement(pair: Site) -> None:
    """Many rows keep the CPU busy, and of drafts for requests that sample few tokens are kept: checking costs more.

    With many greedy requests it is the machine's to say, since most of their drafts are kept.
    """
    address = pair.address(NAME)
    for clients, temperature, pays in ((1, 0.0, True), (BUSY_CLIENTS, SAMPLING, False), (1, 0.0, True)):
        with Load(address, model=NAME, clients=clients, max_tokens=128, temperature=temperature) as load:
            pair.wait_until(
                lambda pays=pays: (_share_with_drafts(pair, seconds=5) > 0.5) is pays,
                f"drafts are {'used' if pays else 'left off'} with {clients} clients",
                limit_seconds=300,
            )
        assert load.failed == []


def test_a_benchmark_measures_the_pair_and_stays_in_its_status(pair: Site, capsys: pytest.CaptureFixture[str]) -> None:
    load = ("--prompts=8", "--input-tokens=16", "--output-tokens=16", "--concurrency=2")
    where = ("-n", pair.namespace, "--kubeconfig", str(pair.place.kubeconfig))
    assert tandem(["bench", NAME, *load, *where, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    told = document["benchmark"]
    assert document["notes"] == []
    assert (told["completed"], told["failed"], told["load"]["concurrency"]) == (8, 0, 2)
    assert told["timeToFirstToken"].keys() == told["timePerOutputToken"].keys() == {"mean", "p50", "p95", "p99"}
    assert 0 < float(told["acceptanceRate"]) <= 1
    assert told["memory"].keys() == {"verifier", "draft"}
    there = pair.get("llm", NAME)
    assert there["status"]["benchmark"] == told
    (owner,) = pair.get("job", told["job"])["metadata"]["ownerReferences"]
    assert owner["uid"] == there["metadata"]["uid"]
    # Its word is read from the pod, a moment before the Job counts as over; two at a time are refused.
    pair.run("wait", "--for=condition=Complete", f"job/{told['job']}", "--timeout=60s", limit_seconds=70)
    few = ("--prompts=4", "--input-tokens=16", "--output-tokens=16", "--rate=4")
    assert tandem(["bench", NAME, *few, *where, "--detach", "-o", "json"]) == 0
    job = json.loads(capsys.readouterr().out)["benchmark"]["job"]
    pair.wait_until(
        lambda: pair.get("llm", NAME)["status"]["benchmark"]["job"] == job,
        f"Job {job} of a benchmark that nobody waits for is in the status",
        limit_seconds=300,
    )


def test_what_the_models_are_is_in_the_conditions_of_the_pair(pair: Site) -> None:
    pair.run("wait", "--for=condition=ArtifactsReady", f"llm/{NAME}", "--timeout=60s", limit_seconds=70)
    conditions = {c["type"]: c for c in pair.get("llm", NAME)["status"]["conditions"]}
    assert conditions["ArtifactsReady"]["reason"] == "Inspected"
    assert {"verifier: LlamaForCausalLM", "draft: LlamaForCausalLM"} <= {
        part.split(",")[0] for part in conditions["ArtifactsReady"]["message"].split("; ")
    }


def test_kubectl_get_llm_shows_a_ready_pair(pair: Site) -> None:
    header, line = pair.run("get", "llm").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "VERIFIERS", "DRAFTS", "ACCEPT", "AGE"]
    assert line.split()[:5] == [NAME, "True", "RolledOut", "1/1", "1/1"]


def test_kubectl_explain_tells_every_field(pair: Site) -> None:
    text = pair.run("explain", "llmdeployment.spec", "--recursive")
    crd = pair.get(f"crd/{CRD}")
    fields = _fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
    assert len(fields) > 15
    assert [name for name in fields if not re.search(rf"^\s+{name}\t<", text, re.MULTILINE)] == []


def test_kubectl_scale_brings_a_second_verifier_and_takes_it_away(pair: Site) -> None:
    pair.run("scale", f"llm/{NAME}", "--replicas=2")
    pair.wait_ready(NAME)
    assert pair.get("llm", NAME)["status"]["verifier"]["readyReplicas"] == 2
    pair.run("scale", f"llm/{NAME}", "--replicas=1")
    pair.wait_ready(NAME)
    selector = pair.get("llm", NAME)["status"]["verifier"]["selector"]
    pair.wait_until(lambda: len(pair.get("pods", "-l", selector)["items"]) == 1, "one verifier pod", limit_seconds=120)


def test_an_operator_pod_that_is_replaced_writes_nothing_to_a_converged_deployment(pair: Site) -> None:
    pods = {pod["metadata"]["uid"] for pod in pair.get("pods", "-l", "tandem.dev/deployment=pair")["items"]}
    before = len(pair.writes())
    pair.run("rollout", "restart", "deployment/tandem-operator")
    pair.run("rollout", "status", "deployment/tandem-operator", "--timeout=60s", limit_seconds=70)
    held = pair.get("lease", "tandem-operator")["spec"]["holderIdentity"]
    pod = pair.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    pair.wait_until(
        lambda: any(
            pair.get("lease", "tandem-operator")["spec"]["holderIdentity"].startswith(p["metadata"]["name"])
            for p in pair.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
        ),
        f"a new operator holds the lease that {held} had (pods {len(pod)})",
    )
    # Proof that the new operator has looked at everything: it repairs what somebody changes, and that is all it writes.
    part_of = "app.kubernetes.io/part-of"
    pair.run("label", f"service/{NAME}", f"{part_of}=somebody", "--overwrite")
    pair.wait_until(
        lambda: pair.get("service", NAME)["metadata"]["labels"][part_of] == "tandem", "the Service's label is restored"
    )
    assert [(w["verb"], w["objectRef"]["resource"]) for w in pair.writes()[before:]] == [("patch", "services")]
    assert pods == {pod["metadata"]["uid"] for pod in pair.get("pods", "-l", "tandem.dev/deployment=pair")["items"]}


def test_kubectl_delete_takes_everything_of_the_deployment(pair: Site) -> None:
    pair.run("delete", f"llm/{NAME}", "--timeout=60s", limit_seconds=70)
    kinds = "deployments,services,controllerrevisions,replicasets,pods"
    pair.wait_until(
        lambda: pair.get(kinds, "-l", "tandem.dev/deployment=pair")["items"] == [],
        "nothing of the deployment is left",
        limit_seconds=120,
    )
