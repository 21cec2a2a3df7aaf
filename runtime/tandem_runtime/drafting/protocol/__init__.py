"""`tandem.draft.v1` on gRPC: `draft.proto`, its generated messages, and the one method's name and codecs."""

from typing import Any

import grpc

from tandem_runtime.drafting.protocol.draft_pb2 import DrafterFrame, Row, VerifierFrame

SERVICE = "tandem.draft.v1.Drafter"
METHOD = "Session"
PATH = f"/{SERVICE}/{METHOD}"
VERSION = 1
TOKEN_BYTES = 4


def length_of(row: Row) -> int:
    """Tokens of the context that a row makes known, its delta included."""
    return row.base_length + len(row.delta) // TOKEN_BYTES


def session_of(channel: grpc.Channel) -> Any:
    """The method on a channel: frames of a verifier in, frames of a draft server out."""
    return channel.stream_stream(
        PATH, request_serializer=VerifierFrame.SerializeToString, response_deserializer=DrafterFrame.FromString
    )


__all__ = [
    "METHOD",
    "PATH",
    "SERVICE",
    "TOKEN_BYTES",
    "VERSION",
    "DrafterFrame",
    "VerifierFrame",
    "length_of",
    "session_of",
]
