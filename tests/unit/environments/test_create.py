"""Creating environments: complete or not there, and usable by every other tool."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.environments.create import STAGING, create_environment
from pkgc_daemon.environments.interpreter import interpreter_from_wire, probe_interpreter
from pkgc_daemon.environments.scan import scan_environment
from pkgc_daemon.environments.target import check_target
from pkgc_daemon.errors import PkgcError


def make(python: str, venv: Path) -> dict[str, Any]:
    return create_environment({"python": python, "venv": str(venv)})


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_as_python_m_venv_makes_it(python: str, tmp_path: Path) -> None:
    """Activation, other tools and the interpreter itself must find what they know."""
    theirs = tmp_path / "theirs" / "my env"
    subprocess.run([python, "-I", "-m", "venv", "--without-pip", "--symlinks", theirs], check=True)
    ours = tmp_path / "new" / "my env"
    result = make(python, ours)
    assert result["folders"] == [str(tmp_path / "new"), str(ours)]
    assert sorted(result["created"]) == sorted(str(path) for path in ours.iterdir())
    assert set(tree(ours)) | {".gitignore"} == set(tree(theirs)) | {".gitignore"}
    for path in tree(theirs):
        mine, other = ours / path, theirs / path
        if path.startswith("bin/") and other.is_symlink():
            assert mine.readlink() == other.readlink()
        elif path.startswith("bin/"):
            assert mine.read_text() == other.read_text().replace(str(theirs), str(ours)), path
            assert mine.stat().st_mode == other.stat().st_mode
    config = (ours / "pyvenv.cfg").read_text()
    kept = [line for line in config.splitlines() if not line.startswith(("pkgc =", "command ="))]
    expected = (theirs / "pyvenv.cfg").read_text().splitlines()
    assert kept == [line for line in expected if not line.startswith("command =")]
    assert STAGING not in config
    interpreter = interpreter_from_wire(result["interpreter"])
    check_target(interpreter, str(ours))
    assert result["interpreter"] == probe_interpreter({"python": str(ours / "bin" / "python")})
    shell = f'. "{ours}/bin/activate" && python -c "import sys; print(sys.prefix)"'
    ran = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(ours)


def test_nothing_is_seeded(any_python: str, tmp_path: Path) -> None:
    """What is in an environment is what the lock says."""
    result = make(any_python, tmp_path / "env")
    paths = result["interpreter"]["paths"]
    scanned = scan_environment(
        {"prefix": str(tmp_path / "env"), "purelib": paths["purelib"], "platlib": paths["platlib"]}
    )
    assert scanned["distributions"] == []
    assert scanned["seeded"] is False
    assert scanned["pyvenv"]["pkgc"]


def test_uv_accepts_it(any_python: str, tmp_path: Path) -> None:
    """uv and pkgc share environments."""
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    if not os.access(uv, os.X_OK):
        pytest.skip("uv is not installed")
    make(any_python, tmp_path / "env")
    quiet = ("--no-config", "--offline", "--cache-dir", tmp_path / "cache")
    ran = subprocess.run(
        [uv, "pip", "list", "--format", "json", "--python", tmp_path / "env", *quiet],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == []


def test_an_environment_that_is_there_stays(any_python: str, tmp_path: Path) -> None:
    """Whoever made it."""
    venv = tmp_path / "env"
    subprocess.run([any_python, "-I", "-m", "venv", "--without-pip", venv], check=True)
    before = tree(venv), (venv / "pyvenv.cfg").read_text()
    result = make(any_python, venv)
    assert result["created"] == []
    assert interpreter_from_wire(result["interpreter"]).prefix == str(venv)
    assert (tree(venv), (venv / "pyvenv.cfg").read_text()) == before


def test_an_empty_directory_is_filled(any_python: str, tmp_path: Path) -> None:
    """A mount point, or one that holds only the lock of this very sync."""
    venv = tmp_path / "env"
    venv.mkdir()
    (venv / ".lock").touch()
    result = make(any_python, venv)
    assert sorted(result["created"]) == sorted(str(path) for path in venv.iterdir() if path.name != ".lock")
    assert not (venv / STAGING).exists()


def test_other_content_is_refused(any_python: str, tmp_path: Path) -> None:
    """A project's own files must not be buried under an environment."""
    venv = tmp_path / "project"
    venv.mkdir()
    (venv / "setup.py").touch()
    (tmp_path / "file").touch()
    for place in (venv, tmp_path / "file"):
        with pytest.raises(PkgcError) as caught:
            make(any_python, place)
        assert caught.value.code == "not-an-environment"
    assert tree(tmp_path) == ["file", "project", "project/setup.py"]


def test_from_an_environment_its_base_is_taken(python: str, tmp_path: Path) -> None:
    """Else the new one breaks when the other is removed."""
    make(python, tmp_path / "first")
    result = make(str(tmp_path / "first" / "bin" / "python"), tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    again = probe_interpreter({"python": str(tmp_path / "second" / "bin" / "python")})
    assert again == result["interpreter"]
    assert str(tmp_path) not in interpreter_from_wire(again).base_prefix


def failing(tmp_path: Path, any_python: str, error: str) -> str:
    """A Python whose `venv` ends with `error`, after it has made something."""
    path = tmp_path / "failing"
    path.write_text(
        f'#!/bin/sh\nfor last; do :; done\nmkdir -p "$6"/bin 2>/dev/null\necho "{error}" >&2\nexit 1\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("OSError: [Errno 28] No space left on device: '/x'", "disk-full"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "no-permission"),
        ("OSError: [Errno 30] Read-only file system: '/x'", "read-only"),
        ("ModuleNotFoundError: No module named 'venv'", "create-failed"),
        ("Segmentation fault", "create-failed"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_failures_leave_nothing(any_python: str, tmp_path: Path, error: str, code: str, exists: bool) -> None:
    """And say what is wrong."""
    python = failing(tmp_path, any_python, error)
    venv = tmp_path / "a" / "b" / "env"
    if exists:
        venv.mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(PkgcError) as caught:
        make(python, venv)
    assert caught.value.code == code
    assert tree(tmp_path) == before


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is left of the directory that was to be."""
    with pytest.raises(PkgcError) as caught:
        make(str(tmp_path / "nopython"), tmp_path / "a" / "env")
    assert caught.value.code == "python-not-found"
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EACCES, "no-permission"), (errno.EROFS, "read-only"), (errno.ENOSPC, "disk-full")],
)
def test_a_directory_that_cannot_be_made(
    any_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    """The reason is told, not a traceback."""

    def refuse(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PkgcError) as caught:
        make(any_python, tmp_path / "env")
    assert caught.value.code == code


@pytest.mark.parametrize("moves", range(6))
def test_a_killed_creation_is_finished_by_the_next(any_python: str, tmp_path: Path, moves: int) -> None:
    """kill -9 in the middle must not leave a directory that every later sync refuses."""
    venv = tmp_path / "env"
    code = (
        "import os, sys\n"
        "from pkgc_daemon.environments import create\n"
        "real, left = os.rename, [int(sys.argv[3])]\n"
        "def rename(a, b):\n"
        "    if not left[0]: os._exit(9)\n"
        "    left[0] -= 1\n"
        "    real(a, b)\n"
        "os.rename = rename\n"
        "create.create_environment({'python': sys.argv[1], 'venv': sys.argv[2]})\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, any_python, str(venv), str(moves)], check=False)
    assert ran.returncode == 9
    assert not (venv / "pyvenv.cfg").exists()
    check_target(interpreter_from_wire(make(any_python, venv)["interpreter"]), str(venv))
    assert not (venv / STAGING).exists()


def test_a_creation_killed_while_building_is_begun_anew(any_python: str, tmp_path: Path) -> None:
    """Half of an environment is not taken for one."""
    venv = tmp_path / "env"
    (venv / STAGING / "bin").mkdir(parents=True)
    (venv / STAGING / "pyvenv.cfg").touch()
    assert make(any_python, venv)["created"]
    assert (venv / "bin" / "activate").exists()


def test_two_creations_at_once_make_one(any_python: str, tmp_path: Path) -> None:
    """Parallel jobs start with the same missing environment."""
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(make(any_python, tmp_path / "env"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert sum(bool(result["created"]) for result in results) == 1
    assert len({json.dumps(result["interpreter"]) for result in results}) == 1


def test_a_creation_that_never_ends_is_not_waited_for(any_python: str, tmp_path: Path) -> None:
    """An error that says so, instead of silence."""
    (tmp_path / "env" / STAGING).mkdir(parents=True)
    fd = os.open(tmp_path / "env" / STAGING, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(PkgcError) as caught:
            create_environment({"python": any_python, "venv": str(tmp_path / "env"), "timeout": 0.1})
        assert caught.value.code == "environment-busy"
    finally:
        os.close(fd)


def test_an_environment_whose_python_is_gone(any_python: str, tmp_path: Path) -> None:
    """It says which Python was removed, and what to do."""
    make(any_python, tmp_path / "env")
    for name in os.listdir(tmp_path / "env" / "bin"):
        if name.startswith("python"):
            (tmp_path / "env" / "bin" / name).unlink()
    (tmp_path / "env" / "bin" / "python").symlink_to(tmp_path / "python3.99")
    with pytest.raises(PkgcError, match=r"python3\.99, which does not exist") as caught:
        make(any_python, tmp_path / "env")
    assert caught.value.code == "python-not-found"
    assert "remove the environment" in (caught.value.hint or "")
