"""The relay delays and changes nothing: else the rows of the slow link would measure the relay."""

from __future__ import annotations

import asyncio

import pytest

from tests.benchmarks import relay
from tests.benchmarks.link import Link


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    data = await reader.read(-1)
    writer.write(data)
    await writer.drain()
    writer.close()


async def _through(delay: float, data: bytes) -> tuple[bytes, float]:
    """Send `data` to an echo through a relay. Gives what came back, and the seconds of all of it."""
    loop = asyncio.get_running_loop()
    far = await asyncio.start_server(_echo, "127.0.0.1", 0)
    near = await relay.serve("127.0.0.1", far.sockets[0].getsockname()[1], delay)
    try:
        started = loop.time()
        reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname()[:2])
        writer.write(data)
        writer.write_eof()
        answer = await reader.read(-1)
        seconds = loop.time() - started
        writer.close()
        await writer.wait_closed()
        return answer, seconds
    finally:
        near.close()
        far.close()
        await near.wait_closed()
        await far.wait_closed()


@pytest.mark.parametrize("size", [0, 1, 20 << 20])
async def test_every_byte_arrives_in_its_order(size: int) -> None:
    """A lost byte would look like a slow tool, a hang, or a wrong hash."""
    data = bytes(range(256)) * (size // 256) if size > 1 else b"x" * size
    answer, _ = await _through(0.001, data)
    assert answer == data


async def test_an_answer_takes_a_handshake_and_both_ways() -> None:
    """Tools that open many connections would pay nothing for them. (Waiting can be longer, never shorter.)"""
    _, seconds = await _through(0.05, b"request")
    assert seconds >= 4 * 0.05


async def test_a_far_end_that_refuses_is_a_closed_connection() -> None:
    """A tool would wait for ever for an index that is gone."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    near = await relay.serve("127.0.0.1", port, 0.001)
    reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname()[:2])
    assert await reader.read(-1) == b""
    writer.close()
    near.close()
    await near.wait_closed()


def test_the_limit_of_a_link_is_bits_by_rate() -> None:
    """The goal of the big wheel would be eight times too easy, or too hard."""
    assert Link("", (), bits=100e6, delay=0.025).least_seconds(300_000_000) == 24.0
