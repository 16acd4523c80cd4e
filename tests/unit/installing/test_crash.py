"""kill -9 at every point of a change, and of its undoing: the environment is old or new, never half."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing import transaction
from pkgc_daemon.installing.apply import apply_plan, recover_environment
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import SITE, Env

State = dict[str, tuple[str, bytes]]


def run_and_kill(work: Callable[[], object], at: int) -> str | None:
    """Run `work` in a child that dies by SIGKILL at its checkpoint number `at`.

    Returns:
        The checkpoint's name, or None when `work` ended first.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def die(name: str) -> None:
            nonlocal count
            if count == at:
                os.write(writing, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        status = 1
        try:
            transaction.checkpoint = die
            work()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        name = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return name
    assert os.WEXITSTATUS(status) == 0
    return None


@pytest.fixture
def env(tmp_path: Path) -> Env:
    env = Env(tmp_path)
    env.apply(
        [
            make_wheel(
                "alpha",
                "1",
                {"alpha/a.py": "1", "ns/alpha.py": ""},
                entry_points="[console_scripts]\nalpha=alpha.a:f\n",
            ),
            make_wheel("beta", "1", {"beta/b.py": "1", "ns/beta.py": "", "beta.pth": ""}),
            make_wheel("gamma", "1", {"gamma/g.py": "", "ns/gamma.py": ""}),
        ]
    )
    (env.site / "beta" / "user.txt").write_text("of the user")
    (env.site / "unowned.py").write_text("of nobody")
    return env


def change(env: Env) -> dict[str, Any]:
    """An upgrade, a removal and an addition, with merged folders, files aside and whole renames."""
    return env.args(
        [
            make_wheel(
                "alpha",
                "2",
                {"alpha/a.py": "2", "alpha/n.py": "", "ns/alpha.py": "2"},
                data={"data/share/alpha": "x"},
            ),
            make_wheel(
                "delta",
                "1",
                {"delta/d.py": "", "unowned.py": "delta"},
                entry_points="[console_scripts]\ndelta=delta.d:f\n",
            ),
        ],
        ["alpha-1.dist-info", "beta-1.dist-info"],
    )


def visible(env: Env) -> State:
    """What an interpreter sees: everything but pkgc's own folder."""
    return {path: value for path, value in env.state().items() if path.split("/")[0] != ".pkgc"}


def restore(env: Env, state: State) -> None:
    """Make the environment what it was, by hand."""
    import shutil

    shutil.rmtree(env.prefix)
    env.prefix.mkdir()
    for path, (kind, content) in state.items():
        target = env.prefix / path
        if kind == "folder":
            target.mkdir(parents=True, exist_ok=True)
        elif kind == "link":
            target.symlink_to(content.decode())
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755 if kind == "program" else 0o644)


def states(env: Env) -> tuple[State, State, dict[str, Any]]:
    """(before the change, after it, its arguments), with the environment left as before."""
    old, args = env.state(), change(env)
    assert apply_plan(args)["status"] == "done"
    new = env.state()
    restore(env, old)
    assert env.state() == old
    assert old != new
    return old, new, args


def test_killed_at_every_point_the_environment_is_old_or_new(env: Env) -> None:
    """Invariant 5: one apply after the crash, and everything is right, whichever moment it was."""
    old, new, args = states(env)
    points: list[str] = []
    while (point := run_and_kill(lambda: apply_plan(args), len(points))) is not None:
        points.append(point)
        half = visible(env)
        journal = (env.prefix / transaction.JOURNAL).exists()
        assert journal or half in (old, new), f"{point}: half-changed, and nothing says so"
        recover_environment({"interpreter": env.interpreter})
        assert env.state() == (new if not journal and half == new else old), point
        restore(env, old)
    assert any(point.startswith("aside") for point in points)
    assert any(point.startswith("place") for point in points)
    assert {"locked", "before-journal", "journal-written", "journaled", "committed", "cleared"} <= set(points)
    assert env.state() == new


def test_the_next_apply_after_a_crash_just_works(env: Env) -> None:
    old, new, args = states(env)
    at = 0
    while (point := run_and_kill(lambda: apply_plan(args), at)) is not None:
        at += 1
        if visible(env) != new or (env.prefix / transaction.JOURNAL).exists():
            result = apply_plan(args)
            assert result["status"] == "done", point
        else:
            recover_environment({"interpreter": env.interpreter})
        assert env.state() == new, point
        restore(env, old)


def test_undoing_may_be_killed_at_every_point_too(env: Env) -> None:
    old, _, args = states(env)
    total = 0
    while run_and_kill(lambda: apply_plan(args), total) is not None:
        recover_environment({"interpreter": env.interpreter})
        restore(env, old)
        total += 1
    restore(env, old)
    undone = 0
    for first in range(4, total, 2):
        second = 0
        while True:
            assert run_and_kill(lambda: apply_plan(args), first) is not None
            if not (env.prefix / transaction.JOURNAL).exists():
                break
            killed = run_and_kill(lambda: recover_environment({"interpreter": env.interpreter}), second)
            recover_environment({"interpreter": env.interpreter})
            assert env.state() == old, (first, second, killed)
            second += 1
            undone += 1
            if killed is None:
                break
        restore(env, old)
    assert undone > 20


def interrupt(env: Env, args: dict[str, Any], at: str) -> None:
    """Leave the environment as a process killed at checkpoint `at` does."""
    number = 0
    old = env.state()
    while (point := run_and_kill(lambda: apply_plan(args), number)) is not None:
        if point == at:
            return
        recover_environment({"interpreter": env.interpreter})
        restore(env, old)
        number += 1
    raise AssertionError(f"no checkpoint {at}")


def test_after_an_unclean_boot_lost_bytes_are_found(env: Env) -> None:
    """Without fsync a power failure may empty files: such a distribution must not pass as installed."""
    args = change(env)
    interrupt(env, args, f"aside {SITE}/alpha")
    journal = env.prefix / transaction.JOURNAL
    data = json.loads(journal.read_text())
    journal.write_text(json.dumps({**data, "boot": "another"}))
    lost = env.prefix / transaction.OLD / SITE / "alpha" / "a.py"
    lost.chmod(0o644)
    lost.write_text("")
    warnings = recover_environment({"interpreter": env.interpreter})["warnings"]
    assert any("alpha-1.dist-info was damaged" in text for text in warnings)
    assert not any("beta" in text for text in warnings)
    assert not (env.site / "alpha-1.dist-info" / "METADATA").exists()
    assert (env.site / "beta-1.dist-info" / "METADATA").exists()
    # A damaged distribution can still be replaced.
    assert apply_plan(args)["status"] == "done"


def test_same_boot_needs_no_verification(env: Env) -> None:
    args = change(env)
    interrupt(env, args, "journaled")
    (env.site / "alpha" / "a.py").unlink()
    recover_environment({"interpreter": env.interpreter})
    assert (env.site / "alpha-1.dist-info" / "METADATA").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"schema": 1}',
        "\0" * 100,
        '{"schema": 1, "boot": "", "touched": [], "operations": [["aside", "../../x"]]}',
    ],
)
def test_lost_journal_puts_back_what_has_no_successor(env: Env, content: str) -> None:
    args = change(env)
    interrupt(env, args, f"aside {SITE}/alpha")
    (env.prefix / transaction.JOURNAL).write_text(content)
    warnings = recover_environment({"interpreter": env.interpreter})["warnings"]
    assert "was lost" in warnings[0]
    assert (env.site / "alpha" / "a.py").read_text() == "1"
    assert not (env.prefix / ".pkgc").exists()
    assert apply_plan(args)["status"] == "done"


def test_journal_of_another_version_is_left_alone(env: Env) -> None:
    args = change(env)
    interrupt(env, args, f"aside {SITE}/alpha")
    journal = env.prefix / transaction.JOURNAL
    text = journal.read_text()
    journal.write_text(text.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(PkgcError) as caught:
        apply_plan(args)
    assert caught.value.code == "journal-too-new"
    journal.write_text(text)
    assert apply_plan(args)["status"] == "done"


def test_blocked_undo_keeps_everything_and_can_be_repeated(env: Env) -> None:
    old, _, args = states(env)
    interrupt(env, args, f"aside {SITE}/alpha")
    (env.site / "alpha").mkdir()
    (env.site / "alpha" / "new.py").write_text("made meanwhile")
    for _ in range(2):
        with pytest.raises(PkgcError) as caught:
            apply_plan(args)
        assert caught.value.code == "recovery-blocked"
    (env.site / "alpha" / "new.py").unlink()
    recover_environment({"interpreter": env.interpreter})
    assert env.state() == old


def test_interrupt_signal_in_the_middle_is_undone_at_once(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a client that installs: KeyboardInterrupt may come between any two renames."""
    old, _, args = states(env)
    for at in ("journaled", f"aside {SITE}/alpha", f"place {SITE}/alpha"):

        def raising(name: str, at: str = at) -> None:
            if name == at:
                raise KeyboardInterrupt

        monkeypatch.setattr(transaction, "checkpoint", raising)
        with pytest.raises(KeyboardInterrupt):
            apply_plan(args)
        assert env.state() == old
