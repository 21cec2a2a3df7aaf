"""How the container of an engine, a wake gate or an artifact Job says why it ended: exit code and termination message.

Must not write or read files: the container's program writes the text, and it is read from the pod's status.
"""

import dataclasses
import json
from enum import IntEnum, StrEnum

MESSAGE_LIMIT_BYTES = 4096


class ExitCode(IntEnum):
    """Exit codes. 10 to 29 belong to artifact Jobs, 40 and on to launcher and wake gate, 128 and above to signals.

    10 to 20: the same Job would end in the same way. 21 to 29: it may pass by itself.
    """

    OK = 0
    SOURCE_DENIED = 10
    SOURCE_NOT_FOUND = 11
    SOURCE_UNSAFE = 12
    SOURCE_INVALID = 13
    RECIPE_UNSUPPORTED = 14
    TEXTS_INVALID = 15
    TASKS_INVALID = 16
    SMOKE_FAILED = 17
    DIFFERS_FROM_REFERENCE = 18
    ARTIFACT_MISSING = 19
    VOLUME_FULL = 20
    NETWORK_FAILED = 21
    CHECKSUM_MISMATCH = 22
    READ_FAILED = 23
    STEP_FAILED = 24
    INVALID_OPTIONS = 40
    MODEL_NOT_FOUND = 41
    MODEL_INVALID = 42
    ENGINE_START_FAILED = 43
    ENGINE_FAILED = 44
    ENGINE_STOP_TIMED_OUT = 45
    GATE_FAILED = 46


class Phase(StrEnum):
    """What was being done; an engine's first four after CHECK are timed, see `metrics.START_PHASE_SECONDS`."""

    INSPECT = "inspect"
    FETCH = "fetch"
    QUANTIZE = "quantize"
    EVALUATE = "evaluate"
    EVICT = "evict"
    SMOKE = "smoke"
    BENCHMARK = "benchmark"
    CHECK = "check"
    PROCESS = "process"
    WEIGHTS = "weights"
    COMPILE = "compile"
    WARM_UP = "warm_up"
    SERVE = "serve"
    STOP = "stop"


class Reason(StrEnum):
    """Why a container ended, in the form of a condition's reason."""

    INVALID_OPTIONS = "InvalidOptions"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_INVALID = "ModelInvalid"
    ENGINE_START_FAILED = "EngineStartFailed"
    ENGINE_FAILED = "EngineFailed"
    ENGINE_STOP_TIMED_OUT = "EngineStopTimedOut"
    GATE_FAILED = "GateFailed"
    CONFIG_INVALID = "ConfigInvalid"
    NO_WEIGHTS = "NoWeights"
    PICKLES_ONLY = "PicklesOnly"
    WEIGHTS_INVALID = "WeightsInvalid"
    READ_FAILED = "ReadFailed"
    SOURCE_DENIED = "SourceDenied"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNSAFE = "SourceUnsafe"
    SOURCE_CHANGED = "SourceChanged"
    NETWORK_FAILED = "NetworkFailed"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    RECIPE_UNSUPPORTED = "RecipeUnsupported"
    TEXTS_INVALID = "TextsInvalid"
    TASKS_INVALID = "TasksInvalid"
    VOLUME_FULL = "VolumeFull"
    STEP_FAILED = "StepFailed"
    SMOKE_FAILED = "SmokeFailed"
    DIFFERS_FROM_REFERENCE = "DiffersFromReference"
    ARTIFACT_MISSING = "ArtifactMissing"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TerminationMessage:
    """The last word of a container; `message` is the root cause, for a person."""

    code: ExitCode
    phase: Phase
    reason: Reason
    message: str

    def encode(self) -> str:
        """JSON of at most MESSAGE_LIMIT_BYTES, the message shortened at its end where it must be."""
        kept = self.message
        while len((text := self._json(kept)).encode()) > MESSAGE_LIMIT_BYTES:
            excess = len(text.encode()) - MESSAGE_LIMIT_BYTES
            # An escaped character takes up to 12 bytes of JSON, so this never cuts below what is needed.
            kept = kept.removesuffix("…")[: -max(1, excess // 12)] + "…"
        return text

    def _json(self, message: str) -> str:
        return json.dumps(
            {"code": int(self.code), "phase": str(self.phase), "reason": str(self.reason), "message": message}
        )

    @classmethod
    def decode(cls, text: str) -> "TerminationMessage":
        """The message in `text`. Raises ValueError when it is not one of ours."""
        try:
            fields = json.loads(text)
            return cls(
                code=ExitCode(fields["code"]),
                phase=Phase(fields["phase"]),
                reason=Reason(fields["reason"]),
                message=str(fields["message"]),
            )
        except (ValueError, TypeError, KeyError) as cause:
            raise ValueError(f"not a termination message of ours: {text[:200]!r}") from cause
