"""The store keeps what was verified, serves nothing else, and survives kill -9, bit rot and reboots."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pkgc_daemon.archives.manifest import head_from_bytes
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.selection.ports import CachedPage, KnownFiles, PageStore
from pkgc_daemon.store import store as store_module
from pkgc_daemon.store import trees
from pkgc_daemon.store.lock import CacheLock, read_holder
from pkgc_daemon.store.store import Store
from pkgc_daemon.store.workers import ThreadWorkers
from pkgc_daemon.vocabulary import Artifact, Digest, Origin
from tests.support.wheels import BuiltWheel, make_wheel

WHEEL = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n", "demo/data.bin": b"\0" * 1000})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache", workers=ThreadWorkers(2))
    yield opened
    await opened.close()


async def publish(store: Store, wheel: BuiltWheel = WHEEL, *algorithms: str) -> Artifact:
    path = store.incoming / f"{wheel.sha256}-{time.monotonic_ns()}.part"
    path.write_bytes(wheel.data)
    digests = {Digest("sha256", wheel.sha256)}
    digests |= {Digest(name, hashlib.new(name, wheel.data).hexdigest()) for name in algorithms}
    url = f"http://127.0.0.1/files/{wheel.filename}"
    return await store.publish_artifact(
        path, wheel.sha256, len(wheel.data), frozenset(digests), wheel.filename, url
    )


def overwrite(path: Path, data: bytes) -> None:
    """Change a file of the store the way that careless tools do: in place."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


def as_port(store: Store) -> tuple[PageStore, KnownFiles]:
    """The type checker proves that Store is both ports of selection."""
    return store, store


# -- artifacts ---------------------------------------------------------------------------------------------


async def test_an_artifact_is_found_under_every_digest_that_was_verified(store: Store) -> None:
    """A lock with sha512 only must hit the cache (invariant 2, H11)."""
    sha512 = Digest("sha512", hashlib.sha512(WHEEL.data).hexdigest())
    assert store.find(sha512) is None
    artifact = await publish(store, WHEEL, "sha512")
    assert store.find(sha512) == store.artifact(WHEEL.sha256) == artifact
    assert artifact.digests == {sha512, Digest("sha256", WHEEL.sha256)}
    assert artifact.path.read_bytes() == WHEEL.data
    assert stat.S_IMODE(artifact.path.stat().st_mode) == 0o444
    assert not list(store.incoming.iterdir())


async def test_publishing_twice_keeps_one_copy(store: Store) -> None:
    """Two downloads of one file must not leak a copy (T2)."""
    first, second = await asyncio.gather(publish(store), publish(store, WHEEL, "sha384"))
    assert first.path == second.path
    assert not list(store.incoming.iterdir())
    assert (await store.size())["artifacts"] == {"files": 1, "bytes": len(WHEEL.data)}
    assert store.find(Digest("sha384", hashlib.sha384(WHEEL.data).hexdigest())) is not None


async def test_a_file_of_another_size_is_not_published(store: Store) -> None:
    """Nothing enters the store under a digest that its bytes do not have (invariant 1)."""
    path = store.incoming / "x.part"
    path.write_bytes(WHEEL.data[:-1])
    with pytest.raises(PkgcError) as caught:
        await store.publish_artifact(
            path, WHEEL.sha256, len(WHEEL.data), frozenset(), WHEEL.filename, "http://127.0.0.1/"
        )
    assert caught.value.code == "size-mismatch"
    assert store.artifact(WHEEL.sha256) is None


async def test_changed_bytes_are_noticed_by_the_cheap_check_and_put_away(store: Store) -> None:
    """Damage is found before it reaches an environment (invariant 6)."""
    artifact = await publish(store)
    overwrite(artifact.path, b"x" * len(WHEEL.data))
    assert store.artifact(WHEEL.sha256) is None
    assert await store.obtain_artifact(WHEEL.sha256) is None
    assert not artifact.path.exists()
    assert (await publish(store)).path.read_bytes() == WHEEL.data


async def test_a_touched_but_equal_file_is_kept(store: Store) -> None:
    """A cache that was copied or touched need not be downloaded again."""
    artifact = await publish(store, WHEEL, "sha512")
    os.utime(artifact.path, (1, 1))
    assert store.artifact(WHEEL.sha256) is None
    assert await store.obtain_artifact(WHEEL.sha256) is not None
    assert store.find(Digest("sha512", hashlib.sha512(WHEEL.data).hexdigest())) is not None


async def test_a_cancelled_publication_is_whole(store: Store) -> None:
    """A client that leaves at the worst moment must not leave a file without a row."""
    task = asyncio.create_task(publish(store))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(200):
        if store.artifact(WHEEL.sha256) is not None:
            break
        await asyncio.sleep(0.01)
    assert store.artifact(WHEEL.sha256) is not None


# -- trees -------------------------------------------------------------------------------------------------


async def test_a_wheel_is_unpacked_once_however_many_ask(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N jobs that start together must not unpack N times."""
    artifact = await publish(store)
    builds: list[str] = []
    real = trees.build

    def counting(*args: object, **kwargs: object) -> object:
        builds.append("build")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(trees, "build", counting)
    found = await asyncio.gather(*(store.ensure_tree(artifact, WHEEL.filename) for _ in range(10)))
    assert builds == ["build"]
    assert len({tree.root for tree in found}) == 1
    assert (found[0].root / "demo" / "__init__.py").read_text() == "x = 1\n"
    assert head_from_bytes(store.manifest_path(WHEEL.sha256).read_bytes()) == found[0].manifest
    assert store.tree(WHEEL.sha256) == found[0]
    assert stat.S_IMODE(store.manifest_path(WHEEL.sha256).stat().st_mode) == 0o444


async def test_a_waiter_that_leaves_does_not_stop_the_others(store: Store) -> None:
    """Ctrl-C in one job must not fail another job's sync."""
    artifact = await publish(store)
    leaving = asyncio.create_task(store.ensure_tree(artifact, WHEEL.filename))
    staying = asyncio.create_task(store.ensure_tree(artifact, WHEEL.filename))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).sha256 == WHEEL.sha256


async def test_a_bad_wheel_leaves_nothing(store: Store) -> None:
    """What was refused leaves no trace, and the next attempt says the same."""
    bad = make_wheel("demo", "1.0", record_lies={"demo/__init__.py": None})
    artifact = await publish(store, bad)
    for _ in range(2):
        with pytest.raises(PkgcError) as caught:
            await store.ensure_tree(artifact, bad.filename)
        assert caught.value.code == "bad-wheel"
    assert not list(store.layout.temporary.iterdir())
    assert store.tree(bad.sha256) is None
    assert store.artifact(bad.sha256) is not None


async def test_a_full_disk_is_an_error_and_leaves_no_draft(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T19: ENOSPC in the middle must not leave half a tree, and the daemon must go on."""
    artifact = await publish(store)

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("pkgc_daemon.archives.wheel.os.write", full)
        task = asyncio.create_task(store.ensure_tree(artifact, WHEEL.filename))
        while store.catalog.trees or not task.done():
            await asyncio.sleep(0.01)
    with pytest.raises(PkgcError) as caught:
        await task
    assert caught.value.code == "disk-full"
    assert caught.value.hint
    assert not list(store.layout.temporary.iterdir())
    assert (await store.ensure_tree(artifact, WHEEL.filename)).sha256 == WHEEL.sha256


async def test_old_partial_downloads_are_swept_and_fresh_ones_kept(tmp_path: Path) -> None:
    """A download goes on after a restart (invariant 3); one that nobody wants does not stay for ever."""
    first = await Store.open(tmp_path / "cache")
    for name, age in (("old.part", 30 * 86_400), ("new.part", 60)):
        (first.incoming / name).write_bytes(b"x")
        os.utime(first.incoming / name, (time.time() - age,) * 2)
    await first.close()
    second = await Store.open(tmp_path / "cache")
    assert [path.name for path in second.incoming.iterdir()] == ["new.part"]
    await second.close()


async def test_bytes_of_another_distribution_are_refused_even_from_the_cache(store: Store) -> None:
    """An index that serves a known file under another name must not install it (W7)."""
    artifact = await publish(store)
    await store.ensure_tree(artifact, WHEEL.filename)
    with pytest.raises(PkgcError, match="another distribution"):
        await store.ensure_tree(artifact, "other-1.0-py3-none-any.whl")
    tree = await store.ensure_tree(artifact, "demo-1.0-1-py3-none-any.whl")
    assert tree.manifest.name == "demo"


async def test_a_damaged_artifact_is_told_from_a_bad_wheel(store: Store) -> None:
    """Bit rot must end in 'fetch it again', not in blaming the publisher."""
    artifact = await publish(store)
    overwrite(artifact.path, WHEEL.data[:-50] + b"\0" * 50)
    with pytest.raises(PkgcError) as caught:
        await store.ensure_tree(artifact, WHEEL.filename)
    assert caught.value.code == "artifact-damaged"
    assert WHEEL.sha256 not in store.catalog.artifacts


async def test_a_damaged_tree_is_rebuilt(store: Store) -> None:
    """The installer reports a tree whose file differs; the next try must heal it (invariant 6)."""
    artifact = await publish(store)
    tree = await store.ensure_tree(artifact, WHEEL.filename)
    overwrite(tree.root / "demo" / "__init__.py", b"evil!\n")
    await store.damaged_tree(WHEEL.sha256)
    assert store.tree(WHEEL.sha256) is None
    tree = await store.ensure_tree(artifact, WHEEL.filename)
    assert (tree.root / "demo" / "__init__.py").read_text() == "x = 1\n"
    assert not list(store.layout.temporary.iterdir())


async def test_a_tree_with_a_new_top_level_entry_is_not_served(store: Store) -> None:
    """A file that somebody put into the store must not be linked into environments."""
    artifact = await publish(store)
    tree = await store.ensure_tree(artifact, WHEEL.filename)
    (tree.root / "sitecustomize.py").write_text("evil")
    assert not store.has_tree(WHEEL.sha256)
    tree = await store.ensure_tree(artifact, WHEEL.filename)
    assert not (tree.root / "sitecustomize.py").exists()


async def test_manifests_in_memory_are_bounded(store: Store) -> None:
    """A daemon that lives for months must not keep every manifest; what was dropped is read again."""
    store._heads.limit = 4
    wheels = [make_wheel(f"p{number}", "1") for number in range(6)]
    for wheel in wheels:
        await store.ensure_tree(await publish(store, wheel), wheel.filename)
    assert store.tree(wheels[0].sha256) is None
    assert store.has_tree(wheels[0].sha256)
    loaded = await store.load_tree(wheels[0].sha256)
    assert loaded is not None
    assert loaded.manifest.name == "p0"
    assert store._heads.entries == len(store._heads._kept) <= 4


# -- restarts ----------------------------------------------------------------------------------------------


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """A daemon restart costs no download and no unpacking."""
    cache = tmp_path / "cache"
    first = await Store.open(cache)
    artifact = await publish(first, WHEEL, "sha512")
    await first.ensure_tree(artifact, WHEEL.filename)
    origin = Origin("index", f"http://127.0.0.1/{WHEEL.filename}", "http://127.0.0.1/simple/")
    await first.record_origin(WHEEL.sha256, origin, WHEEL.filename)
    first.remember_files(
        "http://127.0.0.1/simple/", "demo", [(Digest("sha256", WHEEL.sha256), WHEEL.filename)]
    )
    await first.remember_interpreter("key", {"version": "3.11", "tags": ["a", "b"]})
    await first.close()
    second = await Store.open(cache)
    try:
        assert second.artifact(WHEEL.sha256) == artifact
        assert second.find(Digest("sha512", hashlib.sha512(WHEEL.data).hexdigest())) == artifact
        assert second.has_tree(WHEEL.sha256)
        tree = await second.load_tree(WHEEL.sha256)
        assert tree is not None
        assert second.tree(WHEEL.sha256) == tree
        assert second.origins(WHEEL.sha256)[0] == (origin, WHEEL.filename)
        assert second.known_filename(Digest("sha256", WHEEL.sha256)) == WHEEL.filename
        assert await second.recall_interpreter("key") == {"version": "3.11", "tags": ["a", "b"]}
        assert await second.recall_interpreter("other") is None
    finally:
        await second.close()


KILLED = """
import asyncio, os, sys
from pathlib import Path
from pkgc_daemon.store import store as module
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.store import Store

async def main(cache, wheel, filename, sha256, commit):
    store = await Store.open(Path(cache))
    if commit == "lost":
        Catalog._post = lambda *args: None
    part = store.incoming / "x.part"
    part.write_bytes(Path(wheel).read_bytes())
    artifact = await store.publish_artifact(part, sha256, part.stat().st_size, frozenset(), filename, "http://h/")
    await store.ensure_tree(artifact, filename)
    (store.layout.temporary / "rubbish").mkdir()
    if commit == "done":
        store.catalog.ask(lambda connection: None).result()
        await asyncio.sleep(0.05)
    os.kill(os.getpid(), 9)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("commit", ["done", "lost"])
async def test_kill_9_loses_nothing_that_was_published(tmp_path: Path, commit: str) -> None:
    """T16: after kill -9 only verified blobs are served, and no temporary file stays."""
    wheel = WHEEL.write_to(tmp_path)
    arguments = [str(tmp_path / "cache"), str(wheel), WHEEL.filename, WHEEL.sha256, commit]
    child = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, *arguments], timeout=60)
    assert child.returncode == -9
    store = await Store.open(tmp_path / "cache")
    try:
        assert not list(store.layout.temporary.iterdir())
        if commit == "done":
            assert store.artifact(WHEEL.sha256) is not None
        assert await store.obtain_artifact(WHEEL.sha256) is not None
        assert await store.load_tree(WHEEL.sha256) is not None
    finally:
        await store.close()


@pytest.mark.parametrize("synced", [True, False])
@pytest.mark.parametrize("damage", [True, False])
async def test_after_a_crash_of_the_machine_unsynced_things_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool, damage: bool
) -> None:
    """Power loss may leave files of the right size full of zeros; they must not be served (design.md 8)."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(store_module, "boot_id", lambda: "boot-1")
    first = await Store.open(cache)
    artifact = await publish(first)
    tree = await first.ensure_tree(artifact, WHEEL.filename)
    if synced:
        await first.checkpoint()
    # An unclean end: everything but the final sync.
    await asyncio.to_thread(first._release)
    if damage:
        for path in (artifact.path, tree.root / "demo" / "data.bin"):
            status = path.stat()
            overwrite(path, b"\1" * status.st_size)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(store_module, "boot_id", lambda: "boot-2")
    second = await Store.open(cache)
    try:
        if synced:
            # Certain by the sync; this damage, which keeps size, time and inode, is for `verify` to find.
            assert second.artifact(WHEEL.sha256) is not None
            assert second.has_tree(WHEEL.sha256)
            return
        assert second.artifact(WHEEL.sha256) is None
        assert not second.has_tree(WHEEL.sha256)
        assert (await second.obtain_artifact(WHEEL.sha256) is None) is damage
        assert (await second.load_tree(WHEEL.sha256) is None) is damage
        if not damage:
            assert second.artifact(WHEEL.sha256) is not None
            assert second.tree(WHEEL.sha256) is not None
    finally:
        await second.close()


@pytest.mark.parametrize("loss", ["removed", "garbage"])
async def test_a_lost_catalog_is_rebuilt_from_disk(tmp_path: Path, loss: str) -> None:
    """Losing the database must not cost gigabytes of downloads."""
    cache = tmp_path / "cache"
    first = await Store.open(cache)
    await first.ensure_tree(await publish(first), WHEEL.filename)
    catalog = first.layout.catalog
    await first.close()
    if loss == "removed":
        catalog.unlink()
    else:
        catalog.write_bytes(b"not a database" * 1000)
    second = await Store.open(cache)
    try:
        assert second.artifact(WHEEL.sha256) is None, "unverified bytes may not be served"
        assert await second.obtain_artifact(WHEEL.sha256) is not None
        assert await second.load_tree(WHEEL.sha256) is not None
    finally:
        await second.close()


async def test_a_cache_that_was_moved_is_verified_and_kept(tmp_path: Path) -> None:
    """Copying a cache to another disk changes every inode; a full check is enough."""
    first = await Store.open(tmp_path / "one")
    await first.ensure_tree(await publish(first), WHEEL.filename)
    await first.close()
    await asyncio.to_thread(shutil.copytree, tmp_path / "one", tmp_path / "two")
    second = await Store.open(tmp_path / "two")
    try:
        assert await second.obtain_artifact(WHEEL.sha256) is not None
        tree = await second.load_tree(WHEEL.sha256)
        assert tree is not None
        manifest = trees.read_manifest(second.layout, WHEEL.sha256)
        assert manifest.files
        for entry in manifest.files:
            assert (tree.root / entry.path).stat().st_ino == entry.inode
    finally:
        await second.close()


async def test_a_newer_catalog_is_refused_and_the_lock_given_back(tmp_path: Path) -> None:
    """An older pkgc must not write into a schema that it does not know."""
    cache = tmp_path / "cache"
    await (await Store.open(cache)).close()
    connection = sqlite3.connect(cache / "catalog.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(PkgcError) as caught:
            await Store.open(cache)
        assert caught.value.code == "catalog-too-new"


async def test_two_daemons_cannot_share_a_cache(tmp_path: Path) -> None:
    """T20: the second one is refused and told who has it."""
    store = await Store.open(tmp_path / "cache")
    store.lock.announce("/run/x.sock")
    with pytest.raises(PkgcError) as caught:
        await Store.open(tmp_path / "cache")
    assert caught.value.code == "cache-locked"
    assert str(os.getpid()) in (caught.value.context or "")
    assert "/run/x.sock" in (caught.value.context or "")
    assert read_holder(tmp_path / "cache")["socket"] == "/run/x.sock"
    await store.close()
    await store.close()
    assert read_holder(tmp_path / "cache") == {}
    CacheLock(tmp_path / "cache").release()


async def test_an_unusable_cache_folder_is_an_error_with_its_name(tmp_path: Path) -> None:
    """Invariant 8."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PkgcError) as caught:
        await Store.open(tmp_path / "file" / "cache")
    assert caught.value.code == "cache-unusable"
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(("shared", "mode"), [(False, 0o700), (True, 0o755)])
async def test_folders_have_their_modes_whatever_the_umask(tmp_path: Path, shared: bool, mode: int) -> None:
    """A user's cache is private; a host's is readable but never writable by others."""
    before = os.umask(0o077)
    try:
        store = await Store.open(tmp_path / "cache", shared=shared)
        tree = await store.ensure_tree(await publish(store), WHEEL.filename)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == mode
    for folder in (
        store.layout.trees,
        tree.root,
        tree.root / "demo",
        tree.root.parent,
        tree.root.parent.parent,
    ):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755, folder
    await store.close()


async def test_the_catalog_survives_bad_rows_and_askers_that_leave(store: Store) -> None:
    """One strange URL or one cancelled request must not stop the writer thread for good (invariant 9)."""
    await store.record_origin(WHEEL.sha256, Origin("url", "http://127.0.0.1/\udcff"), "x.whl")
    for _ in range(50):
        asking = asyncio.create_task(store.recall_interpreter("key"))
        await asyncio.sleep(0)
        asking.cancel()
    await store.remember_interpreter("key", {"a": 1})
    assert await asyncio.wait_for(store.recall_interpreter("key"), 10) == {"a": 1}


# -- pages and upkeep --------------------------------------------------------------------------------------


async def test_pages_survive_and_damaged_ones_are_forgotten(store: Store) -> None:
    """An index page is fetched once per host; a torn one is never parsed."""
    url = "http://127.0.0.1/simple/a/"
    page = CachedPage("key é", url, '"e"', None, 12.5, "text/html", b"<html>" * 100, f"{url}?key=***\n00ff")
    assert await store.load_page(page.key) is None
    await store.touch_page(page.key, 3.0)
    await store.save_page(page)
    assert await store.load_page(page.key) == page
    await store.touch_page(page.key, 99.0)
    assert await store.load_page(page.key) == page._replace(fresh_until=99.0)
    path = store.layout.page(page.key)
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw[:20], b"", b"x" + raw, raw.replace(b"key", b"kez")):
        path.write_bytes(damaged)
        assert await store.load_page(page.key) is None


async def test_verify_finds_and_heals_silent_damage(store: Store) -> None:
    """T17: one flipped byte that keeps size, time and inode is found by the full check."""
    artifact = await publish(store)
    tree = await store.ensure_tree(artifact, WHEEL.filename)
    seen: list[tuple[int, int]] = []
    clean = await store.verify(False, lambda done, total: seen.append((done, total)))
    assert (clean["damaged"], clean["fixed"]) == ([], 0)
    assert seen[-1][0] == seen[-1][1] == clean["bytes"]
    path = tree.root / "demo" / "data.bin"
    status = path.stat()
    overwrite(path, b"\0" * 999 + b"\1")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = await store.verify(False)
    assert [(one["kind"], one["filename"]) for one in report["damaged"]] == [("tree", WHEEL.filename)]
    assert "data.bin" in report["damaged"][0]["problem"]
    assert (await store.verify(True))["fixed"] == 1
    assert (await store.verify(True))["damaged"] == []
    rebuilt = await store.ensure_tree(artifact, WHEEL.filename)
    assert (rebuilt.root / "demo" / "data.bin").read_bytes() == b"\0" * 1000


async def test_clean_removes_by_project_and_skips_what_is_in_use(store: Store) -> None:
    """Cleaning while a sync runs must not pull files from under it (invariant 7)."""
    other = make_wheel("Other-Pkg", "2")
    for wheel in (WHEEL, other):
        await store.ensure_tree(await publish(store, wheel), wheel.filename)
    assert [row["name"] for row in await store.listing()] == ["demo", "other-pkg"]
    with store.lease([WHEEL.sha256]), store.lease([WHEEL.sha256]):
        assert [row["in_use"] for row in await store.listing()] == [True, False]
        report = await store.clean([])
        assert report["skipped"] == [WHEEL.filename]
        assert report["removed"] == [other.filename]
        assert store.tree(WHEEL.sha256) is not None
    assert not store.is_leased(WHEEL.sha256)
    assert (await store.clean(["nobody"]))["removed"] == []
    assert (await store.clean(["DEMO"]))["removed"] == [WHEEL.filename]
    assert (await store.size())["total"] == {"files": 0, "bytes": 0}
    assert not [path for path in store.layout.artifacts.rglob("*") if path.is_file()]
    assert not [path for path in store.layout.trees.rglob("*") if path.is_file()]


async def test_shrinking_takes_the_least_recently_used_and_artifacts_first(store: Store) -> None:
    """The size limit must cost what is needed least (invariant 7)."""
    wheels = [make_wheel(f"p{number}", "1") for number in range(3)]
    for wheel in wheels:
        await store.ensure_tree(await publish(store, wheel), wheel.filename)
    with store.lease([wheels[0].sha256]):
        pass
    total = (await store.size())["artifacts"]["bytes"] + (await store.size())["trees"]["bytes"]
    await store.shrink(total - 1)
    assert [store.artifact(wheel.sha256) is None for wheel in wheels] == [False, True, False]
    assert all(store.tree(wheel.sha256) is not None for wheel in wheels)
    with store.lease([wheels[2].sha256]):
        await store.shrink(0)
    assert [store.tree(wheel.sha256) is None for wheel in wheels] == [True, True, False]


async def test_lookups_do_not_block_the_loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """97 lookups belong to every no-op sync: dictionary access and one stat each."""
    artifact = await publish(store, WHEEL, "sha512")
    await store.ensure_tree(artifact, WHEEL.filename)

    def forbidden(*args: object, **kwargs: object) -> object:
        raise AssertionError("a lookup opened a file")

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", forbidden)
        patched.setattr("os.open", forbidden)
        patched.setattr(Path, "read_bytes", forbidden)
        assert store.tree(WHEEL.sha256) is not None
        assert store.find(Digest("sha512", hashlib.sha512(WHEEL.data).hexdigest())) is not None
        assert store.known_filename(Digest("sha256", WHEEL.sha256)) == WHEEL.filename
        store.remember_files("http://127.0.0.1/", "demo", [(Digest("sha256", WHEEL.sha256), WHEEL.filename)])
        with store.lease([WHEEL.sha256]):
            assert store.is_leased(WHEEL.sha256)


# -- what outlives a catalog -------------------------------------------------------------------------------

ORIGIN = Origin("index", f"http://127.0.0.1/files/{WHEEL.filename}", "http://127.0.0.1/simple/")
SHA512 = Digest("sha512", hashlib.sha512(WHEEL.data).hexdigest())


@pytest.mark.parametrize("recorded", [True, False], ids=["index known", "killed before"])
async def test_a_lost_catalog_keeps_origins_and_other_digests(tmp_path: Path, recorded: bool) -> None:
    """Without its origin an installation has no record, and is made anew at every sync."""
    first = await Store.open(tmp_path / "cache")
    await publish(first, WHEEL, "sha512")
    if recorded:
        await first.record_origin(WHEEL.sha256, ORIGIN, WHEEL.filename)
    await first.close()
    first.layout.catalog.unlink()
    for _ in range(2):  # the second daemon may end before anybody wanted it
        second = await Store.open(tmp_path / "cache")
        known = ORIGIN if recorded else Origin("index", ORIGIN.url)
        assert second.origins(WHEEL.sha256) == ((known, WHEEL.filename),)
        assert second.find(SHA512) is None, "claimed by the sidecar, not verified yet"
        await second.close()
    third = await Store.open(tmp_path / "cache")
    try:
        await third.settle([SHA512])
        artifact = third.find(SHA512)
        assert artifact is not None
        assert SHA512 in artifact.digests
    finally:
        await third.close()


async def test_a_sidecar_that_lies_gives_no_alias(tmp_path: Path) -> None:
    """H11: an alias says that these bytes have that digest; only the bytes can say so."""
    first = await Store.open(tmp_path / "cache")
    await publish(first, WHEEL, "sha512")
    await first.close()
    first.layout.catalog.unlink()
    sidecar = first.layout.sidecar(WHEEL.sha256)
    overwrite(sidecar, sidecar.read_bytes().replace(SHA512.hex.encode(), b"0" * 128))
    second = await Store.open(tmp_path / "cache")
    try:
        lie = Digest("sha512", "0" * 128)
        await second.settle([lie])
        assert second.find(lie) is None
        assert second.find(SHA512) is not None, "recomputed"
    finally:
        await second.close()


async def test_a_tree_keeps_the_digests_and_the_origin_of_its_artifact(tmp_path: Path) -> None:
    """The artifact goes first when space runs out; a lock with sha512 still needs no download then."""
    first = await Store.open(tmp_path / "cache")
    await first.ensure_tree(await publish(first, WHEEL, "sha512"), WHEEL.filename)
    await first.record_origin(WHEEL.sha256, ORIGIN, WHEEL.filename)
    await first.damaged_artifact(WHEEL.sha256)
    assert first.sha256_of(SHA512) == WHEEL.sha256
    assert SHA512 in first.digests(WHEEL.sha256)
    await first.close()
    first.layout.catalog.unlink()
    second = await Store.open(tmp_path / "cache")
    try:
        assert await second.load_tree(WHEEL.sha256) is not None
        assert second.origins(WHEEL.sha256) == ((ORIGIN, WHEEL.filename),)
        await second.damaged_tree(WHEEL.sha256)
        assert second.sha256_of(SHA512) is None
        assert not second.layout.sidecar(WHEEL.sha256).exists()
    finally:
        await second.close()


async def test_what_became_known_later_is_in_the_sidecar_too(tmp_path: Path) -> None:
    """The same bytes downloaded again, with another algorithm: a rebuilt catalog knows both."""
    first = await Store.open(tmp_path / "cache")
    await publish(first)
    await publish(first, WHEEL, "sha512")
    await first.close()
    first.layout.catalog.unlink()
    second = await Store.open(tmp_path / "cache")
    try:
        await second.settle([SHA512])
        assert second.find(SHA512) is not None
    finally:
        await second.close()
