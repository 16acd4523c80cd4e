"""Frames: any chunking, and everything that a hostile peer may send instead of them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_protocol import FrameDecoder, LocalProtocolError, RemoteProtocolError, encode
from pkgc_protocol.frames import MAX_DEPTH, MAX_FRAME, MAX_HELLO, MAX_ITEMS

HELLO = {
    "t": "hello",
    "magic": "pkgc",
    "protocol": [1, 0],
    "software": "1",
    "features": [],
    "cache_dir": "/c",
}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
messages = st.one_of(
    st.builds(lambda s, d: {"t": "output", "stream": s, "data": d}, st.integers(1, 2), st.binary()),
    st.builds(lambda text: {"t": "progress", "text": text}, st.text()),
    st.builds(lambda i, v: {"t": "reply", "id": i, "value": {"v": v}}, st.integers(0, 2**32), values),
    st.builds(lambda e: {"t": "result", "exit": e}, st.integers(0, 255)),
    st.just(HELLO),
)


def frame(body: bytes) -> bytes:
    """A frame with any body."""
    return len(body).to_bytes(4, "big") + body


@given(st.lists(messages, max_size=6), st.data())
def test_any_chunking_gives_the_same_messages(sent: list[dict[str, Any]], data: st.DataObject) -> None:
    """Sockets cut streams anywhere; a frame that straddles two reads must not be lost or doubled."""
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder = FrameDecoder()
    got: list[dict[str, Any]] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == sent
    assert decoder.pending == 0


def test_byte_by_byte() -> None:
    """The slowest chunking of all."""
    decoder = FrameDecoder()
    got = [message for byte in encode(HELLO) for message in decoder.feed(bytes([byte]))]
    assert got == [HELLO]


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_garbage_is_refused_or_waited_for(noise: bytes) -> None:
    """Whatever comes, the only failure is RemoteProtocolError: anything else would crash a session."""
    try:
        FrameDecoder().feed(noise)
    except RemoteProtocolError:
        pass


@given(st.binary(max_size=200))
def test_garbage_in_a_frame_is_refused(noise: bytes) -> None:
    """A body that is not msgpack, or not a known map, ends the connection."""
    with pytest.raises(RemoteProtocolError):
        FrameDecoder().feed(frame(noise))


@pytest.mark.parametrize("length", [MAX_HELLO + 1, MAX_FRAME, 2**32 - 1])
def test_oversized_first_frame_is_refused_from_its_header(length: int) -> None:
    """4 GiB must not be waited for, nor kept: the header alone decides."""
    decoder = FrameDecoder()
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        decoder.feed(length.to_bytes(4, "big"))
    assert decoder.pending <= 4


def test_later_frames_may_be_larger_but_not_too_large() -> None:
    """A lock on standard input is larger than a greeting; the greeting's limit must not stay."""
    decoder = FrameDecoder()
    large = {"t": "reply", "id": 1, "value": b"x" * (4 * MAX_HELLO)}
    assert decoder.feed(encode(HELLO) + encode(large)) == [HELLO, large]
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        decoder.feed((MAX_FRAME + 1).to_bytes(4, "big"))


def nested(depth: int) -> bytes:
    """A reply whose value nests so deep that the frame has `depth` levels."""
    return b"\x83\xa1t\xa5reply\xa2id\x01\xa5value" + b"\x91" * (depth - 1) + b"\xc0"


def test_depth() -> None:
    """Recursion is bounded whatever nests."""
    assert FrameDecoder().feed(frame(nested(MAX_DEPTH)))
    for depth in (MAX_DEPTH + 1, 500, 5000, 60_000):
        with pytest.raises(RemoteProtocolError):
            FrameDecoder().feed(frame(nested(depth)))


def test_million_elements_are_refused_before_they_are_made() -> None:
    """A map or array that announces millions must not cost memory for them."""
    for announced in (b"\xdf\x00\x0f\x42\x40", b"\xdd\x00\x0f\x42\x40", b"\xdd\xff\xff\xff\xff"):
        body = b"\x83\xa1t\xa5reply\xa2id\x01\xa5value" + announced
        tracemalloc.start()
        with pytest.raises(RemoteProtocolError):
            FrameDecoder().feed(frame(body))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
    decoder = FrameDecoder(first_limit=MAX_FRAME)
    with pytest.raises(RemoteProtocolError):
        decoder.feed(frame(msgpack.packb({"t": "reply", "id": 1, "value": [None] * (MAX_ITEMS + 1)})))


@pytest.mark.parametrize(
    "body",
    [
        msgpack.packb([1, 2]),
        msgpack.packb("hello"),
        msgpack.packb({1: 2}),
        msgpack.packb({"t": ["hello"]}),
        msgpack.packb({"t": b"hello"}),
        msgpack.packb(HELLO) + b"\x00",
        msgpack.packb(HELLO)[:-1],
        b"",
    ],
)
def test_not_a_message(body: bytes) -> None:
    """No map, no text keys, trailing or missing bytes: refused, each in its own way."""
    with pytest.raises(RemoteProtocolError):
        FrameDecoder().feed(frame(body))


@given(st.binary(min_size=1))
def test_any_bytes_of_an_argument_survive(raw: bytes) -> None:
    """File names and variables are bytes on Unix; pkgc must find a file whatever its name."""
    text = raw.decode("utf-8", "surrogateescape")
    sent = {"t": "call", "id": 1, "verb": "read_file", "args": {"paths": [text]}}
    got = FrameDecoder().feed(encode(sent))
    assert got[0]["args"]["paths"][0].encode("utf-8", "surrogateescape") == raw


def test_too_large_a_frame_is_not_sent() -> None:
    """The other side would refuse it: better an error here that names the size."""
    with pytest.raises(LocalProtocolError, match="over the limit"):
        encode({"t": "output", "stream": 1, "data": bytes(MAX_FRAME)})


def widely(parts: int, each: bytes) -> bytes:
    """A reply whose value is `parts` arrays of `MAX_ITEMS` elements, each of them `each`."""
    array = b"\xdd" + MAX_ITEMS.to_bytes(4, "big") + each * MAX_ITEMS
    return b"\x83\xa1t\xa5reply\xa2id\x01\xa5value" + bytes([0x90 + parts]) + array * parts


@pytest.mark.parametrize("each", [b"\x80", b"\xc0", b"\xa1x", b"\xc4\x00", b"\x90"])
def test_many_containers_together_are_refused_before_they_are_made(each: bytes) -> None:
    """A limit for each array alone lets a frame of 32 MiB become gigabytes of empty maps."""
    assert FrameDecoder(first_limit=MAX_FRAME).feed(frame(widely(4, each)))
    body = frame(widely(6, each))
    decoder = FrameDecoder(first_limit=MAX_FRAME)
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError, match="elements"):
        decoder.feed(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(body)


@given(values)
def test_counting_walks_every_kind_of_value(value: Any) -> None:
    """The count must end where msgpack does, or bytes of a file would be taken for headers."""
    padding = b"\xdf\xff\xff\xff\xff" * (MAX_HELLO // 5 + 1)
    sent = {"t": "reply", "id": 1, "value": {"v": value, "data": padding}}
    assert FrameDecoder(first_limit=MAX_FRAME).feed(encode(sent)) == [sent]
