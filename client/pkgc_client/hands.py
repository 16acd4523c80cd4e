"""The hands: what the daemon asks this client to do in its own world, with its own rights.

The code that acts is the daemon's own (one code path, two places): here it is only looked up and run.
"""

from __future__ import annotations

import os
import traceback

from pkgc_protocol.messages import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .hot import Call


class Connection:
    """The wire as a long-running hand sees it: it can report progress, and learns that it should stop."""

    def __init__(self, call: Call, number: int) -> None:
        self._call = call
        self._number = number
        self._aborted = False
        self._reported = 0.0

    def progress(self, done: int, total: int) -> None:
        """Report at most ten times a second: what is lost is never missed."""
        import time

        now = time.monotonic()
        if now - self._reported < 0.1 and done < total:
            return
        self._reported = now
        try:
            self._call.send({"t": "report", "id": self._number, "done": done, "total": total})
        except OSError:
            self._aborted = True

    def cancelled(self) -> bool:
        """Whether Ctrl-C was pressed, the daemon asked to stop, or went away."""
        if self._aborted or self._call.interrupts:
            return True
        import select

        sock = self._call.sock
        if select.select([sock], [], [], 0)[0]:
            try:
                data = sock.recv(65536)
                messages = self._call.decoder.feed(data)
            except (OSError, ProtocolError):
                self._aborted = True
                return True
            if not data:
                self._aborted = True
            self._call.pending += messages
        # What is not for this hand stays where it is: the output of the command must not get lost.
        pending = self._call.pending
        while pending and pending[0]["t"] == "progress":
            self._call.conversation.received("progress")
            self._call.show(pending.pop(0)["text"])
        if any(message["t"] == "abort" and message["id"] == self._number for message in pending):
            self._aborted = True
        return self._aborted


def serve(call: Call, message: dict[str, Any]) -> dict[str, Any]:
    """Run the hand that a `call` frame names; its value or its error as a `reply` frame."""
    from pkgc_daemon.errors import PkgcError
    from pkgc_daemon.hands import HANDS

    reply: dict[str, Any] = {"t": "reply", "id": message["id"]}
    connection = Connection(call, message["id"])
    try:
        hand = HANDS.get(message["verb"])
        if hand is None:
            raise PkgcError("unknown-verb", f"this client cannot {message['verb']!r}")
        reply["value"] = hand(message["args"], connection.progress, connection.cancelled)
    except PkgcError as error:
        reply["error"] = error.to_wire()
    except Exception as error:
        if os.environ.get("PKGC_DEBUG"):
            traceback.print_exc()
        reply["error"] = PkgcError(
            "client-failed", f"the client failed at {message['verb']!r}: {type(error).__name__}: {error}"
        ).to_wire()
    return reply
