"""Applying a plan: the environment holds exactly what the wheels and the rules say, or is untouched."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.archives.manifest import manifest_from_bytes, manifest_to_bytes
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.apply import apply_plan
from pkgc_daemon.installing.layout import WORK
from pkgc_daemon.installing.lock import environment_lock
from pkgc_daemon.installing.records import mismatches, read_record
from tests.support.wheels import BuiltWheel, make_wheel
from tests.unit.installing.trees import MINOR, SITE, Env


@pytest.fixture
def env(tmp_path: Path) -> Env:
    return Env(tmp_path)


def full_wheel() -> BuiltWheel:
    return make_wheel(
        "Full.Demo",
        "1.0",
        {
            "full/__init__.py": "def main():\n    print('full')\n",
            "full/deep/er/x,y.txt": "comma",
            "full/tool.sh": "#!/bin/sh\n",
            "top.py": "x = 1\n",
        },
        executable=["full/tool.sh", "scripts/ready"],
        data={
            "scripts/hello": "#!python -u\nprint('hello')\n",
            "scripts/shell": "#!/bin/sh\necho shell\n",
            "scripts/ready": "#!/bin/sh\necho ready\n",
            "scripts/full-command": "#!python\n# made by setuptools\n",
            "scripts/full-gui-script.py": "#!python\n# made by setuptools\n",
            "data/share/man/man1/full.1": "man",
            "data/etc/full.conf": "conf",
            "headers/full.h": "int x;",
            "purelib/pure_extra.py": "",
            "platlib/plat_extra/__init__.py": "",
        },
        entry_points={
            "console_scripts": {"full-command": "full:main"},
            "gui_scripts": {"full-gui": "full:main"},
        },
    )


def test_every_part_of_a_wheel_lands_where_it_belongs(env: Env) -> None:
    result = env.apply([full_wheel()])
    assert result["status"] == "done"
    state = {path: kind for path, (kind, _) in env.state().items() if kind != "folder"}
    info = f"{SITE}/full_demo-1.0.dist-info"
    assert state == {
        "bin/python": "link",
        "bin/full-command": "program",
        "bin/full-gui": "program",
        "bin/hello": "program",
        "bin/ready": "program",
        "bin/shell": "program",
        "etc/full.conf": "file",
        f"include/site/python{MINOR}/full-demo/full.h": "file",
        "lib64": "link",
        "pyvenv.cfg": "file",
        "share/man/man1/full.1": "file",
        f"{SITE}/full/__init__.py": "file",
        f"{SITE}/full/deep/er/x,y.txt": "file",
        f"{SITE}/full/tool.sh": "program",
        f"{SITE}/plat_extra/__init__.py": "file",
        f"{SITE}/pure_extra.py": "file",
        f"{SITE}/top.py": "file",
        **{
            f"{info}/{name}": "file"
            for name in (
                "INSTALLER", "METADATA", "RECORD", "REQUESTED", "WHEEL",
                "entry_points.txt", "provenance_url.json",
            )
        },
    }  # fmt: skip
    assert not (env.prefix / ".pkgc").exists()
    for command, said in [
        ("hello", "hello"),
        ("shell", "shell"),
        ("ready", "ready"),
        ("full-command", "full"),
    ]:
        path = env.prefix / "bin" / command
        if command == "full-command":
            assert "from full import main" in path.read_text()
        else:
            assert subprocess.check_output([str(path)], text=True).strip() == said


def test_record_lists_and_hashes_every_file(env: Env) -> None:
    """Other tools uninstall by it (W8)."""
    env.apply([full_wheel()])
    info = env.site / "full_demo-1.0.dist-info"
    lines = read_record(str(info))
    assert lines is not None
    listed = {os.path.normpath(env.site / line.path) for line in lines}
    files = {str(env.prefix / path) for path, (kind, _) in env.state().items() if kind != "folder"}
    assert files - listed == {str(env.prefix / name) for name in ("bin/python", "lib64", "pyvenv.cfg")}
    assert listed <= files
    assert list(mismatches(str(env.prefix), str(env.site), lines)) == []
    assert [line.path for line in lines if not line.hash] == [f"{info.name}/RECORD"]
    *written, last = (info / "RECORD").read_text().splitlines()
    assert written == sorted(written)
    assert last == f"{info.name}/RECORD,,"
    assert json.loads((info / "provenance_url.json").read_text())["pkgc"]["index"].startswith("https:")
    assert (info / "INSTALLER").read_text() == "pkgc\n"


def test_removal_takes_everything_and_nothing_else(env: Env) -> None:
    before = env.state()
    env.apply([full_wheel()])
    subprocess.run([str(env.prefix / "bin/python"), "-m", "compileall", "-q", str(env.site)], check=True)
    result = env.apply(remove=["full_demo-1.0.dist-info"])
    assert result["removed"] == [{"name": "full_demo", "version": "1.0"}]
    after = env.state()
    after.pop("include")
    assert after == before


def test_files_of_the_user_stay_when_a_package_goes(env: Env) -> None:
    env.apply([make_wheel("demo", "1", {"demo/a.py": "", "demo/sub/b.py": ""})])
    (env.site / "demo" / "mine.txt").write_text("mine")
    (env.site / "demo" / "__pycache__").mkdir()
    (env.site / "demo" / "__pycache__" / "mine.cpython-311.pyc").write_text("mine")
    (env.site / "demo" / "__pycache__" / "a.cpython-311.opt-1.pyc").write_text("")
    env.apply(remove=["demo-1.dist-info"])
    left = sorted(str(path.relative_to(env.site)) for path in env.site.rglob("*") if path.is_file())
    assert left == ["demo/__pycache__/mine.cpython-311.pyc", "demo/mine.txt"]


def test_record_that_leaves_the_environment_deletes_nothing(env: Env, tmp_path: Path) -> None:
    """uv GHSA-pjjw-68hj-v9mw; also the interpreter itself is not a package's to take away."""
    (tmp_path / "precious").write_text("x")
    (tmp_path / "venv-evil").mkdir()
    (tmp_path / "venv-evil" / "file").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.py").write_text("x")
    env.apply([make_wheel("demo", "1", {"demo/a.py": ""})])
    (env.site / "linked").symlink_to(tmp_path / "elsewhere")
    up = "../../../"
    with (env.site / "demo-1.dist-info" / "RECORD").open("a") as record:
        record.write(f"{up}../precious,,\n{up}../venv-evil/file,,\n{tmp_path}/precious,,\n")
        record.write(f"{up}bin/python,,\n{up}pyvenv.cfg,,\nlinked/f.py,,\n..,,\n.,,\n{up},,\n")
    env.apply(remove=["demo-1.dist-info"])
    assert (tmp_path / "precious").exists()
    assert (tmp_path / "venv-evil" / "file").exists()
    assert (tmp_path / "elsewhere" / "f.py").exists()
    assert (env.prefix / "bin" / "python").exists()
    assert (env.prefix / "pyvenv.cfg").exists()
    assert not (env.site / "demo").exists()


def test_what_has_no_record_is_not_removed(env: Env) -> None:
    env.apply([make_wheel("demo", "1")])
    (env.site / "demo-1.dist-info" / "RECORD").unlink()
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply([make_wheel("other", "1")], remove=["demo-1.dist-info"])
    assert caught.value.code == "cannot-uninstall"
    assert env.state() == before


def test_legacy_egg_info_is_removed_by_its_installed_files(env: Env) -> None:
    egg = env.site / "old-1.0.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Name: old\n")
    (egg / "installed-files.txt").write_text("../old/__init__.py\nPKG-INFO\n")
    (env.site / "old").mkdir()
    (env.site / "old" / "__init__.py").write_text("")
    env.apply(remove=["old-1.0.egg-info"])
    assert list(env.site.iterdir()) == []


def test_upgrade_replaces_folders_and_drops_old_modules(env: Env) -> None:
    env.apply([make_wheel("demo", "1", {"demo/a.py": "1", "demo/old.py": ""})])
    env.apply([make_wheel("demo", "2", {"demo/a.py": "2", "demo/new.py": ""})], remove=["demo-1.dist-info"])
    assert sorted(path.name for path in env.site.iterdir()) == ["demo", "demo-2.dist-info"]
    assert sorted(path.name for path in (env.site / "demo").iterdir()) == ["a.py", "new.py"]
    assert (env.site / "demo" / "a.py").read_text() == "2"


def test_namespace_packages_share_a_folder_and_leave_one_by_one(env: Env) -> None:
    one, two = make_wheel("one", "1", {"ns/one/a.py": ""}), make_wheel("two", "1", {"ns/two/b.py": ""})
    env.apply([one])
    env.apply([two])
    env.apply(remove=["one-1.dist-info"])
    assert [path.name for path in (env.site / "ns").iterdir()] == ["two"]
    env.apply([one], remove=["two-1.dist-info"])
    assert [path.name for path in (env.site / "ns").iterdir()] == ["one"]


def test_a_file_that_a_remaining_package_owns_too_stays(env: Env) -> None:
    one = make_wheel("one", "1", {"ns/__init__.py": "same", "ns/one.py": ""})
    two = make_wheel("two", "1", {"ns/__init__.py": "same", "ns/two.py": ""})
    assert env.apply([one, two])["warnings"] == []
    env.apply(remove=["one-1.dist-info"])
    assert sorted(path.name for path in (env.site / "ns").iterdir()) == ["__init__.py", "two.py"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [("alpha", "zeta"), ("zeta", "alpha")])
def test_overlap_warns_and_the_later_name_wins_in_any_order(
    env: Env, order: tuple[str, str], together: bool
) -> None:
    """T21: which bytes win must not depend on the order in which packages were installed."""
    wheels = [make_wheel(name, "1", {"shared.py": name, f"{name}.py": ""}) for name in order]
    warnings: list[str] = []
    for group in [wheels] if together else [[wheel] for wheel in wheels]:
        warnings += env.apply(group)["warnings"]
    assert (env.site / "shared.py").read_text() == "zeta"
    assert len(warnings) == 1
    assert "alpha and zeta" in warnings[0] or "zeta and alpha" in warnings[0]
    assert "shared.py" in warnings[0]
    # The trees in the store were not written through (W13).
    for wheel, name in zip(wheels, order, strict=True):
        assert Path(env.item(wheel)["tree"], "shared.py").read_text() == name


def test_removing_the_winner_of_an_overlap_is_not_silent(env: Env) -> None:
    """The loser's file cannot come back by itself: it is asked for, and else there is a warning."""
    env.apply([make_wheel(name, "1", {"shared.py": name}) for name in ("alpha", "zeta")])
    before = env.state()
    asked = env.apply(remove=["zeta-1.dist-info"])
    assert (asked["status"], asked["names"]) == ("reinstall", ["alpha"])
    assert env.state() == before
    (warning,) = env.apply(remove=["zeta-1.dist-info"], settled=["alpha"])["warnings"]
    assert "reinstall alpha" in warning
    assert (env.site / "shared.py").exists()


def test_overlap_is_undone_by_installing_the_loser_again(env: Env) -> None:
    """Also when the winner is upgraded to a version without the file."""
    alpha, zeta = (make_wheel(name, "1", {"shared.py": name}) for name in ("alpha", "zeta"))
    env.apply([alpha, zeta])
    later = make_wheel("zeta", "2")
    assert env.apply([later], remove=["zeta-1.dist-info"])["status"] == "reinstall"
    result = env.apply([later, alpha], remove=["zeta-1.dist-info", "alpha-1.dist-info"])
    assert (result["status"], result["warnings"]) == ("done", [])
    assert (env.site / "shared.py").read_text() == "alpha"


@pytest.mark.parametrize("again", ["alpha", "zeta"])
def test_reinstalling_one_of_two_that_overlap_asks_nothing(env: Env, again: str) -> None:
    """The winner brings its own bytes again, and the loser's were not there."""
    wheels = {name: make_wheel(name, "1", {"shared.py": name}) for name in ("alpha", "zeta")}
    env.apply(list(wheels.values()))
    result = env.apply([wheels[again]], remove=[f"{again}-1.dist-info"])
    assert result["status"] == "done"
    assert not any("reinstall" in text for text in result["warnings"])
    assert (env.site / "shared.py").read_text() == "zeta"


@pytest.mark.parametrize("together", [True, False])
def test_strict_refuses_overlaps_before_any_change(env: Env, together: bool) -> None:
    wheels = [make_wheel(name, "1", {"shared.py": name}) for name in ("alpha", "zeta")]
    if not together:
        env.apply(wheels[:1])
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply(wheels if together else wheels[1:], strict=True)
    assert caught.value.code == "overlapping-files"
    assert env.state() == before


def test_strict_refuses_overlaps_that_are_there_already(env: Env) -> None:
    """Else the same command fails in a new environment and passes in an old one."""
    env.apply([make_wheel(name, "1", {"shared.py": name}) for name in ("alpha", "zeta")])
    before = env.state()
    for more in ("strict", "only_check"):
        args = env.args() | {more: True}
        with pytest.raises(PkgcError, match="alpha and zeta both have") as caught:
            apply_plan(args)
        assert caught.value.code == "overlapping-files"
    assert env.state() == before
    assert env.apply(remove=["zeta-1.dist-info"], only_check=True)["status"] == "checked"


def test_check_of_a_missing_environment_knows_its_overlaps(env: Env, tmp_path: Path) -> None:
    """--dry-run --strict fails as the sync would; commands of both packages count."""
    wheels = [
        make_wheel(name, "1", {f"{name}.py": ""}, entry_points={"console_scripts": {"tool": f"{name}:x"}})
        for name in ("alpha", "zeta")
    ]
    more: dict[str, Any] = {
        "venv": str(tmp_path / "new"),
        "interpreter": None,
        "create": {"python": "/nowhere", "version": "3.11.1"},
        "only_check": True,
    }
    with pytest.raises(PkgcError, match="bin/tool"):
        env.apply(wheels, **more)
    assert env.apply(wheels[:1], **more)["status"] == "checked"
    assert not (tmp_path / "new").exists()


def test_a_file_that_nobody_owns_is_replaced_with_a_warning(env: Env, tmp_path: Path) -> None:
    (env.site / "demo.py").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (env.site / "pkg").symlink_to(tmp_path / "elsewhere")
    result = env.apply([make_wheel("demo", "1", {"demo.py": "theirs", "pkg/x.py": ""})])
    assert (env.site / "demo.py").read_text() == "theirs"
    assert len(result["warnings"]) == 2


@pytest.mark.parametrize("owned", [True, False])
def test_a_folder_never_replaces_a_file(env: Env, owned: bool) -> None:
    """Whoever's it is: the same lock in a new environment is refused too."""
    if owned:
        env.apply([make_wheel("one", "1", {"x": "file"})])
    else:
        (env.site / "x").write_text("mine")
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply([make_wheel("two", "1", {"x/y.py": ""})])
    assert caught.value.code == "path-conflict"
    assert env.state() == before


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_modes_follow_the_umask_of_the_caller(env: Env, umask: int, mode: str) -> None:
    """A daemon with another umask would make environments that others may write, or may not use."""
    before = os.umask(0o027)
    try:
        env.apply([full_wheel()], umask=umask, link_mode=mode, compile=True)
    finally:
        os.umask(before)
    own = {"bin", "bin/python", "lib", f"lib/python{MINOR}", SITE, "lib64", "pyvenv.cfg"}
    for path, (kind, _) in env.state().items():
        found = (env.prefix / path).lstat()
        if path in own or (found.st_nlink > 1 and kind != "folder"):
            continue
        wanted = (0o666 if kind == "file" else 0o777) & ~umask
        if path.endswith(".pyc") and mode == "hardlink":
            wanted &= 0o644  # the mode of its source, made writable
        assert oct(found.st_mode & 0o777) == oct(wanted), path
    assert oct((env.prefix / ".lock").stat().st_mode & 0o777) == oct(0o666 & ~umask)


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_compiling_makes_up_for_what_was_not_compiled(env: Env, mode: str) -> None:
    """--compile-bytecode on an environment that is right but for its bytecode must not do nothing."""
    wheel = make_wheel("demo", "1", {"demo/a.py": "x = 1\n", "demo/b c.py": "", "demo/bad.py": "(\n"})
    env.apply([wheel], link_mode=mode)
    assert env.apply(compile=True)["compiled"] == 2
    folder = env.site / "demo" / "__pycache__"
    compiled = sorted(folder.iterdir())
    assert [path.name.partition(".")[0] for path in compiled] == ["a", "b c"]
    assert str(env.site / "demo" / "a.py").encode() in compiled[0].read_bytes()
    stamps = [path.stat().st_mtime_ns for path in compiled]
    assert env.apply(compile=True)["compiled"] == 0
    assert [path.stat().st_mtime_ns for path in compiled] == stamps
    compiled[0].write_bytes(compiled[0].read_bytes()[:12] + b"\1\2\3\4")
    # With a change: what stays is compiled with it.
    assert env.apply([make_wheel("other", "1", {"other.py": ""})], compile=True)["compiled"] == 1
    assert (env.site / "__pycache__").exists()
    env.apply(remove=["demo-1.dist-info"])
    assert not (env.site / "demo").exists()


def test_compiling_again_starts_no_python(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a file cannot be compiled: an up-to-date check stays a few milliseconds."""
    env.apply([make_wheel("demo", "1", {"demo/a.py": "", "demo/bad.py": "(\n"})], compile=True)
    env.apply(compile=True)

    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert env.apply(compile=True)["compiled"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "purelib/zzz-1.0.dist-info/METADATA",
        "purelib/demo-1.dist-info/RECORD",
        "platlib/demo-1.dist-info/INSTALLER",
        "purelib/demo-1.dist-info/METADATA",
        "purelib/zzz.egg-info/PKG-INFO",
        "purelib/ZZZ-1.DIST-INFO/METADATA",
        f"data/{SITE}/zzz-1.0.dist-info/METADATA",
        f"data/{SITE}/zzz.egg-info",
        f"data/lib64/python{MINOR}/site-packages/zzz-1.0.dist-info/provenance_url.json",
    ],
)
def test_no_wheel_smuggles_in_another_distribution(env: Env, path: str) -> None:
    """It would be taken for one that was installed and verified; unpacking refuses it too."""
    item = env.item(make_wheel("demo", "1", data={"purelib/other.py": "x"}))
    tree, (kind, _, rest) = Path(item["tree"], "demo-1.data"), path.partition("/")
    (tree / kind / rest).parent.mkdir(parents=True, exist_ok=True)
    (tree / "purelib/other.py").rename(tree / kind / rest)
    manifest = manifest_from_bytes(Path(item["manifest"]).read_bytes())
    files = tuple(
        entry._replace(path=f"demo-1.data/{path}") if entry.path.endswith("other.py") else entry
        for entry in manifest.files
    )
    Path(item["manifest"]).write_bytes(manifest_to_bytes(replaced(manifest, files=files)))
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply([item])
    assert caught.value.code == "bad-wheel"
    assert env.state() == before


@pytest.mark.parametrize("installed", [True, False])
def test_file_against_folder_is_an_error(env: Env, installed: bool) -> None:
    one, two = make_wheel("one", "1", {"x/y.py": ""}), make_wheel("two", "1", {"x": "file"})
    if installed:
        env.apply([one])
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply([two] if installed else [one, two])
    assert caught.value.code == "path-conflict"
    with pytest.raises(PkgcError):
        env.apply([make_wheel("aaa", "1", {"x": "file"}), make_wheel("bbb", "1", {"x/y.py": ""})])
    assert env.state() == before


@pytest.mark.parametrize("name", ["demo/a.py", "demo-1.data/scripts/tool"])
@pytest.mark.parametrize("change", ["content", "shorter", "gone", "mode"])
def test_damaged_tree_is_reported_and_nothing_changes(env: Env, change: str, name: str) -> None:
    """T13, T15b: an edit through a hardlink must not reach the next environment."""
    wheel = make_wheel("demo", "1", {"demo/a.py": "12345"}, data={"scripts/tool": "#!python\n"})
    item = env.item(wheel)
    path = Path(item["tree"], name)
    path.chmod(0o644)
    if change == "content":
        path.write_text("54321")
    elif change == "shorter":
        path.write_text("")
    elif change == "gone":
        path.unlink()
    else:
        path.chmod(0o755)
    before = env.state()
    result = env.apply([item])
    assert (result["status"], result["sha256"], result["path"]) == ("damaged", wheel.sha256, name)
    assert env.state() == before


def test_unreadable_manifest_means_damaged(env: Env) -> None:
    item = env.item(make_wheel("demo", "1"))
    Path(item["manifest"]).write_bytes(b"\x00")
    assert env.apply([item])["status"] == "damaged"
    Path(item["manifest"]).unlink()
    assert env.apply([item])["status"] == "damaged"


@pytest.mark.parametrize("mode", ["auto", "hardlink", "reflink", "copy", "symlink"])
def test_every_link_mode_gives_the_same_tree(env: Env, mode: str) -> None:
    env.apply([full_wheel()], link_mode=mode)
    path = env.site / "full" / "tool.sh"
    assert path.read_text() == "#!/bin/sh\n"
    assert os.access(path, os.X_OK)
    assert path.is_symlink() is (mode == "symlink")
    if mode == "copy":
        assert path.stat().st_nlink == 1
        assert path.stat().st_mode & 0o200
    lines = read_record(str(env.site / "full_demo-1.0.dist-info"))
    assert list(mismatches(str(env.prefix), str(env.site), lines or [])) == []


def test_refused_hardlinks_fall_back_and_say_so(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers and other uids: EXDEV and EPERM mean 'next mode', not failure."""

    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    result = env.apply([full_wheel()], link_mode="hardlink")
    assert result["link_mode"] in ("reflink", "copy")
    assert any("hardlink is not possible" in text for text in result["warnings"])
    result = env.apply([make_wheel("other", "1")])
    assert result["warnings"] == []


def test_bytecode_names_the_final_place_and_is_current(env: Env) -> None:
    env.apply([make_wheel("demo", "1", {"demo/a.py": "def f(): pass\n", "demo/bad.py": "(\n"})], compile=True)
    (compiled,) = (env.site / "demo" / "__pycache__").iterdir()
    assert str(env.site / "demo" / "a.py").encode() in compiled.read_bytes()
    before = compiled.stat().st_mtime_ns
    python = str(env.prefix / "bin" / "python")
    subprocess.run([python, "-c", "import demo.a"], env={"PYTHONPATH": str(env.site)}, check=True)
    assert compiled.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "data",
    [
        "data/pyvenv.cfg",
        "data/bin/python",
        "data/lib64/../../x",
        "scripts/python3",
        "scripts/Activate.ps1",
        "data/bin/activate/x",
        "data/bin/python/deep/x",
        "data/pyvenv.cfg/x",
        "data/.pkgc-create/.moving",
        "data/.pkgc/journal",
        "data/.lock/x",
    ],
)
def test_the_environment_itself_is_never_replaced(env: Env, data: str) -> None:
    """Also where a manifest says so: this is the last gate before the user's interpreter."""
    from pkgc_daemon.archives.manifest import manifest_from_bytes, manifest_to_bytes

    item = env.item(make_wheel("demo", "1", data={"data/share/x": "x"}))
    manifest = manifest_from_bytes(Path(item["manifest"]).read_bytes())
    import dataclasses

    files = tuple(
        entry._replace(path=f"demo-1.data/{data}") if entry.path.endswith("share/x") else entry
        for entry in manifest.files
    )
    Path(item["manifest"]).write_bytes(manifest_to_bytes(dataclasses.replace(manifest, files=files)))
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply([item])
    assert caught.value.code in ("reserved-path", "outside-environment")
    assert env.state() == before


def test_a_symlink_in_the_environment_does_not_lead_outside(env: Env, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (env.prefix / "share").symlink_to(tmp_path / "outside")
    with pytest.raises(PkgcError) as caught:
        env.apply([make_wheel("demo", "1", data={"data/share/x": "x"})])
    assert caught.value.code == "outside-environment"
    (env.site / "demo").symlink_to(tmp_path / "outside")
    env.apply([make_wheel("demo", "1", {"demo/a.py": ""})])
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (env.site / "demo").is_symlink()


def test_lib64_and_lib_are_one_place(env: Env) -> None:
    env.apply([make_wheel("plat", "1", {"plat.py": ""}, root_is_purelib=False)])
    assert (env.site / "plat.py").exists()
    assert (env.prefix / "lib64").is_symlink()
    item = {
        "name": "plat",
        "version": "1",
        "dist_info": f"{env.prefix}/lib64/python{MINOR}/site-packages/plat-1.dist-info",
    }
    apply_plan({**env.args(), "remove": [item]})
    assert list(env.site.iterdir()) == []


def test_changed_environment_is_stale(env: Env) -> None:
    from pkgc_daemon.environments.scan import scan_environment

    paths = env.interpreter["paths"]
    where = {"prefix": str(env.prefix), "purelib": paths["purelib"], "platlib": paths["platlib"]}
    seen = scan_environment(where)["fingerprint"]
    assert env.apply([make_wheel("one", "1")], fingerprint=seen)["status"] == "done"
    before = env.state()
    assert env.apply([make_wheel("two", "1")], fingerprint=seen)["status"] == "stale"
    assert env.state() == before


def test_lock_is_waited_for_and_cancellable(env: Env) -> None:
    with environment_lock(str(env.prefix)):
        with pytest.raises(PkgcError) as caught:
            env.apply([make_wheel("one", "1")], lock_timeout=0.05)
        assert caught.value.code == "environment-locked"
        with pytest.raises(PkgcError) as caught:
            apply_plan(env.args([make_wheel("one", "1")]), None, lambda: True)
        assert caught.value.code == "interrupted"
    entered = threading.Event()

    def hold() -> None:
        with environment_lock(str(env.prefix)):
            entered.set()
            time.sleep(0.1)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    assert env.apply([make_wheel("one", "1")])["status"] == "done"
    thread.join()


def test_uv_sees_our_lock(env: Env) -> None:
    """The file is the one that uv takes, so that both never write at once."""
    with environment_lock(str(env.prefix)):
        held = subprocess.run(
            ["flock", "--nonblock", str(env.prefix / ".lock"), "true"], check=False
        ).returncode
    assert held == 1


def test_cancelled_before_the_journal_leaves_no_trace(env: Env) -> None:
    env.apply([make_wheel("one", "1")])
    before = env.state()
    for after in range(3):
        asked: list[None] = []

        def cancelled(asked: list[None] = asked, after: int = after) -> bool:
            asked.append(None)
            return len(asked) > after

        with pytest.raises(PkgcError) as caught:
            apply_plan(
                env.args([make_wheel("two", "1"), make_wheel("three", "1")], ["one-1.dist-info"]),
                None,
                cancelled,
            )
        assert caught.value.exit_status == 130
        assert env.state() == before


def test_progress_counts_to_the_end(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a person sees a bar that stops on the way, or none at all."""
    monkeypatch.setattr("pkgc_daemon.installing.apply._REPORT_EVERY", 0.0)
    seen: list[tuple[int, int]] = []
    apply_plan(
        env.args([make_wheel("a", "1"), make_wheel("b", "1")]), lambda done, total: seen.append((done, total))
    )
    assert seen == [(4, 8), (8, 8), (8, 8)]


def outcome(args: dict[str, Any]) -> str:
    """The status of `apply_plan`, or the code of its error."""
    try:
        return str(apply_plan(args)["status"])
    except PkgcError as error:
        return error.code


@pytest.mark.parametrize(
    ("number", "code"),
    [(28, "disk-full"), (122, "disk-full"), (30, "read-only"), (13, "no-permission"), (5, "install-failed")],
)
@pytest.mark.parametrize("call", ["rename", "mkdir", "link", "open"])
def test_failing_file_system_leaves_the_environment_as_it_was(
    env: Env, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: str
) -> None:
    """T22: no failure after an uninstall may leave the old package gone."""
    env.apply([make_wheel("one", "1", {"one/a.py": "", "shared/x.py": ""}), make_wheel("two", "1")])
    before = env.state()
    args = env.args([full_wheel(), make_wheel("one", "2")], ["one-1.dist-info"], link_mode="hardlink")
    real: Callable[..., object] = getattr(os, call)
    for allowed in range(1, 40, 3):
        calls = 0

        def failing(*given: object, allowed: int = allowed, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls == allowed:
                raise OSError(number, os.strerror(number), str(given[0]))
            return real(*given, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            found = outcome(args)
        if found == "done":
            break
        assert found == code
        assert env.state() == before


def test_created_environment_is_removed_again_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    pytest.importorskip("pkgc_daemon.environments.create")
    env = Env(tmp_path)
    target = tmp_path / "fresh"
    args = env.args([make_wheel("a", "1", {"x": ""}), make_wheel("b", "1", {"x/y": ""})])
    args |= {"venv": str(target), "interpreter": None, "create": {"python": sys.executable}}
    with pytest.raises(PkgcError):
        apply_plan(args)
    assert not target.exists()
    args["add"] = args["add"][:1]
    result = apply_plan(args)
    assert result["status"] == "done"
    assert result["interpreter"]["prefix"] == str(target)


def test_leftover_without_journal_is_cleared(env: Env) -> None:
    work = env.prefix / WORK
    (work / "staging" / "locked").mkdir(parents=True)
    (work / "staging" / "locked" / "file").write_text("")
    (work / "staging" / "locked").chmod(0o555)
    env.apply([make_wheel("one", "1")])
    assert not work.exists()
