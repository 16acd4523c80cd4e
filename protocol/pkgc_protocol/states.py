"""States: which frame may come when. Everything that decides it is in this file.

One connection is one call: hello both ways, one request (invoke or stop), then output, progress and
host calls, then exactly one terminal frame (result or refuse). A second request is an error, so the
parameters of a call cannot change after it was admitted (CVE-2026-41651 in another daemon).
"""

from __future__ import annotations

from .messages import LocalProtocolError, RemoteProtocolError

DAEMON = "daemon"
CLIENT = "client"

GREETING = "greeting"  # nothing has come from that side yet
OPEN = "open"  # hello seen, no request yet
RUNNING = "running"  # a request is being served
DONE = "done"  # the terminal frame was sent

# (sender, state) -> frame type -> next state of the conversation as that sender's frames drive it
TRANSITIONS: dict[tuple[str, str], dict[str, str]] = {
    (CLIENT, GREETING): {"hello": OPEN},
    (CLIENT, OPEN): {"invoke": RUNNING, "stop": RUNNING},
    (CLIENT, RUNNING): {"reply": RUNNING, "report": RUNNING, "cancel": RUNNING},
    (CLIENT, DONE): {"reply": DONE, "report": DONE, "cancel": DONE},  # crossed the terminal frame
    (DAEMON, GREETING): {"hello": OPEN, "refuse": DONE},
    (DAEMON, OPEN): {
        "refuse": DONE,
        "output": OPEN,
        "progress": OPEN,
        "call": OPEN,
        "abort": OPEN,
        "result": DONE,
    },
    (DAEMON, DONE): {},
}


class Conversation:
    """The state of one connection, as seen by `role`.

    Args:
        role: `CLIENT` or `DAEMON`: which side this is.
    """

    __slots__ = ("_states", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self._states = {CLIENT: GREETING, DAEMON: GREETING}

    @property
    def finished(self) -> bool:
        """Whether the daemon's terminal frame has passed."""
        return self._states[DAEMON] == DONE

    def sending(self, kind: str) -> None:
        """Note that this side sends `kind`.

        Raises:
            LocalProtocolError: it may not be sent now.
        """
        if not self._step(self.role, kind):
            raise LocalProtocolError(f"may not send {kind!r} while {self._states[self.role]}")

    def received(self, kind: str) -> None:
        """Note that the other side sent `kind`.

        Raises:
            RemoteProtocolError: it may not come now.
        """
        other = DAEMON if self.role == CLIENT else CLIENT
        if not self._step(other, kind):
            raise RemoteProtocolError(f"{kind!r} may not come while {self._states[other]}")

    def _step(self, sender: str, kind: str) -> bool:
        target = TRANSITIONS[sender, self._states[sender]].get(kind)
        if target is None:
            return False
        self._states[sender] = target
        if sender == DAEMON and target == DONE:
            self._states[CLIENT] = DONE
        return True
