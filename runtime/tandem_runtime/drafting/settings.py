"""What the launcher tells the proposer, through the engine's environment.

Not through `--additional-config`: vLLM takes all of that into the key of its compile cache (`VllmConfig.compute_hash`),
and what is told here differs with each revision and each start.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tandem_contracts.draft_access import DraftIdentity
from tandem_runtime.drafting.access import DraftAccess

VARIABLE = "TANDEM_DRAFTS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftSettings:
    """`address` is `host:port` of the draft pods; `counters` the path of the file for `Counters`.

    `tokenizer_hash` is the verifier's (`tandem_contracts.tokenizer`), empty where it is not known.
    `identity` is empty where the draft pods are asked in plaintext; else the two folders are those of the launcher.
    """

    address: str
    tokenizer_hash: str
    deadline_seconds: float
    counters: str
    identity: str = ""
    certificates_folder: str = ""
    credentials_folder: str = ""

    @property
    def access(self) -> DraftAccess | None:
        """What the verifier has to show to draft pods; None: nothing."""
        if not self.identity:
            return None
        certificates, credentials = Path(self.certificates_folder), Path(self.credentials_folder)
        return DraftAccess(DraftIdentity.parse(self.identity), certificates, credentials)

    def to_environment(self) -> dict[str, str]:
        """The variable that the proposer reads."""
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The inverse of `to_environment`. Raises KeyError, ValueError or TypeError for anything else."""
        return cls(**json.loads(environment[VARIABLE]))
