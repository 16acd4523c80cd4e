"""Sessions against a client by hand: bounded memory, patience with slow readers, one terminal frame."""

from __future__ import annotations

import asyncio
import os
import socket

from pkgc_daemon.serving.session import MAX_UNREAD, Hello, Session
from pkgc_daemon.serving.trust import Peer
from pkgc_protocol import FrameDecoder, encode
from tests.support.rawclient import invoke


async def session_of(theirs: socket.socket) -> Session:
    """A session that knows nothing yet, over one end of `theirs`' pair."""
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    return Session(reader, writer, Peer(os.getuid(), os.getpid(), "own"), Hello("/c"))


async def admitted() -> tuple[Session, socket.socket]:
    """A session with a request, and the client's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    session = await session_of(theirs)
    ours.sendall(encode(Hello("/c").frame()) + encode(invoke("status")))
    request = await session.greet()
    assert request is not None
    return session, ours


async def test_client_that_never_reads_is_dropped() -> None:
    """Its unread output must not grow without bound."""
    session, client = await admitted()
    with client:
        for _ in range(2 * MAX_UNREAD // (1 << 20)):
            session.write(1, "x" * (1 << 20))
        assert session._unread() <= MAX_UNREAD
        assert session._lost
        await session.close()


async def test_slow_reader_gets_everything() -> None:
    """A pager that takes one page now and the rest later gets all of a long answer."""
    session, client = await admitted()
    text = "0123456789" * 1_000_000

    async def command() -> int:
        session.write(1, text)
        return 0

    def read() -> list[dict[str, object]]:
        decoder, found = FrameDecoder(first_limit=1 << 20), []
        while data := client.recv(1 << 16):
            found += decoder.feed(data)
        return found

    with client:
        await session.perform(command)
        closing = asyncio.create_task(session.close())
        await asyncio.sleep(0.3)
        assert not closing.done()
        frames = await asyncio.to_thread(read)
        await closing
    out = b"".join(frame["data"] for frame in frames if frame["t"] == "output")  # type: ignore[misc]
    assert out.decode() == text
    assert frames[-1] == {"t": "result", "exit": 0}


async def test_crash_of_a_command_still_has_a_terminal_frame() -> None:
    """A bug in a command must end it for the user too, not leave the client waiting or guessing."""
    session, client = await admitted()

    async def command() -> int:
        raise RuntimeError("a bug")

    with client:
        await session.perform(command)
        await session.close()
        data = await asyncio.to_thread(client.recv, 1 << 16)
    assert FrameDecoder().feed(data)[-1] == {"t": "result", "exit": 1}


async def test_call_to_a_client_that_vanishes_fails() -> None:
    """A host call never waits for somebody who is not there."""
    session, client = await admitted()

    async def command() -> int:
        client.close()
        await session.call("read_file", {"paths": []}, None)
        return 0

    await asyncio.wait_for(session.perform(command), 5)
    await session.close()
