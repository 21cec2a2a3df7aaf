"""Ports and networks: what is taken is never chosen."""

import ipaddress
import socket

import pytest

from deploy.local.addresses import CANDIDATES, PORT_NAMES, PORTS, free_ports, network_beside
from deploy.local.errors import ClusterError
from deploy.local.record import Record, with_free_ports


@pytest.fixture
def taken_port() -> "socket.socket":
    listener = socket.socket()
    for port in PORTS:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        listener.listen()
        return listener
    pytest.fail(f"no free port in {PORTS}")


def test_each_name_gets_a_port_of_its_own() -> None:
    ports = free_ports()
    assert list(ports) == list(PORT_NAMES)
    assert len(set(ports.values())) == len(PORT_NAMES)
    assert all(port in PORTS for port in ports.values())


def test_a_port_that_someone_listens_on_is_not_chosen(taken_port: socket.socket) -> None:
    with taken_port:
        port = taken_port.getsockname()[1]
        assert free_ports(["etcd"], preferred=[port])["etcd"] != port


def test_a_restart_keeps_its_ports_except_those_that_were_taken(taken_port: socket.socket) -> None:
    free = free_ports(["etcd"])["etcd"]
    with taken_port:
        record = Record("m", 88, {"etcd": free, "kwok": taken_port.getsockname()[1]}, has_real_node=False)
        ports = with_free_ports(record).ports
    assert ports["etcd"] == free
    assert ports["kwok"] != record.ports["kwok"]


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([], 88),
        (["10.88.0.0/16"], 89),
        (["10.88.5.0/24", "10.89.1.1/32"], 90),
        (["0.0.0.0/0", "192.168.0.0/16"], 88),
        (["10.64.0.0/10"], 200),
    ],
)
def test_the_network_overlaps_no_route_of_the_machine(used: list[str], expected: int) -> None:
    assert network_beside([ipaddress.IPv4Network(text) for text in used]).second == expected


def test_a_machine_without_a_free_network_is_told_so() -> None:
    with pytest.raises(ClusterError, match="no free network"):
        network_beside([ipaddress.IPv4Network("10.0.0.0/8")])
    assert len(CANDIDATES) > 50
