"""The Job of a benchmark: as reviewed in golden/, restricted, and allowed to reach what it asks and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.benchmark import BenchmarkOptions, Load
from tandem_contracts.launch import InvalidLaunchOptionsError, Role
from tandem_contracts.ports import GRPC_PORT, HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.api.access import Peer
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.benchmark_job import benchmark_job_of
from tandem_operator.objects.ownership import benchmark_labels_of, selector_of
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.objects.protection import Watchers, network_policy_of
from tests.builders import NAME, NAMESPACE, UID, make_inputs, make_role, make_spec
from tests.pod_security import pods_of, violations_beyond_restricted, violations_of_restricted
from tests.selectors import Endpoint, admits
from tests.unit.operator.golden import golden_difference

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
PODS = {Role.VERIFIER: ["10.0.0.1", "10.0.0.2"], Role.DRAFT: ["10.0.0.3"]}
LOAD = Load(prompts=20, input_tokens=64, output_tokens=32, seed=7)


def job(spec: Manifest | None = None, load: Load = LOAD, **settings: Any) -> Manifest:
    template = pod_template_of(OWNER, make_inputs(spec, Role.VERIFIER, **settings))
    return benchmark_job_of(
        OWNER, load, ending="1a2b3c", template=template, revision="7f3a90c1", pods=PODS, deadline_seconds=3600
    )


def container(manifest: Manifest) -> Manifest:
    (found,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_job_is_the_reviewed_one() -> None:
    spec = make_spec(access={"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}})
    difference = golden_difference("benchmark-job", [job(spec)])
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


def test_its_arguments_are_what_the_program_reads() -> None:
    options = BenchmarkOptions.parse(container(job())["args"])
    assert options.load == LOAD
    assert (options.address, options.served_name) == (f"http://{NAME}.{NAMESPACE}.svc", NAME)
    assert options.tokenizer == "/models/verifier"
    assert (options.verifiers, options.drafts) == ("10.0.0.1,10.0.0.2", "10.0.0.3")


@pytest.mark.parametrize("classes", [("cpu",), ("nvidia-h100-80gb",)], ids=["cpu", "gpu"])
def test_its_pod_is_restricted_and_takes_no_accelerator(classes: tuple[str, ...]) -> None:
    spec = make_spec(verifier=make_role(classes=classes), draft=None, speculation={"method": "Off"})
    made = job(spec, engineImages={"cpu": "e", "gpu": "e"})
    (pod,) = pods_of([made]).values()
    assert violations_of_restricted(pod) == []
    assert violations_beyond_restricted(pod) == []
    assert set(container(made)["resources"]["limits"]) == {"memory", "ephemeral-storage"}
    assert "affinity" not in pod


def test_without_a_key_the_client_shows_none() -> None:
    assert [variable["name"] for variable in container(job())["env"]] == ["HOME"]


def test_taints_that_verifiers_tolerate_are_tolerated() -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    spec = make_spec(verifier={**make_role(), "scheduling": {"tolerations": [toleration]}})
    assert toleration in job(spec)["spec"]["template"]["spec"]["tolerations"]


def test_its_pod_is_of_no_role_and_of_no_revision() -> None:
    labels = job()["spec"]["template"]["metadata"]["labels"]
    assert names.LABEL_ROLE not in labels
    assert names.LABEL_REVISION not in labels
    for role in Role:
        assert not selector_of(OWNER, role).items() <= labels.items()


@pytest.mark.parametrize("allowed", [(), (Peer(pod_labels={"app": "web"}),)], ids=["open", "closed"])
@pytest.mark.parametrize("role", Role)
def test_the_policies_of_the_pods_let_it_in(role: Role, allowed: tuple[Peer, ...]) -> None:
    policy = network_policy_of(OWNER, role, allowed_from=allowed, watchers=Watchers())
    other = Owner(name="other", namespace=NAMESPACE, uid=UID)
    for who, may in ((OWNER, True), (other, False)):
        source = Endpoint(NAMESPACE, benchmark_labels_of(who), {})
        assert admits(policy, source, port=METRICS_PORT) is may
        is_asked = role is Role.VERIFIER
        assert admits(policy, source, port=HTTP_PORT) is (is_asked and (may or not allowed))
        assert not admits(policy, source, port=GRPC_PORT)


def test_a_template_of_another_version_is_refused() -> None:
    template = pod_template_of(OWNER, make_inputs())
    template["spec"]["containers"][0]["args"].append("--of-tomorrow=1")
    with pytest.raises(InvalidLaunchOptionsError, match="--of-tomorrow"):
        benchmark_job_of(
            OWNER, LOAD, ending="1a2b3c", template=template, revision="7f3a90c1", pods=PODS, deadline_seconds=60
        )
