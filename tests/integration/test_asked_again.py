"""URLs that are asked again: behind redirects, servers that know dates only, offline, twice in one sync."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gitserver import GitServers, git_variables, needs_git
from tests.support.instance import Instance, snapshot
from tests.support.locks import failure, pin, versions
from tests.support.peerrows import WAYS, both_ways, module_text, recorded_sha256, statuses
from tests.support.sdists import make_sdist, project_files
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


@pytest.fixture(scope="module", params=WAYS)
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One impatient daemon for each way."""
    with both_ways(request, tmp_path_factory, "[network]\nretries = 1\n") as instance:
        yield instance


def edition(name: str, number: int) -> BuiltWheel:
    """NAME 1.0 whose content is told apart by a number, under one file name."""
    return make_wheel(name, "1.0", {f"{name}/__init__.py": f"number = {number}\n"})


def test_a_link_that_leads_to_another_file(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """`latest.whl` moves on, both files have the ETag of their deployment: the old code would stay."""
    wheels = [edition("linked", number) for number in (1, 2)]
    for number, wheel in enumerate(wheels):
        index.put(f"/{number}/{wheel.filename}", wheel.data, "application/zip")
        index.behave(f"/{number}/{wheel.filename}", Behaviour(times=None, etag='"v1"'))
    name = wheels[0].filename
    index.behave(f"/r/{name}", Behaviour(redirect=f"/0/{name}", times=2), Behaviour(redirect=f"/1/{name}"))
    lock = pkgc.requirements(f"linked @ {index.origin}/r/{name}")
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv)
    assert pkgc.sync(lock, "--venv", venv)["kept"] == 1
    assert statuses(index, f"/0/{name}") == [200, 304]
    pkgc.sync(lock, "--venv", venv)
    assert module_text(venv, "linked") == "number = 2\n"
    assert recorded_sha256(venv, "linked") == wheels[1].sha256
    assert statuses(index, f"/1/{name}") == [200]


def test_a_lock_behind_a_link(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The same of the lock itself: everybody goes on with the versions of the last release."""
    wheels = [make_wheel("released", version) for version in ("1.0", "2.0")]
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)
        version = wheel.filename.split("-")[1]
        index.put(f"/{version}/lock.txt", pin(wheel).encode(), "text/plain")
        index.behave(f"/{version}/lock.txt", Behaviour(times=None, etag='"v1"'))
    index.behave("/lock.txt", Behaviour(redirect="/1.0/lock.txt"), Behaviour(redirect="/2.0/lock.txt"))
    for version in ("1.0", "2.0"):
        found = pkgc.sync(f"{index.origin}/lock.txt", "--venv", tmp_path / "v", "-i", index.url)
        assert versions(found) == {"released": version}


class _Folder(http.server.SimpleHTTPRequestHandler):
    """Python's own server: dates only, compared by their order, and none in a 304."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_back_to_an_older_file(pkgc: Instance, tmp_path: Path) -> None:
    """A build is taken back, its file is older, and the server calls that unmodified: there must be a way to
    get it. A normal sync cannot know; it must not pretend that it changed either."""
    folder, venv, now = tmp_path / "folder", tmp_path / "venv", time.time()
    folder.mkdir()
    handler = functools.partial(_Folder, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            path = edition("back", 0).write_to(folder)
            os.utime(path, (now - 1000, now - 1000))
            lock = pkgc.requirements(f"back @ http://127.0.0.1:{server.server_port}/{path.name}")
            pkgc.sync(lock, "--venv", venv)
            ways = (["--refresh"], ["--reinstall"], ["--refresh-package=back"], ["--reinstall-package=back"])
            for number, way in enumerate(ways, 1):
                edition("back", number).write_to(folder)
                os.utime(path, (now - 5000 * number, now - 5000 * number))
                assert pkgc.sync(lock, "--venv", venv)["kept"] == 1
                answer = pkgc.sync(lock, "--venv", venv, *way)
                assert [one["from"] for one in answer["installed"]] == ["network"]
                assert module_text(venv, "back") == f"number = {number}\n"
                assert pkgc.sync(lock, "--venv", venv)["kept"] == 1
        finally:
            server.shutdown()


def test_what_is_installed_needs_no_cache_to_stay(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """On the train with a cleaned cache: nothing has to be fetched, so nothing may fail. What does have to be
    fetched is an error, as ever."""
    wheel = edition("train", 1)
    sdist = make_sdist("built", "1.0")
    urls = [index.put(f"/d/{one.filename}", one.data, "application/octet-stream") for one in (wheel, sdist)]
    lock = pkgc.requirements(f"train @ {urls[0]}", f"built @ {urls[1]}")
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv)
    before = snapshot(venv)
    pkgc.ok("cache", "clean")
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", venv, "--offline")
    assert (answer["kept"], answer["installed"]) == (2, [])
    assert [one["code"] for one in answer["warnings"]] == ["not-revalidated"] * 2
    assert pkgc.run("sync", lock, "--venv", venv, "--offline", "--check").status == 0
    hashed = pkgc.requirements(f"train @ {urls[0]}#sha256={wheel.sha256}", f"built @ {urls[1]}")
    assert pkgc.sync(hashed, "--venv", venv, "--offline")["kept"] == 2
    fresh = tmp_path / "fresh"
    for where, option in ((fresh, "-q"), (fresh, "--dry-run"), (venv, "--reinstall")):
        error = failure(pkgc, "sync", lock, "--venv", where, "--offline", option)
        assert (error["code"], error["exit"]) == ("not-in-cache", 1)
        assert "requirements.txt:" in error["everything"]
    elsewhere = pkgc.requirements(f"train @ {urls[0]}?other", name="elsewhere.txt")
    assert failure(pkgc, "sync", elsewhere, "--venv", venv, "--offline")["code"] == "not-in-cache"
    assert snapshot(venv) == before
    assert not fresh.exists()
    assert index.log == []


@needs_git
def test_a_branch_that_is_installed_needs_no_cache_to_stay(pkgc: Instance, tmp_path: Path) -> None:
    """The same of a branch: its commit is in the records of the environment."""
    env = git_variables(tmp_path)
    with GitServers(tmp_path / "served") as servers:
        files = project_files("branch", "1.0", {"branch/__init__.py": ""})
        repository = servers.repository("branch")
        repository.commit({path: data.decode() for path, data in files.items()})
        lock = pkgc.requirements(f"branch @ git+{servers.http('branch')}@main")
        venv = tmp_path / "venv"
        pkgc.sync(lock, "--venv", venv, env=env)
        # the commit that the branch was at is in the catalog: that is lost
        pkgc.ok("daemon", "stop")
        for path in pkgc.cache.glob("catalog.sqlite3*"):
            path.unlink()
        shutil.rmtree(pkgc.cache / "git")
        answer = pkgc.sync(lock, "--venv", venv, "--offline", env=env)
        assert (answer["kept"], [one["code"] for one in answer["warnings"]]) == (1, ["not-revalidated"])
        other = pkgc.requirements(f"branch @ git+{servers.http('branch')}@other")
        for where, option in ((venv, "-q"), (venv, "--dry-run"), (tmp_path / "fresh", "-q")):
            error = failure(pkgc, "sync", other, "--offline", "--venv", where, option, env=env)
            assert (error["code"], error["exit"]) == ("not-in-cache", 1)
            assert "was never asked for other" in error["everything"]


def test_one_sync_asks_a_url_once(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A file without advertised hashes changes: it is compared with what is installed, and then installed."""
    old, new = edition("once", 1), edition("once", 2)
    index.add(old.data, old.filename, hashes=False)
    lock, venv = pkgc.requirements("once==1.0"), tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    index.add(new.data, new.filename, hashes=False)
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert [one["from"] for one in answer["installed"]] == ["network"]
    assert module_text(venv, "once") == "number = 2\n"
    assert statuses(index, new.filename) == [200]
    answer = pkgc.sync(lock, "--venv", tmp_path / "second", "-i", index.url)
    assert [one["from"] for one in answer["installed"]] == ["store"]
    assert statuses(index, new.filename) == [200, 304]


def test_what_this_sync_downloaded_came_from_the_network(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Scripts count what was downloaded; and a dry run names a version only if there is one to name."""
    wheel = edition("counted", 1)
    sdist = make_sdist("source", "1.5")
    urls = [index.put(f"/d/{one.filename}", one.data, "application/zip") for one in (wheel, sdist)]
    urls.append(index.put("/d/main.tar.gz", sdist.data, "application/gzip"))
    lock = pkgc.requirements(f"counted @ {urls[0]}")
    for number, source in enumerate(("network", "store")):
        answer = pkgc.sync(lock, "--venv", tmp_path / str(number))
        assert [one["from"] for one in answer["installed"]] == [source]
        assert answer["downloaded"]["files"] == (source == "network")
    for url, version in ((urls[1], "1.5"), (urls[2], None)):
        asked = pkgc.requirements(f"source @ {url}", name="source.txt")
        answer = pkgc.sync(asked, "--dry-run", "--venv", tmp_path / "none")
        assert versions(answer) == {"source": version}
        text = pkgc.ok("sync", asked, "--dry-run", "--venv", tmp_path / "none").out
        assert (f" + source=={version}\n" if version else " + source\n") in text
