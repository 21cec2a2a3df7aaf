"""On which terms Jobs of artifacts are made: where they run, what they get, and whose word counts where several ask."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.artifact_job import TOKEN_VARIABLE, VOLUME_FOLDER
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.api.quantization import ConfigMapKeyRef
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_plan import Unmakeable
from tandem_operator.artifact_steps import Measurement, Step
from tandem_operator.artifact_terms import Referrers, job_maker
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason
from tests.builders import NAMESPACE, make_body, make_child, make_config, make_role, make_spec
from tests.unit.operator.artifacts import (
    FETCHED,
    HUB,
    QUANTIZED,
    SETTINGS,
    SOURCE,
    make_artifact,
    make_artifact_body,
    make_texts,
    need_of,
)
from tests.unit.operator.models import LLAMA_1B, LLAMA_8B, TINY, make_model

H100 = "nvidia-h100-80gb"
SMALL = make_model(parameters=900_000_000, weights_bytes=1_800_000_000)
FETCH, QUANTIZE, EVALUATE, EVICT = (Step(phase) for phase in (Phase.FETCH, Phase.QUANTIZE, Phase.EVALUATE, Phase.EVICT))
SHORT = {"samples": 16, "maxSequenceLength": 256}


def body(name: str = "pair", classes: tuple[str, ...] = ("cpu",), **quantization: Any) -> Manifest:
    return make_artifact_body(name, classes=classes, quantization={"scheme": "W8A8", **quantization})


def source_of(model: ModelFacts | None, files: ModelFiles | None = SOURCE.files) -> ArtifactFacts:
    return replace(SOURCE, model=model, files=files)


def made(
    step: Step,
    *by: Manifest,
    spec: ModelArtifactSpec | None = None,
    source: ArtifactFacts | None = SOURCE,
    settings: Settings = SETTINGS,
    status: Manifest | None = None,
) -> Manifest | Unmakeable:
    """The Job of a step of what the first of these deployments needs."""
    found = spec or need_of(by[0], settings).artifact
    owner = Owner(name=found.key, namespace=NAMESPACE, uid="a1")
    referrers = Referrers(found.key, by, settings)
    artifact = make_artifact(found, status=status or {})
    return job_maker(owner, artifact, source, referrers=referrers, settings=settings)(step)


def job(step: Step, *by: Manifest, **more: Any) -> Manifest:
    found = made(step, *by, **more)
    assert not isinstance(found, Unmakeable), found.message
    return found


def unmakeable(step: Step, *by: Manifest, **more: Any) -> Unmakeable:
    found = made(step, *by, **more)
    assert isinstance(found, Unmakeable)
    return found


def pod_of(manifest: Manifest) -> Manifest:
    found: Manifest = manifest["spec"]["template"]["spec"]
    return found


def container_of(manifest: Manifest) -> Manifest:
    found: Manifest = pod_of(manifest)["containers"][0]
    return found


def gpus_of(manifest: Manifest) -> str:
    return str(container_of(manifest)["resources"]["limits"].get("nvidia.com/gpu", ""))


# -- where -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "model", "quantization", "gpus"),
    [
        (QUANTIZE, TINY, {"scheme": "W8A8"}, ""),
        (QUANTIZE, LLAMA_8B, {"scheme": "W8A8"}, ""),
        (QUANTIZE, LLAMA_8B, {"scheme": "FP8_DYNAMIC"}, ""),
        (QUANTIZE, SMALL, {"scheme": "W4A16", "calibration": SHORT}, ""),
        (QUANTIZE, SMALL, {"scheme": "W4A16"}, "1"),  # 256 × 2,048 tokens would take it more than 4 h
        (QUANTIZE, SMALL, {"scheme": "W4A16", "job": {"activeDeadline": "24h"}}, ""),
        (QUANTIZE, LLAMA_1B, {"scheme": "W4A16"}, "1"),
        (QUANTIZE, LLAMA_8B, {"scheme": "W8A8", "algorithm": "GPTQ"}, "1"),
        (EVALUATE, LLAMA_8B, {"scheme": "W4A16"}, "1"),
        (EVALUATE, TINY, {"scheme": "W4A16"}, ""),
        (EVICT, LLAMA_8B, {"scheme": "W4A16"}, ""),
        (QUANTIZE, TINY, {"scheme": "W8A8", "job": {"classes": [H100]}}, "1"),
        (EVALUATE, TINY, {"scheme": "W8A8", "job": {"classes": [H100]}}, "1"),
        (EVICT, TINY, {"scheme": "W8A8", "job": {"classes": [H100]}}, ""),
        (QUANTIZE, LLAMA_8B, {"scheme": "W4A16", "calibration": SHORT,
                              "job": {"classes": ["cpu"], "activeDeadline": "24h"}}, ""),
    ],
)  # fmt: skip
def test_a_step_runs_on_the_cpu_unless_it_computes_with_a_large_model_or_somebody_says_where(
    step: Step, model: ModelFacts, quantization: Manifest, gpus: str
) -> None:
    found = job(step, body(classes=(H100,), **quantization), source=source_of(model))
    assert gpus_of(found) == gpus
    assert container_of(found)["image"] == "tandem.local/artifacts:0.1.0"


@pytest.mark.parametrize(
    ("classes", "reason", "part"),
    [
        (["cpu", "no-such"], Reason.UNKNOWN_ACCELERATOR_CLASS, "quantization.job.classes (is no-such)"),
        ([H100], Reason.MIXED_ACCELERATOR_RESOURCES, "quantization.job.classes (is nvidia-h100-80gb): Jobs ask for no"),
        (["cpu", "nvidia-l4-24gb"], Reason.MIXED_ACCELERATOR_RESOURCES, "these are of cpu, nvidia.com/gpu"),
    ],
)
def test_a_class_that_jobs_cannot_have_is_told(classes: list[str], reason: Reason, part: str) -> None:
    claimed = {H100: {"allocation": "ResourceClaim", "deviceClass": "gpu.example.com"}}
    settings = Settings.of(make_config(accelerators=claimed))
    found = unmakeable(QUANTIZE, body(job={"classes": classes}), settings=settings)
    assert found.reason is reason
    assert part in found.message


@pytest.mark.parametrize("step", [FETCH, QUANTIZE, EVALUATE, EVICT], ids=lambda step: str(step.phase))
def test_without_an_image_for_its_jobs_nothing_is_made_and_the_key_is_told(step: Step) -> None:
    settings = Settings.of(make_config(engineImages={"cpu": "engine:1"}))
    spec = FETCHED if step == FETCH else QUANTIZED
    found = unmakeable(step, body(), spec=spec, settings=settings)
    assert found.reason is Reason.NO_JOB_IMAGE
    assert f"engineImages has no 'cpu-artifacts', which the Job {step.phase} runs; it has cpu" in found.message


def test_a_source_that_is_quantized_already_is_told_before_hours_of_work() -> None:
    found = unmakeable(QUANTIZE, body(), source=source_of(replace(TINY, quantization="awq")))
    assert found.reason is Reason.QUANTIZED_ALREADY
    assert "must be Prequantized" in found.message


def test_a_hub_that_is_gone_from_the_configuration_is_told_to_whoever_still_has_to_fetch() -> None:
    source = {"huggingFace": {"repo": "team/model", "hub": "inner"}}
    settings = Settings.of(make_config(modelHubs={"inner": "https://hub.example"}))
    spec = need_of(make_artifact_body(source=source), settings).artifact
    found = job(FETCH, spec=spec, settings=settings)
    assert "https://hub.example" in container_of(found)["args"][0]
    assert unmakeable(FETCH, spec=spec).reason is Reason.UNKNOWN_HUB
    assert job(EVICT, spec=spec), "its files can still go"


# -- memory and time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "told", "memory"),
    [
        (FETCH, "64Gi", "1024Mi"),
        (EVICT, "64Gi", "1024Mi"),
        (QUANTIZE, "64Gi", "64Gi"),
        (EVALUATE, "64Gi", "64Gi"),
        (QUANTIZE, None, "1181Mi"),
        (EVALUATE, None, "1160Mi"),
    ],
)
def test_memory_is_what_the_user_says_or_follows_from_the_model(step: Step, told: str | None, memory: str) -> None:
    asked = body(job={"memory": told}) if told else body()
    resources = container_of(job(step, asked, spec=FETCHED if step == FETCH else None))["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == memory


def test_what_cannot_end_in_its_time_is_not_begun_and_the_estimate_is_told() -> None:
    found = unmakeable(QUANTIZE, body(classes=("cpu",), scheme="W4A16"), source=source_of(LLAMA_8B))
    assert found.reason is Reason.DEADLINE_TOO_SHORT
    assert "quantization.job.activeDeadline (is 4h): W4A16 by GPTQ takes about 68.5 h on cpu" in found.message
    longer = body(classes=("cpu",), scheme="W4A16", job={"activeDeadline": "72h"})
    assert pod_of(job(QUANTIZE, longer, source=source_of(LLAMA_8B)))["activeDeadlineSeconds"] == 72 * 3600
    fewer = body(classes=("cpu",), scheme="W4A16", calibration=SHORT)
    assert pod_of(job(QUANTIZE, fewer, source=source_of(LLAMA_8B)))["activeDeadlineSeconds"] == 4 * 3600


def test_fetching_is_not_cut_short_by_a_deadline_for_computing() -> None:
    hurried = body(job={"activeDeadline": "1m"})
    assert pod_of(job(QUANTIZE, hurried))["activeDeadlineSeconds"] == 60
    assert pod_of(job(EVICT, hurried))["activeDeadlineSeconds"] == 1800
    assert pod_of(job(FETCH, hurried, spec=FETCHED))["activeDeadlineSeconds"] >= 1800


# -- secrets and volumes -----------------------------------------------------------------------------------------------

GATED = {"huggingFace": {"repo": "team/model", "secretKeyRef": {"name": "hf", "key": "token"}}}


def test_the_token_of_a_hub_is_for_the_job_alone_that_fetches() -> None:
    asked = make_artifact_body(source=GATED, quantization={"scheme": "W4A16"})
    variables = container_of(job(FETCH, asked, spec=FETCHED))["env"]
    (token,) = [each for each in variables if each["name"] == TOKEN_VARIABLE]
    assert token["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    for step in (QUANTIZE, EVALUATE, EVICT):
        other = job(step, asked)
        assert "secret" not in str(other).lower()
        assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container_of(other)["env"]


@pytest.mark.parametrize("step", [FETCH, QUANTIZE, EVALUATE, EVICT], ids=lambda step: str(step.phase))
@pytest.mark.parametrize("claim", ["cache", "models"])
def test_a_claim_is_mounted_once_and_nobody_changes_files_that_are_not_its_own(step: Step, claim: str) -> None:
    folder = {"persistentVolumeClaim": {"claimName": claim, "path": "a/b"}}
    asked = make_artifact_body(source=HUB if step == FETCH else folder, quantization={"scheme": "W4A16"})
    source = source_of(TINY, ModelFiles(claim_name=claim, path="a/b"))
    found = job(step, asked, spec=FETCHED if step == FETCH else None, source=source)
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod_of(found)["volumes"] if "persistentVolumeClaim" in v]
    assert len(claims) == len(set(claims))
    reads_elsewhere = step.needs_source and claim == "models"
    assert set(claims) == ({"cache", "models"} if reads_elsewhere else {"cache"})
    mounts = {mount["name"]: mount for mount in container_of(found)["volumeMounts"]}
    assert mounts["artifacts"].get("readOnly", False) is not step.changes_files
    if step.needs_source:
        where = "/models" if reads_elsewhere else f"{VOLUME_FOLDER}/a/b"
        assert any(argument.startswith(f"--source={where}") for argument in container_of(found)["args"])
    if reads_elsewhere:
        assert mounts["models"]["readOnly"] is True


def test_texts_of_a_config_map_are_mounted_where_they_are_read() -> None:
    asked = body(
        scheme="W4A16",
        calibration={**SHORT, **make_texts("calib", "c.jsonl")},
        gate={"evaluation": make_texts("eval", "e.jsonl")},
    )
    evaluate = Step(Phase.EVALUATE, Measurement(ConfigMapKeyRef(name="eval", key="e.jsonl")))
    for step, name, key in ((QUANTIZE, "calib", "c.jsonl"), (evaluate, "eval", "e.jsonl")):
        found = job(step, asked)
        (texts,) = [volume["configMap"] for volume in pod_of(found)["volumes"] if "configMap" in volume]
        assert texts == {"name": name, "items": [{"key": key, "path": "texts.jsonl"}]}
        assert "--texts=/texts/texts.jsonl" in container_of(found)["args"]
    for step in (Step(Phase.EVALUATE), EVICT):
        assert "configMap" not in str(job(step, asked))


# -- several who ask ---------------------------------------------------------------------------------------------------


def test_who_refers_to_an_artifact_in_any_order_the_job_is_the_same() -> None:
    by = [
        body("a", gate={"evaluation": make_texts("one")}),
        body("b", gate={"evaluation": make_texts("two")}, job={"memory": "3Gi", "activeDeadline": "1h"}),
        body("c", job={"memory": "64Gi"}),
        make_child("ControllerRevision", "r", data={"resolved": {"model_path": QUANTIZED.key}}),
    ]
    for step in (QUANTIZE, EVALUATE, EVICT):
        jobs = [job(step, *order, spec=QUANTIZED) for order in itertools.permutations(by)]
        assert all(each == jobs[0] for each in jobs)
    asked = {Referrers(QUANTIZED.key, order, SETTINGS).asked() for order in itertools.permutations(by)}
    assert len(asked) == 1
    assert [str(texts) for texts in asked.pop().measurements] == ["built-in", "one/texts.jsonl", "two/texts.jsonl"]
    assert container_of(job(QUANTIZE, *by, spec=QUANTIZED))["resources"]["limits"]["memory"] == "3Gi", "the first says"


def test_the_token_is_that_of_whoever_names_one() -> None:
    by = [make_artifact_body("a"), make_artifact_body("b", source=GATED)]
    assert TOKEN_VARIABLE in str(job(FETCH, *by, spec=FETCHED))
    assert TOKEN_VARIABLE not in str(job(FETCH, by[0], spec=FETCHED))


@pytest.mark.parametrize(
    ("ttls", "before", "kept", "seconds"),
    [
        (["1h"], {}, 3600, 3600),
        (["1h", "2h"], {}, 7200, 7200),
        ([None], {}, None, 604800),
        (["1h", None], {}, 604800, 604800),
        (["8760h", None], {}, 8760 * 3600, 8760 * 3600),
        ([], {"ttlSeconds": 60}, 60, 60),
        (["0s"], {"ttlSeconds": 60}, 0, 0),
        ([], {}, None, 604800),
        ([], {"ttlSeconds": "soon"}, None, 604800),
    ],
)
def test_an_artifact_is_kept_as_long_as_any_of_them_wants_it_kept(
    ttls: list[str | None], before: Manifest, kept: int | None, seconds: int
) -> None:
    by = [make_artifact_body(f"d{number}", ttl=ttl) for number, ttl in enumerate(ttls)]
    referrers = Referrers(FETCHED.key, by, SETTINGS)
    assert (referrers.ttl_kept(before), referrers.ttl_seconds(before)) == (kept, seconds)


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def made_from_it(status: Manifest) -> Manifest:
    return {"kind": names.ARTIFACT_KIND, "metadata": {"name": QUANTIZED.key}, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("by", "is_used"),
    [
        ([], False),
        ([make_artifact_body()], True),
        ([body()], False),
        ([body(gate={"onFailure": "ServeUnquantized"})], True),
        ([make_child("ControllerRevision", "r")], True),
        ([made_from_it({})], True),
        ([made_from_it({"conditions": [{"type": "Ready", "status": "False"}]})], True),
        ([made_from_it(READY)], False),
        ([made_from_it({"unusedSince": "2030-01-01T00:00:00Z"})], False),
        ([make_body({**make_spec(), "verifier": make_role("other")})], False),
    ],
)
def test_a_source_is_in_use_while_it_is_served_or_something_is_made_from_it(by: list[Manifest], is_used: bool) -> None:
    assert Referrers(FETCHED.key, by, SETTINGS).asked().is_used is is_used
