"""Frames: u32 big-endian length, then one msgpack map; limits on size, depth and count."""

from __future__ import annotations

import msgpack

from .messages import LocalProtocolError, RemoteProtocolError, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .messages import Message

#: Bytes that one frame may have (a lock, an environment's scan, a plan all fit many times over).
MAX_FRAME = 32 * 1024 * 1024
#: Bytes that the first frame may have: the peer is not known yet.
MAX_HELLO = 64 * 1024
#: Elements that one map or array may have.
MAX_ITEMS = 200_000
#: Nesting that a frame may have.
MAX_DEPTH = 16

# surrogateescape: file names, arguments and variables are bytes that need not be UTF-8
_pack = msgpack.Packer(use_bin_type=True, autoreset=True, unicode_errors="surrogateescape").pack


def encode(message: Message) -> bytes:
    """One frame.

    Raises:
        LocalProtocolError: the message is larger than a frame may be.
    """
    body: bytes = _pack(message)
    if len(body) > MAX_FRAME:
        raise LocalProtocolError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


def _depth_within(value: object, left: int) -> bool:
    """Whether containers nest no deeper than `left` levels."""
    if isinstance(value, dict):
        return left > 0 and all(_depth_within(v, left - 1) for v in value.values())
    if isinstance(value, list):
        return left > 0 and all(_depth_within(v, left - 1) for v in value)
    return True


class FrameDecoder:
    """Turns a byte stream into validated messages, holding at most one incomplete frame.

    Args:
        first_limit: bytes that the first frame may have; later ones may have `MAX_FRAME`.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, first_limit: int = MAX_HELLO) -> None:
        self._buffer = bytearray()
        self._limit = first_limit

    @property
    def pending(self) -> int:
        """Bytes of the incomplete frame held."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray) -> list[Message]:
        """The messages that `data` completes.

        Raises:
            RemoteProtocolError: a frame is too large, is not msgpack, or breaks the tables. A length
                over the limit is refused as soon as the header is there, before any body is kept.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[:4], "big")
            if length > self._limit:
                raise RemoteProtocolError(f"a frame of {length} bytes is over the limit of {self._limit}")
            if len(buffer) < 4 + length:
                break
            body = bytes(buffer[4 : 4 + length])
            del buffer[: 4 + length]
            try:
                value = msgpack.unpackb(
                    body,
                    raw=False,
                    strict_map_key=True,
                    max_map_len=MAX_ITEMS,
                    max_array_len=MAX_ITEMS,
                    unicode_errors="surrogateescape",
                )
            except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
                raise RemoteProtocolError(f"a frame is not msgpack: {error}") from error
            if not _depth_within(value, MAX_DEPTH):
                raise RemoteProtocolError(f"a frame nests deeper than {MAX_DEPTH}")
            messages.append(validate(value))
            self._limit = MAX_FRAME
        return messages
