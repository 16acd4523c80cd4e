"""Nothing blocks the event loop: one client's disk must not be another client's latency."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.instance import Instance, wait_until
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ROOT = Path(__file__).parents[2]


def test_no_blocking_call_on_the_loop(
    own_pkgc: Instance, index: IndexServer, demo: BuiltWheel, tmp_path: Path
) -> None:
    """Cold, warm, no-op, cache commands, failures: a blocking call on the loop is an internal error."""
    big = make_wheel("big", "1.0", {f"big/m{n}.py": "x = 1\n" * 500 for n in range(200)})
    index.add(big.data, big.filename)
    log = (tmp_path / "watched.log").open("wb")
    daemon = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.watched_daemon", "--socket", str(own_pkgc.socket)),
            *("--cache-dir", str(own_pkgc.cache)),
        ],
        cwd=ROOT,
        env=own_pkgc.env,
        stdout=log,
        stderr=log,
    )
    try:
        wait_until(own_pkgc.socket.exists, "the watched daemon listens")
        lock = own_pkgc.requirements(
            f"demo==1.0 --hash=sha256:{demo.sha256}", f"big==1.0 --hash=sha256:{big.sha256}"
        )
        options = ("-i", index.url)
        for venv in ("one", "two"):
            own_pkgc.sync(lock, "--venv", tmp_path / venv, *options)
        assert own_pkgc.sync(lock, "--venv", tmp_path / "two", *options)["kept"] == 2
        unhashed = own_pkgc.requirements("demo==1.0", name="unhashed.txt")
        own_pkgc.sync(unhashed, "--venv", tmp_path / "two", *options)
        own_pkgc.sync(unhashed, "--venv", tmp_path / "two", *options)
        own_pkgc.ok("fetch", lock, *options)
        for command in ("size", "list", "verify", "clean"):
            own_pkgc.ok("cache", command)
        own_pkgc.ok("list", "--venv", tmp_path / "two")
        own_pkgc.ok("status")
        assert own_pkgc.run("sync", own_pkgc.requirements("nothing==1"), *options).status == 1
        assert daemon.poll() is None
        own_pkgc.ok("daemon", "stop")
    finally:
        daemon.kill()
        daemon.wait()
        log.close()
    said = (tmp_path / "watched.log").read_text() + (own_pkgc.cache / "daemon.log").read_text()
    assert "BlockingError" not in said, said
    assert "internal-error" not in said, said
    assert "crashed" not in said, said
