"""The hands: what the daemon asks this client to do in its own world, with its own rights.

The code that acts is the daemon's own (one code path, two places): here it is only looked up and run.
"""

from __future__ import annotations

import os
import traceback

from pkgc_protocol.frames import load_msgpack
from pkgc_protocol.messages import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Any

    from .talk import Call

load_msgpack()  # scans and builds have large answers


class Wire:
    """The wire as a hand sees it: it can report progress, and learns that it should stop."""

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
        except (OSError, ProtocolError):
            self._aborted = True


class Connection(Wire):
    """Of a hand that keeps the reading loop waiting: it looks itself what the daemon says meanwhile."""

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


#: Hands that take long and stand alone: they run in threads, several at once (builds, mostly).
LONG = frozenset({"begin_build", "end_build", "prepare_source", "run_build", "resolve_git", "checkout_git"})


class Helpers:
    """The long hands of one call: begun by the loop that reads frames, each in a thread of its own."""

    def __init__(self, call: Call) -> None:
        import threading

        self.sending = threading.Lock()
        """Held while a frame is written: replies come from several threads."""
        self._call = call
        self._working: dict[int, tuple[threading.Thread, Stop]] = {}

    def begin(self, message: dict[str, Any]) -> None:
        """Run the hand of a `call` frame; its reply is sent from its thread."""
        import threading

        stop = Stop(self._call, message["id"])
        thread = threading.Thread(target=self._work, args=(message, stop), daemon=True)
        self._working[message["id"]] = (thread, stop)
        thread.start()

    def abort(self, number: int) -> None:
        """Have that hand stop, if it still works."""
        if number in self._working:
            self._working[number][1].ask()

    def end(self) -> None:
        """The call is over (or its daemon is gone): nothing of it goes on working."""
        for thread, stop in list(self._working.values()):
            stop.ask()
            thread.join(30)

    def _work(self, message: dict[str, Any], stop: Stop) -> None:
        reply = perform(message, stop.progress, stop.cancelled)
        try:
            self._call.send(reply)
        except OSError:
            pass  # the daemon is gone, which the reading loop sees
        except Exception as error:  # too large, or no text: the daemon must hear something
            from pkgc_daemon.errors import PkgcError

            why = PkgcError("client-failed", f"{message['verb']}: the answer cannot be sent: {error}")
            try:
                self._call.send({"t": "reply", "id": message["id"], "error": why.to_wire()})
            except (OSError, ProtocolError):
                pass
        self._working.pop(message["id"], None)


class Stop(Wire):
    """Of a hand in a thread: the reading loop tells it."""

    def ask(self) -> None:
        """Have it stop."""
        self._aborted = True

    def cancelled(self) -> bool:
        """Whether the daemon asked to stop, or the call is over. (Ctrl-C reaches the daemon first.)"""
        return self._aborted


def serve(call: Call, message: dict[str, Any]) -> dict[str, Any]:
    """Run the hand that a `call` frame names; its value or its error as a `reply` frame."""
    connection = Connection(call, message["id"])
    return perform(message, connection.progress, connection.cancelled)


def perform(
    message: dict[str, Any], progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """The `reply` frame to a `call` frame."""
    from pkgc_daemon.errors import PkgcError
    from pkgc_daemon.hands import HANDS

    reply: dict[str, Any] = {"t": "reply", "id": message["id"]}
    try:
        hand = HANDS.get(message["verb"])
        if hand is None:
            raise PkgcError("unknown-verb", f"this client cannot {message['verb']!r}")
        reply["value"] = hand(message["args"], progress, cancelled)
    except PkgcError as error:
        reply["error"] = error.to_wire()
    except Exception as error:
        if os.environ.get("PKGC_DEBUG"):
            traceback.print_exc()
        reply["error"] = PkgcError(
            "client-failed", f"the client failed at {message['verb']!r}: {type(error).__name__}: {error}"
        ).to_wire()
    return reply
