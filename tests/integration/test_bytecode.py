"""Bytecode by the real client and daemon: compiled once per host, valid everywhere, gone with its package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.instance import Instance, running, wait_until
from tests.support.locks import pin, site
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

TOOL = make_wheel(
    "tool",
    "1.0",
    {"tool/__init__.py": "def fail():\n    raise ValueError\n", "tool/bad.py": "(\n", "shared/tool.py": ""},
    entry_points="[console_scripts]\ntool = tool:fail\n",
    data={"purelib/tool_pure.py": "pure = 1\n"},
)
OTHER = make_wheel("other", "1.0", {"other.py": "x = 1\n", "shared/other.py": ""})
NEWER = make_wheel("other", "2.0", {"other.py": "x = 2\n", "shared/other.py": ""})
#: Paths in site-packages of what is compiled, without tag.
MODULES = {"tool/__init__", "shared/tool", "tool_pure", "other", "shared/other"}


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    with IndexServer() as server:
        for wheel in (TOOL, OTHER, NEWER):
            server.add(wheel.data, wheel.filename)
        yield server


def started(root: Path, index: IndexServer, **env: str) -> Instance:
    instance = Instance(root)
    instance.env |= {"PKGC_INDEX_URL": index.url, **env}
    return instance


@pytest.fixture
def pkgc(tmp_path: Path, index: IndexServer) -> Iterator[Instance]:
    with running(tmp_path / "pkgc") as instance:
        instance.env["PKGC_INDEX_URL"] = index.url
        yield instance


def lock_of(pkgc: Instance, name: str = "both.txt", *, newer: bool = False) -> Path:
    return pkgc.requirements(pin(TOOL), pin(NEWER if newer else OTHER), name=name)


def pycs(venv: Path, tag: str = str(sys.implementation.cache_tag)) -> dict[str, Path]:
    """Bytecode in site-packages by module."""
    found = {}
    for path in site(venv).rglob("*.pyc"):
        module = path.parent.parent.relative_to(site(venv)) / path.name.removesuffix(f".{tag}.pyc")
        found[str(module)] = path
    return found


def inodes(venv: Path) -> dict[str, int]:
    return {module: path.stat().st_ino for module, path in pycs(venv).items()}


def record_of(venv: Path, info: str) -> str:
    """RECORD without the hash of the script, which names the environment."""
    lines = (site(venv) / info / "RECORD").read_text().splitlines()
    return "\n".join("script" if "/bin/" in line else line for line in lines)


def matches(venv: Path, *modules: str) -> None:
    """Python takes the bytecode of the modules as it is, and names the environment's files."""
    code = f"import {', '.join(modules)}; import tool; tool.fail()"
    ran = subprocess.run([venv / "bin/python", "-I", "-B", "-v", "-c", code], capture_output=True, text=True)
    for module in modules:
        path = site(venv) / f"{module}.py" if module != "tool" else site(venv) / "tool/__init__.py"
        assert f"matches {path}" in ran.stderr, module
    assert f'File "{site(venv)}/tool/__init__.py", line 2, in fail' in ran.stderr


def test_the_second_environment_starts_no_compiler(pkgc: Instance, tmp_path: Path) -> None:
    """Compiled once per host: a second environment has the very files of the first, in the same time as
    without; and what is written about it is what is written without bytecode."""
    one, two, plain = tmp_path / "one", tmp_path / "two", tmp_path / "plain"
    lock = lock_of(pkgc)
    options = ("--compile-bytecode", "--link-mode", "hardlink")
    pkgc.sync(lock, "--venv", one, *options)
    compiled = inodes(one)
    assert compiled.keys() == MODULES
    stored = pkgc.ok("cache", "size", "--output-format", "json").json["bytecode"]
    assert stored["files"] == len(MODULES)
    pkgc.sync(lock, "--venv", two, *options)
    assert inodes(two) == compiled
    assert pkgc.ok("cache", "size", "--output-format", "json").json["bytecode"] == stored
    pkgc.sync(lock, "--venv", plain, "--link-mode", "symlink")
    assert not pycs(plain)
    for info in ("tool-1.0.dist-info", "other-1.0.dist-info"):
        assert len({record_of(venv, info) for venv in (one, two, plain)}) == 1
    for venv in (one, two):
        matches(venv, "tool", "tool_pure", "other")
    assert inodes(two) == compiled  # and Python has not written it anew
    assert "Compiled" not in pkgc.ok("sync", lock, "--venv", two, "--compile-bytecode").out


def test_it_goes_with_its_package(pkgc: Instance, tmp_path: Path) -> None:
    """D3: neither pip nor pkgc may leave bytecode of what is gone: its folder would still be importable."""
    lock = lock_of(pkgc)
    empty = pkgc.requirements("# nothing", name="empty.txt")
    one, two = tmp_path / "one", tmp_path / "two"
    for venv in (one, two):
        pkgc.sync(lock, "--venv", venv, "--compile-bytecode")
    pip = [sys.executable, "-m", "pip", "--python", str(one / "bin/python")]
    subprocess.run([*pip, "uninstall", "-y", "tool", "other"], check=True, capture_output=True)
    pkgc.sync(empty, "--venv", two)
    for venv in (one, two):
        assert not list(venv.glob("lib/python*/site-packages/*"))


def test_one_package_changes(pkgc: Instance, tmp_path: Path) -> None:
    """An upgrade must not run the old version's bytecode, nor lose that of what stays."""
    venv = tmp_path / "venv"
    pkgc.sync(lock_of(pkgc), "--venv", venv, "--compile-bytecode")
    before = inodes(venv)
    pkgc.sync(lock_of(pkgc, "newer.txt", newer=True), "--venv", venv, "--compile-bytecode")
    after = inodes(venv)
    assert after.keys() == before.keys()
    changed = {module for module in MODULES if before[module] != after[module]}
    assert changed == {"other", "shared/other"}
    code = "import other; print(other.x)"
    assert subprocess.check_output([venv / "bin/python", "-I", "-B", "-c", code]) == b"2\n"


def test_two_pythons_share_one_cache(pkgc: Instance, tmp_path: Path) -> None:
    """W12: each environment has the bytecode of its own Python, whichever came first."""
    found = [interpreters.find(version) for version in ("3.11", "3.12")]
    if None in found:
        pytest.skip("CPython 3.11 and 3.12 are needed")
    lock = lock_of(pkgc)
    for turn in range(2):
        for python in found:
            assert python is not None
            venv = tmp_path / f"{python.version}-{turn}"
            pkgc.sync(lock, "--venv", venv, "--python", python.path, "--compile-bytecode")
            tag = f"cpython-{python.version.replace('.', '')}"
            assert pycs(venv, tag).keys() == MODULES
            matches(venv, "tool", "other")


def test_damaged_bytecode_is_made_again(pkgc: Instance, tmp_path: Path) -> None:
    """Invariant 6: damage in the cache costs a compilation, and never reaches an environment."""
    lock = lock_of(pkgc)
    pkgc.sync(lock, "--venv", tmp_path / "one", "--compile-bytecode", "--link-mode", "copy")
    (stored,) = Path(pkgc.ok("cache", "dir").out.strip()).glob("bytecode/*/*/*/root/__pycache__/other.*.pyc")
    whole = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(whole + b"x")
    for options in (("--compile-bytecode",), ()):
        venv = tmp_path / f"after{len(options)}"
        pkgc.sync(lock, "--venv", venv, "--link-mode", "copy", *options)
        matches(venv, "tool", "other")
        assert pycs(venv)["other"].read_bytes()[16:] == whole[16:]


def test_a_tree_that_is_unpacked_again_has_bytecode_of_its_own(pkgc: Instance, tmp_path: Path) -> None:
    """A healed tree has other times: Python would take none of the old bytecode."""
    lock = lock_of(pkgc)
    pkgc.sync(lock, "--venv", tmp_path / "one", "--compile-bytecode", "--link-mode", "copy")
    (source,) = Path(pkgc.ok("cache", "dir").out.strip()).glob("trees/*/*/root/other.py")
    source.chmod(0o644)
    source.write_text("x = 3 # changed\n")
    venv = tmp_path / "two"
    pkgc.sync(lock, "--venv", venv, "--compile-bytecode", "--link-mode", "copy")
    assert (site(venv) / "other.py").read_text() == "x = 1\n"
    assert pycs(venv).keys() == MODULES
    matches(venv, "tool", "other")


def test_what_is_installed_again_has_bytecode_unasked(pkgc: Instance, tmp_path: Path) -> None:
    """The first start of a program in a new environment must not compile what the host compiled before."""
    lock = lock_of(pkgc)
    for number in range(2):
        pkgc.sync(lock, "--venv", tmp_path / f"early{number}", "--link-mode", "hardlink")
        assert not pycs(tmp_path / f"early{number}")

    def stored() -> int:
        return int(pkgc.ok("cache", "size", "--output-format", "json").json["bytecode"]["files"])

    wait_until(lambda: stored() == len(MODULES), "it is compiled in the background")
    venv = tmp_path / "late"
    pkgc.sync(lock, "--venv", venv, "--link-mode", "hardlink")
    assert pycs(venv).keys() == MODULES
    matches(venv, "tool", "other")


def test_off(tmp_path: Path, index: IndexServer) -> None:
    """PKGC_BYTECODE=off: the cache keeps none; --compile-bytecode still does what it says."""
    instance = started(tmp_path / "off", index, PKGC_BYTECODE="off")
    try:
        venv = tmp_path / "venv"
        instance.sync(lock_of(instance), "--venv", venv, "--compile-bytecode")
        assert pycs(venv).keys() == MODULES
        assert instance.ok("cache", "size", "--output-format", "json").json["bytecode"]["files"] == 0
    finally:
        instance.stop()


def test_an_odd_value_is_told(tmp_path: Path, index: IndexServer) -> None:
    """A misspelt `off` must not count as something else."""
    instance = started(tmp_path / "odd", index, PKGC_BYTECODE="never")
    try:
        result = instance.run("daemon", "start")
        assert result.status != 0
        assert "PKGC_BYTECODE" in result.err
    finally:
        instance.stop()


def test_the_hands_of_a_client_place_it_too(tmp_path: Path, index: IndexServer) -> None:
    """Where the client's process places the files (same uid here), --compile-bytecode must give the same."""
    with running(tmp_path / "hands", host_calls=True) as pkgc:
        pkgc.env["PKGC_INDEX_URL"] = index.url
        venv = tmp_path / "venv"
        pkgc.sync(lock_of(pkgc), "--venv", venv, "--compile-bytecode")
        assert pycs(venv).keys() == MODULES
        matches(venv, "tool", "other")
