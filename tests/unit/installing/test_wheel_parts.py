"""Where the parts of a wheel go, and what is said and done on the way (W2, W12, D6, PEP 829)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pkgc_daemon.installing.records import read_record
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import MINOR, Env


@pytest.fixture
def env(tmp_path: Path) -> Env:
    return Env(tmp_path)


@pytest.mark.parametrize("pure", [True, False])
def test_root_is_purelib_decides_where_the_root_goes(env: Env, pure: bool) -> None:
    """W2: on systems whose lib64 is a folder of its own, compiled packages must not land in lib."""
    (env.prefix / "lib64").unlink()
    platform = env.prefix / "lib64" / f"python{MINOR}" / "site-packages"
    wheel = make_wheel("demo", "1", {"demo.py": ""}, root_is_purelib=pure)
    assert env.apply([wheel])["status"] == "done"
    there, empty = (env.site, platform) if pure else (platform, env.site)
    assert (there / "demo.py").exists()
    assert read_record(str(there / "demo-1.dist-info"))
    assert not empty.exists() or list(empty.iterdir()) == []


def test_newer_formats_are_warned_of(env: Env) -> None:
    """W2: what a newer format adds is not obeyed, and the person has to know."""
    warnings = env.apply([make_wheel("demo", "1", wheel_version="1.9"), make_wheel("other", "1")])["warnings"]
    assert [text.partition(" is ")[0] for text in warnings] == ["demo-1-py3-none-any.whl: Wheel-Version 1.9"]


def test_files_of_other_standards_are_copied(env: Env) -> None:
    """D6, PEP 829: licences and SBOMs must be kept; a .pth or .start file works only as it was packed."""
    files = {"demo.pth": "import demo\n", "demo.start": "demo:begin\n", "demo.py": ""}
    more = {"licenses/LICENSE": "text", "sboms/demo.cdx.json": "{}", "entry.unknown": "kept"}
    env.apply([make_wheel("demo", "1", files, dist_info_files=more)])
    expected = files | {f"demo-1.dist-info/{path}": text for path, text in more.items()}
    assert {path: (env.site / path).read_text() for path in expected} == expected


@pytest.mark.parametrize("again", [False, True])
def test_bytecode_is_made_by_the_python_of_the_environment(env: Env, again: bool) -> None:
    """W12: another Python than pkgc's own would not use what pkgc's compiles."""
    python, asked = env.prefix / "bin" / "python", env.prefix.parent / "asked"
    python.unlink()
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    wheel = make_wheel("demo", "1", {"demo/a.py": ""})
    if again:
        env.apply([wheel])
        assert not asked.exists()
    env.apply([] if again else [wheel], compile=True)
    assert "compileall" in asked.read_text()
    assert list((env.site / "demo" / "__pycache__").iterdir())
