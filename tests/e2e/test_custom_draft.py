"""A draft server of one's own on the real node: an image that the operator knows nothing of drafts for vLLM."""

from __future__ import annotations

import pytest

from deploy import chart, openai
from deploy.images import api as images
from tandem_contracts.ports import GRPC_PORT
from tandem_runtime import conformance
from tests.cluster.world import sample
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]

NAME = "pair"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
REPEATS = "a = f(1)\nb = f(2)\nc = f(3)\na = f(1)\nb = f(2)\nc = f(3)\na = f(1)\nb ="
LIMIT_SECONDS = 120


def test_an_image_of_ones_own_drafts_for_a_verifier_and_conforms(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    image = images.provide(["draft-lookup"], cluster=site.cluster)["draft-lookup"]
    values = chart.values_of(site.references)
    values["config"]["engineImageAllowList"] = [r"tandem\.local/draft-lookup:.*"]
    chart.install(site.place, site.namespace, values={**values, "crds": {"install": False}})
    body = sample("cpu-pair")
    body["spec"]["draft"]["engine"] = {"type": "Custom", "image": image}
    site.apply(body)
    site.wait_ready(NAME)
    (pod,) = site.get("pods", "-l", "tandem.dev/role=draft")["items"]
    assert conformance.main([f"{pod['status']['podIP']}:{GRPC_PORT}"]) == 0, capsys.readouterr().out
    address = site.address(NAME)

    def is_drafting() -> bool:
        openai.complete(address, model=NAME, prompt=REPEATS, max_tokens=32)
        return openai.counter(address, ACCEPTED) > 0

    site.wait_until(is_drafting, "drafts of the server of one's own", limit_seconds=LIMIT_SECONDS)
