"""What a store gave for a lock is given again only while nothing has changed, seen through the client."""

from __future__ import annotations

import platform
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import assert_holds
from tests.support.instance import Instance, running
from tests.support.locks import holds, make_venv, pin, site
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


def demo(text: str, **options: Any) -> BuiltWheel:
    """demo 1.0 with these bytes."""
    return make_wheel("demo", "1.0", {"demo/__init__.py": f"text = {text!r}\n"}, **options)


class Fresh:
    """A pkgc whose last answer for a lock is recalled, as long as it is right."""

    def __init__(self, pkgc: Instance, index: IndexServer, root: Path) -> None:
        self.pkgc, self.index, self.root = pkgc, index, root
        self.count = 0
        self.wheel = demo("one")
        self.unhashed = pkgc.requirements("demo==1.0", name="unhashed.txt")
        self.hashed = pkgc.requirements(pin(self.wheel), name="hashed.txt")

    def offer(self, wheel: BuiltWheel, **more: Any) -> None:
        """Put it on the index in the place of what is there."""
        self.index.add(wheel.data, wheel.filename, **more)

    def sync(self, lock: Path, *options: str | Path, **more: Any) -> str:
        """What a new environment has, after a sync that the client cannot answer by itself."""
        self.count += 1
        venv = self.root / f"venv{self.count}"
        where = () if "-i" in options or "--no-index" in options else ("-i", self.index.url)
        self.answer = self.pkgc.sync(lock, "--venv", venv, *where, *options, **more)
        self.venv = venv
        return (site(venv) / "demo/__init__.py").read_text().partition("'")[2].partition("'")[0]

    def settle(self, lock: Path, *options: str | Path, **more: Any) -> None:
        """Sync until the answer is recalled: fetched, from the store, recalled."""
        for _ in range(3):
            assert self.sync(lock, *options, **more) == "one"
        assert self.answer["index_requests"] == 0


@pytest.fixture
def fresh(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> Fresh:
    """The page of demo is fresh for ten minutes."""
    index.page_headers["Cache-Control"] = "max-age=600"
    made = Fresh(own_pkgc, index, tmp_path)
    made.offer(made.wheel)
    return made


def test_what_did_not_change_is_recalled(fresh: Fresh) -> None:
    """The measure for the others: nothing is asked, nothing is fetched, and the records are the same."""
    fresh.settle(fresh.unhashed)
    before = {path.name: path.read_bytes() for path in site(fresh.venv).glob("*.dist-info/*")}
    fresh.index.clear_log()
    assert fresh.sync(fresh.unhashed) == "one"
    assert fresh.index.log == []
    assert {path.name: path.read_bytes() for path in site(fresh.venv).glob("*.dist-info/*")} == before
    (installed,) = fresh.answer["installed"]
    assert (installed["from"], installed["sha256"]) == ("store", fresh.wheel.sha256)


@pytest.mark.parametrize("option", [("--refresh",), ("--refresh-package", "demo")])
def test_refresh_looks_anew(fresh: Fresh, option: tuple[str, ...]) -> None:
    """A file was replaced on the index; whoever says --refresh must get it."""
    fresh.settle(fresh.unhashed)
    fresh.offer(demo("two"))
    assert fresh.sync(fresh.unhashed) == "one", "the page is fresh"
    assert fresh.sync(fresh.unhashed, *option) == "two"
    assert fresh.sync(fresh.unhashed) == "two"


def test_a_page_that_is_no_longer_fresh(fresh: Fresh) -> None:
    """An answer may not live longer than the page that it came from."""
    fresh.index.page_headers["Cache-Control"] = "max-age=2"
    fresh.pkgc.ok("cache", "dir")
    fresh.sync(fresh.unhashed)
    fresh.sync(fresh.unhashed)
    fresh.offer(demo("two"))
    time.sleep(2.1)  # seconds that the index said
    assert fresh.sync(fresh.unhashed) == "two"


def test_a_page_that_another_call_has_fetched(fresh: Fresh) -> None:
    """Somebody else's --refresh has brought a new page: it counts for everyone."""
    fresh.settle(fresh.unhashed)
    fresh.offer(demo("two"))
    other = fresh.pkgc.requirements("demo == 1.0", name="other.txt")
    assert fresh.sync(other, "--refresh") == "two"
    assert fresh.sync(fresh.unhashed) == "two"


def test_yanked_is_said_every_time(fresh: Fresh) -> None:
    """A warning that is only given once is not seen by whoever comes second."""
    fresh.offer(fresh.wheel, yanked="breaks everything")
    for _ in range(4):
        fresh.sync(fresh.unhashed)
        assert [one["code"] for one in fresh.answer["warnings"]] == ["yanked"]


def test_yanked_meanwhile(fresh: Fresh) -> None:
    """It was fine when the answer was kept."""
    fresh.settle(fresh.unhashed)
    fresh.offer(fresh.wheel, yanked="breaks everything")
    other = fresh.pkgc.requirements("demo == 1.0", name="other.txt")
    fresh.sync(other, "--refresh")
    fresh.sync(fresh.unhashed)
    assert [one["code"] for one in fresh.answer["warnings"]] == ["yanked"]


def test_another_index(fresh: Fresh) -> None:
    """The same lock from another index is another file, also when an index is put before the one that was."""
    fresh.settle(fresh.unhashed)
    two = demo("two")
    fresh.index.add(two.data, two.filename, index="second")
    other = fresh.index.index_url("second")
    assert fresh.sync(fresh.unhashed, "-i", other) == "two"
    assert fresh.sync(fresh.unhashed) == "one"
    assert fresh.sync(fresh.unhashed, "-i", other, "--extra-index-url", fresh.index.url) == "two"
    assert fresh.sync(fresh.unhashed, "-i", fresh.index.url, "--extra-index-url", other) == "one"


def test_options_that_forbid_it(fresh: Fresh) -> None:
    """A recalled wheel must not get past --no-binary, nor an index past --no-index."""
    fresh.settle(fresh.hashed)
    for options in (("--no-binary", "demo"), ("--no-binary", ":all:")):
        result = fresh.pkgc.run(
            "sync", fresh.hashed, "--venv", fresh.root / "refused", "-i", fresh.index.url, *options
        )
        assert result.status == 1, str(result)
    fresh.settle(fresh.unhashed)
    result = fresh.pkgc.run("sync", fresh.unhashed, "--venv", fresh.root / "refused", "--no-index")
    assert result.status == 1, str(result)


def test_offline_is_decided_by_itself(fresh: Fresh) -> None:
    """Offline, and then not: neither gives the other's answer."""
    fresh.settle(fresh.unhashed)
    fresh.offer(demo("two"))
    assert fresh.sync(fresh.unhashed, "--offline") == "one"
    assert fresh.sync(fresh.unhashed, "--refresh") == "two"
    assert fresh.sync(fresh.unhashed, "--offline") == "two"


def test_other_credentials(tmp_path: Path) -> None:
    """netrc was edited: who has no access any more must not get from memory what others pay for."""
    with IndexServer(page_headers={"Cache-Control": "max-age=600"}, auth=("me", "s3cret")) as index:
        with running(tmp_path / "pkgc") as pkgc:
            fresh = Fresh(pkgc, index, tmp_path)
            fresh.offer(fresh.wheel)
            netrc = pkgc.home / ".netrc"
            netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
            netrc.chmod(0o600)
            fresh.settle(fresh.unhashed)
            netrc.write_text("machine 127.0.0.1 login me password wrong!\n")
            time.sleep(5.1)  # seconds for which such files are not read again
            result = pkgc.run("sync", fresh.unhashed, "--venv", tmp_path / "refused", "-i", index.url)
            assert result.status == 1, str(result)
            assert "s3cret" not in result.out + result.err


def damage_root(folder: Path) -> None:
    (folder / "root" / "more").touch()


def damage_file(folder: Path) -> None:
    path = folder / "root/demo/__init__.py"
    path.chmod(0o644)
    path.write_text("text = 'bad'\n")


DAMAGED: dict[str, Callable[[Path], object]] = {
    "file": damage_file,
    "folder": damage_root,
    "gone": lambda folder: folder.rename(folder.with_name("gone")),
}


@pytest.mark.parametrize("what", DAMAGED)
@pytest.mark.parametrize("hashed", [True, False])
def test_a_damaged_tree_is_healed(fresh: Fresh, what: str, hashed: bool) -> None:
    """Damage is found before it reaches an environment (invariant 6), whoever remembers what."""
    fresh.pkgc.env["PKGC_READY_COPIES"] = "0"
    lock = fresh.hashed if hashed else fresh.unhashed
    fresh.settle(lock)
    (tree,) = (fresh.pkgc.cache / "trees").glob(f"??/{fresh.wheel.sha256}")
    DAMAGED[what](tree)
    assert fresh.sync(lock) == "one"
    assert_holds(fresh.venv, fresh.wheel)
    assert stat.S_IMODE((tree / "root/demo/__init__.py").stat().st_mode) == 0o444
    assert not (tree / "root/more").exists()


def test_cleaned_meanwhile(fresh: Fresh) -> None:
    """What is not there any more must be fetched again, not remembered."""
    fresh.settle(fresh.unhashed)
    fresh.pkgc.ok("cache", "clean")
    assert fresh.sync(fresh.unhashed) == "one"
    assert fresh.answer["installed"][0]["from"] == "network"


def test_another_interpreter(fresh: Fresh, tmp_path: Path) -> None:
    """A wheel for one Python must not be installed into an environment of another one."""
    minor = f"{sys.version_info[0]}{sys.version_info[1]}"
    mine = demo(
        "mine",
        tag=f"cp{minor}-none-any",
        requires_python=f"=={sys.version_info[0]}.{sys.version_info[1]}.*",
    )
    fresh.index.add(mine.data, mine.filename)
    both = fresh.pkgc.requirements("demo==1.0", name="both.txt")
    for _ in range(3):
        assert fresh.sync(both) == "mine"
    others = [
        path
        for path in Path.home().glob(".pyenv/versions/3.*/bin/python")
        if f"3.{sys.version_info[1]}." not in str(path)
    ]
    if not others:
        pytest.skip("only one Python here")
    venv = make_venv(tmp_path / "other", max(others))
    fresh.pkgc.sync(both, "--venv", venv, "-i", fresh.index.url)
    assert (site(venv) / "demo/__init__.py").read_text() == "text = 'one'\n"
    assert holds(venv) == {"demo": "1.0"}
    assert fresh.sync(both) == "mine"


def test_a_lock_that_was_edited(fresh: Fresh) -> None:
    """The same file name, other lines."""
    fresh.settle(fresh.unhashed)
    two = make_wheel("demo", "2.0", {"demo/__init__.py": "text = 'two'\n"})
    fresh.offer(two)
    fresh.unhashed.write_text("demo==2.0\n")
    assert fresh.sync(fresh.unhashed, "--refresh") == "two"
    fresh.unhashed.write_text("demo==1.0\n")
    assert fresh.sync(fresh.unhashed) == "one"


def test_an_environment_that_refuses_such_wheels(fresh: Fresh, tmp_path: Path) -> None:
    """Its `_manylinux` module says that the C library is not good enough (PEP 600): other wheels."""
    tag = f"py3-none-manylinux_2_5_{platform.machine()}"
    fresh.offer(demo("manylinux", tag=tag))
    for _ in range(3):
        assert fresh.sync(fresh.unhashed) == "manylinux"
    venv = make_venv(tmp_path / "refusing", sys.executable)
    (site(venv) / "_manylinux.py").write_text("def manylinux_compatible(*_):\n    return False\n")
    fresh.pkgc.sync(fresh.unhashed, "--venv", venv, "-i", fresh.index.url)
    assert (site(venv) / "demo/__init__.py").read_text() == "text = 'one'\n"
