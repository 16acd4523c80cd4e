"""Places as the client sees them: working directory, home, symbolic links, permissions, umask."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_protocol.places import home
from tests.support.instance import Instance, Result
from tests.support.rawclient import RawClient, hello, invoke
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel


def nowhere(pkgc: Instance, *args: str | Path) -> Result:
    """Run a call in a working directory that was removed."""
    gone = pkgc.root / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", *pkgc.argv(*args)],
        env={name: value for name, value in pkgc.env.items() if name != "PWD"},
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_removed_working_directory(pkgc: Instance, venv: Path) -> None:
    """`.venv` in a folder that is gone must not become `/.venv`."""
    lock = pkgc.requirements("")
    json_output = ("--output-format", "json")
    for words in (("sync", lock), ("sync",), ("sync", "r.txt", "--venv", venv), ("list",)):
        result = nowhere(pkgc, *words, *json_output)
        assert (result.status, result.error_code) == (2, "no-working-directory"), result
    assert nowhere(pkgc, "sync", lock, "--venv", venv).status == 0
    assert nowhere(pkgc, "cache", "dir").status == 0
    assert not Path("/.venv").exists()


def test_parent_of_a_symbolic_link(pkgc: Instance, index: IndexServer, demo: BuiltWheel) -> None:
    """`link/..` is where the kernel says, as for every other program; not the folder that holds the link."""
    (pkgc.root / "deep" / "er").mkdir(parents=True)
    (pkgc.root / "link").symlink_to(pkgc.root / "deep" / "er")
    (pkgc.root / "deep" / "lock.txt").write_text("-r link/../more.txt\n".replace("link/../", "er/../"))
    (pkgc.root / "deep" / "more.txt").write_text("demo==1.0\n")
    for _ in range(2):
        answer = pkgc.sync("link/../lock.txt", "--venv", "link/../env", "-i", index.url)
    assert answer["kept"] == 1
    assert (pkgc.root / "deep" / "env" / "pyvenv.cfg").is_file()
    assert not (pkgc.root / "env").exists()
    assert pkgc.ok("list", "--venv", pkgc.root / "deep" / "env", "--output-format", "json").json["packages"]


def test_home_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons, cron and `env -i` have no HOME: the cache must not move to the root directory."""
    assert home({"HOME": "/h"}) == "/h"
    assert home({}) == home({"HOME": ""}) == pwd.getpwuid(os.getuid()).pw_dir
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert home({}) == "/"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up its rights")
def test_what_may_not_be_changed_or_seen(tmp_path: Path, index: IndexServer, demo: BuiltWheel) -> None:
    """A dry run that succeeds where the sync must fail is worse than none."""
    from pkgc_daemon.errors import PkgcError
    from pkgc_daemon.hands import locate_target

    def as_nobody(path: Path) -> str:
        code = (
            "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "from pkgc_daemon.errors import PkgcError\n"
            "from pkgc_daemon.hands import locate_target\n"
            "try: found = locate_target({'venv': sys.argv[1]}, lambda *_: None, lambda: False)\n"
            "except PkgcError as error: print('raises', error.code, error.exit_status)\n"
            "else: print(found['kind'], found['obstacle'] and found['obstacle']['code'])\n"
        )
        preload = "import pkgc_daemon.hands, pkgc_daemon.environments.interpreter\n"
        preload += (
            "import pkgc_daemon.environments.running, pkgc_daemon.environments.create, encodings.idna\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", preload + code, str(path)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    (tmp_path / "secret").mkdir(mode=0o700)
    (tmp_path / "empty").mkdir(mode=0o755)
    assert as_nobody(tmp_path / "secret" / "v") == "raises no-permission 1"
    assert as_nobody(tmp_path / "new" / "v") == "missing no-permission"
    assert as_nobody(tmp_path / "empty") == "missing no-permission"
    found = locate_target({"venv": str(tmp_path / "new")}, lambda *_: None, lambda: False)
    assert (found["kind"], found["obstacle"]) == ("missing", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(PkgcError, match="not a virtual environment"):
        locate_target({"venv": str(tmp_path / "file" / "v")}, lambda *_: None, lambda: False)


def test_dry_run_where_nothing_can_be_written(pkgc: Instance, index: IndexServer, demo: BuiltWheel) -> None:
    """/proc is read-only in all but name; where the kernel tells, the dry run fails as the sync does."""
    place = Path("/sys/pkgc-environment")
    if os.access("/sys", os.W_OK):
        pytest.skip("this host lets root try")
    lock = pkgc.requirements("demo==1.0")
    results = [
        pkgc.run("sync", lock, "--venv", place, "-i", index.url, "--output-format", "json", *more)
        for more in ((), ("--dry-run",))
    ]
    assert {(result.status, result.error_code) for result in results} in (
        {(1, "read-only")},
        {(1, "no-permission")},
    )
    assert not index.requests_for(demo.filename)


def test_dry_run_says_where_files_would_come_from(
    pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path
) -> None:
    """Whether a deployment needs the network is what a dry run is asked for."""
    for line in ("demo==1.0", f"demo==1.0 --hash=sha256:{demo.sha256}"):
        lock = pkgc.requirements(line)
        words = (lock, "--venv", venv, "-i", index.url)
        for option in ("--dry-run", "--check"):
            told = pkgc.run("sync", *words, option, "--output-format", "json").json["installed"]
            assert [one["from"] for one in told] == ["network"]
        assert not index.requests_for(demo.filename)
    pkgc.ok("fetch", lock, "-i", index.url)
    for line, check in (("demo==1.0", "network"), (f"demo==1.0 --hash=sha256:{demo.sha256}", "store")):
        more = (pkgc.requirements(line), "--venv", venv, "-i", index.url, "--output-format", "json")
        assert [one["from"] for one in pkgc.ok("sync", *more, "--dry-run").json["installed"]] == ["store"]
        assert [one["from"] for one in pkgc.run("sync", *more, "--check").json["installed"]] == [check]


def test_umask_of_the_client(pkgc: Instance, index: IndexServer, demo: BuiltWheel, tmp_path: Path) -> None:
    """A shared environment must be readable although the daemon was started by somebody careful."""
    before = os.umask(0o077)
    try:
        pkgc.ok("cache", "dir")
        os.umask(0o022)
        pkgc.sync(pkgc.requirements("demo==1.0"), "--venv", tmp_path / "env", "-i", index.url)
    finally:
        os.umask(before)
    for path in (tmp_path / "env", tmp_path / "env" / "bin" / "demo"):
        assert path.stat().st_mode & 0o055 == 0o055, path


@pytest.mark.parametrize(
    "fields",
    [
        {"cwd": "/a\0b"},
        {"cwd": "relative"},
        {"argv": ["sync", "a\0b", "--venv", "/nowhere"]},
        {"argv": ["sync", "/r.txt", "--venv", "/a\0b"]},
        {"env": {"HOME": "/a\0b"}},
    ],
)
def test_paths_that_cannot_be(own_pkgc: Instance, fields: dict[str, object]) -> None:
    """A NUL ends a path for the kernel: whoever sends one is told so, and it is no bug of pkgc."""
    own_pkgc.ok("cache", "dir")
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache), invoke("sync", "/r.txt") | fields)
        answers = client.rest()
    assert answers[-1] == {"t": "result", "exit": 2}
    assert any(b"error[usage]" in message.get("data", b"") for message in answers)
