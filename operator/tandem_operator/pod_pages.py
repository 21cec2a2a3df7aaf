"""Metrics pages of pods, read over HTTP: what asks a pod for figures asks here. Reads only; a failure is no page."""

from __future__ import annotations

import aiohttp

ANSWER_LIMIT_SECONDS = 2.0
PAGE_LIMIT_BYTES = 1 << 20


class PodPages:
    """One HTTP session, made at the first request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def read(self, address: str) -> str | None:
        """The page at `address`; None without a good answer in time, and of a page beyond PAGE_LIMIT_BYTES: cut off in
        the middle of a number it would tell another one.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT_SECONDS))
        host = f"[{address}]" if ":" in address else address
        page = bytearray()
        try:
            async with self._session.get(f"http://{host}:{self._port}/metrics") as answer:
                if answer.status != 200:
                    return None
                async for chunk in answer.content.iter_any():  # a single read may give a part of the page
                    page += chunk
                    if len(page) > PAGE_LIMIT_BYTES:
                        return None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return page.decode(errors="replace")
