from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifierFrame(_message.Message):
    __slots__ = ("hello", "step")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    step: Step
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ...) -> None: ...

class DrafterFrame(_message.Message):
    __slots__ = ("welcome", "result", "notice")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    result: Result
    notice: Notice
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "verifier", "incarnation", "tokenizer_hash", "vocabulary", "max_depth")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    verifier: str
    incarnation: int
    tokenizer_hash: str
    vocabulary: int
    max_depth: int
    def __init__(self, protocol: _Optional[int] = ..., verifier: _Optional[str] = ..., incarnation: _Optional[int] = ..., tokenizer_hash: _Optional[str] = ..., vocabulary: _Optional[int] = ..., max_depth: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "drafter", "incarnation", "tokenizer_hash", "vocabulary", "max_depth", "context_limit", "max_sessions")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    drafter: str
    incarnation: int
    tokenizer_hash: str
    vocabulary: int
    max_depth: int
    context_limit: int
    max_sessions: int
    def __init__(self, protocol: _Optional[int] = ..., drafter: _Optional[str] = ..., incarnation: _Optional[int] = ..., tokenizer_hash: _Optional[str] = ..., vocabulary: _Optional[int] = ..., max_depth: _Optional[int] = ..., context_limit: _Optional[int] = ..., max_sessions: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("number", "budget_us", "rows", "ahead")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BUDGET_US_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    number: int
    budget_us: int
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    ahead: int
    def __init__(self, number: _Optional[int] = ..., budget_us: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., ahead: _Optional[int] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("session", "generation", "base_length", "delta", "checksum", "depth", "closes")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    BASE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    CLOSES_FIELD_NUMBER: _ClassVar[int]
    session: int
    generation: int
    base_length: int
    delta: bytes
    checksum: int
    depth: int
    closes: bool
    def __init__(self, session: _Optional[int] = ..., generation: _Optional[int] = ..., base_length: _Optional[int] = ..., delta: _Optional[bytes] = ..., checksum: _Optional[int] = ..., depth: _Optional[int] = ..., closes: _Optional[bool] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("step", "drafts", "queue_us", "compute_us")
    STEP_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    step: int
    drafts: _containers.RepeatedCompositeFieldContainer[Draft]
    queue_us: int
    compute_us: int
    def __init__(self, step: _Optional[int] = ..., drafts: _Optional[_Iterable[_Union[Draft, _Mapping]]] = ..., queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ...) -> None: ...

class Draft(_message.Message):
    __slots__ = ("session", "generation", "base_length", "tokens", "status")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OK: _ClassVar[Draft.Status]
        PARTIAL: _ClassVar[Draft.Status]
        RESYNC: _ClassVar[Draft.Status]
        UNFIT: _ClassVar[Draft.Status]
        OVERLOADED: _ClassVar[Draft.Status]
    OK: Draft.Status
    PARTIAL: Draft.Status
    RESYNC: Draft.Status
    UNFIT: Draft.Status
    OVERLOADED: Draft.Status
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    BASE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    session: int
    generation: int
    base_length: int
    tokens: bytes
    status: Draft.Status
    def __init__(self, session: _Optional[int] = ..., generation: _Optional[int] = ..., base_length: _Optional[int] = ..., tokens: _Optional[bytes] = ..., status: _Optional[_Union[Draft.Status, str]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("draining", "evicted")
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    draining: bool
    evicted: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, draining: _Optional[bool] = ..., evicted: _Optional[_Iterable[int]] = ...) -> None: ...
