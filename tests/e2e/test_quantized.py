"""Quantized models on the real node: Jobs fetch, quantize and measure them, vLLM serves them, and a gate refuses one.

The tests share one namespace with a hub that wants a token, and go on from one another's end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy import openai
from deploy.fixtures.pair import ModelPair
from tests.e2e.conftest import TOKEN, Site
from tests.e2e.quantizing import READY_LIMIT_SECONDS, artifacts_of, conditions_of, make_deployment

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]

NAME = "code"


def _jobs(site: Site) -> set[str]:
    return {item["metadata"]["uid"] for item in site.get("jobs")["items"]}


def _wait_ready(site: Site, name: str) -> None:
    limit = f"--timeout={READY_LIMIT_SECONDS}s"
    site.run("wait", "--for=condition=Ready", f"llm/{name}", limit, limit_seconds=READY_LIMIT_SECONDS + 10)


@pytest.fixture(scope="module")
def served(quantizing: Site) -> Site:
    """A deployment that asks for no more than to be quantized."""
    quantizing.apply(make_deployment(NAME))
    _wait_ready(quantizing, NAME)
    return quantizing


def test_a_model_is_fetched_quantized_measured_and_served(served: Site, cache: Path, models: ModelPair) -> None:
    answer = openai.chat(served.address(NAME), model=NAME, prompt="def f(", max_tokens=8, logprobs=True)
    assert answer["choices"][0]["message"]["content"]
    told = conditions_of(served, NAME)["ArtifactsReady"]
    assert (told["status"], told["reason"]) == ("True", "GatePassed")
    assert "W8A8 by RTN (the first that cpu has a kernel for): perplexity +0.0" in told["message"]
    source, made = artifacts_of(served)[""]["status"], artifacts_of(served)["W8A8 by RTN"]["status"]
    assert source["files"]["revision"].isalnum()
    assert source["files"]["bytes"] == sum(file.stat().st_size for file in models.verifier.glob("*.*"))
    assert 0.2 < made["model"]["weightsBytes"] / source["model"]["weightsBytes"] < 0.4
    (loss,) = made["losses"]
    assert loss["tokens"] > 20_000
    assert 0 <= loss["klDivergence"] < 0.01
    assert loss["top1Agreement"] > 0.97
    (smoke,) = made["smokes"]
    assert (smoke["classes"], smoke["kernel"]) == ("1 × cpu", "CPUInt8ScaledMMLinearKernel")
    assert smoke["image"] == served.references["engine-cpu"]
    assert smoke["tokensPerSecond"] > 0
    assert smoke["compileCacheBytes"] > 0
    assert 0 < smoke["deviation"] < 0.1, "of what was recorded when it was measured"
    assert made["reference"]["manifest"] == made["files"]["manifest"]
    folder = cache / made["files"]["path"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    (verifier,) = served.get("pods", "-l", "tandem.dev/role=verifier")["items"]
    (mount,) = [m for m in verifier["spec"]["containers"][0]["volumeMounts"] if m["name"] == "models"]
    assert mount["readOnly"] is True
    assert f"{smoke['compileCacheBytes']} bytes from /models/.compiled/" in served.run(
        "logs", verifier["metadata"]["name"]
    ), "what the smoke test has found out serves the pod"


def test_a_second_deployment_of_the_same_model_makes_no_job(served: Site) -> None:
    before = _jobs(served)
    served.apply(make_deployment("again", scheme="W8A8", gate={"maxKLDivergence": "0.005"}))
    served.wait_until(lambda: conditions_of(served, "again").get("ArtifactsReady", {}).get("status") == "True", "a hit")
    served.wait_until(lambda: bool(served.get("pods", "-l", "tandem.dev/deployment=again")["items"]), "its pod")
    assert _jobs(served) == before
    served.run("delete", "llm/again", "--wait=false")


def test_a_form_that_is_not_good_enough_never_starts_and_what_serves_goes_on(served: Site) -> None:
    pods = {pod["metadata"]["uid"] for pod in served.get("pods", "-l", f"tandem.dev/deployment={NAME}")["items"]}
    served.apply(make_deployment(NAME, scheme="W2A16", gate={"onFailure": "Fail"}))
    served.wait_until(
        lambda: conditions_of(served, NAME).get("Stalled", {}).get("reason") == "GateFailed",
        "the gate's judgement",
        limit_seconds=READY_LIMIT_SECONDS,
    )
    conditions = conditions_of(served, NAME)
    said = conditions["Stalled"]["message"]
    assert "W2A16 by RTN" in said
    assert "the most likely token is the same in 8" in said
    assert "(needed: 92 %)" in said
    assert (conditions["Available"]["status"], conditions["Ready"]["status"]) == ("True", "False")
    now = served.get("pods", "-l", f"tandem.dev/deployment={NAME}")["items"]
    assert {pod["metadata"]["uid"] for pod in now} == pods
    assert openai.complete(served.address(NAME), model=NAME, prompt="def f(", max_tokens=4)


def test_another_threshold_judges_again_without_a_job(served: Site) -> None:
    """Both ways: what was refused would be served by a lower bound; a higher one refuses what is well measured."""
    before = _jobs(served)
    strict = {"maxKLDivergence": "0.000001", "onFailure": "Fail"}
    served.apply(make_deployment("strict", scheme="W8A8", gate=strict))
    served.wait_until(lambda: "Stalled" in conditions_of(served, "strict"), "the judgement")
    said = conditions_of(served, "strict")["Stalled"]
    assert said["reason"] == "GateFailed"
    assert "(allowed: 1e-06)" in said["message"]
    assert _jobs(served) == before
    served.run("delete", "llm/strict", "--wait=false")


def test_a_job_whose_pod_is_killed_goes_on_and_the_form_is_served(served: Site) -> None:
    served.apply(make_deployment(NAME, scheme="W4A16", calibration={"samples": 8, "maxSequenceLength": 128}))
    quantizing = ("pods", "-l", "app.kubernetes.io/component=quantize", "--field-selector=status.phase=Running")
    served.wait_until(lambda: bool(served.get(*quantizing)["items"]), "a pod that quantizes", limit_seconds=60)
    served.run("delete", "pod", served.get(*quantizing)["items"][0]["metadata"]["name"], "--grace-period=0", "--force")
    served.wait_until(
        lambda: (
            conditions_of(served, NAME)["Ready"]["status"] == "True"
            and conditions_of(served, NAME)["ArtifactsReady"]["message"].find("W4A16 by GPTQ") >= 0
        ),
        "the other form is served",
        limit_seconds=READY_LIMIT_SECONDS,
    )
    answer = openai.chat(served.address(NAME), model=NAME, prompt="def f(", max_tokens=8)
    assert answer["choices"][0]["message"]["content"], "in 16 bits: its kernel has none for 32"


def test_a_form_that_loads_and_does_not_answer_never_becomes_ready(served: Site) -> None:
    """In 32 bits its kernel fails at the first request only, long after the engine said that it was healthy."""
    wide = make_deployment("wide", scheme="W4A16", calibration={"samples": 8, "maxSequenceLength": 128})
    wide["spec"]["verifier"]["engine"] = {"dataType": "float32"}
    served.apply(wide)
    served.wait_until(lambda: "Stalled" in conditions_of(served, "wide"), "the smoke test", limit_seconds=300)
    said = conditions_of(served, "wide")["Stalled"]
    assert said["reason"] == "SmokeFailed"
    assert "the engine is healthy, and does not answer" in said["message"]
    assert "\"cpu_gemm_wna16\" not implemented for 'Float'" in said["message"]
    assert served.get("pods", "-l", "tandem.dev/deployment=wide")["items"] == []
    assert conditions_of(served, NAME)["Ready"]["status"] == "True", "another one serves the same files"
    served.run("delete", "llm/wide", "--wait=false")


def test_the_token_is_nowhere_but_in_its_secret(served: Site) -> None:
    """Whatever a person or a program could read: objects, events, logs, figures."""
    kinds = "llm,ma,jobs,pods,deployments,controllerrevisions,configmaps,services,events"
    pods = [pod["metadata"]["name"] for pod in served.get("pods")["items"]]
    told = [served.run("get", kinds, "-o", "json")]
    told += [served.run("logs", name, "--all-containers") for name in pods]
    running = served.get("pods", "--field-selector=status.phase=Running")["items"]
    staying = [pod for pod in running if pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"]
    told += [served.run("get", "--raw", _metrics_page(pod)) for pod in staying if _metrics_port(pod)]
    told += [path.read_text(errors="replace") for path in served.cluster.layout.logs.rglob("*.log")]
    secret = json.dumps(served.get("secret", "hub"))
    assert TOKEN not in secret, "it is there in base64"
    found = [number for number, text in enumerate(told) if TOKEN in text]
    assert found == []
    assert any("-fetch-" in name for name in pods), "else nothing was looked at"
    assert any("# HELP tandem_" in text for text in told), "nor a page of figures"


def test_what_nothing_refers_to_any_more_leaves_the_volume_after_its_time(served: Site, cache: Path) -> None:
    """The form that is served keeps its files; the model that it was made from, and forms of before, do not."""
    assert _folders(cache) == _paths(served)
    briefly = json.dumps({"spec": {"cache": {"ttlAfterUnused": "0s"}}})
    served.run("patch", f"llm/{NAME}", "--type=merge", "-p", briefly)
    served.wait_until(lambda: "" not in artifacts_of(served), "the source is gone", limit_seconds=120)
    kept = artifacts_of(served)
    assert set(kept) == {"W4A16 by GPTQ", "W8A8 by RTN", "W2A16 by RTN"}, "the others were to stay an hour"
    assert _folders(cache) == _paths(served)
    served.run("delete", f"llm/{NAME}", "--wait=true", limit_seconds=60)
    served.wait_until(lambda: "W4A16 by GPTQ" not in artifacts_of(served), "what was served is gone", limit_seconds=120)
    assert _folders(cache) == _paths(served)
    assert len(_folders(cache)) == len(kept) - 1


def _metrics_port(pod: dict[str, Any]) -> int:
    ports = [port for each in pod["spec"]["containers"] for port in each.get("ports", [])]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == "metrics"), 0)


def _metrics_page(pod: dict[str, Any]) -> str:
    metadata = pod["metadata"]
    place = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    return f"{place}:{_metrics_port(pod)}/proxy/metrics"


def _folders(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.name.startswith("v1-")}


def _paths(site: Site) -> set[str]:
    return {item["status"]["files"]["path"] for item in artifacts_of(site).values()}
