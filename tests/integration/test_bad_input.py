"""What goes wrong: one clear error with a stable code, place, facts and hint; nothing is changed by it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import interpreters
from tests.support.instance import Instance, snapshot
from tests.support.locks import assert_untouched_cache, failure, holds, impatient, make_venv, pin
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import make_wheel

KEPT = make_wheel("kept", "1.0", {"kept/__init__.py": "", "kept/data.txt": "user data\n"})


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """`kept` and whatever tests add under names of their own."""
    with IndexServer() as server:
        server.add(KEPT.data, KEPT.filename)
        yield server


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, index: IndexServer
) -> Iterator[Instance]:
    """One impatient daemon for this module, and an environment that holds `kept`."""
    root = tmp_path_factory.mktemp("bad") / "pkgc"
    with impatient(root, host_calls=request.param == "client-acts") as instance:
        make_venv(root / "venv", sys.executable)
        instance.sync(instance.requirements(pin(KEPT)), "--venv", root / "venv", "-i", index.url)
        yield instance


@pytest.fixture
def unchanged(pkgc: Instance) -> Iterator[Path]:
    """The environment; after the test it and the store must be as before."""
    venv = pkgc.root / "venv"
    before = snapshot(venv)
    yield venv
    assert snapshot(venv) == before
    assert_untouched_cache(pkgc, [KEPT.filename])


def refused(
    pkgc: Instance, venv: Path, index: str, *lines: str, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The error of a sync with these lines after the one that is satisfied."""
    lock = pkgc.requirements(*lines)
    return failure(pkgc, "sync", lock, "--venv", venv, "-i", index, *options)


def test_missing_and_unreadable_files(pkgc: Instance, unchanged: Path, tmp_path: Path) -> None:
    """The path is named as it was looked for."""
    error = failure(pkgc, "sync", "nope.txt", "--venv", unchanged)
    assert (error["code"], error["exit"]) == ("file-not-found", 2)
    assert str(pkgc.root / "nope.txt") in error["message"]
    error = failure(pkgc, "sync", tmp_path, "--venv", unchanged)
    assert (error["code"], error["exit"]) == ("file-unreadable", 2)
    lock = pkgc.requirements("kept==1.0", "-r missing/more.txt")
    error = failure(pkgc, "sync", lock, "--venv", unchanged)
    assert (error["code"], error["exit"]) == ("file-not-found", 2)
    assert "requirements.txt:2" in error["everything"], "which line asks for the missing file"


def test_a_pipe_without_a_writer(pkgc: Instance, unchanged: Path, index: IndexServer, tmp_path: Path) -> None:
    """It is not an empty lock, which would empty the environment; with a writer it is a file like others."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    error = failure(pkgc, "sync", pipe, "--venv", unchanged, "-i", index.url, timeout=10)
    assert (error["code"], error["exit"]) == ("file-unreadable", 2)
    keeper = os.open(pipe, os.O_RDWR)
    try:
        call = pkgc.start("sync", pipe, "--venv", unchanged, "-i", index.url)
        time.sleep(0.3)
        os.write(keeper, f"{pin(KEPT)}\n".encode())
    finally:
        os.close(keeper)
    out, err = call.communicate(timeout=10)
    assert (call.returncode, err) == (0, "")
    assert out.startswith("Checked 1 package")


@pytest.mark.parametrize("language", ["C.UTF-8", ""])
def test_not_utf8(pkgc: Instance, unchanged: Path, language: str) -> None:
    """Line and byte are named, whatever the locale."""
    lock = pkgc.root / "latin.txt"
    lock.write_bytes(b"kept==1.0\n# caf\xe9\n")
    error = failure(pkgc, "sync", lock, "--venv", unchanged, env={"LC_ALL": language, "LANG": language})
    assert (error["code"], error["exit"]) == ("invalid-encoding", 2)
    assert "latin.txt:2" in error["message"]
    assert "0xe9" in error["message"]
    assert error["hint"]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("invalid-requirement", "!!bad"),
        ("invalid-requirement", "kept = = 1.0"),
        ("invalid-requirement", "kept==1.0 ; python_versoin < '3'"),
        ("invalid-hash", "kept==1.0 --hash=sha256:xyz"),
        ("invalid-option", "--no-such-option"),
        ("unpinned-requirement", "kept"),
        ("unpinned-requirement", "kept>=1"),
        ("unpinned-requirement", "kept==1.*"),
        ("missing-hash", f"{pin(KEPT)}\nother==1.0"),
    ],
)
def test_lines_that_are_wrong(
    pkgc: Instance, unchanged: Path, index: IndexServer, code: str, line: str
) -> None:
    """File, line and what stands there."""
    error = refused(pkgc, unchanged, index.url, "# first", line)
    assert error["exit"] == 2
    assert "requirements.txt:" in error["message"]
    if code.startswith("invalid"):
        assert error["code"].startswith("invalid"), error
    else:
        assert error["code"] == code
        assert error["hint"]


def test_every_wrong_line_is_listed(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """A lock with three mistakes needs one run to find them, not three."""
    error = refused(pkgc, unchanged, index.url, "one", "two>1", "three==3.*", pin(KEPT))
    for number in (1, 2, 3):
        assert f"requirements.txt:{number}" in error["everything"]


def test_unknown_package_and_version(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """Spelling mistakes: the indexes that were asked, the versions that exist."""
    error = refused(pkgc, unchanged, index.url, "kept==1.0", "kebt==1.0")
    assert (error["code"], error["exit"]) == ("unknown-package", 1)
    assert "requirements.txt:2" in error["everything"]
    assert index.url in error["everything"]
    error = refused(pkgc, unchanged, index.url, "kept==1.1")
    assert error["code"] == "no-matching-version"
    assert "1.0" in error["everything"]


def test_no_matching_wheel_names_the_tags(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """What there is, and what the target would take."""
    wheel = make_wheel("foreign", "1.0", tag="cp39-cp39-win_amd64")
    index.add(wheel.data, wheel.filename)
    index.add(b"sdist", "foreign-1.0.tar.gz", project="foreign")
    error = refused(pkgc, unchanged, index.url, "foreign==1.0", options=("--no-build",))
    assert (error["code"], error["exit"]) == ("no-matching-wheel", 1)
    version = interpreters.running().version.replace(".", "")
    for text in (
        "cp39-cp39-win_amd64",
        f"cp{version}-cp{version}-",
        "foreign-1.0.tar.gz",
        "requirements.txt:1",
    ):
        assert text in error["everything"]


def test_wrong_hashes(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """Whether the lock, the page or the file lies: expected, found, where; nothing is kept."""
    wheel = make_wheel("liar", "1.0")
    for project, advertised in (("liar", True), ("silent", False)):
        named = make_wheel(project, "1.0")
        index.add(named.data, named.filename, hashes=advertised)
        error = refused(pkgc, unchanged, index.url, f"{project}==1.0 --hash=sha256:{'0' * 64}")
        assert error["code"] in ("no-allowed-hash", "hash-mismatch")
        for text in ("0" * 64, named.sha256, named.filename, "requirements.txt:1"):
            assert text in error["everything"]
    index.behave(wheel.filename, Behaviour(times=None, data=b"x" + wheel.data[1:]))
    for line in (pin(wheel), pin(wheel, hashed=False)):  # the page's own hash counts when the lock has none
        error = refused(pkgc, unchanged, index.url, line)
        assert error["code"] in ("hash-mismatch", "advertised-hash-mismatch")
        assert wheel.sha256 in error["everything"]
        assert "requirements.txt:1" in error["everything"]


@pytest.mark.parametrize(
    ("code", "behaviour"),
    [
        ("index-unauthorized", Behaviour(times=None, status=401)),
        ("index-forbidden", Behaviour(times=None, status=403)),
        ("unknown-package", Behaviour(times=None, status=404)),
        ("index-error", Behaviour(times=None, status=500)),
        ("index-garbage", Behaviour(times=None, data=b"\x00\x01 neither JSON nor HTML")),
        ("index-garbage", Behaviour(times=None, headers={"Content-Type": "application/pdf"})),
        ("", Behaviour(times=None, truncate_after=20)),
        ("", Behaviour(times=None, redirect="ftp://example.invalid/")),
    ],
)
@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "unhashed"])
def test_indexes_that_misbehave(
    pkgc: Instance, unchanged: Path, index: IndexServer, code: str, behaviour: Behaviour, hashed: bool
) -> None:
    """The URL, what was expected, and for which requirement."""
    wheel = make_wheel("bothered", "1.0")
    index.add(wheel.data, wheel.filename)
    index.behave_well("/simple/bothered/")
    index.behave("/simple/bothered/", behaviour)
    error = refused(pkgc, unchanged, index.url, pin(wheel, hashed=hashed), options=("--refresh",))
    assert error["exit"] == 1
    if code:
        assert error["code"] == code
    assert "requirements.txt:1" in error["everything"]
    assert index.url in error["everything"]
    assert error["hint"] or not code, error


def test_files_that_cannot_be_had(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """The index is well, the file is not: URL and status, and for which requirement."""
    wheel = make_wheel("absent", "1.0")
    index.add(wheel.data, wheel.filename)
    for status in (401, 403, 404, 503):
        index.behave_well(wheel.filename)
        index.behave(wheel.filename, Behaviour(times=None, status=status))
        error = refused(pkgc, unchanged, index.url, pin(wheel))
        assert error["exit"] == 1
        for text in (str(status), index.file_url(wheel.filename), "requirements.txt:1"):
            assert text in error["everything"]


def test_wheels_that_are_no_wheels(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """Right bytes by hash, wrong inside: refused before anything is published."""
    wheel = make_wheel("hollow", "1.0", record_lies={"hollow/__init__.py": "sha256=AAAA"})
    index.add(wheel.data, wheel.filename)
    index.add(b"not a zip", "nozip-1.0-py3-none-any.whl")
    for line, name in ((pin(wheel), wheel.filename), ("nozip==1.0", "nozip-1.0")):
        error = refused(pkgc, unchanged, index.url, line)
        assert error["code"] in ("bad-wheel", "bad-archive")
        assert name in error["everything"]
        assert "requirements.txt:1" in error["everything"]
        pkgc.ok("cache", "clean", name.split("-")[0])


@pytest.mark.parametrize("where", ["refused", "no-such-host"])
def test_indexes_that_are_not_there(pkgc: Instance, unchanged: Path, where: str) -> None:
    """A refused connection and a dead name are told apart."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}/simple/" if where == "refused" else "http://nosuch.invalid/simple/"
    error = refused(pkgc, unchanged, url, "anything==1.0")
    assert error["code"] == ("connection-refused" if where == "refused" else "dns-failure")
    assert url in error["everything"]
    assert "requirements.txt:1" in error["everything"]
    assert error["hint"]


@pytest.mark.parametrize(
    ("code", "args", "env"),
    [
        ("usage", ["--no-such-option"], {}),
        ("usage", ["--venv"], {}),
        ("usage", ["--refresh", "--offline"], {}),
        ("invalid-option", ["--link-mode", "teleport"], {}),
        ("invalid-option", [], {"PKGC_LINK_MODE": "teleport"}),
        ("invalid-option", [], {"PKGC_OFFLINE": "perhaps"}),
        ("", [], {"PKGC_NO_INDEX": "perhaps"}),
        ("invalid-option", ["-i", "gopher://x"], {}),
    ],
)
def test_wrong_usage(
    pkgc: Instance, unchanged: Path, code: str, args: list[str], env: dict[str, str]
) -> None:
    """Exit status 2, and the flag or variable is named."""
    result = pkgc.run("sync", "requirements.txt", *args, env=env)
    assert result.status == 2, str(result)
    assert result.out == ""
    named = (args or list(env))[0]
    assert result.err.startswith(f"error[{code}" if code else "error[")
    assert named in result.err
    assert "Traceback" not in result.err


def test_commands_that_do_not_exist(pkgc: Instance) -> None:
    """A typing error gets the nearest command; a habit of another tool gets ours."""
    for words, hint in ((["snyc"], "sync"), (["install"], "pkgc sync"), (["cache", "siez"], "size")):
        result = pkgc.run(*words)
        assert result.status == 2
        assert hint in result.err
        answer = failure(pkgc, *words)
        assert (answer["code"], answer["exit"]) == ("usage", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("link-modus = 'copy'", "link-mode"),
        ("link-mode = 'teleport'", "link-mode"),
        ("offline = 'yes'", "offline"),
        ("[network]\nretries = 0", "retries"),
        ("not toml at all", "line 1"),
    ],
)
def test_config_that_is_wrong(pkgc: Instance, unchanged: Path, text: str, expected: str) -> None:
    """The file, the key, and what it could be."""
    config = pkgc.root / "other.toml"
    config.write_text(text)
    error = failure(pkgc, "sync", "requirements.txt", "--venv", unchanged, env={"PKGC_CONFIG": str(config)})
    assert (error["code"], error["exit"]) == ("invalid-config", 2)
    assert str(config) in error["message"]
    assert expected in error["everything"]


def test_text_of_an_error_is_not_wrapped(pkgc: Instance, unchanged: Path, index: IndexServer) -> None:
    """Without a terminal (CI logs, grep) nothing is wrapped, shortened or coloured."""
    name = "x" * 150
    lock = pkgc.requirements(f"{name}==1.0")
    result = pkgc.run("sync", lock, "--venv", unchanged, "-i", index.url, env={"COLUMNS": "40"})
    assert result.out == ""
    assert result.err.splitlines()[0].startswith("error[unknown-package]: ")
    assert name in result.err.splitlines()[0]
    assert "\x1b" not in result.err


def test_disk_full(index: IndexServer, tmp_path: Path) -> None:
    """A full cache disk, a full environment disk: said so, nothing half-done, and room later is enough."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    big = make_wheel("big", "1.0", {"big/blob.bin": os.urandom(6 << 20)})
    index.add(big.data, big.filename)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        with impatient(tmp_path / "pkgc") as pkgc:
            lock = pkgc.requirements(pin(big))
            venv = make_venv(tmp_path / "venv", sys.executable)
            before = snapshot(venv)
            env = {"PKGC_CACHE_DIR": str(small / "cache"), "PKGC_SOCKET": str(pkgc.run_dir / "other")}
            error = failure(pkgc, "sync", lock, "--venv", venv, "-i", index.url, env=env)
            assert (error["code"], error["exit"]) == ("disk-full", 1)
            assert snapshot(venv) == before
            listed = pkgc.ok("cache", "list", "--output-format", "json", env=env).json
            assert listed["artifacts"] == []
            pkgc.run("daemon", "stop", env=env)
            shutil.rmtree(small / "cache")
            # the environment's disk
            for mode in ("copy", "auto"):
                error = failure(
                    pkgc, "sync", lock, "--venv", small / "venv", "-i", index.url, "--link-mode", mode
                )
                assert (error["code"], error["exit"]) == ("disk-full", 1)
                assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def as_nobody(folder: Path, command: Path) -> Path:
    """A program that runs `command` as uid 65534, which may read everything (the checkout may be in a
    home), but write only what it owns."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("changing to another user needs root and setpriv")
    words = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    words += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    if subprocess.run([*words, "/bin/true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("setpriv cannot do that here")
    script = folder / "pkgc-as-nobody"
    script.write_text(f"#!/bin/sh\nexec {' '.join(words)} '{command}' \"$@\"\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("host_calls", [False, True], ids=["daemon-acts", "client-acts"])
def test_no_permission(index: IndexServer, host_calls: bool, tmp_path: Path) -> None:
    """Somebody else's environment: refused with the path, unchanged, and looking at it is still possible."""
    root = tmp_path / "pkgc"
    with impatient(root, host_calls=host_calls) as pkgc:
        pkgc.command = as_nobody(tmp_path, pkgc.command)
        venv = make_venv(tmp_path / "venv", sys.executable)
        lock = pkgc.requirements(pin(KEPT))
        for path in (root, pkgc.home, pkgc.run_dir):
            os.chown(path, 65534, 65534)
        before = snapshot(venv)
        error = failure(pkgc, "sync", lock, "--venv", venv, "-i", index.url)
        assert (error["code"], error["exit"]) == ("no-permission", 1)
        assert str(venv) in error["message"]
        assert snapshot(venv) == before
        error = failure(pkgc, "sync", lock, "--venv", tmp_path / "new" / "er", "-i", index.url)
        assert (error["code"], error["exit"]) == ("no-permission", 1)
        assert str(tmp_path / "new") in error["message"]
        assert not (tmp_path / "new").exists()
        assert pkgc.ok("list", "--venv", venv, "--output-format", "json").json["packages"] == []
        assert pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--check").status == 1
        assert pkgc.sync(lock, "--venv", root / "own", "-i", index.url)["installed"]


def test_read_only_files_do_not_stop_an_upgrade(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Replacing is renaming: files without write permission go like others."""
    venv = make_venv(tmp_path / "venv", sys.executable)
    pkgc.sync(pkgc.requirements(pin(KEPT)), "--venv", venv, "-i", index.url)
    for path in venv.rglob("kept*/*"):
        path.chmod(0o444)
    pkgc.sync(pkgc.requirements(pin(KEPT)), "--venv", venv, "-i", index.url, "--reinstall")
    assert holds(venv) == {"kept": "1.0"}
    pkgc.sync(pkgc.requirements("# nothing"), "--venv", venv, "-i", index.url)
    assert holds(venv) == {}
