"""Which environments pkgc makes, changes, refuses; what it removes, replaces, keeps; how files get there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.instance import Instance, clean_environment, running, snapshot
from tests.support.locks import failure, holds, importing, make_venv, output_of, pin, site, versions
from tests.support.peertools import UV, uv_environment
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

TOOL = make_wheel(
    "tool",
    "1.0",
    {"tool/__init__.py": "def main():\n    print('tool runs')\n", "tool/data.txt": "as packed\n"},
    entry_points="[console_scripts]\ntool = tool:main\n",
    data={
        "scripts/raw-tool": "#!python\nimport tool\ntool.main()\n",
        "data/share/tool/notes.txt": "notes\n",
        "purelib/tool_pure.py": "pure = 1\n",
        "platlib/tool_plat.py": "plat = 1\n",
        "headers/tool.h": "/* header */\n",
    },
    executable=("scripts/raw-tool",),
)
NEWER = make_wheel("tool", "2.0", {"tool/__init__.py": "def main():\n    print('tool 2')\n"})
OTHER = make_wheel("other", "1.0", {"other.py": "x = 1\n"})
LEFT = make_wheel("space-left", "1.0", {"space/left/__init__.py": "side = 'left'\n"})
RIGHT = make_wheel("space-right", "1.0", {"space/right/__init__.py": "side = 'right'\n"})


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """tool, other, and two halves of a namespace package."""
    with IndexServer() as server:
        for wheel in (TOOL, NEWER, OTHER, LEFT, RIGHT):
            server.add(wheel.data, wheel.filename)
        yield server


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, index: IndexServer
) -> Iterator[Instance]:
    """One daemon for this module; every test has environments of its own."""
    root = tmp_path_factory.mktemp("environments") / "pkgc"
    with running(root, host_calls=request.param == "client-acts") as instance:
        instance.env["PKGC_INDEX_URL"] = index.url
        yield instance


def lock_of(pkgc: Instance, *wheels: BuiltWheel, hashed: bool = True) -> Path:
    """A requirements file that pins these wheels."""
    return pkgc.requirements("# lock", *(pin(wheel, hashed=hashed) for wheel in wheels))


def uv_venv(path: Path, *options: str) -> Path:
    """An environment by `uv venv`."""
    subprocess.run(
        [UV, "venv", "-q", "--python", sys.executable, *options, path],
        check=True,
        env=uv_environment(path.parent / "uv-cache"),
    )
    return path


def test_missing_environment_is_made_and_kept(pkgc: Instance, tmp_path: Path) -> None:
    """.venv by default, parents included; the next sync changes it in place."""
    lock = lock_of(pkgc, TOOL)
    result = pkgc.ok("sync", lock, cwd=tmp_path)
    venv = tmp_path / ".venv"
    assert "Created" in result.out
    assert str(venv) in result.out
    assert output_of(venv / "bin/tool") == "tool runs"
    assert holds(venv) == {"tool": "1.0"}, "pkgc seeds nothing"
    inode = venv.stat().st_ino
    result = pkgc.ok("sync", lock_of(pkgc, NEWER), cwd=tmp_path)
    assert "Created" not in result.out
    assert output_of(venv / "bin/python", "-c", "import tool; tool.main()") == "tool 2"
    assert venv.stat().st_ino == inode
    lock = lock_of(pkgc, TOOL)
    deep = tmp_path / "a" / "b c" / "venv"
    pkgc.sync(lock, "--venv", "a/b c/venv", cwd=tmp_path)
    assert output_of(deep / "bin/tool") == "tool runs"
    active = tmp_path / "active"
    pkgc.sync(lock, cwd=tmp_path, env={"VIRTUAL_ENV": str(active)})
    assert holds(active) == {"tool": "1.0"}


def test_empty_lock_makes_an_empty_environment(pkgc: Instance, tmp_path: Path) -> None:
    """A project without dependencies still gets its environment, and emptying one works."""
    lock = lock_of(pkgc)
    answer = pkgc.sync(lock, "--venv", tmp_path / "venv")
    assert (answer["installed"], answer["removed"], answer["kept"]) == ([], [], 0)
    assert importing(tmp_path / "venv", "print(1)") == "1"
    assert not (tmp_path / "venv/.pkgc").exists()


def test_python_option(pkgc: Instance, tmp_path: Path) -> None:
    """--python makes what was asked for, and never silently works in an environment of another Python."""
    other = interpreters.find("3.12") or interpreters.find("3.10")
    if other is None:
        pytest.skip("one Python only")
    lock = lock_of(pkgc, TOOL)
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "--python", other.path)
    assert importing(venv, "import sys; print('%d.%d' % sys.version_info[:2])") == other.version
    pkgc.sync(lock, "--venv", venv, "--python", other.version)
    pkgc.sync(lock, "--venv", venv, "--python", other.path)
    pkgc.sync(lock, "--venv", venv, env={"PATH": f"{other.path.parent}:/usr/bin:/bin"})
    before = snapshot(venv)
    error = failure(pkgc, "sync", lock, "--venv", venv, "--python", "3.8")
    assert error["code"] == "python-mismatch"
    assert other.full_version in error["everything"]
    assert "3.8" in error["everything"]
    error = failure(pkgc, "sync", lock, "--venv", tmp_path / "new", "--python", "3.99")
    assert error["code"] == "python-not-found"
    assert "3.99" in error["everything"]
    error = failure(pkgc, "sync", lock, "--venv", tmp_path / "new", "--python", tmp_path / "nopython")
    assert error["code"] == "python-not-found"
    assert snapshot(venv) == before
    assert not (tmp_path / "new").exists()


def test_what_is_no_environment_is_refused(pkgc: Instance, tmp_path: Path) -> None:
    """Neither a system Python nor somebody's folder is touched."""
    lock = lock_of(pkgc, TOOL)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    error = failure(pkgc, "sync", lock, "--venv", folder)
    assert error["code"] == "not-an-environment"
    assert str(folder) in error["message"]
    assert error["hint"]
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    plain = tmp_path / "file"
    plain.write_text("")
    assert failure(pkgc, "sync", lock, "--venv", plain)["code"] == "not-an-environment"
    assert failure(pkgc, "sync", lock, "--venv", sys.base_prefix)["code"] in (
        "not-an-environment",
        "externally-managed",
    )
    error = failure(pkgc, "list", "--venv", tmp_path / "missing")
    assert error["code"] == "no-environment"
    broken = make_venv(tmp_path / "broken", sys.executable)
    for path in broken.glob("bin/python*"):
        path.unlink()
    (broken / "bin/python").symlink_to("/nonexistent/python")
    error = failure(pkgc, "sync", lock, "--venv", broken)
    assert str(broken) in error["everything"]
    assert error["hint"]


def test_externally_managed_python_is_refused_in_its_own_words(pkgc: Instance) -> None:
    """PEP 668: a distribution's Python says how to install; those words are passed on."""
    system = Path("/usr/bin/python3")
    marker = next(Path("/usr/lib").glob("python3*/EXTERNALLY-MANAGED"), None)
    if not system.exists() or marker is None:
        pytest.skip("no externally managed Python here")
    error = failure(pkgc, "sync", lock_of(pkgc, TOOL), "--venv", "/usr")
    assert error["code"] == "externally-managed"
    assert "apt" in error["everything"] or "virtual environment" in error["everything"]


def test_an_environment_through_a_symlink(pkgc: Instance, tmp_path: Path) -> None:
    """Homes and scratch disks are linked: both names mean one environment."""
    lock = lock_of(pkgc, TOOL)
    real = tmp_path / "real"
    pkgc.sync(lock, "--venv", real)
    link = tmp_path / "link"
    link.symlink_to(real)
    answer = pkgc.sync(lock, "--venv", link)
    assert (answer["installed"], answer["kept"]) == ([], 1)
    assert versions(pkgc.ok("list", "--venv", link, "--output-format", "json").json, "packages")
    assert pkgc.sync(lock, "--venv", real)["kept"] == 1
    pkgc.sync(lock_of(pkgc, NEWER), "--venv", link)
    assert holds(real) == {"tool": "2.0"}


def test_a_copied_environment(pkgc: Instance, tmp_path: Path) -> None:
    """A copy is an environment of its own: syncing it never reaches into the one it was copied from."""
    lock = lock_of(pkgc, TOOL)
    first = tmp_path / "first"
    pkgc.sync(lock, "--venv", first)
    copy = tmp_path / "copy"
    shutil.copytree(first, copy, symlinks=True)
    result = pkgc.run("sync", lock_of(pkgc, NEWER), "--venv", copy)
    assert result.status == 0, str(result)
    assert holds(first) == {"tool": "1.0"}
    assert holds(copy) == {"tool": "2.0"}
    assert output_of(first / "bin/tool") == "tool runs"


def test_seeds_stay_where_somebody_seeded_them(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """pip in a `python -m venv` or `uv venv --seed` environment is the owner's; elsewhere extraneous."""
    for name in ("pip", "setuptools", "wheel"):
        wheel = make_wheel(name, "99.0")
        index.add(wheel.data, wheel.filename)
    lock = lock_of(pkgc, TOOL)
    stays = {
        make_venv(tmp_path / "by-venv", sys.executable): True,
        uv_venv(tmp_path / "by-uv", "--seed", "--default-index", index.url): True,
        uv_venv(tmp_path / "bare"): False,
        tmp_path / "own": False,
    }
    pkgc.sync(lock, "--venv", tmp_path / "own")
    for venv, stay in stays.items():
        if "pip" not in holds(venv):
            command: list[str | Path] = [
                UV,
                "pip",
                "install",
                "-q",
                "--python",
                venv / "bin/python",
                "-i",
                index.url,
                "pip",
            ]
            subprocess.run(command, check=True, env=uv_environment(tmp_path / "uv-cache"))
        assert "pip" in holds(venv)
        pkgc.sync(lock, "--venv", venv)
        assert ("pip" in holds(venv)) is stay, venv
        assert holds(venv)["tool"] == "1.0"
        assert pkgc.sync(lock, "--venv", venv)["removed"] == []


def test_extraneous_goes_unless_inexact(pkgc: Instance, tmp_path: Path) -> None:
    """An environment equals its lock; --inexact only adds."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, TOOL, OTHER), "--venv", venv)
    answer = pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv, "--inexact")
    assert (answer["removed"], answer["kept"]) == ([], 2)
    assert pkgc.run("sync", lock_of(pkgc, TOOL), "--venv", venv, "--check").status == 1
    result = pkgc.ok("sync", lock_of(pkgc, TOOL), "--venv", venv)
    assert "Removed 1 package" in result.out
    assert " - other==1.0" in result.out
    assert holds(venv) == {"tool": "1.0"}


def test_reinstall(pkgc: Instance, tmp_path: Path) -> None:
    """--reinstall repairs what somebody edited; --reinstall-package only the named one."""
    venv = tmp_path / "venv"
    lock = lock_of(pkgc, TOOL, OTHER)
    pkgc.sync(lock, "--venv", venv)
    edited = site(venv) / "tool/data.txt"
    edited.unlink()
    edited.write_text("edited\n")
    answer = pkgc.sync(lock, "--venv", venv, "--reinstall-package", "Tool")
    assert versions(answer) == {"tool": "1.0"}
    assert edited.read_text() == "as packed\n"
    answer = pkgc.sync(lock, "--venv", venv, "--reinstall")
    assert versions(answer) == {"tool": "1.0", "other": "1.0"}
    assert answer["downloaded"]["files"] == 0


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_what_other_tools_installed(
    pkgc: Instance, index: IndexServer, tmp_path: Path, installer: str
) -> None:
    """Same version, unknown bytes: good enough for an unhashed pin, not for a hashed one."""
    venv = make_venv(tmp_path / "venv", sys.executable)
    wheel = TOOL.write_to(tmp_path / "house")
    python = str(venv / "bin/python")
    if installer == "uv":
        command = [str(UV), "pip", "install", "-q", "--python", python, "-i", index.url]
        env = uv_environment(tmp_path / "uv-cache")
    else:
        command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-input"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "-i", index.url]
        env = clean_environment()
    subprocess.run([*command, "tool==1.0"], check=True, env=env, capture_output=True)
    answer = pkgc.sync(lock_of(pkgc, TOOL, hashed=False), "--venv", venv)
    assert (answer["installed"], answer["kept"]) == ([], 1)
    listed = pkgc.ok("list", "--venv", venv, "--output-format", "json").json["packages"]
    assert [one["installer"] for one in listed] == [installer]
    answer = pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv)
    assert versions(answer) == versions(answer, "removed") == {"tool": "1.0"}
    assert output_of(venv / "bin/tool") == "tool runs"
    assert (site(venv) / "tool-1.0.dist-info/INSTALLER").read_text().strip() == "pkgc"
    # installed from a file: that is no index install, whatever the version
    subprocess.run([*command, "--force-reinstall", str(wheel)], check=True, env=env, capture_output=True)
    answer = pkgc.sync(lock_of(pkgc, TOOL, hashed=False), "--venv", venv)
    assert versions(answer) == {"tool": "1.0"}


def test_what_pkgc_installed_is_usable_by_other_tools(pkgc: Instance, tmp_path: Path) -> None:
    """RECORD and metadata are right: pip and uv list, check and uninstall what pkgc installed."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, TOOL, OTHER), "--venv", venv)
    env = uv_environment(tmp_path / "uv-cache")
    python = str(venv / "bin/python")
    uv = [str(UV), "pip", "--quiet"]
    subprocess.run([*uv, "uninstall", "--python", python, "other"], check=True, env=env)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "uninstall", "-q", "-y", "tool"], check=True, env=clean_environment())
    left = [str(path) for path in venv.rglob("*") if "tool" in path.name or "other" in path.name]
    assert [path for path in left if "__pycache__" not in path and not Path(path).is_dir()] == []


def test_what_cannot_be_removed_cleanly(pkgc: Instance, tmp_path: Path) -> None:
    """Editable installs can go; a distribution without RECORD is named before anything is changed."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, OTHER), "--venv", venv)
    place = site(venv)
    info = place / "mystery-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mystery\nVersion: 1.0\n")
    before = snapshot(venv)
    error = failure(pkgc, "sync", lock_of(pkgc, TOOL), "--venv", venv)
    assert (error["code"], error["exit"]) == ("cannot-uninstall", 1)
    assert "mystery" in error["everything"]
    assert error["hint"]
    assert snapshot(venv) == before
    pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv, "--inexact")
    assert holds(venv)["mystery"] == "1.0"
    shutil.rmtree(info)
    # an old `setup.py develop`
    project = tmp_path / "project"
    (project / "old.egg-info").mkdir(parents=True)
    (project / "old.egg-info/PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 0.1\n")
    (project / "old.py").write_text("precious = 1\n")
    (place / "old.egg-link").write_text(f"{project}\n.")
    (place / "easy-install.pth").write_text(f"{project}\n")
    result = pkgc.run("sync", lock_of(pkgc, TOOL), "--venv", venv)
    assert result.status in (0, 1)
    assert "Traceback" not in result.err
    if result.status:
        assert "old" in result.err
    assert (project / "old.py").exists(), "the project itself is never touched"


def test_editable_install_of_another_tool(pkgc: Instance, tmp_path: Path) -> None:
    """An editable install that the lock does not name goes; its sources stay."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, OTHER), "--venv", venv)
    place, sources = site(venv), tmp_path / "src"
    sources.mkdir()
    (sources / "mine.py").write_text("mine = 1\n")
    (place / "__editable__.mine-1.0.pth").write_text(f"{sources}\n")
    info = place / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(
        f'{{"url": "{sources.as_uri()}", "dir_info": {{"editable": true}}}}'
    )
    files = [
        "__editable__.mine-1.0.pth",
        *(f"{info.name}/{n}" for n in ("METADATA", "direct_url.json", "RECORD")),
    ]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    listed = pkgc.ok("list", "--venv", venv)
    assert "mine" in listed.out
    answer = pkgc.sync(lock_of(pkgc, OTHER), "--venv", venv)
    assert versions(answer, "removed") == {"mine": "1.0"}
    assert not list(place.glob("*mine*"))
    assert (sources / "mine.py").exists()


def test_namespace_packages(pkgc: Instance, tmp_path: Path) -> None:
    """Two distributions share a folder: one goes, the other still works."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, LEFT, RIGHT), "--venv", venv)
    both = "import space.left, space.right; print(space.left.side, space.right.side)"
    assert importing(venv, both) == "left right"
    pkgc.sync(lock_of(pkgc, RIGHT), "--venv", venv)
    assert importing(venv, "import space.right; print(space.right.side)") == "right"
    assert not (site(venv) / "space/left").exists()
    pkgc.sync(lock_of(pkgc, LEFT), "--venv", venv)
    assert importing(venv, "import space.left; print(space.left.side)") == "left"
    pkgc.sync(lock_of(pkgc), "--venv", venv)
    assert not (site(venv) / "space").exists()


def test_files_of_the_user_stay(pkgc: Instance, tmp_path: Path) -> None:
    """What somebody put into a package's folder is never deleted with the package."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv)
    mine = site(venv) / "tool/my-settings.ini"
    mine.write_text("mine\n")
    (site(venv) / "my.pth").write_text("# mine\n")
    importing(venv, "import tool")
    pkgc.sync(lock_of(pkgc, NEWER), "--venv", venv)
    assert mine.read_text() == "mine\n"
    pkgc.sync(lock_of(pkgc), "--venv", venv)
    assert mine.read_text() == "mine\n"
    assert sorted(path.name for path in (site(venv) / "tool").iterdir()) == ["my-settings.ini"]
    assert (site(venv) / "my.pth").exists()


def test_data_schemes_and_scripts(pkgc: Instance, tmp_path: Path) -> None:
    """Every .data scheme lands where the interpreter looks, and scripts run from blanks and long paths."""
    for name in ("venv", "with blank", "l" * 140):
        venv = tmp_path / name
        pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv)
        assert output_of(venv / "bin/tool") == "tool runs"
        assert output_of(venv / "bin/raw-tool") == "tool runs"
        assert (venv / "share/tool/notes.txt").read_text() == "notes\n"
        assert importing(venv, "import tool_pure, tool_plat; print(tool_pure.pure + tool_plat.plat)") == "2"
        assert list(venv.glob("include/**/tool.h"))
        pkgc.sync(lock_of(pkgc), "--venv", venv)
        assert not [path for path in venv.rglob("*tool*") if "__pycache__" not in str(path)]


@pytest.mark.parametrize("mode", ["auto", "hardlink", "copy", "symlink", "reflink"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-disk", "other-disk"])
def test_link_modes(pkgc: Instance, tmp_path: Path, mode: str, elsewhere: bool) -> None:
    """Each mode works or falls back, on the cache's filesystem and on another one; copies are writable."""
    base = tmp_path
    if elsewhere:
        base = Path(f"/dev/shm/pkgc-test-{os.getpid()}")
        if not base.parent.is_dir() or base.parent.stat().st_dev == pkgc.cache.stat().st_dev:
            pytest.skip("no second filesystem here")
        base.mkdir()
    try:
        venv = base / "venv"
        pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv, "--link-mode", mode)
        assert output_of(venv / "bin/tool") == "tool runs"
        placed = site(venv) / "tool/data.txt"
        assert placed.is_symlink() is (mode == "symlink")
        assert placed.read_text() == "as packed\n"
        if mode == "hardlink":
            assert (placed.stat().st_nlink > 1) is not elsewhere
        if mode == "copy":
            assert placed.stat().st_nlink == 1
            assert os.access(placed, os.W_OK)
            assert placed.stat().st_mode & 0o200
        assert pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv)["kept"] == 1
    finally:
        if elsewhere:
            shutil.rmtree(base)


def test_compiled_bytecode_is_valid(pkgc: Instance, tmp_path: Path) -> None:
    """--compile-bytecode: the interpreter uses the files as they are, and they go with the package."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, TOOL), "--venv", venv, "--compile-bytecode")
    code = "import tool; print(tool.__cached__); import tool_pure"
    cached = Path(importing(venv, code))
    assert cached == Path(importlib.util.cache_from_source(str(site(venv) / "tool/__init__.py")))
    stamp = cached.stat().st_mtime_ns
    shown = subprocess.run(
        [venv / "bin/python", "-I", "-v", "-c", "import tool"], capture_output=True, text=True, check=True
    )
    assert f"matches {site(venv) / 'tool/__init__.py'}" in shown.stderr
    assert cached.stat().st_mtime_ns == stamp
    pkgc.sync(lock_of(pkgc), "--venv", venv)
    assert not (site(venv) / "tool").exists()


def test_compiling_an_environment_that_is_right_otherwise(pkgc: Instance, tmp_path: Path) -> None:
    """--compile-bytecode promises bytecode, not only for what this very sync installs."""
    venv = tmp_path / "venv"
    lock = lock_of(pkgc, TOOL)
    pkgc.sync(lock, "--venv", venv)
    for folder in site(venv).rglob("__pycache__"):
        shutil.rmtree(folder)  # the cache may have had some, from other tests
    said = pkgc.ok("sync", lock, "--venv", venv, "--compile-bytecode").out
    assert "Checked 1 package" in said
    assert "Compiled" in said
    assert (site(venv) / "tool/__pycache__").is_dir()
    assert "Compiled" not in pkgc.ok("sync", lock, "--venv", venv, "--compile-bytecode").out


def test_overlaps_leave_nobody_with_the_bytes_of_another(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """The winner goes: the loser gets its own file back, in the same sync; --strict refuses all along."""
    wheels = [make_wheel(name, "1.0", {"clash.py": f"who = {name!r}\n"}) for name in ("ovla", "ovlb")]
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)
    venv = tmp_path / "venv"
    both, one = lock_of(pkgc, *wheels), tmp_path / "one.txt"
    one.write_text(f"-i {index.url}\novla==1.0 --hash=sha256:{wheels[0].sha256}\n")
    pkgc.ok("fetch", both)
    for more in ([], ["--dry-run"]):
        assert "overlapping-files" in pkgc.run("sync", both, "--venv", venv, "--strict", *more).err
        assert not venv.exists()
    pkgc.sync(both, "--venv", venv)
    for more in ([], ["--dry-run"]):
        assert "overlapping-files" in pkgc.run("sync", both, "--venv", venv, "--strict", *more).err
    pkgc.sync(one, "--venv", venv)
    assert (site(venv) / "clash.py").read_text() == "who = 'ovla'\n"


def test_list(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """What is installed and where it came from, for people and for programs."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc, TOOL, OTHER), "--venv", venv)
    result = pkgc.ok("list", "--venv", venv)
    assert [line.split() for line in result.out.splitlines()] == [
        ["other", "1.0", index.url],
        ["tool", "1.0", index.url],
    ]
    assert result.err == ""
    answer = pkgc.ok("list", "--venv", venv, "--output-format", "json").json
    assert answer["ok"] is True
    assert answer["python"] == interpreters.running().full_version
    assert [one["sha256"] for one in answer["packages"]] == [OTHER.sha256, TOOL.sha256]
    (site(venv) / "other.py").unlink()
    damaged = pkgc.ok("list", "--venv", venv)
    assert "damaged" in damaged.out
    answer = pkgc.sync(lock_of(pkgc, TOOL, OTHER), "--venv", venv)
    assert versions(answer) == {"other": "1.0"}, "damage is repaired by the next sync"


def test_text_of_a_sync(pkgc: Instance, tmp_path: Path) -> None:
    """What a person reads: one line per phase and package, nothing wrapped, nothing on stderr."""
    venv = make_venv(tmp_path / "venv", sys.executable)
    pkgc.ok("fetch", lock_of(pkgc, TOOL, OTHER))
    first = pkgc.ok("sync", lock_of(pkgc, TOOL, OTHER), "--venv", venv)
    lines = first.out.splitlines()
    assert lines[0].startswith("Installed 2 packages in ")
    assert lines[1:] == [" + other==1.0", " + tool==1.0"]
    second = pkgc.ok("sync", lock_of(pkgc, NEWER), "--venv", venv).out.splitlines()
    assert [line for line in second if line.startswith(" ")] == [
        " - other==1.0",
        " - tool==1.0",
        " + tool==2.0",
    ]
    third = pkgc.ok("sync", lock_of(pkgc, NEWER), "--venv", venv)
    assert third.out.startswith("Checked 1 package in ")
    assert first.err == third.err == ""
    assert pkgc.ok("sync", lock_of(pkgc, TOOL), "--venv", venv, "-q").out == ""
