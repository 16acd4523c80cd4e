"""Brief: msgpack in plain Python, for the few small frames of an ordinary call; no frames, no limits.

Loading the msgpack package takes a client 2.4 ms (it loads datetime and collections), more than everything
else that it loads. What is not written or read here goes to that package (`frames`), with the same outcome.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class NotBrief(Exception):
    """Not for this module: the msgpack package must say what it is."""


def pack(value: object) -> bytes:
    """The encoding of text, bytes, integers from 0 on, booleans, None, lists, tuples and maps of them.

    Raises:
        NotBrief: something else is among them, or has 2^32 elements.
    """
    parts: list[bytes] = []
    _put(value, parts.append)
    return b"".join(parts)


def _put(value: "Any", add: "Callable[[bytes], object]") -> None:
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogateescape")
        size = len(data)
        add(bytes((0xA0 | size,)) if size < 32 else _head(size, 0xD9, 0xDA, 0xDB))
        add(data)
    elif kind is dict:
        size = len(value)
        add(bytes((0x80 | size,)) if size < 16 else _head(size, None, 0xDE, 0xDF))
        for key, each in value.items():
            _put(key, add)
            _put(each, add)
    elif kind is list or kind is tuple:
        size = len(value)
        add(bytes((0x90 | size,)) if size < 16 else _head(size, None, 0xDC, 0xDD))
        for each in value:
            _put(each, add)
    elif kind is bool:
        add(b"\xc3" if value else b"\xc2")
    elif kind is int:
        if 0 <= value < 128:
            add(bytes((value,)))
        else:
            add(_head(value, 0xCC, 0xCD, 0xCE))
    elif kind is bytes:
        add(_head(len(value), 0xC4, 0xC5, 0xC6))
        add(value)
    elif value is None:
        add(b"\xc0")
    else:
        raise NotBrief


def _head(size: int, one: int | None, two: int, four: int) -> bytes:
    """A size behind the first byte that tells how many bytes it has."""
    if one is not None and 0 <= size < 0x100:
        return bytes((one, size))
    if 0 <= size < 0x10000:
        return bytes((two, size >> 8, size & 255))
    if 0 <= size < 0x100000000:
        return bytes((four,)) + size.to_bytes(4, "big")
    raise NotBrief


def unpack(body: bytes) -> object:
    """What `body` encodes.

    Raises:
        NotBrief: it is wrong, or has what is rare (numbers below 0, floats, extensions, keys not text).
    """
    try:
        value, end = _take(body, 0)
    except (IndexError, RecursionError):
        raise NotBrief from None
    if end != len(body):  # also when the last text or bytes are cut off
        raise NotBrief
    return value


def _take(body: bytes, at: int) -> "tuple[Any, int]":
    first = body[at]
    at += 1
    if first < 0x80:
        return first, at
    if first < 0xA0:
        size = first & 15
        return _map(body, at, size) if first < 0x90 else _list(body, at, size)
    if first < 0xC0:
        end = at + (first & 31)
        return body[at:end].decode("utf-8", "surrogateescape"), end
    width = _WIDTHS.get(first)
    if width is None:
        if first not in _CONSTANTS:
            raise NotBrief
        return _CONSTANTS[first], at
    end = at + width
    if end > len(body):
        raise NotBrief
    size = int.from_bytes(body[at:end], "big")
    if first >= 0xDC:
        return _map(body, end, size) if first >= 0xDE else _list(body, end, size)
    if first >= 0xD9:
        return body[end : end + size].decode("utf-8", "surrogateescape"), end + size
    if first >= 0xCC:
        return size, end
    return body[end : end + size], end + size


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
#: Bytes of the size (or of the number itself) behind a first byte.
_WIDTHS = {
    0xC4: 1, 0xC5: 2, 0xC6: 4,  # bytes
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,  # numbers
    0xD9: 1, 0xDA: 2, 0xDB: 4,  # text
    0xDC: 2, 0xDD: 4,  # lists
    0xDE: 2, 0xDF: 4,  # maps
}  # fmt: skip


def _list(body: bytes, at: int, size: int) -> "tuple[list[Any], int]":
    values = []
    for _ in range(size):
        value, at = _take(body, at)
        values.append(value)
    return values, at


def _map(body: bytes, at: int, size: int) -> "tuple[dict[str, Any], int]":
    values: dict[str, Any] = {}
    for _ in range(size):
        key, at = _take(body, at)
        if type(key) is not str:
            raise NotBrief
        values[key], at = _take(body, at)
    return values, at
