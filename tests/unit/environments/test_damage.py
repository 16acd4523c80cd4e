"""Damage that a scan must see: what it passes over is 'up to date', and never repaired."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.environments import contents, scan
from pkgc_daemon.environments.create import STAGING, create_environment
from pkgc_daemon.environments.files import NotRegularError, kernel_path, open_regular, read_regular
from pkgc_daemon.environments.find import find_python
from pkgc_daemon.environments.interpreter import probe_interpreter
from pkgc_daemon.environments.recordfile import RecordLine
from pkgc_daemon.environments.scan import installed_from_wire, scan_environment
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing import transaction
from pkgc_daemon.installing.layout import layout_of
from pkgc_daemon.installing.plan import make_plan
from pkgc_daemon.installing.records import mismatches, read_record
from pkgc_daemon.vocabulary import Installed

FILES = ("demo/__init__.py", "demo/deep/er/data.txt", "demo/mod.py", "other_top.py")


class Environment:
    """One distribution with folders, a script and bytecode, as pip or uv install it."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.site = prefix / "lib" / "python3.12" / "site-packages"
        self.info = self.site / "demo-1.0.dist-info"
        lines = []
        for name in (*FILES, "../../../bin/tool", "../../../share/demo/manual"):
            path = Path(os.path.normpath(self.site / name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
            lines.append(f"{name},sha256=x,4\n")
        self.info.mkdir()
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\npkgc = 0.1\n")
        (self.info / "METADATA").write_text("Metadata-Version: 2.1\nName: Demo\nVersion: 1.0\n\nText\n")
        (self.info / "INSTALLER").write_text("pip\n")
        lines += [f"demo-1.0.dist-info/{name},,\n" for name in ("METADATA", "INSTALLER", "RECORD")]
        lines += ["demo/__pycache__/mod.cpython-312.pyc,,\n"]
        (self.info / "RECORD").write_text("".join(lines))
        self.settle()

    def settle(self) -> None:
        """Make everything old enough that an unchanged mtime proves that nothing changed."""
        past = time.time_ns() - 10**9
        for root, folders, names in os.walk(self.prefix, topdown=False):
            for path in (os.path.join(root, name) for name in (*names, *folders)):
                if os.lstat(path).st_mtime_ns > past and not os.path.islink(path):
                    os.utime(path, ns=(past, past))

    def scan(self) -> dict[str, Any]:
        site = str(self.site)
        return scan_environment({"prefix": str(self.prefix), "purelib": site, "platlib": site})

    def cold(self) -> dict[str, Any]:
        """As another process sees it."""
        scan._sites.clear()
        return self.scan()

    def demo(self) -> Installed:
        (found,) = installed_from_wire(self.scan())
        return found


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "env")


def promptly(function: Callable[[], Any]) -> Any:
    """What `function` returns or raises; a test that would wait for ever fails instead."""
    ended: list[Any] = []

    def call() -> None:
        try:
            ended.append((function(), None))
        except BaseException as error:
            ended.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "it waits for a writer"
    value, error = ended[0]
    if error is not None:
        raise error
    return value


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device"])
@pytest.mark.parametrize("name", ["RECORD", "METADATA", "INSTALLER", "provenance_url.json", "REQUESTED"])
def test_what_is_no_file_is_damage(
    env: Environment, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hand that waits for a writer never comes back, and the daemon has few of them."""
    path = env.info / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            monkeypatch.chdir(env.info)  # the path of a socket is short
            server.bind(name)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    found = promptly(env.demo)
    assert name in (found.damaged or "")
    assert found.removable is (name != "RECORD")


@pytest.mark.parametrize("name", ["old.egg-info", "old.egg-link", "old.egg"])
def test_older_forms_do_not_wait_either(env: Environment, name: str) -> None:
    os.mkfifo(env.site / name)
    assert len(promptly(env.scan)["distributions"]) == 2


def test_an_environment_whose_pyvenv_cfg_is_a_fifo(env: Environment) -> None:
    """Its interpreter would wait as well: it must not be started."""
    (env.prefix / "pyvenv.cfg").unlink()
    os.mkfifo(env.prefix / "pyvenv.cfg")
    (env.prefix / "bin" / "python").symlink_to(shutil.which("sh") or "/bin/sh")
    for call in (env.scan, lambda: probe_interpreter({"python": str(env.prefix / "bin" / "python")})):
        with pytest.raises(PkgcError) as caught:
            promptly(call)
        assert caught.value.code == "not-an-environment"
        assert "pyvenv.cfg is not a regular file" in caught.value.message


def test_a_fifo_on_path_is_not_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "python3", 0o777)
    with pytest.raises(PkgcError) as caught:
        promptly(lambda: find_python({"request": None, "path": str(tmp_path), "environ": {}}))
    assert caught.value.code == "python-not-found"


def test_fifos_in_what_a_killed_creation_left(any_python: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / STAGING).mkdir(parents=True)
    os.mkfifo(venv / STAGING / ".moving")
    assert any(promptly(lambda: create_environment({"python": any_python, "venv": str(venv)}))["created"])


def test_fifos_do_not_stop_an_installation(env: Environment) -> None:
    """RECORD, what it lists, and the journal of an interrupted change."""
    (env.site / "demo" / "mod.py").unlink()
    os.mkfifo(env.site / "demo" / "mod.py")
    lines = [RecordLine("demo/mod.py", "sha256=AAAA", "4")]
    assert promptly(lambda: list(mismatches(str(env.prefix), str(env.site), lines))) == ["demo/mod.py"]
    (env.info / "RECORD").unlink()
    os.mkfifo(env.info / "RECORD")
    with pytest.raises(PkgcError) as caught:
        promptly(lambda: read_record(str(env.info)))
    assert caught.value.code == "bad-record"
    (env.info / "RECORD").unlink()
    os.mkfifo(env.info / "installed-files.txt")
    assert promptly(lambda: read_record(str(env.info))) is None
    (env.prefix / ".pkgc").mkdir()
    os.mkfifo(env.prefix / transaction.JOURNAL)
    site = str(env.site)
    paths = {"purelib": site, "platlib": site, "scripts": str(env.prefix / "bin"), "data": str(env.prefix)}
    layout = layout_of(
        {
            "prefix": str(env.prefix),
            "paths": {**paths, "include": f"{env.prefix}/include"},
            "version": "3.12.1",
        }
    )
    assert "lost" in promptly(lambda: transaction.recover(str(env.prefix), layout))[0]
    assert not (env.prefix / ".pkgc").exists()


def test_opening_and_reading_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(str(file), 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(str(file), 4)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(NotRegularError):
        open_regular(str(tmp_path))
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(
    "name", [*FILES[:3], "other_top.py", "../../../bin/tool", "../../../share/demo/manual"]
)
def test_a_deleted_file_is_seen_wherever_it_was(env: Environment, name: str, warm: bool) -> None:
    """Also of packages that pip or uv installed; and the same by the process that applies the plan."""
    path = Path(os.path.normpath(env.site / name))
    before = env.scan()["fingerprint"]
    assert env.demo().damaged is None
    path.unlink()
    after = env.scan() if warm else env.cold()
    assert after["distributions"][0]["damaged"] == f"{path}, listed in RECORD, is missing"
    assert after["fingerprint"] != before
    assert env.cold()["fingerprint"] == after["fingerprint"]
    path.write_text("text")
    assert env.demo().damaged is None
    assert env.scan()["fingerprint"] == before


def test_a_deleted_folder_is_seen(env: Environment) -> None:
    assert env.demo().damaged is None
    shutil.rmtree(env.site / "demo")
    first = env.site / "demo" / "__init__.py"
    assert env.demo().damaged == f"{first}, listed in RECORD, is missing (and 2 more)"


def test_a_folder_that_became_a_link_is_seen(env: Environment, tmp_path: Path) -> None:
    """Nothing is ever written through it, so what is behind it cannot be kept up to date."""
    assert env.demo().damaged is None
    (env.site / "demo").rename(tmp_path / "moved")
    (env.site / "demo").symlink_to(tmp_path / "moved")
    assert f"{env.site}/demo, a folder in RECORD, is a link" in (env.demo().damaged or "")
    assert env.scan()["fingerprint"] == env.cold()["fingerprint"]


def test_another_size_is_seen_at_the_first_look(env: Environment) -> None:
    """Files that are links (`--link-mode symlink`) count as what they lead to."""
    (env.site / "demo" / "mod.py").write_text("longer text")
    damaged = env.demo().damaged
    assert damaged == f"{env.site}/demo/mod.py has 11 bytes, not the 4 of RECORD"
    (env.prefix / "target").write_text("four")
    (env.site / "demo" / "mod.py").unlink()
    (env.site / "demo" / "mod.py").symlink_to(env.prefix / "target")
    assert env.demo().damaged is None
    (env.prefix / "target").unlink()
    scan._sites.clear()
    assert "cannot be looked at" in (env.demo().damaged or "")


def test_an_edit_in_place_does_not_part_two_processes(env: Environment) -> None:
    """One has looked before and one after: unequal fingerprints would make them plan again for ever."""
    warm = env.scan()["fingerprint"]
    (env.site / "demo" / "mod.py").write_text("longer text")
    assert env.cold()["fingerprint"] == warm


def test_bytecode_changes_nothing(env: Environment) -> None:
    """Programs write it at any time; and what is listed of it may be deleted."""
    before = env.scan()
    (env.site / "demo" / "__pycache__").mkdir()
    (env.site / "demo" / "__pycache__" / "mod.cpython-312.pyc").write_text("")
    assert env.scan() == before


def test_unchanged_folders_are_all_that_is_looked_at(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A no-op over 97 packages has 12,000 files and a few milliseconds."""
    before = env.scan()
    monkeypatch.setattr(scan, "read_distribution", None)
    assert env.scan() == before


def test_folders_that_two_distributions_saw_differently_are_looked_at_again(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Namespace packages share folders; one may change between the two looks."""
    twin = env.site / "twin-1.0.dist-info"
    twin.mkdir()
    (twin / "METADATA").write_text("Name: twin\nVersion: 1.0\n")
    (twin / "RECORD").write_text("demo/mod.py,,4\ntwin-1.0.dist-info/METADATA,,\n")
    env.settle()
    real = contents.look_at
    monkeypatch.setattr("pkgc_daemon.environments.records.look_at", lambda *args: _then_delete(real(*args)))

    def _then_delete(found: contents.Contents) -> contents.Contents:
        (env.site / "demo" / "mod.py").unlink(missing_ok=True)
        return found

    env.scan()
    monkeypatch.undo()
    assert all("mod.py" in str(wire["damaged"]) for wire in env.scan()["distributions"])


@pytest.mark.parametrize(
    ("file", "text", "damage"),
    [
        ("RECORD", "", "RECORD is empty"),
        ("RECORD", "\n\n", "RECORD is empty"),
        ("RECORD", "demo/__init__.py,,\n", "RECORD is cut off"),
        ("RECORD", '"demo/__init__.py,,\n', "RECORD is cut off"),
        ("METADATA", "", "METADATA is empty or cut off"),
        ("METADATA", "Metadata-Version: 2.1\nName: demo\n", "METADATA is empty or cut off"),
        ("METADATA", "Name: demo\nVersion: 2.0\n", "METADATA is of demo 2.0"),
        ("METADATA", "Name: other\nVersion: 1.0\n", "METADATA is of other 1.0"),
        ("METADATA", "Name: DEMO\nVersion: v1.0.0\n", None),
    ],
)
def test_records_that_were_cut_off(env: Environment, file: str, text: str, damage: str | None) -> None:
    """A full disk or an unclean shutdown leaves them; they must not pass for a whole installation."""
    assert env.demo().damaged is None
    (env.info / file).write_text(text)
    found = env.demo()
    assert (found.damaged or "").startswith(damage or "")
    assert bool(found.damaged) is bool(damage)
    assert found.removable is (damage != "RECORD is empty")


def test_pkgcs_own_record_lists_itself_last(env: Environment) -> None:
    """So that one which lost its end is known."""
    (env.info / "INSTALLER").write_text("pkgc\n")
    assert env.demo().damaged is None
    record = env.info / "RECORD"
    record.write_text(record.read_text().replace("demo-1.0.dist-info/RECORD,,\n", ""))
    assert "does not list demo-1.0.dist-info/RECORD" in (env.demo().damaged or "")


def stuck(*installed: Installed) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        make_plan([], installed, seeded=False)
    return caught.value


def test_why_something_cannot_be_removed(env: Environment) -> None:
    """The person has to act, so the error says on what."""
    for change, why in ((lambda path: path.write_text(""), "empty"), (Path.unlink, "missing")):
        change(env.info / "RECORD")
        error = stuck(env.demo())
        assert error.code == "cannot-uninstall"
        assert f"cannot uninstall demo 1.0: RECORD is {why}" in error.message
        assert f"delete {env.info}" in (error.hint or "")


def test_a_record_that_may_not_be_read(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not missing: the fix is another one."""
    record = env.info / "RECORD"
    record.chmod(0)
    if os.geteuid() == 0:  # root may read everything

        def denied(path: str, _limit: int) -> bytes:
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr("pkgc_daemon.environments.records.read_regular", denied)
    error = stuck(env.demo())
    assert error.code == "no-permission"
    assert f"mode 0000, owner {os.geteuid()}" in error.message
    assert f"chmod u+r {record}" in (error.hint or "")


def test_paths_go_where_the_kernel_goes(tmp_path: Path, any_python: str) -> None:
    """Every other tool makes `link/../venv` beside what the link points to."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    named = f"{tmp_path}/link/../venv"
    assert kernel_path(named) == f"{tmp_path}/deep/venv"
    assert kernel_path(f"{tmp_path}//link/./x/") == f"{tmp_path}/link/x"
    assert kernel_path(f"{tmp_path}/link/..") == f"{tmp_path}/deep"
    assert kernel_path("/..") == "/"
    create_environment({"python": any_python, "venv": named})
    assert (tmp_path / "deep" / "venv" / "pyvenv.cfg").is_file()
    assert not (tmp_path / "venv").exists()


def test_a_parent_that_cannot_be_made_has_a_hint(any_python: str) -> None:
    with pytest.raises(PkgcError) as caught:
        create_environment({"python": any_python, "venv": "/proc/nosuch/venv"})
    assert "--venv" in (caught.value.hint or "")
