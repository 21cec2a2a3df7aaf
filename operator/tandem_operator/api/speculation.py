"""`spec.speculation`: where draft tokens come from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tandem_contracts.launch import DEPTH_LIMIT, InEngineKind
from tandem_contracts.launch import Speculation as SpeculationMethod
from tandem_operator.api.draft_tls import DraftTLS
from tandem_operator.api.fields import ApiModel, Rule
from tandem_operator.api.model import Model

_WITH_MODEL = [kind for kind in InEngineKind if kind.needs_model]


class InEngine(ApiModel):
    """Drafts that the verifier's own engine makes, on the verifier's accelerators. Part of the verifier's revision."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!(self.kind in [{', '.join(repr(kind.value) for kind in _WITH_MODEL)}]) || has(self.model)",
            lambda in_engine: not in_engine.kind.needs_model or in_engine.model is not None,
            f"model is required when kind is {' or '.join(_WITH_MODEL)}",
            path=".model",
        ),
        Rule(
            f"self.kind in [{', '.join(repr(kind.value) for kind in _WITH_MODEL)}] || !has(self.model)",
            lambda in_engine: in_engine.kind.needs_model or in_engine.model is None,
            f"model must be left out when kind is {' or '.join(k for k in InEngineKind if not k.needs_model)}",
            path=".model",
        ),
    )

    kind: InEngineKind
    """DraftModel: a small model of the same tokenizer. EAGLE3: a head trained for the verifier. MTP: the verifier's
    own layers for it. Suffix: from what was said before; the engine image must contain arctic-inference."""
    model: Model | None = None
    """The weights of DraftModel and EAGLE3, mounted beside the verifier's."""


class Speculation(ApiModel):
    """How tokens are proposed before the verifier checks them. The text is the same with every method."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.method) || self.method != 'InEngine' || has(self.inEngine)",
            lambda speculation: (
                speculation.method is not SpeculationMethod.IN_ENGINE or speculation.in_engine is not None
            ),
            "inEngine is required when method is InEngine",
            path=".inEngine",
        ),
        Rule(
            "!has(self.inEngine) || (has(self.method) && self.method == 'InEngine')",
            lambda speculation: speculation.in_engine is None or speculation.method is SpeculationMethod.IN_ENGINE,
            "inEngine must be left out unless method is InEngine",
            path=".inEngine",
        ),
    )

    method: SpeculationMethod | None = None
    """Remote: draft pods propose (needs spec.draft). InEngine: the verifier's own engine proposes (needs inEngine).
    NGram: the verifier proposes from the prompt itself. Off: plain decoding.
    Omitted: Remote when spec.draft is given, else Off."""
    in_engine: InEngine | None = None
    """What proposes with method InEngine."""
    max_depth: Annotated[int, Field(ge=1, le=DEPTH_LIMIT)] = 5
    """Most tokens proposed at once, from 1 to 16. How many there are is chosen by measurement, 0 included."""
    tls: DraftTLS | None = None
    """Certificates for method Remote: verifiers and draft pods then talk over TLS, and a draft pod answers only this
    deployment's verifiers, by their ServiceAccount's token. Omitted: plaintext, kept apart by a NetworkPolicy alone."""
