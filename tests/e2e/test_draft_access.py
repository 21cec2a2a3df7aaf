"""A real pair over TLS: certificates from a Secret, a token from the kubelet, keys from the API server."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from deploy import openai
from deploy.local.pki import Leaf, authority_in, issue
from tandem_contracts.draft_access import AUTHORITY_FILE, CERTIFICATE_FILE, PRIVATE_KEY_FILE, DraftIdentity
from tests.cluster.world import sample
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(900)]

NAME = "pair"
SECRET = "drafts-tls"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
LIMIT_SECONDS = 120


def test_drafts_come_over_tls_with_the_kubelets_token_and_the_api_servers_keys(site: Site, tmp_path: Path) -> None:
    issue(authority_in(tmp_path), [Leaf("tls", "draft", names=(DraftIdentity(site.namespace, NAME).server_name,))])
    data = {
        name: base64.b64encode((tmp_path / name).read_bytes()).decode()
        for name in (CERTIFICATE_FILE, PRIVATE_KEY_FILE, AUTHORITY_FILE)
    }
    site.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "data": data}
    )
    body = sample("cpu-pair")
    body["spec"]["speculation"]["tls"] = {"secretName": SECRET}
    site.apply(body)
    site.wait_ready(NAME)
    conditions = {c["type"]: c["reason"] for c in site.get("llm", NAME)["status"]["conditions"]}
    assert conditions["DraftTransportSecure"] == "DraftTransportTLS"
    address = site.address(NAME)

    def is_drafting() -> bool:
        openai.complete(address, model=NAME, prompt="def read_lines(path):", max_tokens=32)
        return openai.counter(address, ACCEPTED) > 0

    site.wait_until(is_drafting, "drafts over TLS", limit_seconds=LIMIT_SECONDS)
