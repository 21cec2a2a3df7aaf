"""`tandem.draft.v1` on gRPC: `draft.proto`, its generated messages, and the one method's name and codecs."""

from typing import Any

import grpc

from tandem_runtime.drafting.protocol.draft_pb2 import DrafterFrame, Hello, Row, VerifierFrame, Welcome

SERVICE = "tandem.draft.v1.Drafter"
METHOD = "Session"
PATH = f"/{SERVICE}/{METHOD}"
VERSION = 1
TOKEN_BYTES = 4
ANY_VOCABULARY = 2**31 - 1
"""Of a tester, which takes every id."""


def length_of(row: Row) -> int:
    """Tokens of the context that a row makes known, its delta included."""
    return row.base_length + len(row.delta) // TOKEN_BYTES


def mismatch_of(verifier: Hello | Welcome, draft: Hello | Welcome) -> str:
    """Why the one's ids may mean something else than the other's; empty where they mean the same.

    Vocabularies of one tokenizer may differ by their padding. Where one side does not know its tokenizer, their size
    is all that there is to compare.
    """
    if verifier.protocol != draft.protocol:
        return f"the verifier speaks protocol {verifier.protocol}, the draft server {draft.protocol}"
    if not verifier.vocabulary or not draft.vocabulary:
        return f"vocabularies of {verifier.vocabulary} and {draft.vocabulary} tokens: neither may be 0"
    if verifier.tokenizer_hash and draft.tokenizer_hash:
        if verifier.tokenizer_hash == draft.tokenizer_hash:
            return ""
        return f"the verifier's tokenizer is {verifier.tokenizer_hash}, the draft's {draft.tokenizer_hash}"
    if verifier.vocabulary in (draft.vocabulary, ANY_VOCABULARY):
        return ""
    return (
        f"the verifier's vocabulary has {verifier.vocabulary} tokens, the draft's {draft.vocabulary}, "
        "and one of them does not say which tokenizer it has"
    )


def session_of(channel: grpc.Channel) -> Any:
    """The method on a channel: frames of a verifier in, frames of a draft server out."""
    return channel.stream_stream(
        PATH, request_serializer=VerifierFrame.SerializeToString, response_deserializer=DrafterFrame.FromString
    )


__all__ = [
    "ANY_VOCABULARY",
    "METHOD",
    "PATH",
    "SERVICE",
    "TOKEN_BYTES",
    "VERSION",
    "DrafterFrame",
    "VerifierFrame",
    "length_of",
    "mismatch_of",
    "session_of",
]
