"""Documents: the JSON objects that failures have in common, and how one is printed; standard library only.

The client answers with the same ones when no daemon does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Of the JSON output: a field that goes, or means something else, makes it another one.
JSON_SCHEMA = 1

_SURROGATE = re.compile("[\ud800-\udfff]")


def counters(counts: Mapping[str, int]) -> dict[str, Any]:
    """What was transferred, as `sync` and `fetch` tell it."""
    return {
        "downloaded": {
            "files": counts.get("downloaded_files", 0),
            "bytes": counts.get("downloaded_bytes", 0),
        },
        "index_requests": counts.get("index_requests", 0),
    }


def empty_result(command: str) -> dict[str, Any]:
    """The fields of a command's result when it came to nothing; none but for `sync` and `fetch`."""
    if command == "sync":
        return {
            **counters({}),
            "venv": None,
            "dry_run": False,
            "installed": [],
            "removed": [],
            "kept": 0,
            "seconds": {"total": 0.0},
        }
    if command == "fetch":
        return {**counters({}), "fetched": [], "seconds": {"total": 0.0}}
    return {}


def failure(command: str, errors: Sequence[Mapping[str, Any]], *, seconds: float) -> dict[str, Any]:
    """The object of a command that failed before it began.

    Args:
        command: its first word.
        errors: maps of code, message, context, hint.
        seconds: how long that took.
    """
    document = {"schema": JSON_SCHEMA, "ok": False, **empty_result(command)}
    if "seconds" in document:
        document["seconds"] = {"total": round(seconds, 6)}
    return {**document, "warnings": [], "errors": [dict(error) for error in errors]}


def json_text(document: Mapping[str, Any]) -> str:
    """One object on one line, in ASCII: nothing in it steers a terminal, and every JSON parser takes it."""
    text = json.dumps(document, ensure_ascii=True)
    if "\\ud" in text:  # half a pair is no Unicode: most parsers refuse it
        text = json.dumps(_encodable(document), ensure_ascii=True)
    return text.replace("\x7f", "\\u007f") + "\n"


def _encodable(value: Any) -> Any:
    """The same with bytes that are no UTF-8 (a file's name) as ``\\xff``, other lone surrogates as U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub(_shown, value)
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(one) for one in value]
    return value


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"
