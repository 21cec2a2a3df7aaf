"""Where pods look for what was compiled before, and that the smoke test's Job publishes it there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.launch import LaunchOptions, Role, Speculation
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_smoke import compile_cache_of, smoke_target_of
from tandem_operator.objects.artifact_jobs import smoke_job_of
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.role_inputs import RoleInputs
from tests.builders import NAMESPACE, make_inputs, make_spec

KEY = "v1-" + "a" * 26
OWNER = Owner(namespace=NAMESPACE, name="pair", uid="u")


def served(speculation: Speculation = Speculation.OFF, **changes: Any) -> RoleInputs:
    drafts = {"speculation": speculation, "max_depth": 0 if speculation is Speculation.OFF else 4}
    return replace(make_inputs(make_spec()), model_path=KEY, claim_name="cache", **{**drafts, **changes})


def compile_cache_told(inputs: RoleInputs) -> str:
    arguments = pod_template_of(OWNER, inputs)["spec"]["containers"][0]["args"]
    return LaunchOptions.parse(arguments).compile_cache


def job_of(inputs: RoleInputs) -> dict[str, Any]:
    target = smoke_target_of(inputs)
    assert target is not None
    artifact = Owner(namespace=NAMESPACE, name=KEY, uid="u")
    spec: dict[str, Any] = smoke_job_of(artifact, target, (), 600)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("speculation", [Speculation.OFF, Speculation.REMOTE, Speculation.NGRAM])
def test_pods_look_where_the_smoke_test_publishes(speculation: Speculation) -> None:
    inputs = served(speculation)
    container = job_of(inputs)["containers"][0]
    launch = container["args"][container["args"].index("--") + 1 :]
    told = LaunchOptions.parse(launch).compile_cache
    assert told == compile_cache_told(inputs) == f"/models/{compile_cache_of(inputs, NAMESPACE)}"
    assert told.startswith(f"/models/.compiled/{KEY}.")


def test_a_cache_is_of_one_image_settings_hardware_and_namespace() -> None:
    plain = served()
    others = [
        served(image="registry.example/engine@sha256:" + "1" * 64),
        served(count=2),
        served(Speculation.REMOTE),
    ]
    places = {compile_cache_of(inputs, NAMESPACE) for inputs in (plain, *others)}
    assert len({*places, compile_cache_of(plain, "other")}) == 5
    same = served(served_name="x", drain_seconds=7)
    assert compile_cache_of(same, NAMESPACE) == compile_cache_of(plain, NAMESPACE)
    assert compile_cache_of(served(Speculation.REMOTE, max_depth=2), NAMESPACE) in places


def test_a_model_that_no_job_has_made_has_none() -> None:
    inputs = make_inputs(make_spec())
    assert inputs.role is Role.VERIFIER
    assert compile_cache_told(inputs) == ""


def test_the_smoke_test_may_change_compile_caches_and_nothing_else_of_the_volume() -> None:
    spec = job_of(served())
    (claim,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    mounts = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == claim["name"]]
    assert mounts == [
        {"name": "models", "mountPath": "/models", "readOnly": True},
        {"name": "models", "mountPath": "/artifacts", "subPath": ".compiled"},
    ]
    pod = pod_template_of(OWNER, served())["spec"]
    assert [mount.get("readOnly") for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "models"] == [
        True
    ]
