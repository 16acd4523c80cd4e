"""The plan decides what is reinstalled: a wrong 'keep' leaves other code than the lock says (T8, T1c)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.plan import Served, make_plan
from pkgc_daemon.vocabulary import Digest, Installed, Origin, Plan, Wanted

A = Digest("sha256", "a" * 64)
B = Digest("sha256", "b" * 64)
LONG = Digest("sha512", "c" * 128)
MD5 = Digest("md5", "d" * 32)
OTHER_MD5 = Digest("md5", "e" * 32)


def have(name: str = "reg", version: str = "1.0", **more: Any) -> Installed:
    return Installed(name, version, f"/env/site-packages/{name}-{version}.dist-info", **more)


def ours(*hashes: Digest, version: str = "1.0") -> Installed:
    origin = Origin("index", "https://a.example/reg.whl", "https://a.example/simple/")
    return have(version=version, hashes=frozenset(hashes), installer="pkgc", origin=origin)


def want(*hashes: Digest, name: str = "reg", version: str = "1.0", **more: Any) -> Wanted:
    return Wanted(name, version, frozenset(hashes), **more)


def plan(wanted: list[Wanted], installed: list[Installed], **more: Any) -> Plan:
    return make_plan(wanted, installed, **{"seeded": False, **more})


def test_same_hash_is_kept() -> None:
    assert plan([want(A, B)], [ours(B)]).is_noop


def test_other_hash_is_replaced_although_the_version_agrees() -> None:
    """T8: the same version from another index must not pass for the locked one."""
    found = plan([want(B)], [ours(A)])
    assert [one.installed.name for one in found.remove] == ["reg"]
    assert found.add[0].replaces == ours(A)
    assert found.add[0].reason == (
        f"reg 1.0: installed from index https://a.example/simple/, the lock wants {B}"
    )


def test_unknown_origin_satisfies_unhashed_pins_only() -> None:
    pip = have(installer="pip")
    assert plan([want()], [pip]).is_noop
    found = plan([want(A)], [pip])
    assert found.add[0].reason.startswith("reg 1.0: installed by pip, origin unknown")


def test_digests_that_cannot_be_compared_do_not_satisfy() -> None:
    found = plan([want(LONG)], [ours(A)])
    assert "its sha256 is known" in found.add[0].reason


@pytest.mark.parametrize(
    ("digests", "here", "elsewhere"),
    [
        ({A, B}, True, True),
        ({A, MD5}, True, True),
        ({B}, False, False),
        (set(), True, False),
        ({LONG}, True, False),
        ({MD5}, True, False),
        ({OTHER_MD5}, False, False),
    ],
)
def test_unhashed_pin_follows_what_the_index_serves_now(
    digests: set[Digest], here: bool, elsewhere: bool
) -> None:
    """design.md 8, 'Origin of unhashed pins'; where no strong digest tells, the place of the file does."""
    one = ours(A)
    one = dataclasses.replace(one, hashes=one.hashes | {MD5})
    assert one.origin is not None
    assert plan([want()], [one]).is_noop, "nobody could be asked"
    signed = dataclasses.replace(one.origin, url=one.origin.url + "?token=2#egg")
    for origins, kept in (
        ({one.origin}, here),
        ({signed}, here),
        ({dataclasses.replace(one.origin, index="https://other.example/simple/")}, elsewhere),
        ({dataclasses.replace(one.origin, url="https://h.example/else.whl")}, elsewhere),
    ):
        served = {"reg": Served(frozenset(digests), frozenset(origins))}
        assert plan([want()], [one], served=served).is_noop is kept


def test_the_reason_names_the_index_that_serves_other_bytes() -> None:
    """'the index' alone would be read as the one that the package came from."""
    one = ours(A)
    assert one.origin is not None

    def reason(*origins: Origin) -> str:
        served = {"reg": Served(frozenset({B}), frozenset(origins))}
        return plan([want()], [one], served=served).add[0].reason

    begin = "reg 1.0: installed from index https://a.example/simple/, "
    other = dataclasses.replace(one.origin, index="https://b.example/simple/")
    assert reason(one.origin) == f"{begin}which now serves {B}"
    assert reason(other) == f"{begin}but index https://b.example/simple/ serves {B}"
    assert reason(Origin("find-links", "file:///w/reg.whl", "/w")) == f"{begin}but /w serves {B}"
    assert reason() == f"{begin}the index now serves {B}"


def test_direct_url_never_satisfies_an_index_pin() -> None:
    direct = have(direct=True, hashes=frozenset({A}), origin=Origin("url", "https://h.example/reg.whl"))
    assert "https://h.example/reg.whl" in plan([want(A)], [direct]).add[0].reason
    assert not plan([want()], [direct]).is_noop


def test_damaged_is_replaced_even_when_its_hash_agrees() -> None:
    """T22b: never 'up to date' over a half-installed package."""
    damaged = have(hashes=frozenset({A}), damaged="METADATA is missing")
    found = plan([want(A)], [damaged])
    assert "damaged: METADATA is missing" in found.add[0].reason


def test_duplicates_all_go_and_one_comes() -> None:
    found = plan([want(A)], [ours(A), ours(A, version="2.0")])
    assert len(found.remove) == 2
    assert len(found.add) == 1
    assert "1.0, 2.0" in found.add[0].reason


@pytest.mark.parametrize(
    ("pinned", "installed", "same"),
    [
        ("1.0", "1.0.0", True),
        ("1.0", "1.0+cu118", True),
        ("1.0.0", "1.0+cu118", True),
        ("1.0+cu118", "1.0", False),
        ("1!1.0", "1.0", False),
        ("1.0", "1.0rc1", False),
        ("1.0.post1", "1.0-1", True),
        ("1.0", "not a version", False),
    ],
)
def test_versions_are_compared_as_pep_440_says(pinned: str, installed: str, same: bool) -> None:
    assert plan([want(version=pinned)], [have(version=installed)]).is_noop is same


def test_arbitrary_equality_compares_strings() -> None:
    assert not plan([want(version="1.0", arbitrary=True)], [have(version="1.0.0")]).is_noop
    assert plan([want(version="1.0-FOO", arbitrary=True)], [have(version="1.0-foo")]).is_noop


def test_extraneous_go_but_not_with_inexact() -> None:
    assert [one.installed.name for one in plan([], [have("old")]).remove] == ["old"]
    assert plan([], [have("old")], exact=False).is_noop


def test_seeds_stay_where_the_environment_was_made_with_them() -> None:
    installed = [have("pip"), have("setuptools"), have("wheel"), have("uv"), have("old")]
    assert [one.installed.name for one in plan([], installed, seeded=True).remove] == ["old"]
    assert len(plan([], installed, seeded=False).remove) == 5
    assert not plan([want(A, name="pip")], installed, seeded=True).is_noop


def test_reinstall_by_name_or_all() -> None:
    assert not plan([want(A)], [ours(A)], reinstall=True).is_noop
    assert not plan([want(A)], [ours(A)], reinstall=frozenset({"reg"})).is_noop
    assert plan([want(A)], [ours(A)], reinstall=frozenset({"other"})).is_noop


def test_what_has_no_record_stops_the_plan_and_all_of_it_is_named() -> None:
    """D2: uninstalling by guess deletes files of others; one run must name every obstacle."""
    installed = [have("one", removable=False), have("two", removable=False), have("three")]
    with pytest.raises(PkgcError) as caught:
        plan([], installed)
    assert caught.value.code == "cannot-uninstall"
    assert "one 1.0" in (caught.value.context or "")
    assert "two 1.0" in (caught.value.context or "")
    assert plan([want(name="one"), want(name="two"), want(name="three")], installed).is_noop
