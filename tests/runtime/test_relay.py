"""What the relay does to a connection is what it says; the faults of the pair's tests and figures stand on it."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.runtime.relay import LOOPBACK, Relay

LIMIT_SECONDS = 20.0
DELAY_SECONDS = 0.02


@pytest.fixture
def echo() -> Iterator[str]:
    """`host:port` of a server that sends back what it gets."""
    listener = socket.create_server((LOOPBACK, 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"{LOOPBACK}:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def relay(echo: str) -> Iterator[Relay]:
    with Relay(echo) as made:
        yield made


def connected(relay: Relay) -> socket.socket:
    host, _, port = relay.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS)


def exchanged(connection: socket.socket, data: bytes) -> float:
    """Seconds until all of it has come back, unchanged."""
    begun, found = time.monotonic(), b""
    connection.sendall(data)
    while len(found) < len(data):
        part = connection.recv(64 * 1024)
        assert part, "the connection ended"
        found += part
    assert found == data
    return time.monotonic() - begun


def is_over(connection: socket.socket) -> bool:
    """Whether the other end has ended it, as it does within the limit."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_bytes_pass_unchanged_and_the_end_of_a_connection_too(relay: Relay) -> None:
    with connected(relay) as connection:
        exchanged(connection, bytes(range(256)) * 4096)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_delay_counts_in_each_direction_and_can_be_changed_meanwhile(relay: Relay) -> None:
    with connected(relay) as connection:
        exchanged(connection, b"quick")
        relay.delay_seconds = DELAY_SECONDS
        assert exchanged(connection, b"slow") >= 2 * DELAY_SECONDS


def test_jitter_delays_and_keeps_the_order(relay: Relay) -> None:
    relay.jitter_seconds = DELAY_SECONDS
    with connected(relay) as connection:
        for number in range(20):
            connection.sendall(bytes([number]))
        found = b""
        while len(found) < 20:
            found += connection.recv(20)
        assert found == bytes(range(20))


def test_nothing_arrives_during_a_stall_and_everything_after_it(relay: Relay) -> None:
    with connected(relay) as connection:
        exchanged(connection, b"before")
        relay.stall()
        connection.sendall(b"held")
        connection.settimeout(DELAY_SECONDS)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        connection.settimeout(LIMIT_SECONDS)
        relay.go_on()
        assert connection.recv(4) == b"held"


def test_a_cut_ends_the_connections_that_there_are_and_no_later_one(relay: Relay) -> None:
    with connected(relay) as connection:
        exchanged(connection, b"before")
        relay.cut()
        assert is_over(connection)
    with connected(relay) as connection:
        exchanged(connection, b"after")


def test_new_connections_go_to_another_target_once_there_is_one(relay: Relay) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        relay.target = f"{LOOPBACK}:{other.getsockname()[1]}"
        other.settimeout(LIMIT_SECONDS)
        with connected(relay), other.accept()[0] as arrived:
            assert arrived.getsockname() == other.getsockname()


def test_a_connection_ends_where_the_target_is_away() -> None:
    with socket.socket() as deaf:
        deaf.bind((LOOPBACK, 0))  # nobody else gets the port, and nobody listens
        with Relay(f"{LOOPBACK}:{deaf.getsockname()[1]}") as relay:
            try:
                connection = connected(relay)
            except (BrokenPipeError, ConnectionResetError):
                return  # ended before it was returned
            with connection:
                assert is_over(connection)


def test_nobody_is_connected_once_it_is_closed(relay: Relay) -> None:
    relay.close()
    with pytest.raises(OSError):  # noqa: PT011 -- refused or reset
        connected(relay)


def test_a_cut_finds_every_connection_also_one_that_has_just_come(relay: Relay) -> None:
    for _ in range(100):
        with connected(relay) as connection:
            while True:
                relay.cut()
                connection.settimeout(0.01)
                try:
                    assert connection.recv(1) == b""
                except TimeoutError:
                    continue  # it was not accepted yet
                except ConnectionResetError:
                    break
                break
