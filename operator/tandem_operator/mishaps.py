"""What the cluster's events say of pods whose containers are not made, and of Jobs whose pods are not: the only place
where a missing Secret, ConfigMap or volume is named, or the quota or policy that a Job's pod would break. Reads only;
decides nothing; a failed read is no news.

Events are not watched: there are far more of them than of anything else. They are read for one object at a time,
seconds after it should have come up, ever more rarely after that, and for all together not faster than a limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tandem_operator.causes import is_held_up, lacks_pods, mishap_of
from tandem_operator.cluster import Cluster, ClusterError
from tandem_operator.facts import Manifest, Ref
from tandem_operator.store import Key

_log = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 5.0
LOOK_AGAIN_LIMIT_SECONDS = 60.0
PODS_AT_ONCE = 3
"""Pods and Jobs of a resource that are looked at; what keeps one from coming up keeps its siblings too."""
LOOKS_PER_SECOND = 10


@dataclass(frozen=True)
class _Look:
    """What the last look at an object gave, and when, by the loop's clock, the next one is due."""

    due: float
    after_seconds: float = FIRST_LOOK_SECONDS
    said: str = ""


class Mishaps:
    """What is known of what is held up, by the resource it belongs to; forgotten as soon as it no longer is."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._looks: dict[Key, dict[str, _Look]] = {}
        self._looked: deque[float] = deque(maxlen=LOOKS_PER_SECOND)

    async def look(self, key: Key, children: Iterable[Manifest]) -> Mapping[str, str]:
        """What is known, by the uids of pods and Jobs, after looking at those that are due."""
        held_up = [child for child in children if _is_held_up(child)][:PODS_AT_ONCE]
        before = self._looks.pop(key, {})
        if not held_up:
            return {}
        looks: dict[str, _Look] = {}
        for child in held_up:
            uid = child["metadata"]["uid"]
            looks[uid] = before.get(uid) or _Look(_now() + FIRST_LOOK_SECONDS)
            if looks[uid].due <= _now() and self._may_look():
                looks[uid] = await self._look_at(child, looks[uid])
        self._looks[key] = looks
        return {uid: look.said for uid, look in looks.items() if look.said}

    def due_seconds(self, key: Key) -> float:
        """Seconds until the next look is due; 0: none is."""
        looks = self._looks.get(key, {}).values()
        return min((max(0.5, look.due - _now()) for look in looks), default=0.0)

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        self._looks.pop(key, None)

    def _may_look(self) -> bool:
        if len(self._looked) == LOOKS_PER_SECOND and _now() - self._looked[0] < 1.0:
            return False
        self._looked.append(_now())
        return True

    async def _look_at(self, child: Manifest, look: _Look) -> _Look:
        after = min(look.after_seconds * 2, LOOK_AGAIN_LIMIT_SECONDS)
        later = replace(look, due=_now() + after, after_seconds=after)
        metadata, ref = child["metadata"], Ref.of(child)
        fields = f"regarding.kind={ref.kind},regarding.uid={metadata['uid']}"
        try:
            found = await self._cluster.list_objects("Event", metadata["namespace"], fields=fields)
        except ClusterError as error:
            _log.info("%s: events of %s %s were not read: %s", metadata["namespace"], ref.kind, ref.name, error)
            return later
        return replace(later, said=mishap_of(found.items))


def _is_held_up(child: Manifest) -> bool:
    match child["kind"]:
        case "Pod":
            return is_held_up(child)
        case "Job":
            return lacks_pods(child)
    return False


def _now() -> float:
    return asyncio.get_running_loop().time()
