"""Standard streams that are closed, full or gone: output never goes elsewhere, and no status is wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.instance import Instance, Result
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel


def shell(pkgc: Instance, redirections: str, *args: str | Path) -> Result:
    """Run a call with redirections of a shell."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *pkgc.argv(*args)],
        env=pkgc.env,
        cwd=pkgc.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def synced(pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path) -> tuple[str | Path, ...]:
    """The words of a sync that changes something every time, done once."""
    words = ("sync", pkgc.requirements("demo==1.0"), "--venv", venv, "-i", index.url, "--reinstall")
    pkgc.ok(*words)
    return words


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(pkgc: Instance, synced: tuple[str | Path, ...], closed: str) -> None:
    """The daemon's socket must not become standard output: cron jobs run like this."""
    assert shell(pkgc, closed, *synced).status == 0
    missing = shell(pkgc, closed, "sync", "nofile.txt", "--venv", synced[3])
    assert missing.status == 2
    assert pkgc.status() is not None
    assert "protocol" not in (pkgc.cache / "daemon.log").read_text()


def test_closed_standard_input_is_empty(pkgc: Instance, venv: Path) -> None:
    """Reading the socket instead would wait for ever."""
    result = shell(pkgc, "<&-", "sync", "-", "--venv", venv, "--output-format", "json")
    assert (result.status, result.error_code) == (2, "empty-lock")


def test_full_disk_behind_standard_output(pkgc: Instance, synced: tuple[str | Path, ...]) -> None:
    """A script that reads the output must learn that it is not all there; people, why."""
    for words in (
        synced,
        (*synced, "--output-format", "json"),
        ("--version",),
        ("--help",),
        ("cache", "dir"),
    ):
        result = shell(pkgc, ">/dev/full", *words)
        assert result.status == 1, words
        assert "error[output]" in result.err
        assert "Traceback" not in result.err
    result = shell(pkgc, ">/dev/full", "sync", "--nope", "--output-format", "json")
    assert result.status == 2
    assert shell(pkgc, ">/dev/full", "daemon", "logs").status == 1


def test_full_disk_behind_standard_error(pkgc: Instance, synced: tuple[str | Path, ...]) -> None:
    """What stderr does not take changes nothing about what was done."""
    assert shell(pkgc, "2>/dev/full", *synced, "-v").status == 0
    assert shell(pkgc, "2>/dev/full", "sync", "--nope").status == 2
    assert shell(pkgc, ">/dev/full 2>/dev/full", *synced).status == 1


SYNC_KEYS = {
    "schema", "ok", "venv", "dry_run", "installed", "removed", "kept", "downloaded", "index_requests",
    "seconds", "warnings", "errors",
}  # fmt: skip


def test_failures_of_sync_have_one_form(own_pkgc: Instance, venv: Path, tmp_path: Path) -> None:
    """A program must not need to know in which part of pkgc something failed to read the answer."""
    json_output = ("--output-format", "json")
    own_pkgc.ok("cache", "dir")
    results = [
        own_pkgc.run("sync", "--nope", *json_output),
        own_pkgc.run("sync", "nofile.txt", "--venv", venv, *json_output),
        own_pkgc.run("sync", *json_output),
        own_pkgc.run("sync", *json_output, env={"PKGC_CACHE_DIR": str(tmp_path / "other")}),
        own_pkgc.run("sync", *json_output, env={"PKGC_SOCKET": "/proc/x/s"}),
    ]
    (own_pkgc.root / "config.toml").write_text("nonsense = 1\n")
    results.append(own_pkgc.run("sync", *json_output))
    for result in results:
        assert result.json.keys() == SYNC_KEYS, result
        assert result.json["seconds"]["total"] > 0
        assert result.status != 0
        assert result.json["errors"][0]["code"] in result.err, "people read stderr, also beside JSON"


def test_names_that_are_no_text_in_json(own_pkgc: Instance) -> None:
    """Most JSON parsers refuse half a surrogate pair, which is how Python spells such bytes."""
    result = own_pkgc.run("sync", "no\udcff.txt", "--output-format", "json")
    assert "\\ud" not in result.out
    assert "no\\xff.txt" in json.loads(result.out)["errors"][0]["message"]
