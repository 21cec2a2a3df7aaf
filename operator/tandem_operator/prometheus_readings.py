"""Reads engines' metrics from Prometheus, for scaling, by queries that only the operator builds: two for some pods.

The one asks for the series, the other for when they were scraped: a sample's age is what Prometheus knows of it, not
when it was asked. What Prometheus does not answer, or answers wrongly, leaves the readings of before, which grow old.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

import aiohttp

from tandem_contracts.metrics import ENGINE_RUNNING
from tandem_operator.config import PrometheusConfig
from tandem_operator.scaling.reading import FAMILIES, Reading, Sample, reading_of
from tandem_operator.store import Key

READ_EVERY_SECONDS = 15.0
PODS_AT_ONCE = 200
"""Whose answer is some 9 MB: a larger one would keep the operator from everything else while it is taken apart."""
ANSWER_LIMIT_BYTES = 64 << 20
_TROUBLE_LENGTH = 200
_NAMES = "|".join(f"{family}(_bucket|_sum|_count)?" for family in FAMILIES)


class PrometheusError(Exception):
    """No good answer; the message says what came instead."""


@dataclass
class _Watched:
    readings: dict[str, Reading] = field(default_factory=dict)
    due: float = 0.0
    read: asyncio.Task[None] | None = None
    trouble: str = ""


class PrometheusReadings:
    """The last readings of the verifiers of each autoscaled deployment; the same interface as `EngineReadings`."""

    def __init__(self, config: PrometheusConfig, *, clock: Callable[[], float] = time) -> None:
        self._config, self._clock = config, clock
        self._watched: dict[Key, _Watched] = {}
        self._session: aiohttp.ClientSession | None = None

    def interval_seconds(self, _: Key) -> float:
        """In which Prometheus is asked anew."""
        return READ_EVERY_SECONDS

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """Of the pods of these names; what is due is asked meanwhile."""
        watched = self._watched.setdefault(key, _Watched())
        now = self._clock()
        if addresses and now >= watched.due and (watched.read is None or watched.read.done()):
            watched.due = now + READ_EVERY_SECONDS
            watched.read = asyncio.create_task(self._read(key, watched, tuple(sorted(addresses))))
        watched.readings = {name: each for name, each in watched.readings.items() if name in addresses}
        return dict(watched.readings)

    def trouble(self, key: Key) -> str:
        """What was wrong with the last answer; empty when nothing was."""
        watched = self._watched.get(key)
        return watched.trouble if watched else ""

    async def settle(self, key: Key) -> None:
        """Wait for the query that has begun."""
        watched = self._watched.get(key)
        if watched and watched.read:
            await watched.read

    def forget(self, key: Key) -> None:
        """Nobody asks for the deployment's any more."""
        watched = self._watched.pop(key, None)
        if watched and watched.read:
            watched.read.cancel()

    async def close(self) -> None:
        reads = [watched.read for watched in self._watched.values() if watched.read]
        for key in list(self._watched):
            self.forget(key)
        await asyncio.gather(*reads, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def _read(self, key: Key, watched: _Watched, pods: tuple[str, ...]) -> None:
        trouble = "Prometheus knows no series of these pods: does it scrape them?"
        try:
            for begin in range(0, len(pods), PODS_AT_ONCE):
                some = "|".join(map(_quoted, pods[begin : begin + PODS_AT_ONCE]))
                matching = f'namespace="{key.namespace}",pod=~"{some}"'
                values = await self._query(f'{{__name__=~"{_NAMES}",{matching}}}')
                times = await self._query(f"timestamp({ENGINE_RUNNING}{{{matching}}})")
                watched.readings |= readings_of(values, times)
                trouble = "" if values else trouble
            watched.trouble = trouble
        except (PrometheusError, aiohttp.ClientError, TimeoutError, OSError) as error:
            told = str(error) or type(error).__name__
            watched.trouble = f"Prometheus at {self._config.address}: {told}"[:_TROUBLE_LENGTH]

    async def _query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """An instant vector. Raises PrometheusError for everything else."""
        session = await self._open()
        headers = {}
        if self._config.bearer_token_file is not None:
            token = self._config.bearer_token_file.read_text(encoding="utf-8").strip()  # rotated by whoever mounts it
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self._config.address}/api/v1/query"
        async with session.post(url, data={"query": query}, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                raise PrometheusError(f"answered {answer.status}")
            body = await _whole(answer)
        return vector_in(body)

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            limit = aiohttp.ClientTimeout(total=self._config.timeout_seconds)
            connector = aiohttp.TCPConnector(ssl=_tls_of(self._config))
            self._session = aiohttp.ClientSession(timeout=limit, connector=connector)
        return self._session


def readings_of(
    values: list[tuple[dict[str, str], float]], times: list[tuple[dict[str, str], float]]
) -> dict[str, Reading]:
    """By pod. One whose scrape has no time, or whose series are no page of an engine, has no reading."""
    scraped = {labels.get("pod", ""): at for labels, at in times}
    series: dict[str, list[Sample]] = {}
    for labels, value in values:
        series.setdefault(labels.get("pod", ""), []).append(Sample(labels.get("__name__", ""), labels, value))
    found = {pod: reading_of(samples, at=scraped[pod]) for pod, samples in series.items() if pod in scraped}
    return {pod: reading for pod, reading in found.items() if reading is not None}


def vector_in(body: bytes) -> list[tuple[dict[str, str], float]]:
    """Labels and values of Prometheus' answer to an instant query. Raises PrometheusError for any other answer."""
    try:
        answer: Any = json.loads(body)
        if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
            raise PrometheusError(f"answered {answer.get('error') or 'no vector'}")
        return [
            ({str(k): str(v) for k, v in each["metric"].items()}, float(each["value"][1]))
            for each in answer["data"]["result"]
        ]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise PrometheusError(f"answered what is no instant vector ({type(error).__name__})") from error


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            raise PrometheusError(f"answered more than {ANSWER_LIMIT_BYTES} bytes")
    return bytes(body)


def _quoted(text: str) -> str:
    """A pod's name in a regular expression in a string of PromQL: lower-case letters, digits, '-', and '.', which alone
    means anything there.
    """
    return text.replace(".", "[.]")


def _tls_of(config: PrometheusConfig) -> ssl.SSLContext:
    """The system's authorities, or those of a file; with a certificate of our own where there is one."""
    context = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
    if config.certificate_file and config.key_file:
        context.load_cert_chain(config.certificate_file, config.key_file)
    return context
