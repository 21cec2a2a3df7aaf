"""Reads engines' metrics from Prometheus, for scaling: one query for some pods, which only the operator builds.

It asks for the series and for when they were scraped: a sample's age is what Prometheus knows of it, not when it was
asked. Both in one query, since a scrape may come between two. What Prometheus does not answer, or answers wrongly,
leaves the readings of before, which grow old.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import aiohttp

from tandem_contracts.metrics import ENGINE_RUNNING
from tandem_operator.config import PrometheusConfig
from tandem_operator.pace import is_due
from tandem_operator.scaling.reading import FAMILIES, Reading, Sample, reading_of
from tandem_operator.store import Key

READ_EVERY_SECONDS = 15.0
PODS_AT_ONCE = 200
"""Whose answer is some 9 MB: a larger one would keep the operator from everything else while it is taken apart."""
ANSWER_LIMIT_BYTES = 64 << 20
_TROUBLE_LENGTH = 200
_SCRAPED = "tandem_scraped"
"""Label of the elements whose values are times; without one they would be dropped as the series that they are of."""
_ENGINE_LABELS = frozenset({"engine", "model_name", _SCRAPED})
"""Of ENGINE_RUNNING's times, those that are not of the target that was scraped."""
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
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[int, ...] = ()

    def interval_seconds(self, _: Key) -> float:
        """In which Prometheus is asked anew."""
        return READ_EVERY_SECONDS

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """Of the pods of these names; what is due is asked meanwhile."""
        watched = self._watched.setdefault(key, _Watched())
        now = self._clock()
        due = is_due(watched.due, now=now, every_seconds=READ_EVERY_SECONDS)
        if addresses and due and (watched.read is None or watched.read.done()):
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
                series = f'{{__name__=~"{_NAMES}",{matching}}}'
                times = f"timestamp({ENGINE_RUNNING}{{{matching}}})"
                values = await self._query(f'{series} or label_replace({times}, "{_SCRAPED}", "1", "", "")')
                watched.readings |= readings_of(values)
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
            headers["Authorization"] = f"Bearer {_token_in(self._config.bearer_token_file)}"
        url = f"{self._config.address}/api/v1/query"
        asking = session.post(url, data={"query": query}, headers=headers, ssl=self._tls(), allow_redirects=False)
        async with asking as answer:
            body = await _whole(answer)
            if answer.status != 200:
                raise PrometheusError(f"answered {answer.status}{_error_in(body)}")
        return vector_in(body)

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._config.timeout_seconds))
        return self._session

    def _tls(self) -> ssl.SSLContext:
        """By the files as they are now: whoever mounts them rotates them. Another context means another connection."""
        config = self._config
        files = (config.ca_file, config.certificate_file, config.key_file)
        stamps = tuple(file.stat().st_mtime_ns for file in files if file is not None)
        if self._context is None or stamps != self._stamps:
            self._context, self._stamps = _tls_of(config), stamps
        return self._context


def _token_in(file: Path) -> str:
    """The token, which whoever mounts it may rotate. Raises PrometheusError for what no header can hold."""
    try:
        token = file.read_text(encoding="ascii").strip()
    except UnicodeError as error:
        raise PrometheusError(f"{file} holds no token: {error}") from None
    if not token.isprintable() or " " in token:
        raise PrometheusError(f"{file} holds no token: one line without blanks is one")
    return token


def readings_of(values: list[tuple[dict[str, str], float]]) -> dict[str, Reading]:
    """By pod. One whose scrape has no time, or whose series are no page of an engine, has no reading.

    Where several jobs, or several Prometheus, scrape a pod, the newest scrape alone counts.
    """
    scraped: dict[str, tuple[float, dict[str, str]]] = {}
    for labels, at in values:
        pod = labels.get("pod", "")
        if _SCRAPED in labels and (pod not in scraped or at > scraped[pod][0]):
            scraped[pod] = at, {name: text for name, text in labels.items() if name not in _ENGINE_LABELS}
    samples: dict[str, list[Sample]] = {pod: [] for pod in scraped}
    for labels, value in values:
        pod = labels.get("pod", "")
        if _SCRAPED not in labels and pod in scraped and scraped[pod][1].items() <= labels.items():
            samples[pod].append(Sample(labels.get("__name__", ""), labels, value))
    found = {pod: reading_of(samples[pod], at=at) for pod, (at, _) in scraped.items()}
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


def _error_in(body: bytes) -> str:
    """What Prometheus says of a query that it does not answer; nothing where somebody else answers."""
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {said}"


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
