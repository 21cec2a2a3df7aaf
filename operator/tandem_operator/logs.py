"""The operator's log: one record a line, as JSON or as text, with secrets masked. The only code that sets up logging.

Masking is done where records are written, so that it also holds for kopf's and every other library's records, and for
tracebacks, which quote values.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from tandem_operator.masking import masked, one_line

FORMATS = ("json", "text")
CHATTY = ("aiohttp.access", "kopf.activities.probe", "kopf.objects", "kubernetes", "asyncio")
"""Loggers whose records below a warning say nothing, or quote whole objects."""


class JsonFormatter(logging.Formatter):
    """A record as a JSON object; what is no ASCII is escaped, so no text can forge a second record or move a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            told["exception"] = masked(self.formatException(record.exc_info))
        if record.stack_info:
            told["stack"] = masked(record.stack_info)
        return json.dumps(told)


class TextFormatter(logging.Formatter):
    """A record for a person at a terminal; a traceback follows on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        exception = f" | {self.formatException(record.exc_info)}" if record.exc_info else ""
        return one_line(f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{exception}")


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up(*, level: str, form: str) -> None:
    """Log everything of this process to standard error, also warnings and what ends it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = lambda kind, error, trace: logging.getLogger("tandem_operator").critical(
        "the operator ends by an error that nothing caught", exc_info=(kind, error, trace)
    )
