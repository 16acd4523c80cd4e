"""Brief: what the client reads and writes without msgpack is msgpack to the byte, and nothing else passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pkgc_protocol import FrameDecoder, RemoteProtocolError, encode, frames
from pkgc_protocol.brief import NotBrief, pack, unpack

# with lone surrogates: what is not UTF-8 in arguments and variables
texts = st.text(st.characters(exclude_categories=()), max_size=40).filter(
    lambda text: not any("\ud800" <= char < "\udc80" or "\udcff" < char <= "\udfff" for char in text)
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**32 - 1) | texts | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(texts, inner, max_size=20),
    max_leaves=30,
)


def library_pack(value: object) -> bytes:
    packed: bytes = msgpack.Packer(use_bin_type=True, unicode_errors="surrogateescape").pack(value)
    return packed


def library_unpack(body: bytes) -> object:
    return msgpack.unpackb(body, raw=False, strict_map_key=True, unicode_errors="surrogateescape")


@contextmanager
def without_msgpack() -> Iterator[None]:
    """As in a client that has not loaded the package."""
    kept = frames._pack, frames._unpack
    frames._pack = frames._unpack = None
    try:
        yield
    finally:
        frames._pack, frames._unpack = kept


@given(values)
@example({"": 127, "a": 128, "b": 255, "c": 256, "d": 65535, "e": 65536, "f": 2**32 - 1})
def test_the_same_bytes_both_ways(value: object) -> None:
    """A daemon must understand the client's own encoding, and the client the daemon's."""
    packed = pack(value)
    assert packed == library_pack(value)
    assert repr(unpack(packed)) == repr(value)


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_sizes_at_which_the_encoding_changes(size: int) -> None:
    """A long command line or PATH is told by another first byte."""
    for value in ("x" * size, b"x" * size, [None] * size, {str(number): 1 for number in range(size)}):
        assert pack(value) == library_pack(value)
        assert unpack(pack(value)) == value


@pytest.mark.parametrize("value", [-1, 2**32, 1.5, {1: 2}, {b"k": 1}, object(), [set()]])
def test_what_is_rare_is_left_to_the_package(value: object) -> None:
    """Nothing is encoded in a way that only this module understands."""
    if isinstance(value, dict):
        with pytest.raises(NotBrief):
            unpack(msgpack.packb(value))
    else:
        with pytest.raises(NotBrief):
            pack(value)


@given(st.binary(max_size=60))
@example(b"\xc1")
@example(b"\xa5abc")
@example(b"\xc4\xffabc")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x91" * 5000)
@settings(max_examples=500)
def test_what_it_reads_the_package_reads_alike(body: bytes) -> None:
    """A frame that the package refuses must not pass here, and no byte may mean two things."""
    try:
        value = unpack(body)
    except NotBrief:
        return
    assert repr(value) == repr(library_unpack(body))


@given(st.binary(max_size=60) | values.map(pack))
@settings(max_examples=300)
def test_a_decoder_gives_the_same_with_and_without_the_package(body: bytes) -> None:
    """The one failure of a decoder is RemoteProtocolError: anything else is a traceback on a terminal."""

    def outcome() -> Any:
        try:
            return FrameDecoder().feed(len(body).to_bytes(4, "big") + body)
        except RemoteProtocolError as error:
            return str(error)

    there = outcome()
    with without_msgpack():
        assert outcome() == there


def test_the_package_comes_when_it_is_needed() -> None:
    """A daemon's call may hold numbers below zero and megabytes."""
    for value in ({"n": -5}, {"f": 0.5}, {"b": b"x" * (1 << 20)}, {"l": list(range(9000))}):
        message = {"t": "call", "id": 1, "verb": "v", "args": value}
        with without_msgpack():
            assert FrameDecoder(first_limit=1 << 21).feed(encode(message)) == [message]
            assert frames._unpack is not None
