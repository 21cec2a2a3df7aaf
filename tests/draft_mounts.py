"""What the kubelet mounts into the pods of a pair that talks over TLS, in a folder: certificates, a token, keys."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.pki import Leaf, authority_in, issue
from tandem_contracts.draft_access import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    ISSUER_FILE,
    KEYS_FILE,
    PRIVATE_KEY_FILE,
    TOKEN_FILE,
    DraftIdentity,
)
from tandem_runtime.draft_server.access import Access
from tandem_runtime.drafting.access import DraftAccess

IDENTITY = DraftIdentity("chat", "pair")
ISSUER = "https://kubernetes.default.svc"


@dataclass
class Signer:
    """A key of the issuer."""

    kid: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def token(self, *, kid: str = "", **changes: Any) -> str:
        """A token as the API server makes one for a verifier; a claim that is None is left out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [IDENTITY.audience],
            "sub": IDENTITY.subject,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            **changes,
        }
        given = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(given, self.key, algorithm="ES256", headers={"kid": kid or self.kid})

    def published(self) -> dict[str, Any]:
        """The key as in a JWKS."""
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        return {**algorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": self.kid, "use": "sig", "alg": "ES256"}


@dataclass
class Mounts:
    """The volumes of a verifier and a draft pod, below one folder."""

    folder: Path

    def __post_init__(self) -> None:
        self.certify()

    @property
    def draft(self) -> Access:
        return Access(IDENTITY, self.folder / "draft-certificates", self.folder / "keys")

    @property
    def verifier(self) -> DraftAccess:
        return DraftAccess(IDENTITY, self.folder / "verifier-certificates", self.folder / "token")

    def certify(self, name: str = IDENTITY.server_name) -> None:
        """An authority of its own, and a certificate of it, mounted for both."""
        made = self.folder / secrets.token_hex(4)
        issue(authority_in(made), [Leaf("tls", "draft", names=(name,))])
        files = {each: (made / each).read_bytes() for each in (CERTIFICATE_FILE, PRIVATE_KEY_FILE, AUTHORITY_FILE)}
        swap(self.draft.certificates, {each: files[each] for each in (CERTIFICATE_FILE, PRIVATE_KEY_FILE)})
        swap(self.verifier.certificates, {AUTHORITY_FILE: files[AUTHORITY_FILE]})

    def publish(self, *signers: Signer) -> None:
        """What the operator copies into the ConfigMap."""
        keys = json.dumps({"keys": [signer.published() for signer in signers]})
        swap(self.draft.credentials, {ISSUER_FILE: ISSUER.encode(), KEYS_FILE: keys.encode()})

    def give(self, token: str) -> None:
        """What the kubelet keeps for the verifier."""
        swap(self.verifier.credentials, {TOKEN_FILE: token.encode()})


def swap(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replace the files of a volume as the kubelet does: all at once, by a link to another folder."""
    folder.mkdir(exist_ok=True)
    version, link = folder / f"..{secrets.token_hex(4)}", folder / "..data"
    version.mkdir()
    for name, content in files.items():
        (version / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    before = link.resolve() if link.is_symlink() else None
    fresh = folder / "..data_tmp"
    fresh.symlink_to(version.name)
    os.replace(fresh, link)  # noqa: PTH105 -- as the kubelet: one call
    if before is not None:
        shutil.rmtree(before)
