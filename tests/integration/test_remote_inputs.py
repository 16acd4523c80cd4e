"""Requirements and locks by URL, and what requirements files say of URLs, builds and encodings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import Instance, snapshot
from tests.support.lockfiles import listed, pylock, uv_package, uv_project, uvlock, wheel_package
from tests.support.locks import failure, holds, impatient, pin, site, versions
from tests.support.sdists import make_sdist, project_files
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ALPHA, BETA, GAMMA = (make_wheel(name, "1.0") for name in ("alpha", "beta", "gamma"))
SECRET = "hunter2-secret"


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """alpha, beta, gamma, and whatever tests put beside them."""
    with IndexServer() as server:
        for wheel in (ALPHA, BETA, GAMMA):
            server.add(wheel.data, wheel.filename)
        yield server


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module, which tries everything once."""
    root = tmp_path_factory.mktemp("remote") / "pkgc"
    with impatient(root, host_calls=request.param == "client-acts") as instance:
        yield instance


@pytest.fixture(scope="module")
def shared(pkgc: Instance) -> Path:
    """An environment that every test brings to its own lock: a new one costs more than the sync."""
    return pkgc.root / "shared"


def put(server: IndexServer, path: str, *lines: str) -> str:
    """Serve a text; its URL."""
    return server.put(path, ("\n".join(lines) + "\n").encode(), "text/plain")


def would(pkgc: Instance, *args: str | Path, **options: Any) -> dict[str, str]:
    """name -> version of what a sync of an environment that does not exist would install."""
    return versions(pkgc.sync(*args, "--dry-run", "--venv", "none", **options))


def requested(server: IndexServer, ending: str) -> list[int]:
    """The statuses with which requests for a path were answered."""
    return [hit.status for hit in server.log if hit.path.endswith(ending)]


def record(venv: Path, name: str, version: str = "1.0") -> dict[str, Any]:
    """The direct_url.json of an installed package."""
    found: dict[str, Any] = json.loads(
        (site(venv) / f"{name}-{version}.dist-info/direct_url.json").read_text()
    )
    return found


def test_requirements_by_url(pkgc: Instance, index: IndexServer, shared: Path) -> None:
    """R1: a team's shared requirements work by URL; what they include is relative to them."""
    url = put(index, "/team/main.txt", "-r sub/more.txt", "-c ../limits.txt", f"-i {index.url}", "alpha")
    put(index, "/team/sub/more.txt", f"-r {index.origin}/other/last.txt", "beta==1.0")
    put(index, "/other/last.txt", "gamma==1.0")
    put(index, "/limits.txt", pin(ALPHA), "unused==9")
    assert would(pkgc, url, "--no-require-hashes") == {"gamma": "1.0", "beta": "1.0", "alpha": "1.0"}
    error = failure(pkgc, "sync", url, "--venv", shared)
    assert (error["code"], error["exit"]) == ("missing-hash", 2)
    assert f"{index.origin}/other/last.txt:1" in error["everything"]
    assert BETA.sha256 in error["everything"]
    # a local file may include a remote one
    lock = pkgc.requirements(f"-r {index.origin}/other/last.txt", pin(BETA, hashed=False))
    assert would(pkgc, lock, "-i", index.url) == {"gamma": "1.0", "beta": "1.0"}
    # and a file: URL is a local file
    assert would(pkgc, lock.as_uri(), "-i", index.url) == {"gamma": "1.0", "beta": "1.0"}


def test_locks_by_url(pkgc: Instance, index: IndexServer, shared: Path) -> None:
    """A pylock.toml and a uv.lock are told by the last part of the URL's path, whatever its query."""
    lock = pylock(wheel_package(ALPHA, index.file_url(ALPHA.filename)))
    url = put(index, "/locks/pylock.ci.toml", lock)
    assert versions(pkgc.sync(f"{url}?ref=main", "--venv", shared)) == {"alpha": "1.0"}
    lock = uvlock(uv_project("beta"), uv_package(BETA, index.url, index.file_url(BETA.filename)))
    url = put(index, "/locks/uv.lock", lock)
    pkgc.sync(url, "--venv", shared)
    assert holds(shared) == {"beta": "1.0"}
    index.behave("/old/uv.lock", Behaviour(redirect=url))
    assert pkgc.sync(f"{index.origin}/old/uv.lock", "--venv", shared)["kept"] == 1
    fetched = pkgc.ok("fetch", url, "--output-format", "json").json["fetched"]
    assert [one["name"] for one in fetched] == ["beta"]
    assert pkgc.run("sync", url, "--venv", shared, "--check").status == 0


@pytest.mark.parametrize("kind", ["pylock.toml", "uv.lock", "requirements.txt", "nested.txt"])
def test_changed_content_is_noticed(pkgc: Instance, index: IndexServer, kind: str) -> None:
    """A lock that its server replaced counts at the next sync; one that did not change costs a 304."""
    name = f"/{pkgc.root.parent.name}/changing/{kind}"

    def serve(wheel: BuiltWheel) -> str:
        if kind == "pylock.toml":
            return put(index, name, pylock(wheel_package(wheel, index.file_url(wheel.filename))))
        if kind == "uv.lock":
            project = uv_project(wheel.filename.split("-")[0])
            return put(
                index, name, uvlock(project, uv_package(wheel, index.url, index.file_url(wheel.filename)))
            )
        return put(index, name, pin(wheel))

    url: str | Path = serve(ALPHA)
    if kind == "nested.txt":
        url = pkgc.requirements(f"-r {url}", name="outer.txt")
    index.clear_log()
    assert would(pkgc, url, "-i", index.url) == {"alpha": "1.0"}
    assert would(pkgc, url, "-i", index.url) == {"alpha": "1.0"}
    assert requested(index, name) == [200, 304]
    serve(BETA)
    assert would(pkgc, url, "-i", index.url) == {"beta": "1.0"}
    assert requested(index, name) == [200, 304, 200]


def test_credentials_are_never_shown(pkgc: Instance, venv: Path) -> None:
    """A token in the URL of a lock opens what the lock includes, and is in no output, record or log."""
    with IndexServer(auth=("team", SECRET)) as private:
        private.add(ALPHA.data, ALPHA.filename)
        files = [listed(ALPHA, private.file_url(ALPHA.filename))]
        put(private, "/locks/pylock.toml", pylock({"name": "alpha", "version": "1.0", "wheels": files}))
        put(private, "/locks/main.txt", "-r nested.txt")
        put(private, "/locks/nested.txt", f"-i {private.url}", pin(ALPHA))
        put(private, "/locks/wrong.txt", "-r nested.txt", "alpha", "-r gone.txt")
        base = private.origin.replace("://", f"://team:{SECRET}@")
        said = []
        for name in ("pylock.toml", "main.txt"):
            source = f"{base}/locks/{name}"
            done = pkgc.ok("sync", source, "--venv", venv, "-i", f"{base}/simple/", "--reinstall", "-vv")
            said += [done.out, done.err]
        assert holds(venv) == {"alpha": "1.0"}
        for name in ("wrong.txt", "gone.txt", "poetry.lock"):
            done = pkgc.run("sync", f"{base}/locks/{name}", "--venv", venv, "-vv")
            assert done.status in (1, 2)
            assert "/locks/" in done.err
            said += [done.out, done.err]
        bad = pkgc.run("sync", f"{private.origin.replace('://', '://team:other-secret@')}/locks/main.txt")
        assert bad.status == 1
        assert "401" in bad.err
        assert "other-secret" not in bad.err
        said += [
            pkgc.ok("status").out,
            pkgc.ok("cache", "list").out,
            pkgc.ok("why", "alpha", "--venv", venv).out,
        ]
        said += [pkgc.run("daemon", "logs").out]
    assert SECRET not in "".join(said)
    for name, (_, content) in snapshot(venv).items():
        text = content if isinstance(content, str) else content.decode("latin-1")
        assert SECRET not in text, name


#: Name, lines, and the place that must be told.
OUTSIDE = [
    ("requirements.txt", ["alpha==1.0", "./local.whl"], ":2"),
    ("requirements.txt", ["alpha @ file:///etc/passwd.whl"], ":1"),
    ("requirements.txt", ["-e ."], ":1"),
    ("requirements.txt", ["-e git+file:///srv/x"], ":1"),
    ("requirements.txt", ["-r file:///etc/hosts"], ":1"),
    ("requirements.txt", ["-c file:///etc/hosts"], ":1"),
    ("requirements.txt", ["-f /srv/house"], ":1"),
    ("requirements.txt", ["--index-url file:///srv"], ":1"),
    ("pylock.toml", [pylock({"name": "alpha", "wheels": [listed(ALPHA, path="a.whl")]})], ":5"),
    ("pylock.toml", [pylock({"name": "alpha", "wheels": [listed(ALPHA, "file:///srv/a")]})], ":5"),
    ("pylock.toml", [pylock({"name": "a", "archive": listed(ALPHA, path="../a", name=None)})], ":5"),
    ("pylock.toml", [pylock({"name": "a", "directory": {"path": "."}})], ":5"),
    (
        "pylock.toml",
        [pylock({"name": "a", "vcs": {"type": "git", "path": "r", "commit-id": "0" * 40}})],
        ":5",
    ),
    ("uv.lock", [uvlock(uv_project("b"), uv_project(name="b", source={"editable": "libs/b"}))], ":12"),
    ("uv.lock", [uvlock(uv_project("b"), uv_project(name="b", source={"directory": "../b"}))], ":12"),
    ("uv.lock", [uvlock(uv_project("b"), uv_project(name="b", source={"path": "b.zip"}))], ":12"),
    ("uv.lock", [uvlock(uv_project("b"), uv_project(name="b", source={"registry": "house"}))], ":12"),
]


def test_a_remote_lock_names_nothing_local(
    pkgc: Instance, index: IndexServer, subtests: pytest.Subtests
) -> None:
    """pip #14159: who serves a lock must not have files of the machine that syncs installed, or run."""
    for name, lines, place in OUTSIDE[:: 4 if "PKGC_FORCE_HOST_CALLS" in pkgc.env else 1]:
        with subtests.test(f"{name}: {lines[-1]}"):
            url = put(index, f"/outside/{name}", *lines)
            error = failure(pkgc, "sync", url, "--venv", "none")
            assert (error["code"], error["exit"]) == ("remote-names-local", 2)
            assert f"{url}{place}" in error["everything"]
            assert "network" in error["message"]
            assert "download" in error["hint"]
            assert not (pkgc.root / "none").exists()


@pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml", "uv.lock"])
def test_servers_that_fail(pkgc: Instance, index: IndexServer, name: str) -> None:
    """The URL and the cause are told; a page for people in place of the lock is seen as one."""
    for how, code, text in (
        (Behaviour(status=404), "http-status", "404"),
        (Behaviour(status=403), "http-status", "403"),
        (Behaviour(status=500), "http-status", "500"),
        (Behaviour(redirect="ftp://example.invalid/x"), "bad-redirect", "ftp:"),
    ):
        index.behave(f"/failing/{name}", how)
        error = failure(pkgc, "sync", f"{index.origin}/failing/{name}", "--venv", "none")
        assert (error["code"], error["exit"]) == (code, 1), error
        assert f"{index.origin}/failing/{name}" in error["message"]
        assert text in error["everything"]
    error = failure(pkgc, "sync", f"http://127.0.0.1:1/{name}", "--venv", "none")
    assert (error["code"], error["exit"]) == ("connection-refused", 1)
    assert f"http://127.0.0.1:1/{name}" in error["message"]
    page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body>please sign in</body></html>\n"
    url = index.put(f"/page/{name}", page.encode(), "text/html")
    error = failure(pkgc, "sync", url, "--venv", "none")
    assert (error["code"], error["exit"]) == ("html-page", 2)
    assert url in error["message"]


def test_included_files_that_fail(pkgc: Instance, index: IndexServer) -> None:
    """Which line includes the file that cannot be had is told."""
    lock = pkgc.requirements("alpha==1.0", f"-r {index.origin}/nowhere.txt")
    error = failure(pkgc, "sync", lock, "--venv", "none", "-i", index.url)
    assert (error["code"], error["exit"]) == ("http-status", 1)
    assert "requirements.txt:2" in error["message"]
    # also when it was there before
    path = f"/{pkgc.root.parent.name}/going.txt"
    pkgc.requirements("beta==1.0", f"-r {put(index, path, 'alpha==1.0')}")
    assert would(pkgc, lock, "-i", index.url) == {"beta": "1.0", "alpha": "1.0"}
    index.behave(path, Behaviour(status=404))
    error = failure(pkgc, "sync", lock, "--venv", "none", "-i", index.url)
    assert "requirements.txt:2" in error["message"]
    assert would(pkgc, lock, "-i", index.url) == {"beta": "1.0", "alpha": "1.0"}
    url = put(index, "/loop/one.txt", "-r two.txt")
    put(index, "/loop/two.txt", "alpha==1.0", "-r ./one.txt")
    error = failure(pkgc, "sync", url, "--venv", "none", "-i", index.url)
    assert (error["code"], error["exit"]) == ("recursive-requirements", 2)
    assert f"{index.origin}/loop/two.txt:2" in error["message"]


def test_offline(pkgc: Instance, index: IndexServer) -> None:
    """--offline uses no network, for locks neither: it says so, and takes what was there last if it can."""
    path = f"/offline/{pkgc.root.parent.name}/pylock.toml"
    url = put(index, path, pylock(wheel_package(ALPHA, index.file_url(ALPHA.filename))))
    index.clear_log()
    error = failure(pkgc, "sync", url, "--venv", "none", "--offline")
    assert (error["code"], error["exit"]) == ("not-in-cache", 1)
    assert url in error["message"]
    assert "--offline" in error["everything"]
    assert index.log == []
    pkgc.ok("fetch", url)
    put(index, path, pylock(wheel_package(BETA, index.file_url(BETA.filename))))
    index.clear_log()
    answer = pkgc.sync(url, "--dry-run", "--venv", "none", "--offline")
    assert versions(answer) == {"alpha": "1.0"}
    assert [one["code"] for one in answer["warnings"]] == ["not-revalidated"]
    assert index.log == []


def test_constraints_with_urls(pkgc: Instance, index: IndexServer, shared: Path) -> None:
    """R9: a constraint may say where a project comes from, and pins it by that, with its hash."""
    wheel = make_wheel("forked", "1.1+patched")
    url = index.put(f"/forks/{wheel.filename}", wheel.data, "application/octet-stream")
    limits = pkgc.requirements(
        f"forked @ {url}#sha256={wheel.sha256}", "unused @ http://127.0.0.1:1/x-1.zip", name="c.txt"
    )
    lock = pkgc.requirements("forked", pin(ALPHA))
    pkgc.sync(lock, "-c", limits, "--venv", shared, "-i", index.url)
    assert holds(shared) == {"forked": "1.1+patched", "alpha": "1.0"}
    assert record(shared, "forked", "1.1+patched")["url"] == url
    for line in ("forked==1.0", "forked @ http://127.0.0.1:1/forked-1.1+patched-py3-none-any.whl"):
        lock = pkgc.requirements(line)
        error = failure(pkgc, "sync", lock, "-c", limits, "--venv", shared, "-i", index.url)
        assert (error["code"], error["exit"]) == ("conflicting-requirements", 2)
        for place in ("requirements.txt:1", "c.txt:1"):
            assert place in error["everything"]


def test_settings_of_a_line(pkgc: Instance, index: IndexServer, shared: Path) -> None:
    """--config-settings on a line reach that build and no other; other settings are another build."""
    one, two = make_sdist("confone", "1.0"), make_sdist("conftwo", "1.0")
    urls = {}
    for sdist in (one, two):
        urls[sdist] = index.put(f"/src/{sdist.filename}", sdist.data, "application/octet-stream")

    def settings(name: str) -> Any:
        return json.loads((site(shared) / f"{name}-1.0.dist-info/settings.json").read_text())

    line = f"confone @ {urls[one]}#sha256={one.sha256}"
    second = f"conftwo @ {urls[two]}#sha256={two.sha256}"
    lock = pkgc.requirements(f'{line} --config-settings="a=b c" -C k=1 --config-setting k=2', second)
    pkgc.sync(lock, "--venv", shared)
    assert settings("confone") == {"a": "b c", "k": ["1", "2"]}
    assert not settings("conftwo")
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 2
    lock = pkgc.requirements(f"{line} -C k=3", second)
    assert versions(pkgc.sync(lock, "--venv", shared)) == {"confone": "1.0"}
    assert settings("confone") == {"k": "3"}
    error = failure(pkgc, "sync", pkgc.requirements(f"{line} -C nonsense"), "--venv", shared)
    assert (error["code"], error["exit"]) == ("invalid-option", 2)
    assert "KEY=VALUE" in error["message"]


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("utf-16-be", "\ufeff"),
        ("utf-32", ""),
        ("utf-32-le", "\ufeff"),
        ("latin-1", "# -*- coding: latin-1 -*-\n"),
        ("cp1252", "#!/usr/bin/x\n# vim: set fileencoding=cp1252 :\n"),
    ],
)
def test_encodings(pkgc: Instance, index: IndexServer, encoding: str, head: str) -> None:
    """R2: files that Windows tools wrote, local or remote, are read as pip reads them."""
    text = f"{head}# gr\u00fc\u00dfe\r\nalpha==1.0 ; os_name != 'd\u00e9j\u00e0'\r\n-r next.txt\r\n"
    lock = pkgc.root / "encoded.txt"
    lock.write_bytes(text.encode(encoding))
    pkgc.requirements("beta==1.0", name="next.txt")
    put(index, "/enc/next.txt", "beta==1.0")
    url = index.put("/enc/encoded.txt", text.encode(encoding), "text/plain; charset=utf-7")
    for source in (lock, url):
        assert would(pkgc, source, "-i", index.url) == {"alpha": "1.0", "beta": "1.0"}


def test_repeated_urls(pkgc: Instance, index: IndexServer, shared: Path) -> None:
    """R10: a URL that two files name is one requirement; hashes are intersected, extras added, other URLs
    of the same project refused, also where only the content tells that it is the same."""
    wheel = make_wheel("twice", "1.0")
    url = index.put(f"/twice/{wheel.filename}", wheel.data, "application/octet-stream")
    other = index.put(f"/again/{wheel.filename}", wheel.data, "application/octet-stream")
    first, wrong = f"--hash=sha256:{wheel.sha256}", f"--hash=sha256:{'0' * 64}"
    pkgc.requirements(f"twice[y] @ {url} {first}", name="nested.txt")
    lock = pkgc.requirements(f"{url}", f"twice[x] @ {url} {wrong} {first}", "-r nested.txt", "twice==1.0")
    pkgc.sync(lock, "--venv", shared)
    assert holds(shared) == {"twice": "1.0"}
    for lines in (
        (f"twice @ {url} {first}", f"twice @ {url} {wrong}"),
        (f"twice @ {url}", f"twice @ {other}"),
        (f"twice @ {url}", "twice==2.0"),
    ):
        error = failure(pkgc, "sync", pkgc.requirements(*lines), "--venv", shared)
        assert (error["code"], error["exit"]) == ("conflicting-requirements", 2), lines
        for place in ("requirements.txt:1", "requirements.txt:2"):
            assert place in error["everything"], lines
    sdist = make_sdist("twice", "1.0", filename="v1.tar.gz")
    unnamed = index.put("/unnamed/v1.tar.gz", sdist.data, "application/octet-stream")
    error = failure(pkgc, "sync", pkgc.requirements(unnamed, f"twice @ {url}"), "--venv", shared)
    assert (error["code"], error["exit"]) == ("conflicting-requirements", 2)
    for text in ("requirements.txt:1", "requirements.txt:2", "twice"):
        assert text in error["everything"]
    assert holds(shared) == {"twice": "1.0"}


def test_every_form_of_a_direct_requirement(
    pkgc: Instance, index: IndexServer, shared: Path, tmp_path: Path
) -> None:
    """URL and path, bare and named, with extras and markers, relative to the working directory: as pip."""
    names = ("bareurl", "named", "barepath", "namedpath")
    wheels = {name: make_wheel(name, "1.0") for name in names}
    for name in names[:2]:
        index.put(f"/forms/{wheels[name].filename}", wheels[name].data, "application/octet-stream")
    for name in names[2:]:
        wheels[name].write_to(tmp_path / "house")
    for path, data in project_files("folder", "1.0").items():
        target = tmp_path / "folder" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    lock = pkgc.requirements(
        f"{index.origin}/forms/{wheels['bareurl'].filename} ; python_version > '3'",
        f"named[extra] @ {index.origin}/forms/{wheels['named'].filename}#sha256={wheels['named'].sha256}",
        f"./house/{wheels['barepath'].filename}[extra]",
        f"namedpath @ {(tmp_path / 'house' / wheels['namedpath'].filename).as_uri()}",
        "-e ./folder ; python_version > '3'",
        "missing @ http://127.0.0.1:1/missing-1.0-py3-none-any.whl ; python_version < '3'",
    )
    pkgc.sync(lock, "--venv", shared, cwd=tmp_path)
    assert holds(shared) == dict.fromkeys(sorted((*names, "folder")), "1.0")
    assert record(shared, "folder")["dir_info"] == {"editable": True}
    assert pkgc.sync(lock, "--venv", shared, cwd=tmp_path)["kept"] == 5
