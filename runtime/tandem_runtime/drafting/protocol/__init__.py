"""`tandem.draft.v1` on gRPC: `draft.proto`, its generated messages, and the one method's name and codecs."""

from tandem_runtime.drafting.protocol.draft_pb2 import DrafterFrame, VerifierFrame

SERVICE = "tandem.draft.v1.Drafter"
METHOD = "Session"
PATH = f"/{SERVICE}/{METHOD}"
VERSION = 1

__all__ = ["METHOD", "PATH", "SERVICE", "VERSION", "DrafterFrame", "VerifierFrame"]
