"""A new environment that others find while it is being filled: nobody's work is lost or mixed."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.apply import apply_plan
from pkgc_daemon.installing.layout import WORK
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import Env


def creating(env: Env, target: Path, *wheels: Any, **more: Any) -> dict[str, Any]:
    """Arguments that make `target` and fill it."""
    args = env.args(wheels, **more)
    return args | {"venv": str(target), "interpreter": None, "create": {"python": sys.executable}}


def test_plan_for_a_missing_environment_is_stale_when_it_is_filled_by_now(tmp_path: Path) -> None:
    """Two first syncs with different locks would else leave a mixture of both."""
    env, target = Env(tmp_path), tmp_path / "new"
    assert apply_plan(creating(env, target, make_wheel("alpha", "1")))["status"] == "done"
    assert apply_plan(creating(env, target, make_wheel("alpha", "2")))["status"] == "stale"
    assert [path.name for path in target.glob("lib/python*/site-packages/*.dist-info")] == [
        "alpha-1.dist-info"
    ]


def test_new_environment_that_somebody_else_uses_is_not_removed(tmp_path: Path) -> None:
    """Who gives up waiting for the lock must not delete the folder under its holder."""
    env, target = Env(tmp_path), tmp_path / "new"
    target.mkdir()
    with (target / ".lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(PkgcError, match="has held") as caught:
            apply_plan(creating(env, target, make_wheel("alpha", "1"), lock_timeout=0.1))
    assert caught.value.code == "environment-locked"
    assert (target / "pyvenv.cfg").exists()


class _Failing:
    """Lets somebody else work beside an environment that is being made, and then makes it fail."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def __call__(self) -> bool:
        self._meanwhile()
        return True


def test_failed_creation_takes_away_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    """A cancelled first sync must not delete the project around its environment."""
    env, target = Env(tmp_path), tmp_path / "proj" / "envs" / "a"

    def meanwhile() -> None:
        (tmp_path / "proj" / "precious.txt").write_text("mine")
        (tmp_path / "proj" / "envs" / "b").mkdir(exist_ok=True)

    with pytest.raises(PkgcError, match="interrupted"):
        apply_plan(creating(env, target, make_wheel("alpha", "1")), None, _Failing(meanwhile))
    assert sorted(path.name for path in (tmp_path / "proj").rglob("*")) == ["b", "envs", "precious.txt"]


def test_failed_creation_keeps_a_file_of_the_user_inside(tmp_path: Path) -> None:
    """It lies in the folder that was made, but was not made with it."""
    env, target = Env(tmp_path), tmp_path / "proj" / "a"
    write = _Failing(lambda: (target / "precious.txt").write_text("mine"))
    with pytest.raises(PkgcError, match="interrupted"):
        apply_plan(creating(env, target, make_wheel("alpha", "1")), None, write)
    assert [path.name for path in target.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("existed", [True, False])
def test_refused_first_sync_leaves_no_trace(tmp_path: Path, existed: bool) -> None:
    """Not even a lock file in a folder that was there and empty."""
    env, target = Env(tmp_path), tmp_path / "some" / "new"
    if existed:
        target.mkdir(parents=True)
    wheels = [make_wheel(name, "1", {"shared.py": name}) for name in ("alpha", "zeta")]
    with pytest.raises(PkgcError) as caught:
        apply_plan(creating(env, target, *wheels, strict=True))
    assert caught.value.code == "overlapping-files"
    assert list(target.iterdir()) == [] if existed else not (tmp_path / "some").exists()


def test_environment_that_was_taken_away_is_not_filled(tmp_path: Path) -> None:
    """Its maker failed between the look at it and the lock: what is left is a folder, no environment."""
    env = Env(tmp_path)
    (env.prefix / "pyvenv.cfg").unlink()
    assert env.apply([make_wheel("alpha", "1")])["status"] == "stale"
    assert not (env.prefix / ".lock").exists()
    shutil.rmtree(env.prefix)
    assert env.apply([make_wheel("alpha", "1")])["status"] == "stale"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_new_environment_has_the_modes_of_its_owner(tmp_path: Path, umask: int) -> None:
    """The daemon may run with another umask than the command that it serves."""
    env, target = Env(tmp_path), tmp_path / "some" / "new"
    before = os.umask(0o037)
    try:
        result = apply_plan(creating(env, target, make_wheel("alpha", "1"), umask=umask, link_mode="copy"))
    finally:
        os.umask(before)
    assert result["status"] == "done"
    for path in (target.parent, target, *target.rglob("*")):
        if path.is_symlink():
            continue
        mode, most = path.stat().st_mode & 0o777, 0o777 if path.is_dir() else 0o666
        # `venv` copies the modes of its templates, whoever runs it.
        if path.suffix not in (".ps1", ".csh", ".fish") and path.name != "activate":
            assert oct(mode & most) == oct(most & ~umask), path


def test_waiter_plans_again_when_the_environment_is_taken_away(tmp_path: Path) -> None:
    """A first sync fails and removes what it made; who waited for its lock must not fill a deleted folder."""
    env, target = Env(tmp_path), tmp_path / "new"
    results: list[str] = []

    def wait() -> None:
        found = env.args([make_wheel("beta", "1")]) | {"venv": str(target), "interpreter": interpreter}
        results.append(apply_plan(found)["status"])

    made = apply_plan(creating(env, target))
    interpreter = made["interpreter"]
    with (target / ".lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        thread = threading.Thread(target=wait)
        thread.start()
        # The holder removes the environment, as a failed creation does, and then lets go.
        while not any(is_open(fd, target / ".lock") for fd in others(holder)):
            pass
        os.rename(target, tmp_path / "away")
    thread.join(10)
    assert results == ["stale"]
    assert not target.exists()
    assert WORK not in os.listdir(tmp_path / "away")


def is_open(fd: str, path: Path) -> bool:
    """Whether a descriptor is open on `path`; it may have been closed since it was listed."""
    try:
        return os.path.samefile(f"/proc/self/fd/{fd}", path)
    except FileNotFoundError:
        return False


def others(holder: Any) -> list[str]:
    """Open descriptors that can be looked at, without the holder's own."""
    return [
        fd
        for fd in os.listdir("/proc/self/fd")
        if fd != str(holder.fileno()) and os.path.exists(f"/proc/self/fd/{fd}")
    ]
