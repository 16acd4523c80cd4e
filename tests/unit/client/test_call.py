"""One call as the client sees it, against a daemon by hand on a socket pair."""

from __future__ import annotations

import _socket
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from pkgc_client.hands import Connection
from pkgc_client.hot import Gone, Unavailable, check_socket
from pkgc_client.talk import Call
from pkgc_protocol import CLIENT, encode
from tests.support.rawclient import hello, invoke

GREETING = hello(Path("/c"))


def pair() -> tuple[Call, socket.socket]:
    """A call, and the daemon's end of its connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    return Call(_socket.socket(fileno=ours.detach())), theirs


def started() -> tuple[Call, socket.socket]:
    """The same, with the request made and the greeting passed."""
    call, daemon = pair()
    call.conversation.sending("hello")
    call.conversation.sending("invoke")
    call.conversation.received("hello")
    assert call.conversation.role == CLIENT
    return call, daemon


def frames(*messages: dict[str, Any]) -> bytes:
    """Frames in one piece."""
    return b"".join(map(encode, messages))


@pytest.fixture(autouse=True)
def _signals() -> Any:
    """`Call.run` sets handlers; give the test runner its own back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_hand_leaves_output_for_the_command() -> None:
    """While a hand works the daemon may print: those lines must appear, and the abort be heard."""
    call, daemon = started()
    with daemon:
        hand = Connection(call, 7)
        assert not hand.cancelled()
        output = {"t": "output", "stream": 1, "data": b"kept"}
        daemon.sendall(frames(output, {"t": "abort", "id": 6}))
        assert not hand.cancelled()
        daemon.sendall(frames({"t": "abort", "id": 7}))
        assert hand.cancelled()
        assert call.pending[0] == output
    call.sock.close()


def test_abort_that_came_with_the_call() -> None:
    """An abort in the same read as its call must reach the hand before it changes anything."""
    call, daemon = started()
    with daemon:
        call.pending.append({"t": "abort", "id": 7})
        assert Connection(call, 7).cancelled()
    call.sock.close()


def test_vanished_daemon_stops_a_hand() -> None:
    """A hand whose daemon died stops at its next look."""
    call, daemon = started()
    daemon.close()
    assert Connection(call, 1).cancelled()
    call.sock.close()


def test_one_interrupt_sends_one_cancel() -> None:
    """Ctrl-C is told once, and the daemon's answer is still read."""
    call, daemon = pair()
    heard = bytearray()

    def serve() -> None:
        daemon.sendall(frames(GREETING))
        while b"cancel" not in heard:
            heard.extend(daemon.recv(65536))
            if b"invoke" in heard and b"cancel" not in heard:
                os.kill(os.getpid(), signal.SIGINT)
        daemon.settimeout(0.3)
        try:
            heard.extend(daemon.recv(65536))
        except TimeoutError:
            pass
        daemon.sendall(frames({"t": "result", "exit": 130}))

    with daemon:
        thread = threading.Thread(target=serve)
        thread.start()
        assert call.run(invoke("sync"), "/c") == 130
        thread.join()
        assert heard.count(b"cancel") == 1
    call.sock.close()


def test_end_before_the_greeting_may_be_tried_again() -> None:
    """A daemon that left in that moment never saw the call."""
    call, daemon = pair()
    daemon.close()
    with pytest.raises(Gone):
        call.run(invoke("sync"), "/c")
    call.sock.close()


def test_end_after_the_greeting_is_not_tried_again() -> None:
    """A call that kills daemons must not be fed to the next one."""
    call, daemon = pair()
    with daemon:
        daemon.sendall(frames(GREETING))
        daemon.shutdown(socket.SHUT_WR)
        with pytest.raises(Unavailable) as caught:
            call.run(invoke("sync"), "/c")
    assert caught.value.code == "daemon-vanished"
    call.sock.close()


def test_folder_that_others_may_write(tmp_path: Path) -> None:
    """The socket of such a folder may be anybody's."""
    tmp_path.chmod(0o700)
    check_socket(f"{tmp_path}/pkgc.sock")
    link = tmp_path.parent / (tmp_path.name + "-link")
    link.symlink_to(tmp_path)
    check_socket(f"{link}/pkgc.sock")
    tmp_path.chmod(0o720)
    for folder in (tmp_path, link):
        with pytest.raises(Unavailable, match="0720"):
            check_socket(f"{folder}/pkgc.sock")


def test_sticky_folder_goes_by_the_owner_of_the_socket(tmp_path: Path) -> None:
    """In /tmp a socket of one's own is as good as anywhere; one of somebody else is not."""
    tmp_path.chmod(0o1777)
    path = tmp_path / "s"
    with pytest.raises(FileNotFoundError):
        check_socket(str(path))
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(tmp_path, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{folder}/s")
        os.close(folder)
    check_socket(str(path))
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
        with pytest.raises(Unavailable, match="uid 65534"):
            check_socket(str(path))
