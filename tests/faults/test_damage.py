"""Damage in the cache: noticed before it reaches an environment, healed, and said (invariant 6)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faults import assert_holds, assert_sound, client_acts, lock, offer, package
from tests.support.instance import Instance
from tests.support.locks import site
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel

Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    """One byte in the middle is another one; in place, as a bad disk does it, with a new mtime."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))


def truncate(path: Path) -> None:
    """Half of it is gone."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Nothing is left of it."""
    os.truncate(path, 0)


def replace(path: Path) -> None:
    """Another file of the same size and mtime has its name."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    other.chmod(before.st_mode & 0o777)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def delete(path: Path) -> None:
    """It is gone."""
    path.unlink()


DAMAGES = [flip, truncate, empty, replace, delete]


@pytest.fixture
def wheel(index: IndexServer) -> BuiltWheel:
    """alpha 1.0 on the index."""
    made = package("alpha", "1.0", big=30_000)
    offer(index, made)
    return made


def tree_of(pkgc: Instance, wheel: BuiltWheel) -> Path:
    """The folder with the tree and its manifest."""
    return pkgc.cache / "trees" / wheel.sha256[:2] / wheel.sha256


def artifact_of(pkgc: Instance, wheel: BuiltWheel) -> Path:
    """The wheel's own bytes."""
    return pkgc.cache / "artifacts" / wheel.sha256[:2] / wheel.sha256


def test_damaged_tree_file(pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path) -> None:
    """A bad file in the cache would be hardlinked into every environment made from now on."""
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", index.url, "--link-mode", "copy")
    for damage in DAMAGES:
        for name in ("alpha/m1.py", "alpha-1.0.dist-info/METADATA"):
            damage(tree_of(pkgc, wheel) / "root" / name)
            venv = tmp_path / f"{damage.__name__}-{name.replace('/', '-')}"
            result = pkgc.ok("sync", new_lock, "--venv", venv, "-i", index.url)
            assert "damaged" in result.err, damage.__name__
            assert_holds(venv, wheel)
    assert len(index.requests_for(wheel.filename)) == 1
    assert_holds(tmp_path / "first", wheel)
    assert_sound(pkgc)


def test_damaged_manifest(own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path) -> None:
    """What the manifest says is installed without asking anybody else: it must be its own witness."""
    pkgc = own_pkgc
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.ok("fetch", new_lock, "-i", index.url)
    for restart in (False, True):
        for damage in DAMAGES:
            damage(tree_of(pkgc, wheel) / "manifest")
            if restart:
                pkgc.ok("daemon", "stop")
            venv = tmp_path / f"{damage.__name__}-{restart}"
            pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
            assert_holds(venv, wheel)
    assert len(index.requests_for(wheel.filename)) == 1
    assert_sound(pkgc)


def test_damaged_artifact(own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path) -> None:
    """An artifact that is not its digest any more is fetched anew when it is needed, never unpacked."""
    pkgc = own_pkgc
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.ok("fetch", new_lock, "-i", index.url)
    for damage in DAMAGES:
        damage(artifact_of(pkgc, wheel))
        shutil.rmtree(tree_of(pkgc, wheel))
        venv = tmp_path / damage.__name__
        index.clear_log()
        pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
        assert len(index.requests_for(wheel.filename)) == 1, damage.__name__
        assert_holds(venv, wheel)
    assert_sound(pkgc)


def test_silent_damage_is_found_by_verify(
    own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path
) -> None:
    """A flipped bit with the same size, mtime and inode: only reading everything finds it, and must."""
    pkgc = own_pkgc
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.ok("fetch", new_lock, "-i", index.url)
    for path in (artifact_of(pkgc, wheel), tree_of(pkgc, wheel) / "root" / "alpha" / "big.bin"):
        before = path.stat()
        flip(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    damaged = pkgc.ok("cache", "verify", "--output-format", "json").json["damaged"]
    assert sorted(one["kind"] for one in damaged) == ["artifact", "tree"]
    pkgc.sync(new_lock, "--venv", tmp_path / "new", "-i", index.url)
    assert_holds(tmp_path / "new", wheel)
    assert_sound(pkgc)


def test_everything_damaged_and_the_index_down(
    own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path
) -> None:
    """What cannot be healed is an error that names the file; the environment is as before."""
    pkgc = own_pkgc
    (pkgc.root / "config.toml").write_text("[network]\nretries = 1\n")
    new_lock = lock(pkgc, "new.txt", [wheel])
    url = index.url
    pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", url)
    flip(artifact_of(pkgc, wheel))
    flip(tree_of(pkgc, wheel) / "root" / "alpha" / "big.bin")
    index.stop()
    result = pkgc.run("sync", new_lock, "--venv", tmp_path / "second", "-i", url, "--output-format", "json")
    assert result.status == 1, str(result)
    assert "damaged" in result.err
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("damage", [*DAMAGES, "rows", "schema"])
def test_damaged_catalog(
    own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path, damage: Damage | str
) -> None:
    """A lost or corrupt catalog is rebuilt from the files; nothing is fetched again, nothing is believed."""
    pkgc = own_pkgc
    other = package("beta", "1.0")
    offer(index, other)
    new_lock = lock(pkgc, "new.txt", [wheel, other])
    pkgc.ok("fetch", new_lock, "-i", index.url)
    pkgc.ok("daemon", "stop")
    catalog = pkgc.cache / "catalog.sqlite3"
    if callable(damage):
        damage(catalog)
    else:
        connection = sqlite3.connect(catalog)
        if damage == "rows":
            connection.execute(
                "UPDATE artifacts SET sha256 = 'nonsense', size = 'x' WHERE sha256 = ?", (wheel.sha256,)
            )
            connection.execute("UPDATE trees SET inode = 1, mtime_ns = 1")
        else:
            connection.execute("DROP TABLE trees")
        connection.commit()
        connection.close()
    pkgc.sync(new_lock, "--venv", tmp_path / "new", "-i", index.url)
    assert_holds(tmp_path / "new", wheel, other)
    assert len(index.requests_for(wheel.filename)) == 1
    assert_sound(pkgc)


def test_catalog_from_the_future_is_left_alone(
    own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel
) -> None:
    """A downgrade must not throw away the cache of the newer version."""
    pkgc = own_pkgc
    pkgc.ok("fetch", lock(pkgc, "new.txt", [wheel]), "-i", index.url)
    pkgc.ok("daemon", "stop")
    catalog = pkgc.cache / "catalog.sqlite3"
    connection = sqlite3.connect(catalog)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = catalog.read_bytes()
    result = pkgc.run("cache", "list")
    assert result.status == 1
    assert "catalog-too-new" in result.err
    assert catalog.read_bytes() == before


def test_unclean_boot_is_not_believed(
    own_pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path
) -> None:
    """After a power cut, what was never synced may be garbage: it is hashed before it is used."""
    pkgc = own_pkgc
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.ok("fetch", new_lock, "-i", index.url)
    pkgc.ok("daemon", "stop")
    connection = sqlite3.connect(pkgc.cache / "catalog.sqlite3")
    for table in ("artifacts", "trees"):
        connection.execute(f"UPDATE {table} SET boot = 'another', synced = 0")
    connection.commit()
    connection.close()
    path = tree_of(pkgc, wheel) / "root" / "alpha" / "big.bin"
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    index.stop()
    pkgc.sync(new_lock, "--venv", tmp_path / "new", "-i", index.url)
    assert_holds(tmp_path / "new", wheel)
    assert_sound(pkgc)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may write a 0444 file")
def test_edit_through_a_hardlink(
    pkgc: Instance, index: IndexServer, wheel: BuiltWheel, tmp_path: Path
) -> None:
    """Debugging by editing site-packages must not change environments that are made later."""
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.sync(new_lock, "--venv", tmp_path / "edited", "-i", index.url, "--link-mode", "hardlink")
    edited = site(tmp_path / "edited") / "alpha" / "m1.py"
    if edited.stat().st_nlink < 2:
        pytest.skip("no hardlinks here")
    with edited.open("ab") as file:
        file.write(b"import pdb; pdb.set_trace()\n")
    for mode in ("hardlink", "copy", "symlink"):
        result = pkgc.ok("sync", new_lock, "--venv", tmp_path / mode, "-i", index.url, "--link-mode", mode)
        if mode == "hardlink":
            assert "damaged" in result.err
        assert_holds(tmp_path / mode, wheel)
    assert edited.read_bytes().endswith(b"set_trace()\n")
    assert client_acts(pkgc) or len(index.requests_for(wheel.filename)) == 1
    assert_sound(pkgc)


def test_damaged_environment_is_repaired(
    pkgc: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path
) -> None:
    """A package folder that somebody removed is noticed and put back; `--check` says so."""
    call = (lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    pkgc.sync(*call)
    shutil.rmtree(site(venv) / "alpha")
    assert pkgc.run("sync", *call, "--check").status == 1
    assert pkgc.sync(*call)["installed"][0]["name"] == "alpha"
    assert_holds(venv, wheel)


def test_a_lost_catalog_does_not_reinstall_for_ever(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Installed from the adopted files there is a record as always: the next sync has nothing to do."""
    pkgc = own_pkgc
    one = package("forever", "1.0")
    offer(index, one)
    sha512 = hashlib.sha512(one.data).hexdigest()
    locks = [
        lock(pkgc, "plain.txt", [one]),
        pkgc.requirements(f"forever==1.0 --hash=sha512:{sha512}", name="l"),
    ]
    for each in locks:
        pkgc.ok("fetch", each, "-i", index.url)
    pkgc.ok("daemon", "stop")
    for path in pkgc.cache.glob("catalog*"):
        path.unlink()
    index.clear_log()
    for number, each in enumerate(reversed(locks)):
        venv = tmp_path / f"venv{number}"
        pkgc.sync(each, "--venv", venv, "-i", index.url)
        again = pkgc.sync(each, "--venv", venv, "-i", index.url)
        assert (again["installed"], again["kept"]) == ([], 1)
        record = json.loads(
            next(venv.glob("lib/*/site-packages/*.dist-info/provenance_url.json")).read_text()
        )
        assert record["pkgc"]["index"] == index.url
        assert record["archive_info"]["hashes"]["sha256"] == one.sha256
    assert index.log == []
