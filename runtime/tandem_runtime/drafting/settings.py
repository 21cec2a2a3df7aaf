"""What the launcher tells the proposer, through the engine's `--additional-config`."""

import dataclasses
from collections.abc import Mapping
from typing import Self

_KEY = "tandem"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftSettings:
    """`address` is `host:port` of the draft pods; `counters` the path of the file for `Counters`.

    `tokenizer_hash` is the verifier's (`tandem_contracts.tokenizer`), empty where it is not known.
    """

    address: str
    tokenizer_hash: str
    deadline_seconds: float
    counters: str

    def to_engine(self) -> dict[str, object]:
        """The value of `--additional-config`."""
        return {_KEY: dataclasses.asdict(self)}

    @classmethod
    def from_engine(cls, additional_config: Mapping[str, dict[str, object]]) -> Self:
        """The inverse of `to_engine`. Raises KeyError or TypeError for anything else."""
        return cls(**additional_config[_KEY])  # type: ignore[arg-type]
