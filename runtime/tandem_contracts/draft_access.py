"""Who may ask draft pods: the names that a token and a certificate must carry, and the files in which both ends find
what they need. The operator renders them, the data plane reads them.

Must not know how a token is checked, nor where certificates come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

CERTIFICATES_FOLDER = "/run/tandem/certificates"
CERTIFICATE_FILE = "tls.crt"
PRIVATE_KEY_FILE = "tls.key"
AUTHORITY_FILE = "ca.crt"
"""As in a Secret of type kubernetes.io/tls, and as cert-manager writes them."""

CREDENTIALS_FOLDER = "/run/tandem/credentials"
TOKEN_FILE = "token"  # noqa: S105 -- a file's name
"""Of a verifier: its projected token, which the kubelet renews."""
ISSUER_FILE = "issuer"
KEYS_FILE = "jwks.json"
"""Of a draft: who signs tokens, and the keys that check them, as the API server publishes both."""

_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


@dataclass(frozen=True)
class DraftIdentity:
    """The deployment whose drafts these are. Nobody else's verifier may ask for them."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`. Raises ValueError for anything else."""
        if re.fullmatch(f"{_NAME}/{_NAME}", text) is None:
            raise ValueError(f"{text!r} is not NAMESPACE/NAME")
        return cls(*text.split("/"))

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def audience(self) -> str:
        """`aud` of a token for its draft pods."""
        return f"tandem.dev/draft/{self.namespace}/{self.name}"

    @property
    def subject(self) -> str:
        """`sub` of its verifiers' tokens: their ServiceAccount."""
        return f"system:serviceaccount:{self.namespace}:{self.name}-verifier"

    @property
    def server_name(self) -> str:
        """DNS name in the draft pods' certificate: one for all revisions, whose Services have names of their own."""
        return f"{self.name}-draft.{self.namespace}.svc"
