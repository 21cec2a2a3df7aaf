"""Who may ask draft pods, with the API server's own tokens and keys: what it signs is what our check accepts."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from tandem_contracts.draft_access import ISSUER_FILE, KEYS_FILE, DraftIdentity
from tandem_runtime.draft_server.access import Access, RefusedError
from tests.cluster.world import Manifest, World, sample

NAME = "llama-70b"
CONFIG_MAP = f"{NAME}-draft"
OURS = "app.kubernetes.io/managed-by=tandem-operator"


def secured() -> Manifest:
    """A pair on fake nodes, whose kubelet mounts nothing: the Secret need not be there."""
    return sample("gpu-pair", speculation={"method": "Remote", "maxDepth": 5, "tls": {"secretName": "drafts-tls"}})


def start(world: World) -> None:
    world.apply(secured())
    world.wait_for(NAME, "DraftTransportSecure", reason="DraftTransportTLS")


def mounted(world: World, folder: Path) -> Access:
    """The check of a draft pod, with the keys that the operator has copied."""
    for name, content in world.get(f"configmap/{CONFIG_MAP}")["data"].items():
        (folder / name).write_text(content)
    return Access(DraftIdentity(world.namespace, NAME), folder, folder)


def token(world: World, account: str, audience: str) -> str:
    return world.run("create", "token", account, f"--audience={audience}", "--duration=10m").strip()


def test_a_token_of_the_api_server_is_accepted_for_this_deployments_verifier_alone(
    tandem: World, tmp_path: Path
) -> None:
    start(tandem)
    access = mounted(tandem, tmp_path)
    audience, verifier = access.identity.audience, f"{NAME}-verifier"
    access.require([("authorization", f"Bearer {token(tandem, verifier, audience)}")])
    for account, asked, code in (
        (verifier, "https://elsewhere", grpc.StatusCode.UNAUTHENTICATED),
        (f"{NAME}-draft", audience, grpc.StatusCode.PERMISSION_DENIED),
    ):
        with pytest.raises(RefusedError) as refused:
            access.require([("authorization", f"Bearer {token(tandem, account, asked)}")])
        assert refused.value.code is code


def test_the_keys_are_those_that_the_api_server_publishes(tandem: World) -> None:
    start(tandem)
    copied = tandem.get(f"configmap/{CONFIG_MAP}")["data"]
    assert json.loads(copied[KEYS_FILE]) == json.loads(tandem.place.run("get", "--raw", "/openid/v1/jwks"))
    discovery = json.loads(tandem.place.run("get", "--raw", "/.well-known/openid-configuration"))
    assert copied[ISSUER_FILE] == discovery["issuer"]


def test_keys_that_somebody_changes_or_deletes_are_back(tandem: World) -> None:
    start(tandem)
    before = tandem.get(f"configmap/{CONFIG_MAP}")["data"]

    def is_back() -> bool:
        return CONFIG_MAP in tandem.names("configmaps", OURS) and (
            tandem.get(f"configmap/{CONFIG_MAP}")["data"] == before
        )

    tandem.patch(f"configmap/{CONFIG_MAP}", {"data": {KEYS_FILE: '{"keys": []}'}})
    tandem.wait_until(is_back, "the published keys put right")
    tandem.run("delete", "configmap", CONFIG_MAP)
    tandem.wait_until(is_back, "the published keys made again")


def test_a_pair_without_certificates_says_so_and_leaves_no_keys(tandem: World) -> None:
    start(tandem)
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for(NAME, "DraftTransportSecure", status="False", reason="DraftTransportPlaintext")
    tandem.wait_until(lambda: CONFIG_MAP not in tandem.names("configmaps", OURS), "the keys gone")
    tandem.wait_for(NAME, "Ready")
