"""How the operator proves itself to a real Prometheus, and what it tells of one that it cannot ask."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.pki import Leaf, authority_in, issue
from tandem_operator.config import PrometheusConfig
from tandem_operator.prometheus_readings import PrometheusReadings
from tests.prometheus.exporters import Exporters
from tests.prometheus.pods import KEY, read
from tests.prometheus.server import LOOPBACK, Prometheus, running_prometheus
from tests.prometheus.test_readings import make_page, running
from tests.prometheus.token_proxy import asking_for

PODS = ["stays"]
NOTHING_SCRAPED = "Prometheus knows no series of these pods: does it scrape them?"


@dataclass(frozen=True)
class Guarded:
    """A Prometheus that answers only over TLS, and only to certificates of the authority in `ours`."""

    server: Prometheus
    ours: Path
    others: Path

    def config(self, *, ca: Path | None, certificate: Path | None) -> PrometheusConfig:
        return PrometheusConfig(
            address=self.server.address,
            ca_file=ca and ca / "ca.crt",
            certificate_file=certificate and certificate / "operator.crt",
            key_file=certificate and certificate / "operator.key",
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With nothing to scrape: that its answer is empty says that it has answered."""
    folder = tmp_path_factory.mktemp("guarded")
    ours, others = folder / "ours", folder / "others"
    for place in (ours, others):
        server = Leaf("server", "prometheus", names=("localhost",), addresses=(LOOPBACK,))
        issue(authority_in(place), [server, Leaf("operator", "tandem-operator")])
    tls = {
        "cert_file": str(ours / "server.crt"),
        "key_file": str(ours / "server.key"),
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(ours / "ca.crt"),
    }
    with running_prometheus(folder, [], web={"tls_server_config": tls}) as prometheus:
        yield Guarded(prometheus, ours, others)


def test_a_private_authority_and_a_certificate_of_our_own_are_enough(guarded: Guarded) -> None:
    readings, trouble = read(guarded.config(ca=guarded.ours, certificate=guarded.ours), PODS)
    assert readings == {}
    assert trouble == NOTHING_SCRAPED


CUT_OFF = ("Connection reset by peer", "Server disconnected")
"""With TLS 1.3 a server looks at the client's certificate when the client already asks: it closes the connection with
what it has not read, and the network may drop its last word for that."""


@pytest.mark.parametrize(
    ("ca", "certificate", "told"),
    [
        ("others", "ours", ("CERTIFICATE_VERIFY_FAILED",)),
        (None, "ours", ("CERTIFICATE_VERIFY_FAILED",)),
        ("ours", None, ("CERTIFICATE_REQUIRED", *CUT_OFF)),
        ("ours", "others", ("UNKNOWN_CA", *CUT_OFF)),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told(
    guarded: Guarded, ca: str | None, certificate: str | None, told: tuple[str, ...]
) -> None:
    config = guarded.config(
        ca=getattr(guarded, ca) if ca else None, certificate=getattr(guarded, certificate) if certificate else None
    )
    readings, trouble = read(config, PODS)
    assert readings == {}
    assert trouble.startswith(f"Prometheus at {guarded.server.address}: ")
    assert any(word in trouble for word in told), trouble


def test_certificates_that_are_rotated_are_used_without_a_restart(guarded: Guarded, tmp_path: Path) -> None:
    now = [0.0]

    async def main() -> None:
        mounted = tmp_path / "mounted"
        shutil.copytree(guarded.others, mounted)
        config = guarded.config(ca=mounted, certificate=mounted)
        readings = PrometheusReadings(config, clock=lambda: now[0])
        for place, told in ((guarded.others, "CERTIFICATE_VERIFY_FAILED"), (guarded.ours, NOTHING_SCRAPED)):
            for name in ("ca.crt", "operator.crt", "operator.key"):
                shutil.copyfile(place / name, mounted / name)
            now[0] += readings.interval_seconds(KEY)
            readings.latest(KEY, dict.fromkeys(PODS, "10.0.0.7"))
            await readings.settle(KEY)
            assert told in readings.trouble(KEY)
        await readings.close()

    asyncio.run(main())


def test_a_file_that_is_not_there_is_told(guarded: Guarded, tmp_path: Path) -> None:
    _, trouble = read(guarded.config(ca=tmp_path, certificate=guarded.ours), PODS)
    assert f"No such file or directory: '{tmp_path}/ca.crt'" in trouble


def test_http_where_https_is_asked_for_is_told(guarded: Guarded) -> None:
    address = guarded.server.address.replace("https", "http")
    assert read(PrometheusConfig(address=address), PODS) == ({}, f"Prometheus at {address}: answered 400")


def test_only_the_right_token_passes_and_another_one_is_told(
    prometheus: Prometheus, exporters: Exporters, tmp_path: Path
) -> None:
    exporters.serve("stays", make_page(1, running=2))
    prometheus.wait_for(running("stays"), 2)
    token = tmp_path / "token"
    with asking_for("right", behind=prometheus.address) as address:
        config = PrometheusConfig(address=address, bearer_token_file=token)
        token.write_text("wrong\n")
        assert read(config, PODS) == ({}, f"Prometheus at {address}: answered 401")
        token.write_text("right\n")
        readings, trouble = read(config, PODS)
    assert (set(readings), trouble) == ({"stays"}, "")


def test_a_prometheus_that_has_stopped_is_told(tmp_path: Path) -> None:
    with running_prometheus(tmp_path, []) as server:
        config = PrometheusConfig(address=server.address)
        assert read(config, PODS) == ({}, NOTHING_SCRAPED)
    readings, trouble = read(config, PODS)
    assert readings == {}
    assert "Cannot connect" in trouble
