"""Whether an object has to be applied again. Pure.

Two reasons, and no third: what we want has changed (the hash on the object is another one), or what is there does not
contain what we want (somebody changed it). Fields that we do not set are not ours and never a reason.
"""

from __future__ import annotations

from typing import Any

from tandem_operator import names
from tandem_operator.facts import Manifest

_EXACT = frozenset({"selector", "matchLabels", "nodeSelectorTerms", "podSelector", "ingress", "egress"})
"""Where an additional entry changes what the others mean: a Service that selects more labels selects fewer pods, a rule
that names peers besides its ports allows less."""


def needs_apply(wanted: Manifest, there: Manifest) -> bool:
    """Whether applying `wanted` over `there` would change anything that we set."""
    annotations = there["metadata"].get("annotations") or {}
    if annotations.get(names.ANNOTATION_APPLIED) != wanted["metadata"]["annotations"][names.ANNOTATION_APPLIED]:
        return True
    return not contains(there, wanted)


def contains(there: Any, wanted: Any) -> bool:
    """Whether `there` has everything that `wanted` has, at the same places.

    Lists of named elements are compared by name and may have others besides (admission adds containers and
    volumes); other lists element by element.
    """
    if isinstance(wanted, dict):
        # An empty mapping, such as `emptyDir: {}`, is there as soon as its key is.
        return isinstance(there, dict) and all(
            key in there and (there[key] == wanted[key] if key in _EXACT else contains(there[key], wanted[key]))
            for key in wanted
        )
    if isinstance(wanted, list):
        if not isinstance(there, list):
            return False
        if wanted and all(isinstance(item, dict) and "name" in item for item in wanted):
            named = {item.get("name"): item for item in there if isinstance(item, dict)}
            return all(item["name"] in named and contains(named[item["name"]], item) for item in wanted)
        return len(there) == len(wanted) and all(map(contains, there, wanted))
    return bool(there == wanted)
