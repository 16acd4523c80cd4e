"""Redaction: no credential reaches a log, an error or a record (invariant 8)."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pkgc_daemon.redaction import redact, redact_text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h.test/x#sha256=ab", "https://h.test/x#sha256=ab"),
        ("https://token@h.test/", "https://h.test/"),
        ("https://u:p@ss@h.test:1/", "https://h.test:1/"),
        ("//u:p@h.test/x", "//h.test/x"),
        ("https://h.test/a@b", "https://h.test/a@b"),
        (
            "https://h.test/x?X-Amz-Date=1&X-Amz-Signature=abc&X-Amz-Credential=q#sha256=1",
            "https://h.test/x?X-Amz-Date=1&X-Amz-Signature=***&X-Amz-Credential=***#sha256=1",
        ),
        ("https://h.test/x?sv=1&sig=a%2Bb", "https://h.test/x?sv=1&sig=***"),
        ("https://h.test/?monkey=2&private_token=t", "https://h.test/?monkey=2&private_token=***"),
        ("git+ssh://git:pw@h.test/x.git", "git+ssh://h.test/x.git"),
        ("not a url", "not a url"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_texts_lose_the_credentials_of_every_url_and_header() -> None:
    text = "GET https://u:pw1@h.test/x and 'http://pw2@g.test' Authorization: Basic cHczOnB3Mw== ok"
    shown = redact_text(text)
    assert not any(secret in shown for secret in ("pw1", "pw2", "cHcz"))
    assert "h.test/x" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:se/cret@h.test/x", "https://***@h.test/x"),
        ("https://u:se#cret@h.test/x", "https://***@h.test/x"),
        ("https://u:se?cret@h.test/x", "https://***@h.test/x"),
        ("https://u:se\\cret@h.test/x", "https://***@h.test/x"),
        ("https://u:se cret@h.test/x", "https://***@h.test/x"),
        ("https://tok/en@h.test/x", "https://***@h.test/x"),
        ("https:\\\\u:p@h.test\\x", "https:\\\\h.test\\x"),
        ("https:/u:p@h.test/x", "https:/***@h.test/x"),
        ("u:p@h.test/x", "***@h.test/x"),
        ("https://u:se", "https://***"),
        ("https://u:se/simple/", "https://***/simple/"),
        ("https://a.test/go?to=https://u:p@h.test/", "https://a.test/go?to=https://h.test/"),
        # Not credentials: the paths of some indexes, of local files, and ports.
        ("https://h.test/o/_packaging/feed@view/simple/", "https://h.test/o/_packaging/feed@view/simple/"),
        ("file:///srv/wheels@2/x.whl", "file:///srv/wheels@2/x.whl"),
        ("/srv/wheels@2/x:y.whl", "/srv/wheels@2/x:y.whl"),
        ("https://[::1]:8080/x", "https://[::1]:8080/x"),
        ("http://localhost:80/x", "http://localhost:80/x"),
    ],
)
def test_people_do_not_escape_passwords(url: str, shown: str) -> None:
    """A password with a slash in it ends the authority for a parser, and not for who reads the log."""
    assert redact(url) == shown
    if "//" in url:
        assert redact_text(f"see '{url}', it failed") == f"see '{shown}', it failed"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("demo @ http://u:PW@h.test/x.whl?access_token=TOK", "demo @ http://h.test/x.whl?access_token=***"),
        ("demo@http://u:PW@h.test/x.whl?token=TOK#sha256=a", "demo@http://h.test/x.whl?token=***#sha256=a"),
        ("demo[a,b] @ https://TOK@h.test/x ; extra == 'b'", "demo[a,b] @ https://h.test/x ; extra == 'b'"),
        ("demo @ https://h.test/x?sig=TOK;os_name=='nt'", "demo @ https://h.test/x?sig=***;os_name=='nt'"),
        ("demo @ https://u:P W@h.test/x", "demo @ https://***@h.test/x"),
        ("demo @ git+https://u:PW@h.test/r", "demo @ git+https://h.test/r"),
        # Which '@' ends a password, and which begins a revision? Better too much than too little.
        ("-e git+https://u:PW@h.test/r@v1#egg=demo", "-e git+https://***@v1#egg=demo"),
        ("demo @ git+https://h.test/r@v1", "demo @ git+https://h.test/r@v1"),
        ("https://u:PW@h.test/r.txt?private_token=TOK:3", "https://h.test/r.txt?private_token=***"),
        ("https://h.test/r.txt?private_token=***:3", "https://h.test/r.txt?private_token=***:3"),
        ("https://h.test/r.txt?token=***:TOK", "https://h.test/r.txt?token=***"),
        ("https://h.test/r.txt?token=***:3TOK", "https://h.test/r.txt?token=***"),
        ("https://h.test/r.txt?token=***TOK", "https://h.test/r.txt?token=***"),
        ("demo==1.0 --hash=sha256:ab", "demo==1.0 --hash=sha256:ab"),
        ("./wheels@2/demo-1.0-py3-none-any.whl", "./wheels@2/demo-1.0-py3-none-any.whl"),
    ],
)
def test_lines_of_locks(line: str, shown: str) -> None:
    """They are kept for `pkgc why`, in a file that lives long."""
    assert redact_text(line) == shown
    assert redact_text(shown) == shown


@given(st.text(min_size=1), st.sampled_from(["https://", "//", "HTTP:\\\\", "svn+ssh://"]))
def test_no_password_survives(secret: str, scheme: str) -> None:
    """Whatever characters are in it."""
    assert redact(f"{scheme}u:{secret}@h.test/x") in {f"{scheme}h.test/x", f"{scheme}***@h.test/x"}


@given(
    st.text(min_size=1, alphabet=st.characters(blacklist_characters="\r\n\f\v")),
    st.sampled_from(["", "-i ", '"', "'", "cannot read <", "name @ git+"]),
)
def test_no_password_survives_in_a_text(secret: str, before: str) -> None:
    # What follows an '@' and a blank may as well be the rest of the sentence.
    assume("@" not in secret or not {" ", "\t"} & set(secret))
    shown = redact_text(f"{before}https://user:se{secret}cret99@h.test/x, said the server")
    assert "cret99" not in shown
    assert "h.test/x, said the server" in shown


@pytest.mark.parametrize(
    "piece",
    [
        "//a:",
        "//a:b ",
        "//",
        "\\",
        "a@",
        "http://a.b/",
        "?token",
        "cookie:",
        "Basic ",
        "//a:b c",
        "x=\n",
        "#",
    ],
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """A line of a megabyte in a requirements file must not hold the daemon up."""
    text = piece * (300_000 // len(piece))
    began = time.process_time()
    for tail in ("", "@", "//"):
        redact_text(text + tail)
        redact(text + tail)
    assert time.process_time() - began < 10


@given(st.text())
def test_redaction_never_fails_and_is_idempotent(text: str) -> None:
    assert redact(redact(text)) == redact(text)
    redact_text(text)
