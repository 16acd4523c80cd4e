"""Credentials and connection settings: who gets a password, and who must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.credentials import (
    Credentials,
    Netrc,
    credentials_for,
    identity_of,
    parse_netrc,
    split_credentials,
)
from pkgc_daemon.fetching.settings import is_trusted, proxy_for

BOB = Credentials("bob", "s3cret")


def test_own_userinfo_wins_and_is_percent_decoded() -> None:
    found = credentials_for("https://b%40b:p%3Aw@h.test/x", ["https://other:x@h.test/simple/"], None)
    assert found == ("b@b", "p:w")


def test_credentials_of_an_index_go_to_files_of_the_same_origin_only() -> None:
    index = "https://bob:s3cret@h.test/simple/"
    assert credentials_for("https://h.test/files/a.whl", [index], None) == BOB
    assert credentials_for("https://h.test:443/files/a.whl", [index], None) == BOB
    for other in ("http://h.test/a.whl", "https://h.test:8443/a.whl", "https://x.h.test/a.whl"):
        assert credentials_for(other, [index], None) is None


def test_the_index_with_the_longer_common_path_lends_its_credentials() -> None:
    indexes = ["https://a:1@h.test/one/simple/", "https://b:2@h.test/two/simple/"]
    found = credentials_for("https://h.test/two/files/x.whl", indexes, None)
    assert found == ("b", "2")


def test_the_netrc_default_goes_to_hosts_of_indexes_only() -> None:
    netrc = Netrc({}, BOB)
    assert credentials_for("https://h.test/simple/x/", ["https://h.test/simple/"], netrc) == BOB
    assert credentials_for("https://cdn.test/x.whl", ["https://h.test/simple/"], netrc) is None


def test_netrc_is_read_with_macros_comments_and_quotes() -> None:
    text = """# comment machine no login no password no
machine one.test login a password "p w"
machine two.test
  login b   # not a comment in netrc
  account z password c#d
macdef init
machine fake.test login x password y

default login d password e
"""
    found = parse_netrc(text)
    assert found.machines["one.test"] == ("a", "p w")
    assert found.machines["two.test"].user == "b"
    assert found.machines["two.test"].password == "c#d"
    assert "fake.test" not in found.machines
    assert found.default == ("d", "e")


@given(st.text())
def test_no_netrc_text_raises(text: str) -> None:
    parse_netrc(text)


def test_credentials_never_show_in_a_repr() -> None:
    assert "s3cret" not in repr(BOB)
    assert "s3cret" not in repr([BOB])


def test_identities_differ_by_password_and_origin_and_are_stable() -> None:
    origin = ("https", "h.test", 443)
    assert identity_of(BOB, origin) == identity_of(Credentials("bob", "s3cret"), origin)
    assert identity_of(BOB, origin) != identity_of(Credentials("bob", "other"), origin)
    assert identity_of(BOB, origin) != identity_of(BOB, ("https", "g.test", 443))
    assert "s3cret" not in identity_of(BOB, origin)


def test_split_credentials_leaves_the_rest_alone() -> None:
    assert split_credentials("https://u:p@h.test:1/a%2Bb?q=%41#f") == (
        "https://h.test:1/a%2Bb?q=%41#f",
        Credentials("u", "p"),
    )
    assert split_credentials("https://h.test/a@b") == ("https://h.test/a@b", None)


@pytest.mark.parametrize(
    ("url", "rules", "proxied"),
    [
        ("http://h.test/", "", True),
        ("http://h.test/", "*", False),
        ("http://h.test/", "other.test, h.test", False),
        ("http://a.h.test/", "h.test", False),
        ("http://a.h.test/", ".h.test", False),
        ("http://ah.test/", "h.test", True),
        ("http://h.test:81/", "h.test:80", True),
        ("http://h.test:81/", "h.test:81", False),
        ("http://127.0.0.1/", "127.0.0.0/8", False),
        ("http://127.0.0.1/", "0.0.1", True),
        ("http://[::1]:81/", "::1", False),
    ],
)
def test_no_proxy_rules(url: str, rules: str, proxied: bool) -> None:
    """A user behind a proxy reaches internal hosts directly, and nothing else."""
    proxies = {"http": "proxy.test:3128", "no": rules}
    assert proxy_for(url, proxies) == ("http://proxy.test:3128" if proxied else None)


def test_a_socks_proxy_is_refused_and_not_silently_passed_by() -> None:
    with pytest.raises(PkgcError) as caught:
        proxy_for("https://h.test/", {"all": "socks5://u:s3cret@p.test"})
    assert caught.value.code == "unsupported-proxy"
    assert "s3cret" not in str(caught.value.to_wire())


def test_trusted_hosts_are_compared_whole() -> None:
    assert is_trusted("https://h.test/x", ["H.test"])
    assert is_trusted("https://h.test:8443/x", ["h.test:8443"])
    assert not is_trusted("https://h.test/x", ["h.test:8443"])
    assert not is_trusted("https://evil-h.test/x", ["h.test"])
