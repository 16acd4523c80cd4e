"""Frames: u32 big-endian length, then one msgpack map; limits on size, depth and count.

Whoever has more to do than an ordinary client calls `load_msgpack` first; else `brief` does what is small.
"""

from __future__ import annotations

from . import brief
from .messages import LocalProtocolError, RemoteProtocolError, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Message

#: Bytes that one frame may have (a lock, an environment's scan, a plan all fit many times over).
MAX_FRAME = 32 * 1024 * 1024
#: Bytes that the first frame may have: the peer is not known yet.
MAX_HELLO = 64 * 1024
#: Elements that one map or array may have.
MAX_ITEMS = 200_000
#: Elements that all maps and arrays of a frame may have together: each costs up to a hundred bytes of memory.
MAX_ELEMENTS = 1_000_000
#: Nesting that a frame may have.
MAX_DEPTH = 16

#: Bytes up to which a frame is read without the msgpack package, unless that is loaded already.
BRIEF = 4096

_pack: Callable[[Message], bytes] | None = None
_unpack: Callable[[bytes], object] | None = None


def load_msgpack() -> tuple[Callable[[Message], bytes], Callable[[bytes], object]]:
    """Load the msgpack package (2.4 ms), which packs and unpacks from now on.

    What it unpacks raises RemoteProtocolError.
    """
    global _pack, _unpack
    if _pack is None or _unpack is None:
        import msgpack

        wrong = (ValueError, TypeError, msgpack.UnpackException, RecursionError)
        library = msgpack.unpackb

        def unpack(body: bytes) -> object:
            try:
                return library(
                    body,
                    raw=False,
                    strict_map_key=True,
                    max_map_len=MAX_ITEMS,
                    max_array_len=MAX_ITEMS,
                    unicode_errors="surrogateescape",
                )
            except wrong as error:
                raise RemoteProtocolError(f"a frame is not msgpack: {error}") from error

        # surrogateescape: file names, arguments and variables are bytes that need not be UTF-8
        packer = msgpack.Packer(use_bin_type=True, autoreset=True, unicode_errors="surrogateescape")
        _pack, _unpack = packer.pack, unpack
    return _pack, _unpack


def _packed(message: Message) -> bytes:
    if _pack is None:
        try:
            return brief.pack(message)
        except brief.NotBrief:
            pass
    return load_msgpack()[0](message)


def _unpacked(body: bytes) -> object:
    if _unpack is None and len(body) <= BRIEF:
        try:
            return brief.unpack(body)
        except brief.NotBrief:
            pass
    return load_msgpack()[1](body)


def encode(message: Message) -> bytes:
    """One frame.

    Raises:
        LocalProtocolError: the message is larger than a frame may be.
    """
    body = _packed(message)
    if len(body) > MAX_FRAME:
        raise LocalProtocolError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


def _widths() -> list[int]:
    """How many bytes follow each first byte that stands alone; -n: n bytes hold their length."""
    widths = [0] * 256  # small integers, nil, booleans; the headers of small maps and arrays
    widths[0xA0:0xC0] = range(32)  # short text
    for first, length in ((0xC4, 1), (0xC5, 2), (0xC6, 4), (0xD9, 1), (0xDA, 2), (0xDB, 4)):
        widths[first] = -length  # bytes and text
    widths[0xCA:0xD4] = (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)  # numbers
    widths[0xD4:0xD9] = (2, 3, 5, 9, 17)  # extensions of a fixed size
    return widths


def _check_elements(body: bytes) -> None:
    """Refuse a body that announces more elements than a frame may have, before any of them is made.

    Raises:
        RemoteProtocolError: it does. (A length that leads beyond the body is for msgpack to refuse.)
    """
    widths, total, position, end = _widths(), 0, 0, len(body)
    while position < end:
        first = body[position]
        position += 1
        if 0x80 <= first < 0xA0:
            total += (first & 15) * (2 if first < 0x90 else 1)
        elif 0xDC <= first < 0xE0:  # array 16, 32; map 16, 32
            size = 4 if first & 1 else 2
            total += int.from_bytes(body[position : position + size], "big") * (2 if first > 0xDD else 1)
            position += size
        elif 0xC7 <= first < 0xCA:  # extensions
            size = 1 << (first - 0xC7)
            position += size + 1 + int.from_bytes(body[position : position + size], "big")
        else:
            width = widths[first]
            if width < 0:
                position += int.from_bytes(body[position : position - width], "big") - width
            else:
                position += width
        if total > MAX_ELEMENTS:
            raise RemoteProtocolError(f"a frame has more than {MAX_ELEMENTS} elements")


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
            if length > MAX_HELLO:  # smaller ones have no room for many
                _check_elements(body)
            value = _unpacked(body)
            if not _depth_within(value, MAX_DEPTH):
                raise RemoteProtocolError(f"a frame nests deeper than {MAX_DEPTH}")
            messages.append(validate(value))
            self._limit = MAX_FRAME
        return messages
