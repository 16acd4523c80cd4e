"""Messages: which frame types exist, which fields each has, and the check of both.

Tables, not branches: docs/protocol.md is written from them, and a test compares the two.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]


class ProtocolError(Exception):
    """The wire's rules were broken. Never raised itself: ours is Local…, theirs is Remote…."""


class LocalProtocolError(ProtocolError):
    """This side tried to send what it may not send: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what it may not send; the connection is closed, never reused."""


_NONE = type(None)
# frame type -> field -> (accepted types, required)
FIELDS: dict[str, dict[str, tuple[tuple[type, ...], bool]]] = {
    # both ways, first frame
    "hello": {
        "magic": ((str,), True),
        "protocol": ((list, tuple), True),
        "software": ((str,), True),
        "features": ((list, tuple), True),
        "cache_dir": ((str,), True),
        "pid": ((int,), False),
    },
    # client -> daemon
    "invoke": {
        "argv": ((list, tuple), True),
        "cwd": ((str,), True),
        "env": ((dict,), True),
        "terminal": ((dict,), True),
        "umask": ((int,), False),
    },
    "stop": {"reason": ((str,), False)},
    "cancel": {},
    "reply": {
        "id": ((int,), True),
        "value": ((dict, list, str, bytes, int, _NONE), False),
        "error": ((dict, _NONE), False),
    },
    "report": {"id": ((int,), True), "done": ((int,), True), "total": ((int,), True)},
    # daemon -> client
    "refuse": {
        "code": ((str,), True),
        "message": ((str,), True),
        "hint": ((str, _NONE), False),
        "exit": ((int,), True),
    },
    "output": {"stream": ((int,), True), "data": ((bytes,), True)},
    "progress": {"text": ((str,), True)},
    "call": {"id": ((int,), True), "verb": ((str,), True), "args": ((dict,), True)},
    "abort": {"id": ((int,), True)},
    "result": {"exit": ((int,), True)},
}


def validate(message: object) -> Message:
    """Check one decoded frame against the table.

    Unknown fields are ignored (a newer minor may add some); unknown types and missing or mistyped
    fields are the other side's fault.

    Raises:
        RemoteProtocolError: it is not a map, or breaks the table.
    """
    if not isinstance(message, dict):
        raise RemoteProtocolError("a frame must hold a map")
    kind = message.get("t")
    fields = FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise RemoteProtocolError(f"unknown frame type {repr(kind)[:40]}")
    for name, (types, required) in fields.items():
        if name not in message:
            if required:
                raise RemoteProtocolError(f"{kind} frame lacks {name!r}")
            continue
        value = message[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise RemoteProtocolError(f"{kind} frame: {name!r} has type {type(value).__name__}")
    return message
