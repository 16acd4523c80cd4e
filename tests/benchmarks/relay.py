"""A TCP relay that brings every byte late, in both directions: the distance of a slow link.

It stands where netem is missing. Bytes are passed on in their order, `delay` seconds after they came; the
first ones of a client wait for two delays more, as long as a handshake over that distance takes. Nothing is
lost or reordered, and the rate is not limited: that is the token bucket's part (`link.py`).

    python -m tests.benchmarks.relay ADDRESS PORT SECONDS      prints its own port, serves until it is killed
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

#: Bytes read at once, and how many of such pieces may be under way in one direction of one connection: 8 MiB,
#: which is far more than any link of this kind holds.
_PIECE, _UNDER_WAY = 1 << 16, 128


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, not_before: float = 0.0
) -> None:
    """Pass on what `reader` gives, each piece `delay` seconds after it came, and then the end.

    Args:
        not_before: of the loop's clock; nothing is passed on earlier.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

    async def read() -> None:
        while True:
            try:
                piece = await reader.read(_PIECE)
            except OSError:  # a reset looks like an end to the other side
                piece = b""
            await pieces.put((max(loop.time() + delay, not_before), piece))
            if not piece:
                return

    async def write() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()

    reading = asyncio.create_task(read())
    try:
        with contextlib.suppress(OSError):
            await write()
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def serve(address: str, port: int, delay: float) -> asyncio.Server:
    """Listen on a free port of 127.0.0.1 and relay each connection to `address`:`port`."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = asyncio.get_running_loop().time()
        try:
            far_reader, far_writer = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(
                carry(reader, far_writer, delay, not_before=opened + 3 * delay),
                carry(far_reader, writer, delay),
            )
        finally:
            far_writer.close()
            writer.close()

    return await asyncio.start_server(relay, "127.0.0.1", 0, backlog=1024)


async def _main() -> None:
    server = await serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
