"""Who may ask this draft server: TLS from mounted certificates, and a token that is checked with mounted keys.

Nothing is kept of a file: certificates are read for each connection and keys for each stream, so that what is rotated
counts at once. Talks to nobody, and never puts a token, or a part of one, into a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import jwt

from tandem_contracts.draft_access import CERTIFICATE_FILE, ISSUER_FILE, KEYS_FILE, PRIVATE_KEY_FILE, DraftIdentity

ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
"""What API servers sign with."""
LEEWAY_SECONDS = 10
"""Of two clocks."""
SHOWN = 100
SCHEME = "Bearer "


class RefusedError(Exception):
    """Whoever opens the stream may not ask; the message says what was expected and what was seen."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Access:
    """Whom the server answers, and the folders with what it needs for that (`tandem_contracts.draft_access`)."""

    identity: DraftIdentity
    certificates: Path
    credentials: Path

    def require(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Check the token in a call's metadata. Raises RefusedError."""
        token = next((str(value) for name, value in metadata if name == "authorization"), "")
        if not token.startswith(SCHEME):
            raise _unknown(f"a token is required, of {self._expected()}; there is none")
        claims = self._claims(token.removeprefix(SCHEME))
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if self.identity.audience not in audiences:
            raise _unknown(f"the token's aud is {_shown(claims['aud'])}, it must be {self.identity.audience}")
        if claims["sub"] != self.identity.subject:
            told = f"the token's sub is {_shown(claims['sub'])}, it must be {self.identity.subject}"
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, told)

    def server_credentials(self) -> grpc.ServerCredentials:
        """TLS with the mounted certificate, and with the next one as soon as it is there.

        Raises OSError where there is none to begin with; later gRPC logs that and keeps the one before.
        """
        return grpc.dynamic_ssl_server_credentials(self._certificate(), self._certificate)

    def _certificate(self) -> grpc.ServerCertificateConfiguration:
        """Key and certificate, both from the folder that the one leads to: the kubelet swaps a link to it."""
        folder = (self.certificates / CERTIFICATE_FILE).resolve().parent
        pair = (folder / PRIVATE_KEY_FILE).read_bytes(), (folder / CERTIFICATE_FILE).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair])

    def _claims(self, token: str) -> Mapping[str, Any]:
        """What a token says that the issuer has signed and that is valid now. Raises RefusedError."""
        issuer, keys = self._published()
        try:
            wanted = str(jwt.get_unverified_header(token).get("kid"))
            if wanted not in keys:
                raise _unknown(f"the token is signed with key {_shown(wanted)}, known are {', '.join(sorted(keys))}")
            claims: Mapping[str, Any] = jwt.decode(
                token,
                keys[wanted],
                algorithms=ALGORITHMS,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            expired = datetime.fromtimestamp(_expiry(token), UTC).isoformat(timespec="seconds")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            raise _unknown(f"the token was valid until {expired}, it is {now}") from None
        except jwt.InvalidTokenError as error:
            raise _unknown(f"the token is none of {issuer}: {str(error)[:SHOWN]}") from None
        if claims["iss"] != issuer:
            raise _unknown(f"the token's iss is {_shown(claims['iss'])}, it must be {issuer}")
        return claims

    def _published(self) -> tuple[str, Mapping[str, jwt.PyJWK]]:
        """The issuer, and its keys by id. Raises RefusedError where the operator has not brought them yet."""
        try:
            issuer = (self.credentials / ISSUER_FILE).read_text(encoding="utf-8").strip()
            found = jwt.PyJWKSet.from_json((self.credentials / KEYS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, jwt.PyJWKSetError) as error:
            told = f"tokens cannot be checked, for want of the issuer's keys: {error}"
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, told) from error
        return issuer, {str(key.key_id): key for key in found.keys}

    def _expected(self) -> str:
        return f"aud {self.identity.audience} and sub {self.identity.subject}"


def _unknown(message: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAUTHENTICATED, message)


def _expiry(token: str) -> float:
    """`exp` of a token whose signature and claims have been looked at."""
    return float(jwt.decode(token, options={"verify_signature": False})["exp"])


def _shown(value: object) -> str:
    """A claim or an id that a stranger may have chosen."""
    return ascii(value)[:SHOWN]
