"""The pages as mkdocs builds them: without a warning, and with nothing that a browser would fetch elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.grafana.rules import ALERTS
from tests.docs.blocks import blocks_of

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / ".venv/docs/bin/mkdocs"
LIMIT_SECONDS = 100
FETCHING = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
    "object": "data", "link": "href",
}  # fmt: skip
"""Elements that a browser follows by itself, and by which attribute."""
NOT_FETCHED = {"canonical", "next", "prev"}
"""Kinds of `link` that only say something."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert MKDOCS.is_file(), "run `make .venv/docs/ready`: what builds the pages has an environment of its own"
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class _Fetched(HTMLParser):
    """Addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(FETCHING.get(tag, ""))
        if address and not NOT_FETCHED & set((given.get("rel") or "").split()):
            self.addresses.append(address)


def fetched_by(page: Path) -> Iterator[str]:
    parser = _Fetched()
    parser.feed(page.read_text(encoding="utf-8"))
    yield from parser.addresses


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    elsewhere = {
        (page.name, address)
        for page in pages
        for address in fetched_by(page)
        if re.match(r"([a-z]+:)?//", address, re.IGNORECASE)
    }

    assert len(pages) > 1
    assert not elsewhere


def test_the_runbooks_that_alerts_point_to_are_pages_of_the_site(site: Path) -> None:
    """By the value that the page about monitoring gives."""
    (values,) = (block for block in blocks_of(ROOT / "docs/how-to/monitor.md") if "runbooks:" in block.text)
    address = urlsplit(yaml.safe_load(values.text)["metrics"]["prometheusRule"]["runbooks"]).path

    assert [alert.name for alert in ALERTS if not (site / address.format(name=alert.name)[1:]).is_file()] == []


def test_no_style_sheet_or_picture_of_ours_fetches_anything_from_another_host(site: Path) -> None:
    sheets = [path for path in site.rglob("*") if path.suffix in {".css", ".svg"}]
    elsewhere = {
        (path.name, found)
        for path in sheets
        if path.is_file()
        for found in re.findall(
            r"url\(\s*['\"]?(?:https?:)?//[^)]*|(?:href|src)=[\"']https?://[^\"']*", path.read_text()
        )
    }

    assert sheets
    assert not elsewhere
