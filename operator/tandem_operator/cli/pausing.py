"""`tandem pause` and `tandem resume`: whether autoscaling may change replicas. Nothing else can be paused.

Both only write to the resource, with the user's own rights; the operator does the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tandem_operator import names
from tandem_operator.cli.change import CHANGE_KEYS, Change, on_a_resource_with_output
from tandem_operator.cli.command import Command
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import BOLD, DIM, PLAIN, YELLOW, Paint, Screen
from tandem_operator.cli.status_document import conditions_of, counted
from tandem_operator.facts import Manifest
from tandem_operator.names import Reason

_CONFLICT = "not yet: somebody else has written them lately; `tandem why {name}` says who"
GOES_ON = "rollouts of a changed spec, repairs, the making of models, the depth of speculation"


def _pause(options: argparse.Namespace, screen: Screen) -> int:
    run_pause(Connection.of(options), options.name, paint=_paint(options, screen)).show(options, screen)
    return 0


def _resume(options: argparse.Namespace, screen: Screen) -> int:
    run_resume(Connection.of(options), options.name, paint=_paint(options, screen)).show(options, screen)
    return 0


def _paint(options: argparse.Namespace, screen: Screen) -> Paint:
    return PLAIN if options.output else screen.paint


PAUSE = Command(
    "keep replicas as they are, whatever the load: spec.autoscaling.paused",
    _pause,
    add_arguments=on_a_resource_with_output,
    description=f"Keep replicas as they are, at zero too, whatever the load: set spec.autoscaling.paused. What is not "
    f"paused: {GOES_ON}. Pausing what is paused changes nothing, and is no error; a resource without spec.autoscaling "
    "has nothing that could be paused: exit code 1.",
    keys=CHANGE_KEYS,
)
RESUME = Command(
    "let autoscaling decide on replicas again",
    _resume,
    add_arguments=on_a_resource_with_output,
    description="Let autoscaling decide on replicas again: unset spec.autoscaling.paused. Resuming what is not paused "
    "changes nothing, and is no error.",
    keys=CHANGE_KEYS,
)


def run_pause(connection: Connection, name: str, *, paint: Paint = PLAIN) -> Change:
    """What is paused now, and what is not. Raises CommandError, with exit code 2 when there is no such resource."""
    body = connection.get(names.KIND, name)
    is_news = not _is_paused(body)
    if is_news:
        body = _write(connection, name, is_paused=True)
    first = f"{name}: {paint('paused' if is_news else 'is paused already', BOLD)}: autoscaling keeps {_kept(body)}"
    lines = [first, paint(f"  not paused: {GOES_ON}", DIM)]
    if _scaling(body).get("desiredVerifiers") == 0:
        lines.append(paint("  at zero no request wakes it: those that come wait at the gate, and get 503", YELLOW))
    return _change(connection, name, lines, is_news=is_news)


def run_resume(connection: Connection, name: str, *, paint: Paint = PLAIN) -> Change:
    """What is decided again. Raises CommandError, with exit code 2 when there is no such resource."""
    body = connection.get(names.KIND, name)
    is_news = _is_paused(body)
    if not is_news:
        lines = [f"{name}: {paint('is not paused', BOLD)}: autoscaling decides on replicas"]
    else:
        body = _write(connection, name, is_paused=False)
        lines = [f"{name}: {paint('resumed', BOLD)}: autoscaling decides on replicas again"]
    if _is_in_conflict(body):
        lines.append(paint(f"  {_CONFLICT.format(name=name)}", YELLOW))
    return _change(connection, name, lines, is_news=is_news)


def _change(connection: Connection, name: str, lines: Sequence[str], *, is_news: bool) -> Change:
    changed = ["spec.autoscaling.paused"] if is_news else []
    return Change(name, connection.namespace, changed, "".join(f"{line}\n" for line in lines))


def _is_in_conflict(body: Manifest) -> bool:
    """Whether somebody else has written the replicas, as far as the operator has said so."""
    return any(each.get("reason") == Reason.SCALING_CONFLICT for each in conditions_of(body))


def _is_paused(body: Manifest) -> bool:
    """Raises CommandError where there is nothing to pause."""
    autoscaling: Any = (body.get("spec") or {}).get("autoscaling")
    if not autoscaling:
        name = body["metadata"]["name"]
        raise CommandError(
            f"{name} has no spec.autoscaling, so nothing of it can be paused: replicas are what spec.verifier.replicas "
            "says, and a changed spec is always rolled out"
        )
    return bool(autoscaling.get("paused"))


def _write(connection: Connection, name: str, *, is_paused: bool) -> Manifest:
    """A merge of that one field: where somebody has just taken spec.autoscaling out, the API server refuses it."""
    patch = {"spec": {"autoscaling": {"paused": is_paused}}}
    return connection.patch(names.KIND, name, patch, content_type="application/merge-patch+json")


def _scaling(body: Manifest) -> Manifest:
    found: Manifest = (body.get("status") or {}).get("scaling") or {}
    return found


def _kept(body: Manifest) -> str:
    """Replicas, as far as the operator has said what they are."""
    told = _scaling(body)
    counts = [(told.get("desiredVerifiers"), "verifier"), (told.get("desiredDrafts"), "draft")]
    known = [counted(count, what) for count, what in counts if count is not None]
    return " and ".join(known) or "replicas as they are"
