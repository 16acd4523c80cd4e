"""Redaction: no credential reaches a log, an error or a record (invariant 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
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


@given(st.text(alphabet=st.characters(blacklist_characters="/?#\\ \t\r\n\"'<>"), min_size=1))
def test_no_userinfo_survives(secret: str) -> None:
    assert redact(f"https://{secret}@h.test/x") == "https://h.test/x"


@given(st.text())
def test_redaction_never_fails_and_is_idempotent(text: str) -> None:
    assert redact(redact(text)) == redact(text)
    redact_text(text)
