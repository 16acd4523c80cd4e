"""Installing from ready copies: the same environment as from trees, to the bit, or the trees are used."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from pkgc_daemon.archives.manifest import manifest_from_bytes
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.apply import apply_plan
from pkgc_daemon.installing.records import mismatches, read_record
from pkgc_daemon.installing.staging import records_of, sha256_of
from pkgc_daemon.store.copying import make_copy
from tests.support.realwheels import DATA
from tests.support.wheels import BuiltWheel, make_wheel
from tests.unit.installing.test_apply import full_wheel
from tests.unit.installing.test_crash import run_and_kill
from tests.unit.installing.trees import MINOR, SITE, Env

BIG = bytes(range(256)) * 300


@pytest.fixture
def env(tmp_path: Path) -> Env:
    return Env(tmp_path)


def records(item: dict[str, Any]) -> dict[str, bytes]:
    return records_of(item.get("provenance"), item.get("direct_url"), requested=bool(item.get("requested")))


def ready(
    env: Env, wheel: BuiltWheel, *, umask: int = 0o022, watched: bool = True, **more: Any
) -> dict[str, Any]:
    """An addition with a ready copy of its tree, as the daemon hands it over.

    Args:
        watched: whether the kernel tells of changes in the copy.
        more: replaces fields of the addition after the copy was prepared.
    """
    item = env.item(wheel)
    folder = env.store / "ready"
    folder.mkdir(exist_ok=True)
    target = str(folder / f"{wheel.sha256}.{len(list(folder.iterdir()))}")
    manifest = manifest_from_bytes(Path(item["manifest"]).read_bytes())
    old = os.umask(0)
    try:
        room = 1 << 30 if watched else 0
        watches = iter(range(1 << 30))
        answer = make_copy(
            target,
            umask,
            manifest,
            item["tree"],
            None,
            records(item),
            lambda _: next(watches),
            lambda _: None,
            room,
        )
    finally:
        os.umask(old)
    packed = msgpack.packb(answer["note"], unicode_errors="surrogateescape")
    note = msgpack.unpackb(packed, unicode_errors="surrogateescape", use_list=False)
    item = {**item, "umask": umask, **more}
    return {**item, "records": records(item), "ready": {"path": target, "note": note}}


Found = dict[str, tuple[str, int, bytes]]


def state(env: Env, like: Found | None = None) -> Found:
    """Kind, mode and content of everything but the lock.

    Args:
        like: has the modes of what is not shared. What is has the tree's, and counts as if it had not.
    """
    found: Found = {}
    for path in env.prefix.rglob("*"):
        shown, status = str(path.relative_to(env.prefix)), path.lstat()
        if shown == ".lock":
            continue
        if path.is_symlink():
            found[shown] = ("link", 0, os.readlink(path).encode())
        else:
            content = b"" if path.is_dir() else path.read_bytes()
            mode = stat.S_IMODE(status.st_mode)
            if like is not None and path.is_file() and status.st_nlink > 1 and shown in like:
                assert mode == (0o555 if like[shown][1] & 0o100 else 0o444), shown
                mode = like[shown][1]
            found[shown] = (stat.filemode(status.st_mode)[0], mode, content)
    return found


def anew(env: Env, root: Path) -> Env:
    """The same environment, empty again, with the same trees."""
    shutil.rmtree(env.prefix)
    return Env(root)


def of_trees(env: Env, additions: Sequence[Any], umask: int, **more: Any) -> tuple[Found, list[str]]:
    """What an ordinary installation makes where it cannot link."""
    plain = [env.item(one) if isinstance(one, BuiltWheel) else {**one, "ready": None} for one in additions]
    result = env.apply(plain, umask=umask, link_mode="copy", **more)
    assert result["status"] == "done"
    found = state(env)
    return found, result["warnings"]


LINES = b"".join(b"x%d = 1\n" % number for number in range(20_000))
CASES: dict[str, list[BuiltWheel]] = {
    "every part": [full_wheel()],
    "no scripts": [
        make_wheel(
            "plain",
            "1.0",
            {
                "plain/__init__.py": "",
                "plain/a,b.txt": "comma",
                'plain/"quoted".txt': "quotes",
                "plain/grüße-日本.txt": "names",
                "plain/tool.sh": "#!/bin/sh\n",
                "plain/big.bin": BIG,
                "plain/lines.py": LINES,
                "plain/run.sh": b"#!/bin/sh\n" + BIG,
                "plain.pth": "import sys\n",
            },
            executable=["plain/tool.sh", "plain/run.sh"],
            dist_info_files={"licenses/deep/LICENSE": "free", "INSTALLER": "somebody\n", "REQUESTED": "x"},
        )
    ],
    "data": [
        make_wheel("one", "1", {"one.py": ""}, data={"data/share/doc/one.txt": "1", "data/etc/one": BIG}),
        make_wheel("two", "1", {"two.py": ""}, data={"data/share/doc/two.txt": "2", "data/top.txt": "2"}),
    ],
    "purelib in platlib": [
        make_wheel(
            "mixed",
            "1.0",
            {"mixed/__init__.py": "", "mixed/both.py": "platlib\n"},
            root_is_purelib=False,
            data={
                "purelib/mixed/pure.py": "",
                "purelib/mixed/both.py": "purelib\n",
                "platlib/mixed/p.py": "",
            },
        )
    ],
    "namespaces": [
        make_wheel(
            f"ns-{name}", "1.0", {f"ns/{name}.py": name, f"ns/deep/er/{name}.py": "", f"ns/{name}/a.py": ""}
        )
        for name in ("one", "two", "three")
    ],
    "overlaps, equal": [
        make_wheel(name, "1.0", {"ns/__init__.py": "same", "ns/big.bin": BIG, f"ns/{name}.py": name})
        for name in ("alpha", "beta", "gamma")
    ],
    "overlaps, different": [
        make_wheel(
            name,
            "1.0",
            {
                "ns/__init__.py": name,
                "ns/big.bin": BIG + name.encode(),
                f"ns/{name}.py": name,
                "top.py": name,
            },
            data={"data/share/doc/readme": name, "scripts/tool": f"#!/bin/sh\necho {name}\n"},
            entry_points={"console_scripts": {"same": f"ns.{name}:main"}},
        )
        for name in ("alpha", "beta", "gamma")
    ],
    "of a newer format": [make_wheel("newer", "1.0", wheel_version="1.9")],
}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("case", CASES)
def test_an_environment_of_copies_is_one_of_trees(env: Env, tmp_path: Path, case: str, umask: int) -> None:
    """Whether a copy happened to be there must not show in bytes, modes, records, winners or warnings."""
    expected, warned = of_trees(env, CASES[case], umask)
    env = anew(env, tmp_path)
    result = env.apply([ready(env, wheel, umask=umask) for wheel in CASES[case]], umask=umask)
    assert result["status"] == "done"
    assert state(env, expected) == expected
    assert sorted(result["warnings"]) == sorted(warned)
    assert (case in ("overlaps, different", "of a newer format")) is bool(warned)
    assert list((env.store / "ready").rglob("*.dist-info")) == [], "the copies were not used"


def real_wheels() -> list[BuiltWheel]:
    """Wheels of PyPI that any Python takes, one of each project."""
    found = {}
    for path in sorted((DATA / "wheels").glob("*-py3-none-any.whl")):
        found[path.name.split("-")[0].lower()] = path
    return [BuiltWheel(path.name, data := path.read_bytes(), sha256_of(data)) for path in found.values()]


@pytest.mark.skipif(not (DATA / "wheels").is_dir(), reason="no real wheels were fetched (./check full)")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_an_environment_of_real_wheels(env: Env, tmp_path: Path, umask: int) -> None:
    """What builders really write: thousands of files, namespaces, data folders, scripts, licences."""
    wheels = real_wheels()
    assert len(wheels) >= 20
    expected, warned = of_trees(env, wheels, umask)
    env = anew(env, tmp_path)
    result = env.apply([ready(env, wheel, umask=umask) for wheel in wheels], umask=umask)
    assert state(env, expected) == expected
    assert sorted(result["warnings"]) == sorted(warned)
    assert list((env.store / "ready").rglob("*.dist-info")) == [], "the copies were not used"


def test_copies_among_trees_and_over_what_is_there(env: Env, tmp_path: Path) -> None:
    """Only some packages have copies, and others are there already: who wins must not depend on it."""
    alpha, beta, gamma = CASES["overlaps, different"]

    def install(env: Env, of: Callable[[BuiltWheel], Any]) -> tuple[Found, list[str]]:
        env.apply([env.item(beta)], link_mode="copy", umask=0o022)
        (env.site / "ns" / "mine.txt").write_text("the user's")
        result = env.apply([of(alpha), env.item(gamma)], umask=0o022)
        found = {
            path: (kind, b"" if kind == "d" else content) for path, (kind, _, content) in state(env).items()
        }
        return found, result["warnings"]  # type: ignore[return-value]

    expected = install(env, env.item)
    env = anew(env, tmp_path)
    assert install(env, lambda wheel: ready(env, wheel)) == expected


@pytest.mark.parametrize(
    "more",
    [
        {"provenance": {"url": "https://other.example/x.whl", "archive_info": {"hashes": {}}}},
        {"provenance": None, "direct_url": {"url": "https://other.example/x.whl", "archive_info": {}}},
        {"provenance": None, "requested": False},
    ],
)
@pytest.mark.parametrize("case", ["no scripts", "every part"])
def test_another_origin_than_it_was_prepared_with(
    env: Env, tmp_path: Path, case: str, more: dict[str, Any]
) -> None:
    """With the origin of the last environment in its records the next sync would trust it wrongly."""
    (wheel,) = CASES[case]
    expected, _ = of_trees(env, [{**env.item(wheel), **more}], 0o022)
    env = anew(env, tmp_path)
    env.apply([ready(env, wheel, **more)], umask=0o022)
    assert state(env, expected) == expected
    info = next(env.site.glob("*.dist-info"))
    lines = read_record(str(info))
    assert lines is not None
    assert list(mismatches(str(env.prefix), str(env.site), lines)) == []
    assert (info / "REQUESTED").exists() is more.get("requested", True)


def test_a_path_that_is_file_here_and_folder_there(env: Env) -> None:
    """The same error as from trees, and nothing changed."""
    one = make_wheel("aaa", "1", {"thing": "a file"})
    two = make_wheel("bbb", "1", {"thing/a.py": "in a folder"})
    for first, second in ((one, two), (two, one)):
        before = state(env)
        with pytest.raises(PkgcError) as caught:
            env.apply([ready(env, first), ready(env, second)])
        assert caught.value.code == "path-conflict"
        assert state(env) == before


# -- where copies are not right ----------------------------------------------------------------------------


def unchanged(env: Env, wheel: BuiltWheel) -> dict[str, bytes]:
    """What the environment should hold of the wheel's own files."""
    manifest = manifest_from_bytes(Path(env.item(wheel)["manifest"]).read_bytes())
    root = Path(env.item(wheel)["tree"])
    return {
        one.path: (root / one.path).read_bytes() for one in manifest.files if ".dist-info" not in one.path
    }


def held(env: Env) -> dict[str, bytes]:
    return {
        str(path.relative_to(env.site)): path.read_bytes()
        for path in env.site.rglob("*")
        if path.is_file() and ".dist-info" not in str(path)
    }


TAMPERED: dict[str, Callable[[Path], object]] = {
    "edited": lambda site: (site / "plain/__init__.py").write_text("evil"),
    "cut": lambda site: os.truncate(site / "plain.pth", 1),
    "chmodded": lambda site: (site / "plain/tool.sh").chmod(0o666),
    "removed": lambda site: (site / "plain.pth").unlink(),
    "added": lambda site: (site / "plain/evil.py").touch(),
    "a link replaced": lambda site: (site / "plain.pth").replace(site / "plain/big.bin"),
    "everything removed": lambda site: shutil.rmtree(site.parent),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_unwatched_a_copy_that_was_changed_is_not_used(
    env: Env, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without inotify this comparison is all that keeps the change out of the environment."""
    (wheel,) = CASES["no scripts"]
    item = ready(env, wheel, watched=False)
    TAMPERED[what](Path(item["ready"]["path"]) / "site")
    assert env.apply([item])["status"] == "done"
    assert held(env) == unchanged(env, wheel)
    assert (env.site / "plain/tool.sh").stat().st_mode & 0o111
    assert "was changed by another program" in caplog.text


def test_unwatched_an_unchanged_copy_is_used(env: Env) -> None:
    """Otherwise there would be no ready copies at all on macOS."""
    (wheel,) = CASES["no scripts"]
    item = ready(env, wheel, watched=False)
    inode = Path(item["ready"]["path"], "site/plain/tool.sh").stat().st_ino
    env.apply([item])
    assert (env.site / "plain/tool.sh").stat().st_ino == inode


def test_a_large_file_that_was_changed_in_an_earlier_environment(env: Env) -> None:
    """It shares its inode with the tree and with the copy: the edit must not reach the next environment."""
    (wheel,) = CASES["no scripts"]
    item = ready(env, wheel)
    earlier = env.store / "earlier.bin"
    os.link(f"{item['tree']}/plain/big.bin", earlier)
    earlier.chmod(0o644)
    earlier.write_bytes(BIG[::-1])
    before = state(env)
    result = env.apply([item])
    assert (result["status"], result["path"]) == ("damaged", "plain/big.bin")
    assert state(env) == before


def test_a_copy_that_is_gone_is_made_up_for_by_the_tree(env: Env) -> None:
    """Whoever empties the cache's folder of copies by hand must not get an error from the next sync."""
    (wheel,) = CASES["no scripts"]
    item = ready(env, wheel)
    shutil.rmtree(item["ready"]["path"])
    assert env.apply([item])["status"] == "done"
    assert held(env) == unchanged(env, wheel)


def test_another_mount_has_the_tree_used(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bind mount of the same file system looks the same and refuses renames."""
    (wheel,) = CASES["no scripts"]
    item = ready(env, wheel)
    renamed = os.rename

    def rename(source: str, destination: str) -> None:
        if str(source).startswith(item["ready"]["path"]):
            raise OSError(18, "Invalid cross-device link")
        renamed(source, destination)

    monkeypatch.setattr("pkgc_daemon.installing.staging.os.rename", rename)
    assert env.apply([item])["status"] == "done"
    assert held(env) == unchanged(env, wheel)


def everyone_may_read() -> bytes:
    """A default ACL, as setfacl would write it (xattr of version 2: tag, permissions, id)."""
    entries = [(0x01, 7, -1), (0x02, 7, 12345), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.mark.parametrize("how", ["setgid", "acl"])
def test_what_a_folder_hands_down_reaches_every_file(env: Env, tmp_path: Path, how: str) -> None:
    """A team's folder gives its group, or an ACL, to what is made in it: what is moved there has neither."""

    def prepare(env: Env) -> None:
        if how == "setgid":
            env.prefix.chmod(0o2775)
            return
        try:
            os.setxattr(env.prefix, "system.posix_acl_default", everyone_may_read())
        except OSError as error:
            pytest.skip(f"no ACLs here: {error}")

    (wheel,) = CASES["no scripts"]
    prepare(env)
    expected, _ = of_trees(env, [wheel], 0o022)
    package = env.site / "plain"
    acls = os.listxattr(package)
    assert expected[f"{SITE}/plain"][1] & stat.S_ISGID if how == "setgid" else acls
    env = anew(env, tmp_path)
    prepare(env)
    env.apply([ready(env, wheel)], umask=0o022)
    found = state(env)
    assert {path: kind[1] for path, kind in found.items() if kind[0] == "d"} == {
        path: kind[1] for path, kind in expected.items() if kind[0] == "d"
    }
    assert os.listxattr(env.site / "plain") == acls


def test_symlinks_of_the_user_below_share(env: Env, tmp_path: Path) -> None:
    """`share/doc` of the environment leads elsewhere in it: files go where they go without a copy."""
    wheel = CASES["data"][0]

    def install(env: Env, item: dict[str, Any]) -> Found:
        (env.prefix / "share").mkdir()
        (env.prefix / "documents").mkdir()
        (env.prefix / "share" / "doc").symlink_to("../documents")
        env.apply([item], umask=0o022)
        return {path: (kind, 0, content) for path, (kind, _, content) in state(env).items()}

    expected = install(env, env.item(wheel))
    assert "documents/one.txt" in expected
    env = anew(env, tmp_path)
    assert install(env, ready(env, wheel)) == expected


def test_a_lib64_of_its_own(env: Env) -> None:
    """A platlib wheel of an environment with two library folders goes into lib64, RECORD with it."""
    (env.prefix / "lib64").unlink()
    other = env.prefix / f"lib64/python{MINOR}/site-packages"
    other.mkdir(parents=True)
    (wheel,) = CASES["purelib in platlib"]
    env.apply([ready(env, wheel)], umask=0o022)
    lines = read_record(str(other / "mixed-1.0.dist-info"))
    assert lines is not None
    assert (other / "mixed/__init__.py").exists()
    assert (env.site / "mixed/pure.py").exists()
    assert all((other / line.path).exists() for line in lines)
    assert list(mismatches(str(env.prefix), str(other), lines)) == []


@pytest.mark.parametrize("more", [{"strict": True}, {"link_mode": "copy"}, {"link_mode": "symlink"}])
def test_never_where_every_file_has_to_be_placed_in_its_way(env: Env, more: dict[str, Any]) -> None:
    """`--strict` looks at every file, and whoever asks for copies or links wants just these."""
    (wheel,) = CASES["no scripts"]
    item = ready(env, wheel)
    assert env.apply([item], **more)["status"] == "done"
    assert Path(item["ready"]["path"], "site/plain/tool.sh").exists(), "it was used"
    assert (env.site / "plain/tool.sh").is_symlink() is (more.get("link_mode") == "symlink")


def test_kill_at_every_point(env: Env, tmp_path: Path) -> None:
    """kill -9 with copies half moved: the next sync rolls back, and is right whatever is left of them."""
    wheels = [*CASES["overlaps, different"], *CASES["no scripts"]]
    env.apply([env.item(make_wheel("kept", "1.0", {"ns/kept.py": "", "kept.py": ""}))], link_mode="copy")
    before = state(env)
    env.apply([ready(env, wheel) for wheel in wheels], umask=0o022)
    after = state(env)
    for shown, (kind, mode, content) in after.items():  # as if nothing were shared
        after[shown] = (kind, {0o444: 0o644, 0o555: 0o755}.get(mode, mode), content)
    reached = set()
    for at in range(1000):
        for path in env.prefix.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        env.prefix.rmdir()
        env = Env(tmp_path)
        env.apply([env.item(make_wheel("kept", "1.0", {"ns/kept.py": "", "kept.py": ""}))], link_mode="copy")
        args = env.args([ready(env, wheel) for wheel in wheels], umask=0o022)
        name = run_and_kill(lambda args=args: apply_plan(args), at)  # type: ignore[misc]
        if name is None:
            break
        reached.add(name.split()[0])
        # What the next sync does first; nothing of what was interrupted may be seen after it.
        env.apply([], umask=0o022)
        done = name in ("committed", "cleared") and state(env, after) == after
        assert done or state(env) == before, name
        if not done:
            # The copies are used up, or half of them: the daemon does not know which.
            assert env.apply([{**item} for item in args["add"]], umask=0o022)["status"] == "done", name
            assert state(env, after) == after, name
    assert reached >= {
        "locked",
        "staged",
        "before-journal",
        "journal-written",
        "journaled",
        "place",
        "committed",
    }
