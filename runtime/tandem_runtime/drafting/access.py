"""How a verifier reaches its draft server: over TLS with a token that says who asks, or in plaintext and without one.

The token goes out as credentials of the call, which gRPC sends over TLS only. Both files are read for each channel:
tokens and authorities are renewed while the engine runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from tandem_contracts.draft_access import AUTHORITY_FILE, TOKEN_FILE, DraftIdentity

Options = Sequence[tuple[str, int | str]]


@dataclass(frozen=True)
class DraftAccess:
    """What a verifier has to show, and what it goes by: the folders are those of `tandem_contracts.draft_access`."""

    identity: DraftIdentity
    certificates: Path
    credentials: Path


def open_channel(
    address: str, options: Options, *, access: DraftAccess | None, shows_token: bool = True
) -> grpc.Channel:
    """A channel to `address`; without `access` in plaintext. Raises OSError for a file that cannot be read."""
    if access is None:
        return grpc.insecure_channel(address, options)
    authority = (access.certificates / AUTHORITY_FILE).read_bytes()
    credentials = grpc.ssl_channel_credentials(authority)
    if shows_token:
        token = (access.credentials / TOKEN_FILE).read_text(encoding="ascii").strip()
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    # The address is that of one revision's Service; the certificate is in the name of all.
    named = ("grpc.default_authority", access.identity.server_name)
    return grpc.secure_channel(address, credentials, [*options, named])
