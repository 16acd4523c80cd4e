"""States: which frame may come when, checked against every pair of state and type."""

from __future__ import annotations

import pytest

from pkgc_protocol import CLIENT, DAEMON, Conversation, LocalProtocolError, RemoteProtocolError
from pkgc_protocol.messages import FIELDS
from pkgc_protocol.states import DONE, GREETING, OPEN, RUNNING, TRANSITIONS


def between(*frames: tuple[str, str]) -> Conversation:
    """A conversation as the daemon sees it, after these (sender, type)."""
    talk = Conversation(DAEMON)
    for sender, kind in frames:
        (talk.sending if sender == DAEMON else talk.received)(kind)
    return talk


def test_whole_call() -> None:
    """The way that every command goes."""
    talk = between(
        (CLIENT, "hello"), (DAEMON, "hello"), (CLIENT, "invoke"), (DAEMON, "call"), (CLIENT, "reply")
    )
    talk.sending("output")
    assert not talk.finished
    talk.sending("result")
    assert talk.finished


def test_second_request_is_refused() -> None:
    """The parameters of a call cannot change after it was admitted (CVE-2026-41651 elsewhere)."""
    for second in ("invoke", "stop", "hello"):
        talk = between((CLIENT, "hello"), (DAEMON, "hello"), (CLIENT, "invoke"))
        with pytest.raises(RemoteProtocolError):
            talk.received(second)


def test_exactly_one_terminal_frame() -> None:
    """A command ends once: nothing may follow its result."""
    for terminal in ("result", "refuse"):
        talk = between((CLIENT, "hello"), (DAEMON, "hello"), (CLIENT, "invoke"), (DAEMON, terminal))
        for kind in FIELDS:
            with pytest.raises(LocalProtocolError):
                talk.sending(kind)


def test_replies_may_cross_the_terminal_frame() -> None:
    """A client that answered, or pressed Ctrl-C, while the result was on its way broke no rule."""
    talk = between((CLIENT, "hello"), (DAEMON, "hello"), (CLIENT, "invoke"), (DAEMON, "result"))
    for kind in ("reply", "report", "cancel"):
        talk.received(kind)
    with pytest.raises(RemoteProtocolError):
        talk.received("invoke")


def test_nothing_before_the_greeting() -> None:
    """Who has not greeted is not listened to."""
    for kind in FIELDS.keys() - {"hello"}:
        with pytest.raises(RemoteProtocolError):
            Conversation(DAEMON).received(kind)
    for kind in FIELDS.keys() - {"hello", "refuse"}:
        with pytest.raises(RemoteProtocolError):
            Conversation(CLIENT).received(kind)


def test_both_sides_have_one_table() -> None:
    """What one side may send, the other accepts: in every state, for every type."""
    for sender, other in ((CLIENT, DAEMON), (DAEMON, CLIENT)):
        for state in (GREETING, OPEN, RUNNING, DONE):
            allowed = TRANSITIONS.get((sender, state))
            if allowed is None:
                continue
            for kind in FIELDS:
                ours, theirs = Conversation(sender), Conversation(other)
                for talk in (ours, theirs):
                    talk._states[sender] = state
                if kind in allowed:
                    ours.sending(kind)
                    theirs.received(kind)
                    assert ours._states == theirs._states
                else:
                    with pytest.raises(LocalProtocolError):
                        ours.sending(kind)
                    with pytest.raises(RemoteProtocolError):
                        theirs.received(kind)


def test_every_transition_leads_somewhere() -> None:
    """No state of the table is a trap."""
    for (sender, _), allowed in TRANSITIONS.items():
        for kind, target in allowed.items():
            assert kind in FIELDS
            assert (sender, target) in TRANSITIONS
