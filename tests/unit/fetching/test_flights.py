"""Flights: one transfer per artifact, resumed, verified, cancelled, against a real server on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.flights import Fetcher, FetchLimits
from pkgc_daemon.fetching.patience import PatienceLimits
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.reporting import Silent
from pkgc_daemon.vocabulary import Artifact, Digest, IndexOptions
from tests.support.server import Behaviour, IndexServer

QUICK = PatienceLimits(
    first_delay=0.01,
    longest_delay=0.05,
    stall_timeout=0.3,
    connect_timeout=2,
    unreachable=1,
    server=5,
    stall=5,
)
NAME = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


class Recorder(Silent):
    """Remembers the progress that was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0
        self.finishes = 0
        self.details: list[str] = []

    def advanced(self, key: str, amount: int) -> None:
        self.shown += amount

    def finished(self, key: str) -> None:
        self.finishes += 1

    def detail(self, message: str) -> None:
        self.details.append(message)

    def retrying(self, message: str) -> None:
        self.details.append(message)


class Bench:
    """A fetcher with a store made of a folder."""

    def __init__(self, base: Path, limits: PatienceLimits = QUICK, **fetch_limits: Any) -> None:
        self.incoming, self.kept = base / "incoming", base / "kept"
        self.kept.mkdir(parents=True, exist_ok=True)
        self.published: list[tuple[str, int, str, str]] = []
        self.transport = Transport(limits)
        self.fetcher = Fetcher(
            self.transport, self.incoming, self.publish, limits=FetchLimits(**fetch_limits)
        )
        self.reporter = Recorder()
        self.gate: Callable[[], Awaitable[None]] | None = None

    async def publish(
        self, path: Path, sha256: str, size: int, digests: frozenset[Digest], filename: str, url: str
    ) -> Artifact:
        if self.gate is not None:
            await self.gate()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        assert path.stat().st_size == size
        self.published.append((sha256, size, filename, url))
        path.rename(self.kept / sha256)
        return Artifact(sha256, size, self.kept / sha256, digests)

    async def get(self, url: str, *allowed: Digest, **extra: Any) -> Artifact:
        given: dict[str, Any] = {
            "allowed": frozenset(allowed),
            "advertised": frozenset(),
            "size": None,
            "exact_size": False,
            "filename": url.rsplit("/", 1)[-1],
            "options": IndexOptions(),
            "reporter": self.reporter,
        }
        return await self.fetcher.fetch(url, **{**given, **extra})

    async def fails(self, url: str, *allowed: Digest, **extra: Any) -> PkgcError:
        with pytest.raises(PkgcError) as caught:
            await self.get(url, *allowed, **extra)
        return caught.value

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.incoming.iterdir())

    async def close(self) -> None:
        await self.fetcher.close()
        await self.transport.close()


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


def digest(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def ranges(server: IndexServer, name: str = NAME) -> list[str | None]:
    return [hit.range for hit in server.requests_for(name)]


BIG = os.urandom(3_000_000)
SMALL = b"small wheel" * 1000


# -- right bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", SMALL, BIG], ids=["empty", "small", "big"])
async def test_a_file_arrives_whole_and_leaves_nothing_behind(
    server: IndexServer, bench: Bench, data: bytes
) -> None:
    url = server.add(data, NAME)
    artifact = await bench.get(url, digest(data))
    assert artifact.path.read_bytes() == data
    assert bench.leftovers() == []
    assert bench.reporter.counts == {"downloaded_files": 1} | (
        {"downloaded_bytes": len(data)} if data else {}
    )
    assert bench.reporter.shown == len(data)
    assert bench.reporter.finishes == 1


async def test_sha256_is_computed_whoever_asks_and_others_in_the_same_pass(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(SMALL, NAME)
    artifact = await bench.get(url, digest(SMALL, "sha512"), advertised=frozenset({digest(SMALL, "md5")}))
    assert artifact.digests == {digest(SMALL, name) for name in ("sha256", "sha512", "md5")}


async def test_raw_bytes_are_hashed_and_never_decoded(server: IndexServer, bench: Bench) -> None:
    """A server that sets Content-Encoding: gzip on a .gz file must not change its hash."""
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(headers={"Content-Encoding": "gzip"}))
    assert (await bench.get(url, digest(SMALL))).size == len(SMALL)
    assert server.log[0].headers["accept-encoding"] == "identity"


# -- wrong bytes ---------------------------------------------------------------------------------------


async def test_a_wrong_hash_is_an_error_with_both_values_and_nothing_is_kept(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(SMALL, NAME)
    error = await bench.fails(url, digest(b"other"), digest(b"other", "sha512"))
    assert error.code == "hash-mismatch"
    assert error.context is not None
    for value in (digest(b"other"), digest(b"other", "sha512"), digest(SMALL), digest(SMALL, "sha512")):
        assert str(value) in error.context
    assert bench.published == []
    assert bench.leftovers() == []
    assert len(server.log) == 1
    assert bench.reporter.counts == {"downloaded_files": 1, "downloaded_bytes": len(SMALL)}


async def test_a_lie_of_the_index_about_the_hash_is_an_error_of_its_own(
    server: IndexServer, bench: Bench
) -> None:
    """T4."""
    url = server.add(SMALL, NAME)
    error = await bench.fails(url, advertised=frozenset({digest(b"lie")}))
    assert error.code == "advertised-hash-mismatch"


async def test_one_allowed_hash_of_many_is_enough(server: IndexServer, bench: Bench) -> None:
    url = server.add(SMALL, NAME)
    await bench.get(url, digest(b"an sdist"), digest(SMALL), digest(b"another", "sha384"))


async def test_an_exact_size_is_checked_before_the_body_is_read(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    error = await bench.fails(url, size=17, exact_size=True)
    assert error.code == "size-mismatch"
    assert "17" in (error.context or "")
    assert bench.reporter.counts.get("downloaded_bytes", 0) == 0
    error = await bench.fails(url, size=17, exact_size=True, filename="chunked.whl")
    assert bench.published == []


async def test_an_exact_size_is_checked_of_what_arrived(server: IndexServer, bench: Bench) -> None:
    """A server that does not say how much it sends must not get around the size of a lock."""
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(chunked=True))
    error = await bench.fails(url, size=len(BIG) + 1, exact_size=True)
    assert error.code == "size-mismatch"
    assert bench.published == []


async def test_an_advisory_size_is_only_a_hint(server: IndexServer, bench: Bench) -> None:
    assert (await bench.get(server.add(SMALL, NAME), size=17)).size == len(SMALL)


async def test_endless_bodies_end_at_the_exact_size(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(times=None, chunked=True))
    error = await bench.fails(url, size=100_000, exact_size=True)
    assert error.code in {"file-too-large", "size-mismatch"}
    assert bench.leftovers() == []


# -- resuming ------------------------------------------------------------------------------------------


async def test_a_cut_transfer_goes_on_where_it_was_cut(server: IndexServer, bench: Bench) -> None:
    """T5: cut twice at 60 % of the rest, ranges supported: every byte is sent once."""
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(truncate_after=1_800_000), Behaviour(truncate_after=700_000))
    artifact = await bench.get(url, digest(BIG))
    assert artifact.path.read_bytes() == BIG
    assert ranges(server) == [None, "bytes=1800000-", "bytes=2500000-"]
    assert bench.reporter.counts["downloaded_bytes"] == len(BIG)
    assert bench.reporter.shown == len(BIG)
    assert bench.leftovers() == []


async def test_many_small_steps_reach_the_end(server: IndexServer, bench: Bench) -> None:
    """T5c: 50 KB of progress per attempt, far more than eight attempts."""
    data = BIG[:1_000_000]
    url = server.add(data, NAME)
    server.behave(NAME, Behaviour(times=None, truncate_after=50_000))
    assert (await bench.get(url, digest(data))).path.read_bytes() == data
    assert len(server.log) == 20


async def test_a_server_without_ranges_that_always_cuts_is_given_up(
    server: IndexServer, bench: Bench
) -> None:
    """T5b: starting over is not progress."""
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(times=None, truncate_after=1_000_000, ranges=False, etag=None))
    error = await bench.fails(url, digest(BIG))
    assert error.code == "download-failed"
    assert len(server.log) == 8
    assert bench.leftovers() == []


async def test_a_changed_file_starts_over(server: IndexServer, bench: Bench) -> None:
    old, new = BIG, BIG[::-1]
    url = server.add(old, NAME)
    server.behave(NAME, Behaviour(truncate_after=1_000_000), Behaviour(data=new), Behaviour(data=new))
    artifact = await bench.get(url)
    assert artifact.path.read_bytes() == new
    assert bench.reporter.shown == len(new)
    assert len(server.log) == 2


async def test_a_206_with_another_offset_is_discarded(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(truncate_after=1_000_000), Behaviour(range_shift=-10))
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG
    assert ranges(server) == [None, "bytes=1000000-", None]


async def test_a_206_with_another_offset_is_discarded_without_a_hash_too(
    server: IndexServer, bench: Bench
) -> None:
    """Where no hash would tell, a file with ten bytes twice would be published."""
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(truncate_after=1_000_000), Behaviour(range_shift=-10))
    assert (await bench.get(url)).path.read_bytes() == BIG
    assert ranges(server) == [None, "bytes=1000000-", None]


async def test_a_416_starts_over(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(truncate_after=1_000_000), Behaviour(status=416))
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG
    assert ranges(server) == [None, "bytes=1000000-", None]


async def test_a_server_that_lies_about_its_validator_costs_one_more_transfer(
    server: IndexServer, bench: Bench
) -> None:
    """The hash is of the whole: a rest of another file is found out, and then all is fetched again."""
    url = server.add(BIG, NAME)
    server.behave(
        NAME,
        Behaviour(truncate_after=1_000_000, etag='"same"'),
        Behaviour(data=BIG[::-1], etag='"same"'),
    )
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG
    assert ranges(server) == [None, "bytes=1000000-", None]


@pytest.mark.parametrize(
    ("how", "resumes"),
    [
        ({"etag": 'W/"weak"'}, False),
        ({"etag": None}, False),
        ({"etag": None, "last_modified": "Wed, 01 Jan 2020 00:00:00 GMT"}, True),
        ({"etag": "unquoted"}, False),
    ],
)
async def test_only_strong_validators_are_resumed_with(
    server: IndexServer, bench: Bench, how: dict[str, Any], resumes: bool
) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(truncate_after=1_000_000, **how), Behaviour(times=None, **how))
    await bench.get(url, digest(BIG))
    assert ranges(server) == [None, "bytes=1000000-" if resumes else None]


async def test_another_daemon_goes_on_with_what_a_killed_one_left(
    server: IndexServer, tmp_path: Path
) -> None:
    """T12: bytes that arrived are on disk within 1 MiB or 1 s, with their validator."""
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(stall_after=2_000_000))
    first = Bench(tmp_path, PatienceLimits())
    task = asyncio.create_task(first.get(url, digest(BIG)))
    await until(lambda: any(path.stat().st_size == 2_000_000 for path in tmp_path.rglob("*.part")), 3)
    # As after kill -9: no clean end, only what is on disk.
    (tmp_path / "two" / "incoming").mkdir(parents=True)
    for path in first.incoming.iterdir():
        (tmp_path / "two" / "incoming" / path.name).write_bytes(path.read_bytes())
    second = Bench(tmp_path / "two")
    assert (await second.get(url, digest(BIG))).path.read_bytes() == BIG
    assert ranges(server) == [None, "bytes=2000000-"]
    assert second.reporter.counts["downloaded_bytes"] == 1_000_000
    task.cancel()
    await asyncio.wait([task])
    await first.close()
    await second.close()


async def test_damage_to_a_kept_part_is_found_and_healed(server: IndexServer, tmp_path: Path) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(stall_after=2_000_000))
    first = Bench(tmp_path)
    task = asyncio.create_task(first.get(url, digest(BIG)))
    await until(lambda: any(path.stat().st_size >= 1_000_000 for path in tmp_path.rglob("*.part")))
    task.cancel()
    await asyncio.wait([task])
    await first.close()
    (part,) = first.incoming.glob("*.part")
    with part.open("r+b") as stream:
        stream.seek(500)
        stream.write(b"damage")
    server.behave_well()
    second = Bench(tmp_path)
    assert (await second.get(url, digest(BIG))).path.read_bytes() == BIG
    assert second.leftovers() == []
    await second.close()


async def test_stale_and_foreign_leftovers_are_swept(server: IndexServer, bench: Bench) -> None:
    bench.incoming.mkdir()
    for name in ("a.part", "b.json", "c.part", "c.json", "d.json.new"):
        (bench.incoming / name).write_bytes(b"{}")
    os.utime(bench.incoming / "c.part", (1, 1))
    await bench.get(server.add(SMALL, NAME))
    assert bench.leftovers() == []


async def test_a_part_that_somebody_shortened_is_not_filled_with_zeros(
    server: IndexServer, bench: Bench
) -> None:
    """Bytes that are gone are fetched again; a hole under a right hash would be installed for ever."""
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(truncate_after=2_000_000), Behaviour(delay=0.2))
    task = asyncio.create_task(bench.get(url, digest(BIG)))
    await until(lambda: bench.reporter.shown >= 2_000_000)
    await asyncio.sleep(0.1)
    (part,) = bench.incoming.glob("*.part")
    os.truncate(part, 1000)
    assert (await task).path.read_bytes() == BIG
    assert [hit.status for hit in server.log] == [200, 206, 200]
    assert bench.leftovers() == []


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_part_that_was_swapped_meanwhile_is_not_published(
    server: IndexServer, bench: Bench, how: str
) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(rate=4_000_000))
    task = asyncio.create_task(bench.get(url, digest(BIG)))
    await until(lambda: list(bench.incoming.glob("*.part")) and bench.reporter.shown > 600_000)
    (part,) = bench.incoming.glob("*.part")
    part.unlink()
    if how == "replaced":
        part.write_bytes(b"\0" * len(BIG))
    assert (await task).path.read_bytes() == BIG
    assert len(server.log) == 2


async def _leave_complete(bench: Bench, url: str, *allowed: Digest) -> Path:
    """Every byte arrives, the publication fails, the partial file stays."""

    async def full() -> None:
        raise PkgcError("disk-full", "full")

    bench.gate = full
    assert (await bench.fails(url, *allowed)).code == "disk-full"
    bench.gate = None
    (part,) = bench.incoming.glob("*.part")
    return part


async def test_a_complete_part_without_a_digest_is_asked_about(server: IndexServer, bench: Bench) -> None:
    """What a URL serves may have changed since; without a hash in hand only the server knows."""
    url = server.add(BIG, NAME)
    await _leave_complete(bench, url)
    new = BIG[::-1]
    server.behave(NAME, Behaviour(times=None, data=new))
    assert (await bench.get(url)).path.read_bytes() == new


async def test_a_complete_part_of_a_known_hash_needs_no_request_and_heals(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(BIG, NAME)
    await _leave_complete(bench, url, digest(BIG))
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG
    assert len(server.log) == 1
    other = server.add(SMALL + BIG, "other.whl")
    part = await _leave_complete(bench, other, digest(SMALL + BIG))
    with part.open("r+b") as stream:
        stream.write(b"damage")
    assert (await bench.get(other, digest(SMALL + BIG))).path.read_bytes() == SMALL + BIG


# -- many waiters --------------------------------------------------------------------------------------


async def test_many_waiters_cost_one_transfer_and_one_publication(server: IndexServer, bench: Bench) -> None:
    """T3; and T3b: the same bytes under two URLs are fetched once."""
    url = server.add(BIG, NAME)
    other = server.add(BIG, NAME, index="mirror")
    got = await asyncio.gather(*(bench.get(u, digest(BIG)) for u in [url, other] * 20))
    assert len({artifact.sha256 for artifact in got}) == 1
    assert len(server.log) == 1
    assert len(bench.published) == 1


async def test_unhashed_requests_for_one_url_share_a_flight(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    await asyncio.gather(*(bench.get(url) for _ in range(5)))
    assert len(server.log) == 1


async def test_each_waiter_verifies_for_itself(server: IndexServer, bench: Bench) -> None:
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(delay=0.1))
    right, wrong = await asyncio.gather(
        bench.get(url, digest(SMALL), digest(b"x")),
        bench.get(url, digest(b"y"), digest(b"z", "sha512")),
        return_exceptions=True,
    )
    assert isinstance(right, Artifact)
    assert isinstance(wrong, PkgcError)
    assert wrong.code == "hash-mismatch"
    assert len(server.log) == 1


async def test_a_waiter_that_comes_during_publication_is_verified_too(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(SMALL, NAME)
    publishing, go_on = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        publishing.set()
        await go_on.wait()

    bench.gate = gate
    first = asyncio.create_task(bench.get(url))
    await publishing.wait()
    late = asyncio.create_task(bench.get(url, digest(SMALL, "sha384"), digest(b"-", "sha512")))
    wrong = asyncio.create_task(bench.get(url, digest(b"no", "sha384"), digest(b"-", "sha512")))
    await asyncio.sleep(0.02)
    go_on.set()
    await first
    assert digest(SMALL, "sha384") in (await late).digests
    with pytest.raises(PkgcError, match="none of the hashes"):
        await wrong
    assert len(server.log) == 1


async def test_one_waiter_leaving_does_not_disturb_the_other(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(rate=10_000_000))
    staying = asyncio.create_task(bench.get(url, digest(BIG)))
    leaving = asyncio.create_task(bench.get(url, digest(BIG)))
    await until(lambda: bench.reporter.shown > 0)
    leaving.cancel()
    assert (await staying).size == len(BIG)
    assert len(server.log) == 1


async def test_the_last_waiter_cancels_within_a_second_and_what_arrived_is_kept(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(rate=1_000_000))
    task = asyncio.create_task(bench.get(url, digest(BIG)))
    await until(lambda: bench.reporter.shown > 100_000)
    task.cancel()
    # The next one comes while the old flight is still putting its bytes away.
    await asyncio.sleep(0)
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG
    asked = ranges(server)
    assert len(asked) == 2
    assert asked[1] is not None
    assert int(asked[1].removeprefix("bytes=").rstrip("-")) >= 100_000
    assert task.cancelled()


async def test_a_failing_url_moves_on_to_that_of_another_waiter(server: IndexServer, bench: Bench) -> None:
    bad = server.add(SMALL, NAME, index="bad")
    good = server.add(SMALL, NAME, index="good")
    server.behave(f"/files/bad/{NAME}", Behaviour(times=None, status=404, delay=0.1))
    one, two = await asyncio.gather(bench.get(bad, digest(SMALL)), bench.get(good, digest(SMALL)))
    assert one.sha256 == two.sha256


async def test_a_stalling_url_moves_on_without_waiting_for_its_retries(
    server: IndexServer, bench: Bench
) -> None:
    bad = server.add(BIG, NAME, index="bad")
    good = server.add(BIG, NAME, index="good")
    server.behave(f"/files/bad/{NAME}", Behaviour(times=None, stall_after=1000))
    await asyncio.gather(bench.get(bad, digest(BIG)), bench.get(good, digest(BIG)))
    assert len([hit for hit in server.log if hit.path.startswith("/files/bad/")]) == 1
    assert bench.leftovers() == []


@pytest.mark.parametrize("difference", ["userinfo", "token"])
async def test_routes_that_differ_in_credentials_only_do_not_share_a_file(
    server: IndexServer, bench: Bench, difference: str
) -> None:
    """B's 401 once unlinked A's file; A went on in an empty one, and zeros were published as the wheel."""
    url = server.add(BIG, NAME)
    if difference == "userinfo":
        mine, theirs = (url.replace("//", f"//{user}@") for user in ("a:1", "b:2"))
    else:
        mine, theirs = (f"{url}?token={user}" for user in ("a", "b"))
    server.behave(NAME, Behaviour(rate=8_000_000, truncate_after=2_000_000), Behaviour(status=401))
    first = asyncio.create_task(bench.get(mine, digest(BIG)))
    await until(lambda: bench.reporter.shown > 300_000)
    second = asyncio.create_task(bench.get(theirs, digest(BIG)))
    assert (await first).path.read_bytes() == BIG
    assert (await second).sha256 == digest(BIG).hex
    assert [hit.status for hit in server.log] == [200, 401, 206]
    assert ranges(server)[2] == "bytes=2000000-"
    assert bench.leftovers() == []
    assert bench.fetcher._names == set()


async def test_a_slow_source_holds_nobody_who_has_a_faster_one(server: IndexServer, tmp_path: Path) -> None:
    """Who joins the flight of a trickling mirror must not wait for it when his own index is fast."""
    bench = Bench(tmp_path, slow_window=0.5)
    slow, fast = server.add(BIG, NAME, index="slow"), server.add(BIG, NAME, index="fast")
    server.behave(f"/files/slow/{NAME}", Behaviour(times=None, rate=60_000))
    began = asyncio.get_running_loop().time()
    first = asyncio.create_task(bench.get(slow, digest(BIG)))
    await until(lambda: bench.reporter.shown > 0)
    second = asyncio.create_task(bench.get(fast, digest(BIG)))
    assert {one.sha256 for one in await asyncio.gather(first, second)} == {digest(BIG).hex}
    assert asyncio.get_running_loop().time() - began < 5
    assert len(server.log) == 2
    assert bench.leftovers() == []
    await bench.close()


async def test_a_slow_source_goes_on_where_it_was_if_the_other_fails(
    server: IndexServer, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, slow_window=0.5)
    data = BIG[:200_000]
    slow, dead = server.add(data, NAME, index="slow"), server.add(data, NAME, index="dead")
    server.behave(f"/files/slow/{NAME}", Behaviour(times=None, rate=90_000))
    server.behave(f"/files/dead/{NAME}", Behaviour(times=None, status=404))
    got = await asyncio.gather(bench.get(slow, digest(data)), bench.get(dead, digest(data)))
    assert {one.sha256 for one in got} == {digest(data).hex}
    asked = [hit for hit in server.log if "/slow/" in hit.path]
    assert len(asked) == 2
    assert asked[1].range is not None
    await bench.close()


async def test_slow_sources_do_not_take_turns_for_ever(server: IndexServer, tmp_path: Path) -> None:
    bench = Bench(tmp_path, slow_window=0.5)
    data = BIG[:100_000]
    urls = [server.add(data, NAME, index=name) for name in ("one", "two")]
    server.behave(NAME, Behaviour(times=None, rate=70_000, ranges=False, etag=None))
    await asyncio.gather(*(bench.get(url, digest(data)) for url in urls))
    assert len(server.log) == 2
    await bench.close()


async def test_the_only_source_may_be_slow(server: IndexServer, tmp_path: Path) -> None:
    bench = Bench(tmp_path, slow_window=0.2)
    data = BIG[:60_000]
    url = server.add(data, NAME)
    server.behave(NAME, Behaviour(times=None, rate=60_000, ranges=False, etag=None))
    await asyncio.gather(bench.get(url, digest(data)), bench.get(url, digest(data)))
    assert len(server.log) == 1
    await bench.close()


@pytest.mark.parametrize("right", [True, False])
async def test_a_waiter_that_comes_while_digests_are_computed_is_judged_by_its_own(
    server: IndexServer, bench: Bench, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    """Its algorithm was not among those looked at when it joined: right bytes once were called wrong."""
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(delay=0.2))
    hashing, go_on = asyncio.Event(), asyncio.Event()
    plain, flights = bench.fetcher._hash, bench.fetcher._flights

    async def slowly(path: Path, algorithms: Iterable[str]) -> frozenset[Digest]:
        hashing.set()
        await go_on.wait()
        return await plain(path, algorithms)

    monkeypatch.setattr(bench.fetcher, "_hash", slowly)

    def two(algorithm: str, data: bytes) -> tuple[Digest, Digest]:
        return digest(data, algorithm), digest(b"sdist", algorithm)

    first = asyncio.create_task(bench.get(url, *two("sha256", SMALL)))
    await until(lambda: any(route.tried for flight in flights.values() for route in flight.routes.values()))
    # The first one's algorithms are taken by now, and its bytes are not here yet.
    second = asyncio.create_task(bench.get(url, *two("sha512", SMALL)))
    await asyncio.wait_for(hashing.wait(), 5)
    late = asyncio.create_task(bench.get(url, *two("sha384", SMALL if right else b"no")))
    await asyncio.sleep(0.02)
    go_on.set()
    await asyncio.gather(first, second)
    if right:
        assert digest(SMALL, "sha384") in (await late).digests
    else:
        with pytest.raises(PkgcError, match="none of the hashes"):
            await late
    assert len(server.log) == 1


async def test_each_waiter_of_wrong_bytes_hears_what_it_expected(server: IndexServer, bench: Bench) -> None:
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(delay=0.1))
    wanted = [(digest(b"1"), digest(b"2")), (digest(b"3"), digest(b"4"))]
    errors = await asyncio.gather(*(bench.fails(url, *pair) for pair in wanted))
    for pair, error in zip(wanted, errors, strict=True):
        assert str(pair[0]) in (error.context or "")
    assert len(server.log) == 1


async def test_if_every_url_fails_each_waiter_hears_of_its_own(server: IndexServer, bench: Bench) -> None:
    one, two = server.add(SMALL, NAME, index="one"), server.add(SMALL, NAME, index="two")
    server.behave(f"/files/one/{NAME}", Behaviour(times=None, status=403, delay=0.05))
    server.behave(f"/files/two/{NAME}", Behaviour(times=None, status=404))
    first, second = await asyncio.gather(bench.fails(one, digest(SMALL)), bench.fails(two, digest(SMALL)))
    assert "403" in first.message
    assert "404" in second.message
    assert len(server.log) == 2


async def test_a_wrong_mirror_does_not_spoil_the_right_one(server: IndexServer, bench: Bench) -> None:
    lying = server.add(b"evil", NAME, index="lying")
    right = server.add(SMALL, NAME, index="right")
    server.behave(f"/files/lying/{NAME}", Behaviour(delay=0.05))
    got = await asyncio.gather(bench.get(lying, digest(SMALL)), bench.get(right, digest(SMALL)))
    assert {one.sha256 for one in got} == {digest(SMALL).hex}
    assert [sha256 for sha256, *_ in bench.published] == [digest(SMALL).hex]


async def test_what_a_flight_has_just_brought_is_not_fetched_again(server: IndexServer, bench: Bench) -> None:
    """Invariant 3, for a client that looked into the store a moment too early."""
    url = server.add(SMALL, NAME)
    stored: list[Artifact] = []
    bench.fetcher._find = lambda wanted: stored[0] if stored and wanted == digest(SMALL) else None
    stored.append(await bench.get(url, digest(SMALL)))
    assert await bench.get(url, digest(SMALL)) == stored[0]
    error = await bench.fails(url, digest(SMALL), size=1, exact_size=True)
    assert error.code == "size-mismatch"
    assert len(server.log) == 1


async def test_an_unasked_206_is_not_taken_for_the_file(server: IndexServer, bench: Bench) -> None:
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(status=206))
    assert (await bench.get(url)).sha256 == digest(SMALL).hex


async def test_limits_per_host_are_kept(server: IndexServer, tmp_path: Path) -> None:
    bench = Bench(tmp_path, downloads=3, downloads_per_host=2)
    urls = [server.add(b"%d" % n, f"p{n}-1-py3-none-any.whl") for n in range(12)]
    server_delay = Behaviour(times=None, delay=0.02)
    for n in range(12):
        server.behave(f"p{n}-1-py3-none-any.whl", server_delay)
    await asyncio.gather(*(bench.get(url) for url in urls))
    assert server.most_active == 2
    assert server.connections == 2
    await bench.close()


# -- failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_final_statuses_are_not_retried(server: IndexServer, bench: Bench, status: int) -> None:
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(times=None, status=status))
    error = await bench.fails(url, digest(SMALL))
    assert error.code == "http-status"
    assert str(status) in error.message
    assert len(server.log) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_passing_statuses_are_retried(server: IndexServer, bench: Bench, status: int) -> None:
    url = server.add(SMALL, NAME)
    server.behave(NAME, Behaviour(times=2, status=status))
    assert (await bench.get(url, digest(SMALL))).size == len(SMALL)
    assert len(server.log) == 3
    assert len(bench.reporter.details) == 2


async def test_a_reset_connection_is_resumed(server: IndexServer, bench: Bench) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(reset_after=1_000_000))
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG


async def test_a_stall_ends_in_an_error_of_that_name(server: IndexServer, tmp_path: Path) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(times=None, stall_after=-1))
    bench = Bench(tmp_path, PatienceLimits(stall_timeout=0.1, stall=0.5, first_delay=0.01))
    error = await bench.fails(url)
    assert error.code == "stalled"
    await bench.close()


async def test_a_trickle_is_a_stall_too(server: IndexServer, tmp_path: Path) -> None:
    url = server.add(BIG, NAME)
    server.behave(NAME, Behaviour(times=None, rate=1000, etag=None))
    bench = Bench(tmp_path, PatienceLimits(attempts=2, stall_timeout=0.2, stall=0.5, first_delay=0.01))
    error = await bench.fails(url)
    assert error.code == "stalled"
    await bench.close()


async def test_a_refused_connection_names_the_url_without_credentials(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(SMALL, NAME).replace("://", "://user:s3cret@")
    server.stop()
    error = await bench.fails(url)
    assert error.code == "connection-refused"
    assert "s3cret" not in str(error.to_wire())
    assert str(server.port) in error.message


async def test_a_host_without_address_is_a_dns_failure(bench: Bench) -> None:
    error = await bench.fails("http://no-such-host.invalid/x-1-py3-none-any.whl")
    assert error.code == "dns-failure"


async def test_a_full_disk_is_said_and_frees_what_it_took(
    server: IndexServer, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add(BIG, NAME)
    real_write, room = os.writev, [1_000_000]

    def write(fd: int, data: Any) -> int:
        room[0] -= sum(map(len, data))
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return real_write(fd, data)

    monkeypatch.setattr("pkgc_daemon.fetching.partials.os.writev", write)
    error = await bench.fails(url, digest(BIG))
    assert error.code == "disk-full"
    assert bench.leftovers() == []
    monkeypatch.undo()
    assert (await bench.get(url, digest(BIG))).path.read_bytes() == BIG


async def test_a_failed_publication_reaches_every_waiter_and_the_next_one_succeeds(
    server: IndexServer, bench: Bench
) -> None:
    url = server.add(BIG, NAME)

    async def gate() -> None:
        raise PkgcError("disk-full", "no space left")

    bench.gate = gate
    errors = await asyncio.gather(bench.fails(url), bench.fails(url))
    assert {error.code for error in errors} == {"disk-full"}
    bench.gate = None
    await bench.get(url)
    assert [hit.status for hit in server.log] == [200, 304], "the complete file was kept"


async def test_an_unexpected_failure_hangs_nobody(server: IndexServer, bench: Bench) -> None:
    async def gate() -> None:
        raise RuntimeError("defect")

    bench.gate = gate
    error = await bench.fails(server.add(SMALL, NAME))
    assert error.code == "internal-error"


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_cut_transfer_goes_on_where_it_was_cut,
        test_many_small_steps_reach_the_end,
        test_a_reset_connection_is_resumed,
        test_many_waiters_cost_one_transfer_and_one_publication,
        test_the_last_waiter_cancels_within_a_second_and_what_arrived_is_kept,
        test_a_stalling_url_moves_on_without_waiting_for_its_retries,
        test_a_refused_connection_names_the_url_without_credentials,
    ],
)
def test_the_same_holds_under_uvloop(
    server: IndexServer, tmp_path: Path, scenario: Callable[[IndexServer, Bench], Awaitable[None]]
) -> None:
    """The daemon runs on uvloop, where connections end in other exceptions."""

    async def main() -> None:
        bench = Bench(tmp_path)
        try:
            await scenario(server, bench)
        finally:
            await bench.close()

    uvloop.run(main())


# -- local files ---------------------------------------------------------------------------------------


async def test_file_urls_are_verified_and_counted_as_no_download(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "with space" / NAME
    path.parent.mkdir()
    path.write_bytes(BIG)
    artifact = await bench.get(path.as_uri(), digest(BIG))
    assert artifact.path.read_bytes() == BIG
    assert path.exists()
    assert bench.reporter.counts == {}
    assert (await bench.fails(path.as_uri(), digest(b"x"))).code == "hash-mismatch"


async def test_file_urls_of_other_things_are_errors(bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert (await bench.fails((tmp_path / "gone").as_uri())).code == "file-not-found"
    assert (await bench.fails((tmp_path / "fifo").as_uri())).code == "file-unreadable"
    assert (await bench.fails(tmp_path.as_uri())).code == "file-unreadable"
    assert (await bench.fails("file://elsewhere/x.whl")).code == "bad-url"
