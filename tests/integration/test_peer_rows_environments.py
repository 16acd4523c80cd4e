"""Scenarios in which other installers leave an environment or a cache wrong: one test each, named by its row.

Damage in the cache, edits through links, overlapping packages, failed and killed changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import assert_holds, noise, stop_there
from tests.support.instance import Instance, snapshot
from tests.support.locks import failure, holds, importing, pin, site
from tests.support.peerrows import WAYS, both_ways, listed, recorded_sha256, statuses, why
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

#: Larger than what is copied whatever the link mode says.
BIG = 100_000


@pytest.fixture(scope="module", params=WAYS)
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One impatient daemon for each way."""
    with both_ways(request, tmp_path_factory, "[network]\nretries = 1\n") as instance:
        yield instance


def offered(index: IndexServer, name: str, version: str = "1.0") -> BuiltWheel:
    """A package with a module, a small and a large data file, on the index."""
    files: dict[str, bytes | str] = {
        f"{name}/__init__.py": f"version = {version!r}\n",
        f"{name}/small.txt": f"small {version}\n",
        f"{name}/large.bin": noise(f"{name} {version}", BIG),
    }
    wheel = make_wheel(name, version, files)
    index.add(wheel.data, wheel.filename)
    return wheel


def tree_of(pkgc: Instance, wheel: BuiltWheel) -> Path:
    """The folder of the unpacked wheel in the cache."""
    return pkgc.cache / "trees" / wheel.sha256[:2] / wheel.sha256


def artifact_of(pkgc: Instance, wheel: BuiltWheel) -> Path:
    """The wheel's own bytes in the cache."""
    return pkgc.cache / "artifacts" / wheel.sha256[:2] / wheel.sha256


def assert_no_damage(pkgc: Instance) -> None:
    """A full re-hash of the cache finds nothing any more."""
    assert pkgc.ok("cache", "verify", "--output-format", "json").json["damaged"] == []


def append(path: Path) -> None:
    """Edit in place: longer."""
    with path.open("ab") as file:
        file.write(b"# edited\n")


def overwrite(path: Path) -> None:
    """Edit in place: the same size."""
    with path.open("r+b") as file:
        file.write(b"# edit")


def test_t13_edit_through_a_hardlink(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A print() put into a library while debugging would show up in every environment made from now on."""
    wheel = offered(index, "t13")
    lock = pkgc.requirements(pin(wheel))
    options = ("-i", index.url, "--require-hashes", "--link-mode", "hardlink")
    pkgc.sync(lock, "--venv", tmp_path / "a", *options)
    assert (site(tmp_path / "a") / "t13" / "large.bin").stat().st_nlink > 1, "one file with the cache"
    edits = {"__init__.py": append, "small.txt": overwrite, "large.bin": overwrite}
    for name, edit in edits.items():
        path = site(tmp_path / "a") / "t13" / name
        path.chmod(0o644)
        edit(path)
    edited = snapshot(site(tmp_path / "a") / "t13")
    answer = pkgc.sync(lock, "--venv", tmp_path / "b", *options)
    assert [one["code"] for one in answer["warnings"]] == ["damaged-tree"]
    assert "t13==1.0: a file in the cache was damaged" in answer["warnings"][0]["message"]
    assert_holds(tmp_path / "b", wheel)
    append(site(tmp_path / "b") / "t13" / "large.bin")
    pkgc.sync(lock, "--venv", tmp_path / "c", *options)
    assert_holds(tmp_path / "c", wheel)
    assert sorted(why(pkgc, tmp_path / "a", "t13")["files"]["changed"]) == sorted(
        f"t13/{one}" for one in edits
    )
    assert why(pkgc, tmp_path / "c", "t13")["files"]["bad"] == 0
    assert snapshot(site(tmp_path / "a") / "t13") == edited, "the edits of an environment are its owner's"
    assert statuses(index, wheel.filename) == [200]
    pkgc.sync(lock, "--venv", tmp_path / "a", *options, "--reinstall")
    assert_holds(tmp_path / "a", wheel)
    assert_no_damage(pkgc)


def test_t15_empty_metadata_in_the_cache(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Power was lost, METADATA is empty: every sync would fail until somebody empties the cache."""
    wheel = offered(index, "t15")
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("fetch", lock, "-i", index.url)
    pkgc.ok("daemon", "stop")
    os.truncate(tree_of(pkgc, wheel) / "root" / "t15-1.0.dist-info" / "METADATA", 0)
    result = pkgc.ok("sync", lock, "--venv", tmp_path / "venv", "-i", index.url)
    assert "damaged" in result.err
    assert "t15" in result.err
    assert "METADATA" in result.err
    assert_holds(tmp_path / "venv", wheel)
    again = pkgc.ok("sync", lock, "--venv", tmp_path / "again", "-i", index.url)
    assert again.err == "", "healed: said once"
    assert statuses(index, wheel.filename) == [200], "the wheel itself is sound: unpacked again, not fetched"
    assert_no_damage(pkgc)


@pytest.mark.parametrize("file", ["small.txt", "large.bin"])
def test_t15b_empty_payload_in_the_cache(
    pkgc: Instance, index: IndexServer, tmp_path: Path, file: str
) -> None:
    """A file of the cache is empty: it would be installed so, hashes or not, and fail at run time."""
    name = f"t15b_{file.partition('.')[0]}"
    wheel = offered(index, name)
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("fetch", lock, "-i", index.url)
    os.truncate(tree_of(pkgc, wheel) / "root" / name / file, 0)
    result = pkgc.ok("sync", lock, "--venv", tmp_path / "venv", "-i", index.url, "--require-hashes")
    assert "damaged" in result.err
    assert f"{name}/{file}" in result.err
    assert_holds(tmp_path / "venv", wheel)
    assert statuses(index, wheel.filename) == [200]
    assert_no_damage(pkgc)


@pytest.mark.parametrize("lost", ["tree", "tree and file"])
def test_t15c_lost_from_the_cache(pkgc: Instance, index: IndexServer, tmp_path: Path, lost: str) -> None:
    """Somebody tidied up in the cache by hand: what is gone comes again, nobody has to repair anything."""
    wheel = offered(index, f"t15c_{len(lost)}")
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("fetch", lock, "-i", index.url)
    shutil.rmtree(tree_of(pkgc, wheel))
    if lost != "tree":
        artifact_of(pkgc, wheel).unlink()
    pkgc.sync(lock, "--venv", tmp_path / "venv", "-i", index.url)
    assert_holds(tmp_path / "venv", wheel)
    assert statuses(index, wheel.filename) == ([200] if lost == "tree" else [200, 200])
    assert len(listed(pkgc, wheel.filename.split("-")[0].replace("_", "-"))) == 1
    assert_no_damage(pkgc)


def test_t21_two_packages_own_one_path(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Which code runs would depend on the order of a lock or of downloads, and nobody would be told."""
    wheels = [
        make_wheel(name, "1.0", {f"{name}.py": "x = 1\n", "t21_common.py": f"owner = {name!r}\n"})
        for name in ("t21_alpha", "t21_beta")
    ]
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)
    orders = {"forward": wheels, "backward": wheels[::-1]}
    for order, lines in orders.items():
        lock = pkgc.requirements(*map(pin, lines), name=f"{order}.txt")
        answer = pkgc.sync(lock, "--venv", tmp_path / order, "-i", index.url)
        told = " ".join(one["message"] for one in answer["warnings"])
        assert all(word in told for word in ("t21-alpha", "t21-beta", "t21_common.py")), answer
        code = "import t21_common; print(t21_common.owner)"
        assert importing(tmp_path / order, code) == "t21_beta", "the later name wins"
    # one after the other, in both orders: the same winner
    both = pkgc.root / "forward.txt"
    for first in wheels:
        venv = tmp_path / first.filename
        pkgc.sync(pkgc.requirements(pin(first)), "--venv", venv, "-i", index.url)
        pkgc.sync(both, "--venv", venv, "-i", index.url)
        assert importing(venv, "import t21_common; print(t21_common.owner)") == "t21_beta"
    error = failure(pkgc, "sync", both, "--venv", tmp_path / "strict", "-i", index.url, "--strict")
    assert error["code"] == "overlapping-files"
    assert "t21_common.py" in error["everything"]
    assert not (tmp_path / "strict").exists()


def broken_lock(pkgc: Instance, index: IndexServer, name: str, venv: Path) -> tuple[Path, BuiltWheel]:
    """An environment with two packages, and a lock that upgrades them and adds a wheel that is no wheel."""
    old = [offered(index, f"{name}_{one}") for one in ("one", "two")]
    pkgc.sync(pkgc.requirements(*map(pin, old)), "--venv", venv, "-i", index.url)
    new = [offered(index, f"{name}_{one}", "2.0") for one in ("one", "two")]
    broken = make_wheel(f"{name}_broken", "1.0", data={"nonsense/file.txt": "where to?\n"})
    index.add(broken.data, broken.filename)
    return pkgc.requirements(*map(pin, new), pin(broken)), broken


def test_t22_broken_wheel_changes_nothing(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """One bad wheel among many: others would be uninstalled already, and the application be gone."""
    venv = tmp_path / "venv"
    lock, broken = broken_lock(pkgc, index, "t22", venv)
    before = snapshot(venv)
    error = failure(pkgc, "sync", lock, "--venv", venv, "-i", index.url)
    assert broken.filename in error["everything"]
    assert "nonsense" in error["everything"]
    assert "requirements.txt:3" in error["everything"]
    assert snapshot(venv) == before
    assert holds(venv) == {"t22_one": "1.0", "t22_two": "1.0"}


def test_t22b_broken_wheel_is_never_up_to_date(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The job is simply run again and is green, although a package was never installed."""
    venv = tmp_path / "venv"
    lock, _ = broken_lock(pkgc, index, "t22b", venv)
    before = snapshot(venv)
    first = failure(pkgc, "sync", lock, "--venv", venv, "-i", index.url)
    second = failure(pkgc, "sync", lock, "--venv", venv, "-i", index.url)
    assert (first["code"], first["message"]) == (second["code"], second["message"])
    assert pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--check").status == 1
    assert snapshot(venv) == before
    names = {
        one["name"]
        for one in pkgc.ok("list", "--venv", venv, "--output-format", "json").json["packages"]
    }  # fmt: skip
    assert names == {"t22b-one", "t22b-two"}


def test_t22c_killed_while_placing_files(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """kill -9 in the middle of a change: the next sync must not take the half for the whole."""
    venv = tmp_path / "venv"
    old = [offered(index, f"t22c_{one}") for one in ("one", "two")]
    pkgc.sync(pkgc.requirements(*map(pin, old)), "--venv", venv, "-i", index.url)
    new = [offered(index, f"t22c_{one}", "2.0") for one in ("one", "two")]
    lock = pkgc.requirements(*map(pin, new), name="new.txt")
    before = snapshot(venv, (".lock",))
    stop_there(pkgc, "checkpoint:place *#2", "sync", lock, "--venv", venv, "-i", index.url)
    assert snapshot(venv, (".lock",)) != before, "it was in the middle"
    assert pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--check").status == 1
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert_holds(venv, *new)
    assert pkgc.sync(lock, "--venv", venv, "-i", index.url)["kept"] == 2
    for wheel in new:
        assert recorded_sha256(venv, wheel.filename.split("-")[0], "2.0") == wheel.sha256


def test_t23_deleted_file(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A module was deleted, and 'up to date' would be a lie that only the program's users find out.

    A sync sees what is missing. It does not read every file again: an edit in place is for `pkgc why`.
    """
    wheel = offered(index, "t23")
    lock = pkgc.requirements(pin(wheel))
    venv = tmp_path / "venv"
    call = ("sync", lock, "--venv", venv, "-i", index.url)
    pkgc.ok(*call)
    assert why(pkgc, venv, "t23")["files"]["bad"] == 0
    (site(venv) / "t23" / "__init__.py").unlink()
    files = why(pkgc, venv, "t23")["files"]
    assert (files["missing"], files["bad"]) == (["t23/__init__.py"], 1)
    assert re.search(r"missing .*t23/__init__\.py", pkgc.ok("why", "t23", "--venv", venv).out)
    assert pkgc.run(*call, "--check").status == 1
    assert re.search(r"damaged: .*t23/__init__\.py", pkgc.ok(*call).out)
    assert_holds(venv, wheel)
    overwrite(site(venv) / "t23" / "large.bin")
    assert pkgc.sync(*call[1:])["kept"] == 1
    assert why(pkgc, venv, "t23")["files"]["changed"] == ["t23/large.bin"]
    pkgc.ok(*call, "--reinstall-package", "t23")
    assert_holds(venv, wheel)
    assert statuses(index, wheel.filename) == [200]


def read_only_cache(pkgc: Instance, *args: str | Path) -> list[str]:
    """A command whose process sees the cache mounted read-only, as in a container that only uses it."""
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" && shift && exec "$@"'
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(pkgc.cache)]
    return [*command, *pkgc.argv(*args)]


def can(*command: str) -> bool:
    """Whether a program is there and may do what it is for."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0


@pytest.mark.skipif(not can("unshare", "-m", "true"), reason="no mount namespace of its own to be had")
def test_t10_client_with_a_read_only_cache(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """One cache for all jobs of a host: whoever may not write there would fail at the first sync."""
    wheel = offered(index, "t10")
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("daemon", "start")
    for venv, source in (("cold", "network"), ("warm", "store")):
        done = subprocess.run(
            read_only_cache(
                pkgc, "sync", lock, "--venv", tmp_path / venv, "-i", index.url, "--output-format", "json"
            ),
            env=pkgc.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f'"from":"{source}"' in done.stdout.replace(" ", "")
        assert_holds(tmp_path / venv, wheel)


@pytest.mark.skipif(not can("strace", "-o", os.devnull, "true"), reason="strace is not there, or not allowed")
def test_t10_client_opens_nothing_in_the_cache_for_writing(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A client that wrote into the cache could poison it for everybody: the daemon is the only writer."""
    wheel = offered(index, "t10strace")
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("daemon", "start")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-s", "4096", "-e", "trace=%file,%desc", "-o", str(trace)]
    venv = tmp_path / "venv"
    done = subprocess.run(
        [*command, *pkgc.argv("sync", lock, "--venv", venv, "-i", index.url)],
        env=pkgc.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_holds(venv, wheel)
    inside = [line for line in trace.read_text().splitlines() if str(pkgc.cache) in line]
    writing = re.compile(
        r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|\b(mkdir|rename|unlink|rmdir|f?chmod|f?chown|f?truncate|utime)"
    )
    assert [line for line in inside if writing.search(line)] == []
    acted = "PKGC_FORCE_HOST_CALLS" in pkgc.env
    assert any("t10strace/large.bin" in line for line in inside) == acted, "the hands read what they place"
