"""One operator at a time: a second one waits, takes over, and the first one never writes again."""

from __future__ import annotations

import signal

from tests.cluster.world import World, sample


def _leads(world: World, name: str) -> bool:
    operator = next(o for o in world.operators if o.log.stem == name)
    return "this operator leads" in operator.says()


def _waits(world: World, name: str) -> bool:
    operator = next(o for o in world.operators if o.log.stem == name)
    return "waiting for" in operator.says()


def test_a_second_operator_waits_and_takes_over_at_once_when_the_first_ends(tandem: World) -> None:
    tandem.wait_until(lambda: _leads(tandem, "operator"), "the first operator leads")
    tandem.operator("second").start()
    tandem.wait_until(lambda: _waits(tandem, "second"), "the second operator waits for the first")
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    assert not _leads(tandem, "second")
    assert tandem.operators[0].end(signal.SIGTERM) == 0
    tandem.wait_until(lambda: _leads(tandem, "second"), "the second operator leads", limit_seconds=8)


def test_a_killed_operator_is_replaced_when_its_lease_runs_out(tandem: World) -> None:
    tandem.operators[0].end()
    tandem.operator("first", leaseSeconds=5, requestTimeoutSeconds=2).start()
    tandem.wait_until(lambda: _leads(tandem, "first"), "the first operator leads")
    tandem.operator("second", leaseSeconds=5, requestTimeoutSeconds=2).start()
    tandem.wait_until(lambda: _waits(tandem, "second"), "the second operator waits for the first")
    assert not _leads(tandem, "second")
    tandem.operators[1].end(signal.SIGKILL)
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    assert _leads(tandem, "second")


def test_an_operator_that_was_suspended_past_its_lease_ends_instead_of_writing(tandem: World) -> None:
    tandem.operators[0].end()
    first = tandem.operator("first", leaseSeconds=5, requestTimeoutSeconds=2).start()
    tandem.wait_until(lambda: _leads(tandem, "first"), "the first operator leads")
    first.send(signal.SIGSTOP)
    second = tandem.operator("second", leaseSeconds=5, requestTimeoutSeconds=2).start()
    tandem.wait_until(lambda: _leads(tandem, "second"), "the second operator leads")
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    second.end(signal.SIGKILL)
    # Something to repair, and nobody but the first one to do it: a write from here on would be its.
    tandem.run("delete", "service", "llama-70b")
    written = len(tandem.writes())
    first.send(signal.SIGCONT)
    assert first.wait(limit_seconds=20) == 1
    assert "the lease is lost" in first.says()
    assert len(tandem.writes()) == written
