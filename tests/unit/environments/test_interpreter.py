"""Probing interpreters: what selection and installing believe of a target comes from here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import packaging
import pytest
from packaging.tags import compatible_tags, cpython_tags, platform_tags

from pkgc_daemon.environments.interpreter import (
    find_python,
    interpreter_from_wire,
    interpreter_key,
    probe_interpreter,
)
from pkgc_daemon.errors import InputError, PkgcError

SITE = str(Path(packaging.__file__).parent.parent)


def ask(python: str, code: str, *flags: str) -> Any:
    """What `code` prints (JSON) in `python`, with this project's packaging importable; None if it fails."""
    setup = f"import sys, json; sys.path.insert(0, {SITE!r}); "
    ran = subprocess.run(
        [python, "-I", *flags, "-c", setup + code], capture_output=True, text=True, check=False
    )
    return json.loads(ran.stdout) if ran.returncode == 0 else None


def make_venv(python: str, folder: Path) -> str:
    subprocess.run([python, "-I", "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python")


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def is_running(process: int) -> bool:
    ran = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return ran.stdout.strip() != "" and not ran.stdout.startswith("Z")


def test_tags_are_those_of_packaging_in_the_target(python: str) -> None:
    """Otherwise another wheel is chosen than by pip, or one that does not load."""
    interpreter = interpreter_from_wire(probe_interpreter({"python": python}))
    expected = ask(python, "import packaging.tags as t; print(json.dumps([str(x) for x in t.sys_tags()]))")
    if expected is None:  # packaging no longer runs there; the C library is the same as ours
        version = tuple(map(int, interpreter.version.split(".")))[:2]
        cp = "cp" + "".join(map(str, version))
        platforms = list(platform_tags())
        both = (*cpython_tags(version, [cp], platforms), *compatible_tags(version, cp, platforms))
        expected = list(map(str, both))
    assert list(interpreter.tags) == expected


def test_markers_are_those_of_packaging_in_the_target(python: str) -> None:
    """Otherwise lines of a lock are wrongly skipped or installed."""
    interpreter = interpreter_from_wire(probe_interpreter({"python": python}))
    expected = ask(python, "from packaging.markers import default_environment as e; print(json.dumps(e()))")
    if expected is None:
        expected = {**interpreter.markers, "python_full_version": interpreter.version}
    assert dict(interpreter.markers) == expected


def test_an_environment_is_seen_as_its_own_site_sees_it(python: str, tmp_path: Path) -> None:
    """Packages must land where the environment's Python imports them from."""
    inside = make_venv(python, tmp_path / "env")
    wire = probe_interpreter({"python": inside})
    interpreter = interpreter_from_wire(wire)
    prefix = str(tmp_path / "env")
    seen = ask(
        inside,
        "import sysconfig, importlib.util as u; p = sysconfig.get_paths();"
        "print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, p['purelib'], p['platlib'],"
        " p['scripts'], p['data'], sys.implementation.cache_tag, u.MAGIC_NUMBER.hex()]))",
    )
    paths = interpreter.paths
    assert seen == [
        interpreter.executable,
        interpreter.prefix,
        interpreter.base_prefix,
        *(paths[name] for name in ("purelib", "platlib", "scripts", "data")),
        interpreter.cache_tag,
        interpreter.pycache_magic,
    ]
    assert interpreter.is_virtual
    assert interpreter.prefix == prefix
    minor = ".".join(interpreter.version.split(".")[:2])
    assert paths["include"] == f"{prefix}/include/site/python{minor}"
    assert os.path.realpath(wire["base_executable"]) == os.path.realpath(python)
    assert interpreter_from_wire(probe_interpreter({"python": wire["base_executable"]})).is_virtual is False
    assert msgpack.unpackb(msgpack.packb(wire)) == wire


def test_code_of_the_environment_does_not_run(any_python: str, tmp_path: Path) -> None:
    """A broken or slow .pth file must not keep an environment from being repaired."""
    inside = make_venv(any_python, tmp_path / "env")
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "evil.pth").write_text("import os; print('noise', flush=True); os._exit(3)\n")
    (site / "sitecustomize.py").write_text("raise SystemExit(4)\n")
    assert interpreter_from_wire(probe_interpreter({"python": inside})).prefix == str(tmp_path / "env")


def test_python_variables_of_the_caller_do_not_count(
    any_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONHOME and the like belong to another Python than the target."""
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    expected = probe_interpreter({"python": any_python})
    for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.chdir(tmp_path)
    assert probe_interpreter({"python": any_python}) == expected


def test_noise_around_the_answer_is_ignored(any_python: str, tmp_path: Path) -> None:
    """Wrapper scripts that print something are common."""
    noisy = script(tmp_path / "noisy", f'echo "{{}}"; echo hello >&2; {any_python} "$@"; echo "[]"\n')
    wire = probe_interpreter({"python": noisy})
    assert interpreter_from_wire(wire).executable == any_python


def test_failures_say_what_the_interpreter_said(tmp_path: Path) -> None:
    """A person must be able to tell why a Python does not work."""
    broken = script(tmp_path / "broken", "echo 'libpython3.99.so: not found' >&2; exit 127\n")
    with pytest.raises(PkgcError) as caught:
        probe_interpreter({"python": broken})
    assert caught.value.code == "probe-failed"
    assert "libpython3.99.so" in (caught.value.context or "")
    silent = script(tmp_path / "silent", "exit 0\n")
    with pytest.raises(PkgcError, match="exit status 0") as caught:
        probe_interpreter({"python": silent})
    with pytest.raises(PkgcError) as caught:
        probe_interpreter({"python": str(tmp_path / "none")})
    assert caught.value.code == "python-not-found"
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(PkgcError, match="gone, which does not exist") as caught:
        probe_interpreter({"python": str(tmp_path / "dangling")})
    assert caught.value.code == "python-not-found"
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(PkgcError) as caught:
        probe_interpreter({"python": str(tmp_path / "text")})
    assert caught.value.code == "probe-failed"


def test_an_interpreter_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """A child that keeps the pipe open must not hold a sync for ever."""
    hanging = script(tmp_path / "hanging", f"sleep 60 & echo $! > {tmp_path}/pid; wait\n")
    started = time.monotonic()
    with pytest.raises(PkgcError, match=r"within 0\.5 s"):
        probe_interpreter({"python": hanging, "timeout": 0.5})
    assert time.monotonic() - started < 10
    child = int((tmp_path / "pid").read_text())
    while time.monotonic() - started < 20 and is_running(child):
        time.sleep(0.02)
    assert not is_running(child)


def test_an_old_python_is_refused_by_name(tmp_path: Path) -> None:
    """Not as a syntax error of our own script."""
    old = script(
        tmp_path / "old",
        'if [ "$1" = -I ]; then echo "Unknown option: -I" >&2; exit 2; fi; printf "<2.7.18>"\n',
    )
    with pytest.raises(PkgcError, match=r"Python 2\.7\.18") as caught:
        probe_interpreter({"python": old})
    assert caught.value.code == "python-too-old"
    wire = probe_interpreter({"python": sys.executable})
    wire["tags"]["version"] = [3, 7]
    with pytest.raises(PkgcError) as caught:
        interpreter_from_wire(wire)
    assert caught.value.code == "python-too-old"


@pytest.mark.parametrize(
    "change",
    [
        {"tags": None},
        {"tags": {}},
        {"markers": {"sys_platform": "linux"}},
        {"paths": {}},
        {"prefix": 7},
        {"prefix": ""},
        {"externally_managed": 1},
        {"version": None},
    ],
)
def test_a_hostile_description_is_an_error(change: dict[str, Any]) -> None:
    """The answer may come from another user's client: it must not crash the daemon."""
    wire = {**probe_interpreter({"python": sys.executable}), **change}
    with pytest.raises(PkgcError) as caught:
        interpreter_from_wire(wire)
    assert caught.value.code == "probe-failed"


def test_absurd_versions_do_not_eat_memory() -> None:
    """glibc 2.1000000000 would be as many tags."""
    wire = probe_interpreter({"python": sys.executable})
    wire["tags"]["glibc"] = [2, 10**9]
    with pytest.raises(PkgcError):
        interpreter_from_wire(wire)


def test_key_changes_with_the_interpreter_and_the_environment(any_python: str, tmp_path: Path) -> None:
    """A stale answer would put packages for another Python into an environment."""
    inside = make_venv(any_python, tmp_path / "env")
    key = interpreter_key(inside)
    assert interpreter_key(inside) == key == probe_interpreter({"python": inside})["key"]
    assert msgpack.unpackb(msgpack.packb(key)) == key
    assert probe_interpreter({"python": inside, "known": key}) == {"key": key, "unchanged": True}
    assert "unchanged" not in probe_interpreter({"python": inside, "known": [*key, 1]})
    config = tmp_path / "env" / "pyvenv.cfg"
    config.write_text(config.read_text() + "x = y\n")
    changed = interpreter_key(inside)
    assert changed != key
    Path(inside).unlink()
    Path(inside).symlink_to(script(tmp_path / "other", "exit 1\n"))
    assert interpreter_key(inside) not in (key, changed)
    with pytest.raises(PkgcError):
        interpreter_key(str(tmp_path / "none"))


def test_an_externally_managed_python_gives_its_text(any_python: str, tmp_path: Path) -> None:
    """The distribution's own words say what to do instead (PEP 668)."""
    from pkgc_daemon.environments.probe_script import externally_managed

    marker = tmp_path / "EXTERNALLY-MANAGED"
    assert externally_managed(str(tmp_path)) is None
    marker.write_text("[externally-managed]\nError=Use apt, 100% sure\nError-de=Nimm apt\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LC_ALL", "LC_MESSAGES"):
            patch.delenv(name, raising=False)
        patch.setenv("LANG", "en_US.UTF-8")
        assert externally_managed(str(tmp_path)) == "Use apt, 100% sure"
        patch.setenv("LANG", "de_AT.UTF-8")
        assert externally_managed(str(tmp_path)) == "Nimm apt"
    marker.write_bytes(b"\xff garbage")
    assert externally_managed(str(tmp_path)) == ""


def test_find_by_version_name_path_and_default(any_python: str, tmp_path: Path) -> None:
    """Each form of --python leads to the interpreter meant."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(any_python)
    (folder / "mypython").symlink_to(any_python)
    path = os.pathsep.join([str(tmp_path / "missing"), "", str(folder)])
    version = interpreter_from_wire(probe_interpreter({"python": any_python})).version
    minor = version.rpartition(".")[0]
    for request in (None, "3", minor, version, "python3"):
        assert find_python({"request": request, "path": path}) == {"python": str(folder / "python3")}
    assert find_python({"request": "mypython", "path": path})["python"] == str(folder / "mypython")
    assert find_python({"request": "./bin/mypython", "path": "", "cwd": str(tmp_path)}) == {
        "python": str(folder / "mypython")
    }
    assert find_python({"request": f"{tmp_path}/", "path": ""}) == {"python": str(folder / "python3")}
    assert find_python({"request": "~/bin/python3", "path": "", "environ": {"HOME": str(tmp_path)}}) == {
        "python": str(folder / "python3")
    }


@pytest.mark.parametrize("request_", ["2", "3.99", "3.11.99", "3.11t", "nosuch", "/nosuch/python", "."])
def test_not_found_is_explained(request_: str, any_python: str, tmp_path: Path) -> None:
    """Never another Python than the one asked for."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "void").mkdir()
    for name in ("python", "python3", "python3.11"):
        (tmp_path / "bin" / name).symlink_to(any_python)
    with pytest.raises(PkgcError) as caught:
        find_python({"request": request_, "path": str(tmp_path / "bin"), "cwd": str(tmp_path / "void")})
    assert caught.value.code == "python-not-found"
    assert caught.value.context or request_ in (".", "/nosuch/python")


def test_broken_candidates_are_passed_over(any_python: str, tmp_path: Path) -> None:
    """A shim of an inactive version comes first on many machines' PATH."""
    first, second = tmp_path / "shims", tmp_path / "bin"
    first.mkdir()
    second.mkdir()
    script(first / "python3", "echo 'pyenv: python3: command not found' >&2; exit 127\n")
    (second / "python3").symlink_to(any_python)
    path = os.pathsep.join([str(first), str(second)])
    assert find_python({"request": None, "path": path}) == {"python": str(second / "python3")}
    with pytest.raises(PkgcError) as caught:
        find_python({"request": None, "path": str(first)})
    assert "command not found" in (caught.value.context or "")
    with pytest.raises(InputError):
        find_python({"request": " ", "path": path})


def test_shims_are_followed(any_python: str, tmp_path: Path) -> None:
    """What is remembered of a shim would be wrong as soon as another version is made active."""
    script(tmp_path / "python3", f'exec {any_python} "$@"\n')
    assert find_python({"request": None, "path": str(tmp_path)}) == {"python": any_python}
