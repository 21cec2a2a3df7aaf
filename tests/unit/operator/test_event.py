"""The event for a condition: within the API server's limits, whatever a message is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tandem_contracts.launch import Role
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest
from tandem_operator.objects.event import NOTE_LIMIT_BYTES, Rescaled, event_of, rescaled_event_of
from tests.builders import NAME, NAMESPACE, UID

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def event(message: str, kind: str = "Ready", *, now: datetime = NOW) -> Manifest:
    condition = {"type": kind, "status": "False", "reason": "PodsFailing", "message": message}
    return event_of(Owner(name=NAME, namespace=NAMESPACE, uid=UID), condition, now=now)


@pytest.mark.parametrize("letter", ["x", "é", "…", "🐛"])
def test_a_note_is_cut_at_the_limit_of_the_api_server_and_between_letters(letter: str) -> None:
    note = event(letter * 2 * NOTE_LIMIT_BYTES)["note"]
    assert NOTE_LIMIT_BYTES == 1024
    assert NOTE_LIMIT_BYTES - 3 <= len(note.encode()) <= NOTE_LIMIT_BYTES
    assert note == "Ready=False: " + letter * (len(note) - len("Ready=False: "))


def test_a_note_that_fits_is_whole() -> None:
    message = "x" * (NOTE_LIMIT_BYTES - len("Ready=False: "))
    assert event(message)["note"] == f"Ready=False: {message}"


def test_each_condition_and_each_moment_has_an_event_of_its_own() -> None:
    assert event("a")["metadata"]["name"] == event("b")["metadata"]["name"]
    assert event("a")["metadata"]["name"] != event("a", "Available")["metadata"]["name"]
    assert event("a")["metadata"]["name"] != event("a", now=NOW + timedelta(microseconds=1))["metadata"]["name"]


@pytest.mark.parametrize(
    ("kind", "reason", "expected"),
    [
        ("Ready", "PodsFailing", "Warning"),
        ("Ready", "Unschedulable", "Warning"),
        ("Ready", "FailedCreate", "Warning"),
        ("Stalled", "InvalidSpec", "Warning"),
        ("Ready", "PodsNotReady", "Normal"),
        ("Ready", "RolledOut", "Normal"),
        ("Available", "NoReadyVerifier", "Normal"),
        ("ScalingActive", "ScalingConflict", "Warning"),
        ("ScalingLimited", "AtMaximum", "Warning"),
        ("LatencyTargetMet", "TargetMet", "Normal"),
    ],
)
def test_what_somebody_should_look_at_is_a_warning(kind: str, reason: str, expected: str) -> None:
    condition = {"type": kind, "status": "False", "reason": reason, "message": "m"}
    assert event_of(Owner(name=NAME, namespace=NAMESPACE, uid=UID), condition, now=NOW)["type"] == expected


def test_a_change_of_replicas_is_told_with_both_numbers_and_why() -> None:
    owner = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
    told = rescaled_event_of(owner, Rescaled(Role.DRAFT, 1, 2, "needs 2: 1900 tokens/s"), now=NOW)
    assert (told["type"], told["reason"], told["note"]) == (
        "Normal",
        "Rescaled",
        "drafts 1 → 2: needs 2: 1900 tokens/s",
    )
    other = rescaled_event_of(owner, Rescaled(Role.VERIFIER, 1, 2, "needs 2"), now=NOW)
    assert told["metadata"]["name"] != other["metadata"]["name"]
    long = rescaled_event_of(owner, Rescaled(Role.VERIFIER, 1, 2, "…" * NOTE_LIMIT_BYTES), now=NOW)
    assert len(long["note"].encode()) <= NOTE_LIMIT_BYTES
