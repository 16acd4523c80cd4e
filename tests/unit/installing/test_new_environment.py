"""A new environment that others find while it is being filled: nobody's work is lost or mixed."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
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
        while not any(os.path.samefile(f"/proc/self/fd/{fd}", target / ".lock") for fd in others(holder)):
            pass
        os.rename(target, tmp_path / "away")
    thread.join(10)
    assert results == ["stale"]
    assert not target.exists()
    assert WORK not in os.listdir(tmp_path / "away")


def others(holder: Any) -> list[str]:
    """Open descriptors that can be looked at, without the holder's own."""
    return [
        fd
        for fd in os.listdir("/proc/self/fd")
        if fd != str(holder.fileno()) and os.path.exists(f"/proc/self/fd/{fd}")
    ]
