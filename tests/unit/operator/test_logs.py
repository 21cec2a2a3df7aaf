"""The log: one record a line whatever is logged, readable by machines, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tandem_operator import logs

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"
HOSTILE = f"one\r\n\x1b[31mtwo {TOKEN}\u2028three"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging of the whole process as it was before."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logs.sys.excepthook
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], logs.sys.excepthook = before[0], before[2]
    root.setLevel(before[1])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def set_up(form: str) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level="INFO", form=form)
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    return stream


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_a_json_object_with_time_level_logger_and_message() -> None:
    stream = set_up("json")
    logging.getLogger("tandem_operator.lease").warning("lease %s is lost", "x")
    (record,) = records(stream)
    assert record.pop("time").endswith("Z")
    assert record == {"level": "WARNING", "logger": "tandem_operator.lease", "message": "lease x is lost"}


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_text_forges_a_second_record_or_shows_a_secret(form: str) -> None:
    stream = set_up(form)
    logging.getLogger("kopf").info("%s", HOSTILE)
    try:
        int(HOSTILE)
    except ValueError:
        logging.getLogger("kopf").exception("failed")
    written = stream.getvalue()
    assert len(written.splitlines()) == 2
    assert TOKEN not in written
    assert "\x1b" not in written
    assert "Traceback" in written
    assert "ValueError" in written


def test_kopfs_records_of_objects_are_left_out_and_its_warnings_are_not() -> None:
    stream = set_up("json")
    logging.getLogger("kopf.objects").info("the body is {...}")
    logging.getLogger("kopf.objects").warning("something is wrong")
    logging.getLogger("kopf.reactor").info("watching")
    assert [record["message"] for record in records(stream)] == ["something is wrong", "watching"]


def test_what_ends_the_process_is_logged_too() -> None:
    stream = set_up("json")
    error = ValueError(f"bad {TOKEN}")
    logs.sys.excepthook(ValueError, error, None)
    (record,) = records(stream)
    assert record["level"] == "CRITICAL"
    assert "ValueError: bad ***" in record["exception"]
