"""Log: one JSON object a line, written by a thread of its own, in `<cache>/daemon.log` and on stderr.

Credentials never reach it: every text field passes through the redaction.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sys
import time
from pathlib import Path
from typing import Any

from pkgc_daemon.redaction import redact_text

logger = logging.getLogger("pkgc")

_MAX_BYTES = 8 * 1024 * 1024
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JsonLines(logging.Formatter):
    """Timestamp, level, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": redact_text(record.getMessage()),
        }
        for key, value in getattr(record, "fields", {}).items():
            entry[key] = redact_text(value) if isinstance(value, str) else value
        if record.exc_info:
            entry["traceback"] = redact_text(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=True, default=str)


class _Journal(logging.StreamHandler[Any]):
    """stderr with the `<N>` prefixes that systemd's journal reads as priorities (sd-daemon(3))."""

    def __init__(self, *, prefixes: bool) -> None:
        super().__init__(sys.stderr)
        self._prefixes = prefixes

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}" if self._prefixes else text


def event(name: str, level: int = logging.INFO, *, exc: BaseException | None = None, **fields: Any) -> None:
    """Log one event: a short constant name, and its facts as fields."""
    if logger.isEnabledFor(level):
        info = (type(exc), exc, exc.__traceback__) if exc is not None else None
        logger.log(level, name, extra={"fields": fields}, exc_info=info)


def set_up(path: Path, *, stderr: bool, journal: bool, level: int) -> logging.handlers.QueueListener:
    """Send the log to `path` (rotated once at 8 MiB) and, if asked, to stderr; `stop()` flushes it.

    Args:
        path: the log file.
        stderr: also write to standard error.
        journal: prefix the lines on stderr with priorities.
        level: lowest level to keep.
    """
    to_file = logging.handlers.RotatingFileHandler(path, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8")
    handlers: list[logging.Handler] = [to_file]
    if stderr:
        handlers.append(_Journal(prefixes=journal))
    for handler in handlers:
        handler.setFormatter(_JsonLines())
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, *handlers)
    logger.handlers[:] = [_Enqueue(records)]
    logger.setLevel(level)
    logger.propagate = False
    listener.start()
    return listener


class _Enqueue(logging.handlers.QueueHandler):
    """Hands records over unformatted: formatting belongs to the writer's thread."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record
