"""Who follows a file that arrives: is told of bytes that stay, and of nothing else; against a real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from pkgc_daemon.fetching.flights import Fetcher, FetchLimits
from tests.support.server import Behaviour, IndexServer
from tests.unit.fetching.test_flights import NAME, Bench, digest, until

DATA = random.Random(1).randbytes(3_000_000)
OTHER = random.Random(2).randbytes(3_000_000)


class Witness:
    """A follower that reads what it is told of, at once."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total = path, total
        self.seen = b""
        self.fates: list[str] = []

    def grown(self, kept: int) -> None:
        assert kept >= len(self.seen), "bytes are taken back"
        with self.path.open("rb") as file:
            self.seen = file.read(kept)
        assert len(self.seen) == kept, "bytes are promised that are not there"

    def landed(self, sha256: str) -> None:
        self.fates.append(f"landed {sha256}")

    def dropped(self) -> None:
        self.fates.append("dropped")


class Following(Bench):
    """A bench whose downloads are followed from 1 MB up."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.witnesses: list[Witness] = []
        self.fetcher = Fetcher(
            self.transport,
            self.incoming,
            self.publish,
            follow=self.follow,
            limits=FetchLimits(follow_from=1_000_000),
        )

    def follow(self, path: Path, total: int) -> Witness:
        self.witnesses.append(Witness(path, total))
        return self.witnesses[-1]


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Following]:
    made = Following(tmp_path)
    yield made
    await made.close()


async def test_it_sees_every_byte_and_the_landing(server: IndexServer, bench: Following) -> None:
    """What is unpacked ahead must be the bytes that were verified, all of them."""
    await bench.get(server.add(DATA, NAME), digest(DATA))
    (witness,) = bench.witnesses
    assert (witness.seen, witness.total) == (DATA, len(DATA))
    assert witness.fates == [f"landed {digest(DATA).hex}"]


async def test_only_large_wheels_are_followed(server: IndexServer, bench: Following) -> None:
    """Sixty small wheels, or an archive of sources, must not cost a word to the processes that unpack."""
    await bench.get(server.add(DATA[:900_000], NAME), digest(DATA[:900_000]))
    await bench.get(server.add(DATA, "demo-1.0.tar.gz"), digest(DATA))
    assert bench.witnesses == []


async def test_a_cut_changes_nothing(server: IndexServer, bench: Following) -> None:
    """The rest of the file comes with another request; what was unpacked before counts on."""
    server.behave(NAME, Behaviour(truncate_after=1_800_000), Behaviour(truncate_after=700_000))
    await bench.get(server.add(DATA, NAME), digest(DATA))
    (witness,) = bench.witnesses
    assert witness.seen == DATA
    assert witness.fates == [f"landed {digest(DATA).hex}"]
    assert len(server.requests_for(NAME)) == 3


@pytest.mark.parametrize("kind", ["no ranges", "another file"])
async def test_starting_over_is_told(server: IndexServer, bench: Following, kind: str) -> None:
    """Half of an old file and half of a new one must never be unpacked as one wheel."""
    first = OTHER if kind == "another file" else DATA
    again = Behaviour(ranges=False) if kind == "no ranges" else Behaviour()
    server.behave(NAME, Behaviour(data=first, truncate_after=1_500_000, etag='"first"'), again)
    await bench.get(server.add(DATA, NAME), digest(DATA))
    one, two = bench.witnesses
    assert one.fates == ["dropped"]
    assert one.seen == first[: len(one.seen)]
    assert (two.seen, two.fates) == (DATA, [f"landed {digest(DATA).hex}"])


async def test_wrong_bytes_are_dropped(server: IndexServer, bench: Following) -> None:
    """What has another hash than the lock says must not be published, and what it held must go."""
    error = await bench.fails(server.add(OTHER, NAME), digest(DATA))
    assert error.code == "hash-mismatch"
    assert bench.witnesses
    assert all(witness.fates == ["dropped"] for witness in bench.witnesses)
    assert bench.published == []


async def test_a_cancelled_download_is_dropped_and_resumed(server: IndexServer, bench: Following) -> None:
    """Ctrl-C must free what was unpacked; the next sync goes on with the bytes, and is followed again."""
    url = server.add(DATA, NAME)
    server.behave(NAME, Behaviour(rate=3_000_000))
    task = asyncio.create_task(bench.get(url, digest(DATA)))
    await until(lambda: bench.witnesses and len(bench.witnesses[0].seen) > 500_000)
    task.cancel()
    await asyncio.wait([task])
    await until(lambda: bench.witnesses[0].fates == ["dropped"])
    await bench.get(url, digest(DATA))
    witness = bench.witnesses[-1]
    assert witness is not bench.witnesses[0]
    assert (witness.seen, witness.fates) == (DATA, [f"landed {digest(DATA).hex}"])
    assert server.requests_for(NAME)[-1].status == 206


async def test_a_server_that_fails_for_good(server: IndexServer, bench: Following) -> None:
    """A download that is given up leaves nothing that was unpacked of it."""
    server.behave(NAME, Behaviour(truncate_after=1_500_000), Behaviour(times=None, status=404))
    error = await bench.fails(server.add(DATA, NAME), digest(DATA))
    assert error.code == "http-status"
    await until(lambda: [witness.fates for witness in bench.witnesses] == [["dropped"]])
