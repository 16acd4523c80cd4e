"""Comparing files with RECORD: what was edited or lost in an environment must not pass for whole (T23)."""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.environments import verify
from pkgc_daemon.environments.files import open_regular
from pkgc_daemon.environments.verify import verify_distributions
from pkgc_daemon.errors import PkgcError
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import Env


@pytest.fixture
def env(tmp_path: Path) -> Env:
    """A real installation: modules, data, a script and a wrapper."""
    env = Env(tmp_path)
    demo = make_wheel(
        "demo",
        "1.0",
        {"demo/__init__.py": "x = 1\n", "demo/a,b.txt": "comma", "demo/empty.py": ""},
        data={"scripts/hello": "#!python\n", "data/share/demo.txt": "data"},
        entry_points={"console_scripts": {"demo": "demo:x"}},
    )
    env.apply([demo, make_wheel("other", "2.0", {"other.py": "y = 1\n"})], compile=True)
    return env


def compare(env: Env, *names: str, **more: Any) -> list[dict[str, Any]]:
    args = {
        "prefix": str(env.prefix),
        "purelib": str(env.site),
        "platlib": str(env.site),
        "dist_infos": [str(env.site / name) for name in names],
    }
    found: list[dict[str, Any]] = verify_distributions(args, **more)["distributions"]
    return found


def one(env: Env, name: str = "demo-1.0.dist-info") -> dict[str, Any]:
    (found,) = compare(env, name)
    return found


def test_what_was_installed_matches_and_bytecode_is_no_matter(env: Env) -> None:
    """`pkgc why` on a sound environment says so, also after programs ran in it."""
    (cached,) = (env.site / "__pycache__").glob("other.*.pyc")
    cached.write_bytes(b"made anew")
    demo, other = compare(env, "demo-1.0.dist-info", "other-2.0.dist-info")
    for found in (demo, other):
        assert (found["missing"], found["changed"], found["unreadable"]) == ([], [], [])
        assert (found["bad"], found["problem"]) == (0, None)
    # 3 modules, data, 2 scripts; METADATA, WHEEL, entry_points, INSTALLER, REQUESTED, RECORD, provenance_url
    assert demo["checked"] == 13
    assert demo["dist_info"] == str(env.site / "demo-1.0.dist-info")


def test_missing_and_changed_files_are_told_apart(env: Env) -> None:
    """T23: a deleted module, an edit of the same size, a shorter file, an edited script."""
    (env.site / "demo" / "empty.py").unlink()
    (env.site / "demo" / "__init__.py").write_text("x = 2\n")
    (env.site / "demo" / "a,b.txt").write_text("com")
    (env.prefix / "bin" / "demo").write_text("#!/bin/sh\n")
    (env.prefix / "share" / "demo.txt").unlink()
    (env.prefix / "share" / "demo.txt").mkdir()
    found = one(env)
    assert found["missing"] == ["demo/empty.py"]
    assert sorted(found["changed"]) == [
        "../../../bin/demo",
        "../../../share/demo.txt",
        "demo/__init__.py",
        "demo/a,b.txt",
    ]
    assert found["bad"] == 5
    assert one(env, "other-2.0.dist-info")["bad"] == 0


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_not_called_changed(env: Env) -> None:
    """It may be whole: only its owner can tell."""
    (env.site / "demo" / "__init__.py").chmod(0)
    assert one(env)["unreadable"] == ["demo/__init__.py"]


def test_a_file_that_fails_to_read_is_reported(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails must show, not stop the comparison of the rest."""
    real = open_regular

    def broken(path: str) -> Any:
        if path.endswith("__init__.py"):
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr(verify, "open_regular", broken)
    found = one(env)
    assert (found["unreadable"], found["bad"]) == (["demo/__init__.py"], 1)


def test_a_fifo_in_place_of_a_file_does_not_hang(env: Env) -> None:
    """Whoever can write into the environment could stop the daemon's thread for ever."""
    path = env.site / "demo" / "__init__.py"
    path.unlink()
    os.mkfifo(path)
    assert one(env)["changed"] == ["demo/__init__.py"]


def test_lines_that_leave_the_environment_are_passed_over(env: Env, tmp_path: Path) -> None:
    """D3: RECORD is no means to find out what other files hold."""
    outside = tmp_path / "secret"
    outside.write_text("secret")
    record = env.site / "other-2.0.dist-info" / "RECORD"
    lines = f"../../../../secret,,1\n{outside},,1\n../../../bin/../../secret,,1\n"
    record.write_text(record.read_text() + lines)
    found = one(env, "other-2.0.dist-info")
    assert found["bad"] == 0
    assert found["checked"] == 7


def hash_of(algorithm: str, data: bytes) -> str:
    digest = hashlib.new(algorithm, data).digest()
    return f"{algorithm}={urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("told", "changed"),
    [
        (hash_of("sha512", b"y = 1\n"), False),
        (hash_of("sha384", b"y = 2\n"), True),
        (hash_of("sha256", b"y = 2\n"), True),
        ("sha256=no base64!", True),
        ("sha256=ä", True),
        ("whirlpool=xxxx", False),
        ("shake_128=xxxx", False),
        ("", False),
    ],
)
def test_every_algorithm_that_can_be_checked_is(env: Env, told: str, changed: bool) -> None:
    """Other installers write sha384 and sha512 too; what nobody can check is only looked for."""
    record = env.site / "other-2.0.dist-info" / "RECORD"
    record.write_text(f"other.py,{told},\nother-2.0.dist-info/RECORD,,\n", "utf-8")
    assert one(env, "other-2.0.dist-info")["changed"] == (["other.py"] if changed else [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no RECORD"),
        ("", "RECORD is empty"),
        ('"a.py,,\n' + "x" * 200_000, "RECORD cannot be read"),
    ],
)
def test_without_a_record_nothing_is_claimed(env: Env, content: str | None, problem: str) -> None:
    """'All files match' over a package whose files nobody knows would be a lie."""
    record = env.site / "other-2.0.dist-info" / "RECORD"
    record.unlink()
    if content is not None:
        record.write_text(content)
    found = one(env, "other-2.0.dist-info")
    assert problem in found["problem"]
    assert found["checked"] == 0
    assert "no RECORD" in one(env, "nothing-1.0.dist-info")["problem"]


def test_an_answer_stays_small_however_much_is_gone(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes over the wire, whose frames have a limit; the number of files is still told."""
    monkeypatch.setattr(verify, "MAX_TOLD", 2)
    for name in ("__init__.py", "a,b.txt", "empty.py"):
        (env.site / "demo" / name).unlink()
    found = one(env)
    assert (len(found["missing"]), found["bad"]) == (2, 3)


def test_progress_reaches_the_end_and_a_cancel_stops(env: Env) -> None:
    """Hashing gigabytes takes long: Ctrl-C must end it, also within one file."""
    seen: list[tuple[int, int]] = []
    compare(env, "demo-1.0.dist-info", "other-2.0.dist-info", progress=lambda *now: seen.append(now))
    assert seen[-1] == (20, 20)
    with pytest.raises(PkgcError) as caught:
        compare(env, "demo-1.0.dist-info", cancelled=lambda: True)
    assert (caught.value.code, caught.value.exit_status) == ("interrupted", 130)
    asked = 0

    def later() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    large = env.site / "other.py"
    large.write_bytes(b"\0" * (5 << 20))
    record = env.site / "other-2.0.dist-info" / "RECORD"
    record.write_text("other.py,sha256=xxxx,\n")
    with pytest.raises(PkgcError):
        compare(env, "other-2.0.dist-info", cancelled=later)
    assert asked == 4
