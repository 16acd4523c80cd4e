"""Direct URLs: asked at each sync whether they changed, never downloaded twice, never served stale."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.directurls import Current, DirectUrls
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.fetching.patience import PatienceLimits
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.reporting import Silent
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Digest, IndexOptions, Origin
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import make_wheel

QUICK = PatienceLimits(
    first_delay=0.01,
    longest_delay=0.05,
    stall_timeout=0.5,
    connect_timeout=2,
    unreachable=0.5,
    server=1,
    stall=2,
)
OLD = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n"})
# Of the same size, which says nothing then.
NEW = next(
    wheel
    for number in range(2, 1000)
    for wheel in (make_wheel("demo", "1.0", {"demo/__init__.py": f"y{number:03}\n"[:6]}),)
    if len(wheel.data) == len(OLD.data) and wheel.data != OLD.data
)
NAME = OLD.filename
LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"
LATER = "Tue, 02 Jan 2024 00:00:00 GMT"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


class Bench:
    """Direct URLs over a real store."""

    def __init__(self, store: Store, base: Path) -> None:
        self.base = base
        self.store = store
        self.transport = Transport(QUICK)
        self.fetcher = Fetcher(self.transport, store.incoming, store.publish_artifact, find=store.find)
        self.urls = DirectUrls(self.fetcher, self.transport, store)
        self.reporter = Silent()

    @classmethod
    async def open(cls, base: Path) -> Bench:
        return cls(await Store.open(base / "cache"), base)

    async def get(self, url: str, mode: Any = "normal", **given: Any) -> Current:
        rest: dict[str, Any] = {
            "integrity": frozenset(),
            "size": None,
            "filename": NAME,
            "options": IndexOptions(),
        }
        return await self.urls.current(url, reporter=self.reporter, mode=mode, **{**rest, **given})

    async def fails(self, url: str, mode: Any = "normal", **given: Any) -> PkgcError:
        with pytest.raises(PkgcError) as caught:
            await self.get(url, mode, **given)
        return caught.value

    async def close(self) -> None:
        await self.fetcher.close()
        await self.transport.close()
        await self.store.close()

    async def reopen(self) -> Bench:
        await self.close()
        return await Bench.open(self.base)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench.open(tmp_path)
    yield made
    await made.close()


def digest(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def asked(server: IndexServer, name: str = NAME) -> list[tuple[int, str | None, str | None]]:
    """(status, If-None-Match, If-Modified-Since) of each request."""
    hits = server.requests_for(name)
    return [
        (hit.status, hit.headers.get("if-none-match"), hit.headers.get("if-modified-since")) for hit in hits
    ]


# -- revalidation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "again"),
    [
        (Behaviour(times=None), "etag"),
        (Behaviour(times=None, etag='W/"weak"'), "etag"),
        (Behaviour(times=None, etag=None, last_modified=LONG_AGO), "date"),
        (Behaviour(times=None, etag='"e"', last_modified=LONG_AGO), "etag"),
        (Behaviour(times=None, headers={"Cache-Control": "no-store, max-age=0"}), "etag"),
        (Behaviour(times=None, etag='"e"', headers={"Cache-Control": "max-age=9999, immutable"}), "etag"),
    ],
    ids=["strong", "weak", "last-modified", "both", "no-store", "immutable"],
)
async def test_an_unchanged_url_costs_one_request_without_a_body(
    server: IndexServer, bench: Bench, how: Behaviour, again: str
) -> None:
    """T1, T2: asked at each sync, whatever Cache-Control says; the bytes come once."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, how)
    first = await bench.get(url + "#egg=demo")
    assert (first.artifact.sha256, first.came_from, first.asked) == (OLD.sha256, "network", True)
    for _ in range(2):
        bench = await bench.reopen() if again == "date" else bench
        second = await bench.get(url)
        assert (second.artifact, second.came_from, second.asked) == (first.artifact, "store", True)
    hits = asked(server)
    assert [status for status, *_ in hits] == [200, 304, 304]
    assert [(etag is None, date is None) for _, etag, date in hits[1:]] == [
        (again != "etag", again != "date")
    ] * 2
    if again == "date":
        await bench.close()


async def test_changed_content_is_another_artifact_and_the_old_one_stays(
    server: IndexServer, bench: Bench
) -> None:
    """T1, T1b: new code at the same URL must arrive; environments made of the old bytes stay right."""
    url = server.add(OLD.data, NAME)
    first = await bench.get(url)
    server.add(NEW.data, NAME)
    second = await bench.get(url)
    assert (second.artifact.sha256, second.came_from) == (NEW.sha256, "network")
    assert first.artifact.path.read_bytes() == OLD.data
    server.add(OLD.data, NAME)
    assert (await bench.get(url)).artifact.sha256 == OLD.sha256
    assert (await bench.get(url, "offline")).artifact.sha256 == OLD.sha256
    assert [status for status, *_ in asked(server)] == [200, 200, 200]


async def test_without_validators_the_file_is_fetched_again_and_compared(
    server: IndexServer, bench: Bench
) -> None:
    """Else a server without ETags would serve stale code for ever."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, Behaviour(times=None, etag=None))
    await bench.get(url)
    again = await bench.get(url)
    assert (again.artifact.sha256, again.came_from) == (OLD.sha256, "store")
    server.add(NEW.data, NAME)
    assert (await bench.get(url)).artifact.sha256 == NEW.sha256
    assert asked(server) == [(200, None, None)] * 3


async def test_a_file_of_this_second_is_not_trusted_to_stay(server: IndexServer, bench: Bench) -> None:
    """Rewritten within the second of its Last-Modified, it would have the same validators."""
    url = server.add(OLD.data, NAME)
    now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 5))
    server.behave(NAME, Behaviour(times=None, etag='"mtime-size"', last_modified=now))
    await bench.get(url)
    server.add(NEW.data, NAME)
    assert (await bench.get(url)).artifact.sha256 == NEW.sha256


async def test_refresh_asks_behind_caches_and_without_any_condition(
    server: IndexServer, bench: Bench
) -> None:
    """--refresh means: for certain. A 304 is only as good as the server's clock and its way of comparing."""
    url = server.add(OLD.data, NAME)
    await bench.get(url)
    current = await bench.get(url, "refresh")
    assert (current.came_from, current.asked) == ("store", True)
    assert asked(server) == [(200, None, None)] * 2
    assert [hit.headers.get("cache-control") for hit in server.requests_for(NAME)] == [None, "no-cache"]


async def test_an_evicted_file_is_fetched_plainly(server: IndexServer, bench: Bench) -> None:
    """A 304 is of no use to who has thrown the bytes away."""
    url = server.add(OLD.data, NAME)
    first = await bench.get(url)
    await bench.store.damaged_artifact(first.artifact.sha256)
    again = await bench.get(url)
    assert again.came_from == "network"
    assert again.artifact.path.read_bytes() == OLD.data
    assert asked(server) == [(200, None, None)] * 2


async def test_a_file_that_is_evicted_while_the_server_is_asked(server: IndexServer, bench: Bench) -> None:
    """`pkgc cache clean` beside a sync."""
    url = server.add(OLD.data, NAME)
    first = await bench.get(url)
    server.behave(NAME, Behaviour(delay=0.3))
    asking = asyncio.create_task(bench.get(url))
    while server.active == 0:
        await asyncio.sleep(0.01)
    await bench.store.damaged_artifact(first.artifact.sha256)
    assert (await asking).artifact.path.read_bytes() == OLD.data
    assert [status for status, *_ in asked(server)] == [200, 304, 200]


async def test_a_tree_is_enough_to_be_unchanged(server: IndexServer, bench: Bench) -> None:
    """The file is evicted before its tree: a torch that did not change is not downloaded again."""
    url = server.add(OLD.data, NAME)
    first = await bench.get(url)
    await bench.store.ensure_tree(first.artifact, NAME)
    await bench.store.damaged_artifact(first.artifact.sha256)
    again = await bench.get(url)
    assert (again.artifact.sha256, again.came_from) == (OLD.sha256, "store")
    assert (await bench.get(url, "offline")).artifact.sha256 == OLD.sha256
    # md5 cannot be computed of it: then the file is needed.
    await bench.get(url, integrity=frozenset({digest(OLD.data, "md5")}))
    assert [status for status, *_ in asked(server)] == [200, 304, 200]


async def test_a_304_about_something_else_is_not_believed(server: IndexServer, bench: Bench) -> None:
    """A broken proxy that answers 304 to everything."""
    url = server.add(OLD.data, NAME)
    await bench.get(url)
    server.add(NEW.data, NAME)
    server.behave(NAME, Behaviour(status=304, headers={"ETag": '"another"'}))
    assert (await bench.get(url)).artifact.sha256 == NEW.sha256
    server.behave(NAME, Behaviour(status=304, headers={"ETag": 'W/"' + NEW.sha256[:24] + '"'}))
    assert (await bench.get(url)).came_from == "store", "the same, compared weakly"
    assert [status for status, *_ in asked(server)] == [200, 304, 200, 304]


async def test_redirects_the_asked_url_is_the_key_and_the_last_answer_counts(
    server: IndexServer, bench: Bench
) -> None:
    """A link `latest.whl` that moves on to another file."""
    server.add(OLD.data, NAME)
    server.add(NEW.data, "demo-1.1-py3-none-any.whl")
    latest = server.origin + "/latest"
    server.behave("/latest", Behaviour(redirect=server.file_url(NAME), times=2))
    assert (await bench.get(latest)).artifact.sha256 == OLD.sha256
    assert (await bench.get(latest)).came_from == "store"
    assert [status for status, *_ in asked(server)] == [200, 304]
    server.behave("/latest", Behaviour(redirect=server.file_url("demo-1.1-py3-none-any.whl")))
    assert (await bench.get(latest)).artifact.sha256 == NEW.sha256


async def test_identities_do_not_share_what_they_saw(server: IndexServer, bench: Bench) -> None:
    """What one account sees at a URL need not be what another one sees."""
    url = server.add(OLD.data, NAME).replace("//", "//{}:secret@")
    await bench.get(url.format("ann"))
    await bench.get(url.format("bob"))
    await bench.get(url.format("ann"))
    assert [status for status, *_ in asked(server)] == [200, 200, 304]
    assert (await bench.fails(url.format("eve"), "offline")).code == "not-in-cache"
    sql = "SELECT group_concat(key) FROM urls"
    (keys,) = await asyncio.wrap_future(bench.store.catalog.ask(lambda db: db.execute(sql).fetchone()))
    assert "secret" not in keys
    assert "ann" not in keys


async def test_secret_parameters_tell_files_apart_and_are_not_kept(server: IndexServer, bench: Bench) -> None:
    """`?key=…` may be a signature or the name of a file; neither mixing nor storing it will do."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, Behaviour(times=None, etag=None, last_modified=LONG_AGO))
    await bench.get(url + "?key=alpha")
    await bench.get(url + "?key=beta")
    assert asked(server) == [(200, None, None)] * 2
    assert (await bench.get(url + "?key=alpha")).came_from == "store"
    sql = "SELECT group_concat(key) FROM urls"
    (keys,) = await asyncio.wrap_future(bench.store.catalog.ask(lambda db: db.execute(sql).fetchone()))
    assert "alpha" not in keys


# -- single flight -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True], ids=["cold", "known"])
async def test_fifty_callers_cost_one_request(server: IndexServer, bench: Bench, known: bool) -> None:
    """Fifty CI jobs with one lock (invariant 3)."""
    url = server.add(OLD.data, NAME)
    if known:
        await bench.get(url)
        server.clear_log()
    results = await asyncio.gather(*(bench.get(url) for _ in range(50)))
    assert {one.artifact.sha256 for one in results} == {OLD.sha256}
    assert [status for status, *_ in asked(server)] == [304 if known else 200]
    await bench.get(url)
    assert len(asked(server)) == 2, "who comes later asks again"


async def test_each_caller_verifies_for_itself(server: IndexServer, bench: Bench) -> None:
    """One wrong md5 in one lock is not the others' failure, and the other way round."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, Behaviour(delay=0.1))
    right, wrong = digest(OLD.data, "md5"), Digest("md5", "0" * 32)
    results = await asyncio.gather(
        bench.get(url, integrity=frozenset({right})),
        bench.get(url, integrity=frozenset({wrong})),
        bench.get(url),
        bench.get(url, size=1),
        return_exceptions=True,
    )
    assert [getattr(one, "code", "fine") for one in results] == [
        "fine",
        "hash-mismatch",
        "fine",
        "size-mismatch",
    ]
    assert isinstance(results[0], Current)
    assert right in results[0].artifact.digests
    assert len(asked(server)) == 1


async def test_a_caller_that_leaves_does_not_end_the_request(server: IndexServer, bench: Bench) -> None:
    """Ctrl-C in one terminal."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, Behaviour(delay=0.2))
    leaving, staying = asyncio.create_task(bench.get(url)), asyncio.create_task(bench.get(url))
    await asyncio.sleep(0.1)
    leaving.cancel()
    assert (await staying).artifact.sha256 == OLD.sha256
    assert len(asked(server)) == 1


async def test_a_cut_transfer_of_changed_content_is_resumed(server: IndexServer, bench: Bench) -> None:
    """T5: the new bytes come in two parts, the validator guards the second."""
    big = [make_wheel("demo", "1.0", {"demo/x.bin": os.urandom(600_000)}) for _ in range(2)]
    url = server.add(big[0].data, NAME)
    await bench.get(url)
    server.add(big[1].data, NAME)
    server.behave(NAME, Behaviour(truncate_after=400_000))
    assert (await bench.get(url)).artifact.sha256 == big[1].sha256
    hits = server.requests_for(NAME)
    assert [hit.status for hit in hits] == [200, 200, 206]
    assert "if-none-match" not in hits[2].headers
    assert hits[2].headers["if-range"] == '"' + big[1].sha256[:24] + '"'
    assert (await bench.get(url)).came_from == "store"
    assert server.requests_for(NAME)[-1].status == 304


# -- hashes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "blake2b"])
@pytest.mark.parametrize("mode", ["normal", "refresh", "offline"])
@pytest.mark.parametrize("field", ["integrity", "allowed"])
async def test_content_that_is_known_by_hash_costs_nothing(
    server: IndexServer, bench: Bench, algorithm: str, mode: str, field: str
) -> None:
    """Invariant 2, T9b: also under an algorithm that nobody has computed, also from another URL."""
    await bench.get(server.add(OLD.data, NAME))
    server.stop()
    given = {field: frozenset({digest(OLD.data, algorithm)}), "size": len(OLD.data)}
    current = await bench.get("http://127.0.0.1:9/elsewhere.whl", mode, **given)
    assert (current.artifact.sha256, current.came_from, current.asked) == (OLD.sha256, "store", True)
    assert digest(OLD.data, algorithm) in current.artifact.digests


async def test_what_a_url_held_is_hashed_before_it_is_fetched(server: IndexServer, bench: Bench) -> None:
    """T9b: the file was stored under another name, but this is its URL."""
    url = server.add(OLD.data, NAME)
    await bench.get(url)
    wanted = frozenset({digest(OLD.data, "sha512")})
    assert (await bench.get(url, integrity=wanted, filename="download")).came_from == "store"
    assert len(asked(server)) == 1


async def test_every_digest_must_match(server: IndexServer, bench: Bench) -> None:
    """A lock that contradicts itself, or a file that was replaced, in the store or not."""
    url = server.add(OLD.data, NAME)
    both = frozenset({digest(OLD.data), digest(NEW.data, "sha512")})
    for _ in range(2):
        error = await bench.fails(url, integrity=both)
        assert error.code == "hash-mismatch"
        assert str(digest(NEW.data, "sha512")) in (error.context or "")
        assert str(digest(OLD.data, "sha512")) in (error.context or "")
        assert url in error.message
        await bench.get(url)
    assert (await bench.fails(url, integrity=frozenset({digest(NEW.data)}))).code == "hash-mismatch"
    assert (await bench.fails(url, "offline", integrity=both)).code == "not-in-cache"
    assert (await bench.fails(url, allowed=frozenset({digest(NEW.data)}))).code == "hash-mismatch"
    one_of = frozenset({digest(NEW.data), digest(OLD.data)})
    assert (await bench.get(url, allowed=one_of)).artifact.sha256 == OLD.sha256
    assert (await bench.fails(url, integrity=frozenset({digest(OLD.data)}), size=7)).code == "size-mismatch"


async def test_a_weak_digest_does_not_say_which_bytes_are_meant(server: IndexServer, bench: Bench) -> None:
    """Anybody can make, and have cached, other bytes of an md5: the URL is asked, then the md5 compared."""
    url = server.add(OLD.data, NAME)
    md5 = frozenset({digest(OLD.data, "md5")})
    await bench.get(url)
    assert (await bench.get(url, integrity=md5)).came_from == "store"
    assert [status for status, *_ in asked(server)] == [200, 304]
    server.add(NEW.data, NAME)
    assert (await bench.fails(url, integrity=md5)).code == "hash-mismatch"


async def test_the_origin_is_recorded(server: IndexServer, bench: Bench) -> None:
    """What is installed says where it came from, without credentials."""
    url = server.add(OLD.data, NAME)
    current = await bench.get(url.replace("//", "//me:secret@") + "#sha256=" + OLD.sha256)
    assert bench.store.origins(current.artifact.sha256) == ((Origin("url", url), NAME),)


# -- failures ----------------------------------------------------------------------------------------------


async def test_offline_takes_what_was_there_last(server: IndexServer, bench: Bench) -> None:
    """And says that it did not look."""
    url = server.add(OLD.data, NAME)
    assert (await bench.fails(url, "offline")).code == "not-in-cache"
    await bench.get(url)
    server.stop()
    bench = await bench.reopen()
    current = await bench.get(url, "offline")
    assert (current.artifact.sha256, current.came_from, current.asked) == (OLD.sha256, "store", False)
    error = await bench.fails(url)
    assert error.code == "connection-refused"
    assert "--offline" in (error.hint or "")
    await bench.close()


async def test_a_server_in_trouble_is_no_reason_to_take_stale_code(server: IndexServer, bench: Bench) -> None:
    """An unhashed URL must be asked (invariant 4); the hint says what can be done."""
    url = server.add(OLD.data, NAME)
    error = await bench.fails(server.origin + "/nothing.whl")
    assert (error.code, "--offline takes" in (error.hint or "")) == ("http-status", False)
    await bench.get(url)
    server.behave(NAME, Behaviour(times=None, status=503))
    error = await bench.fails(url)
    assert error.code == "http-status"
    assert "--offline takes" in (error.hint or "")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refusals_are_final(server: IndexServer, bench: Bench, status: int) -> None:
    """The file is gone, or not for this account: neither retried nor served from the cache."""
    url = server.add(OLD.data, NAME)
    await bench.get(url)
    server.behave(NAME, Behaviour(times=None, status=status))
    error = await bench.fails(url)
    assert error.code == "http-status"
    assert "--offline takes" not in (error.hint or "")
    assert len(asked(server)) == 2


# -- local files -------------------------------------------------------------------------------------------


async def test_an_unchanged_local_file_is_not_read_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of fifty local wheels is synced with fifty stats."""
    path = tmp_path / NAME
    path.write_bytes(OLD.data)
    os.utime(path, (1000, 1000))
    first = await bench.get(path.as_uri())
    assert (first.artifact.sha256, first.came_from) == (OLD.sha256, "network")
    assert bench.store.origins(OLD.sha256) == ((Origin("path", path.as_uri()), NAME),)
    with monkeypatch.context() as patched:
        patched.setattr("pkgc_daemon.fetching.flights.copy_file", None)
        for mode in ("normal", "refresh", "offline"):
            again = await bench.get(path.as_uri(), mode)
            assert (again.artifact.sha256, again.came_from, again.asked) == (OLD.sha256, "store", True)
    await bench.store.damaged_artifact(OLD.sha256)
    assert (await bench.get(path.as_uri(), "offline")).artifact.path.read_bytes() == OLD.data


@pytest.mark.parametrize("how", ["in place", "same size and time", "replaced"])
async def test_a_changed_local_file_is_another_artifact(bench: Bench, tmp_path: Path, how: str) -> None:
    """A wheel that was rebuilt at the same path (invariant 4)."""
    assert len(NEW.data) == len(OLD.data)
    path = tmp_path / NAME
    path.write_bytes(OLD.data)
    os.utime(path, (1000, 1000))
    assert (await bench.get(path.as_uri())).artifact.sha256 == OLD.sha256
    await asyncio.sleep(0.02)
    if how == "replaced":
        (tmp_path / "new").write_bytes(NEW.data)
        os.utime(tmp_path / "new", (1000, 1000))
        (tmp_path / "new").rename(path)
    else:
        path.write_bytes(NEW.data)
    if how == "same size and time":
        os.utime(path, (1000, 1000))
    assert (await bench.get(path.as_uri())).artifact.sha256 == NEW.sha256
    assert bench.store.artifact(OLD.sha256) is not None


async def test_a_local_file_of_this_moment_is_read_again(bench: Bench, tmp_path: Path) -> None:
    """Rewritten within a tick of the filesystem's clock, it has the same size, time and inode."""
    path = tmp_path / NAME
    path.write_bytes(OLD.data)
    status = path.stat()
    await bench.get(path.as_uri())
    state = await bench.store.url_state(path.as_uri())
    assert state is not None
    assert state.checked - status.st_mtime < 2
    assert (await bench.get(path.as_uri())).came_from == "store"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pkgc_daemon.fetching.flights.copy_file", None)
        with pytest.raises(PkgcError):
            await bench.get(path.as_uri())


async def test_a_local_file_that_changes_while_it_is_read_is_not_remembered(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the new content would have the hash of the old one until it changes again."""
    path = tmp_path / NAME
    path.write_bytes(OLD.data)
    os.utime(path, (1000, 1000))
    publish = bench.store.publish_artifact

    async def meanwhile(*args: Any) -> Any:
        path.write_bytes(NEW.data)
        os.utime(path, (1000, 1000))
        return await publish(*args)

    monkeypatch.setattr(bench.fetcher, "_publish", meanwhile)
    assert (await bench.get(path.as_uri())).artifact.sha256 == OLD.sha256
    monkeypatch.setattr(bench.fetcher, "_publish", publish)
    assert (await bench.get(path.as_uri())).artifact.sha256 == NEW.sha256


async def test_local_paths_that_are_no_files_are_errors(bench: Bench, tmp_path: Path) -> None:
    """With the path, and without hanging at a FIFO."""
    os.mkfifo(tmp_path / "fifo")
    codes = [(await bench.fails((tmp_path / name).as_uri())).code for name in ("missing", "fifo", ".")]
    assert codes == ["file-not-found", "file-unreadable", "file-unreadable"]
    assert (await bench.fails("file://host/x")).code == "bad-url"
