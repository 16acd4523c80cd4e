"""Kinds of sources, and what is read when none is named."""

from __future__ import annotations

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.sources import check_supported, default_source, kind_of


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("requirements.txt", "requirements"),
        ("-", "requirements"),
        ("a/b/dev.in", "requirements"),
        ("pylock.toml", "pylock"),
        ("x/pylock.dev.toml", "pylock"),
        ("pylock.a.b.toml", "requirements"),
        ("mypylock.toml", "requirements"),
        ("/w/uv.lock", "uv.lock"),
        ("poetry.lock", "poetry.lock"),
        ("pdm.lock", "pdm.lock"),
        ("Pipfile.lock", "pipfile.lock"),
        ("pyproject.toml", "pyproject"),
        ("https://example.org/pylock.toml", "pylock"),
    ],
)
def test_kinds(source: str, kind: str) -> None:
    """The name decides, so that a lock is never parsed as a requirements file."""
    assert kind_of(source) == kind
    if kind == "requirements":
        check_supported(source)
        return
    with pytest.raises(InputError) as caught:
        check_supported(source)
    assert caught.value.code == "unsupported-source"
    assert caught.value.hint is not None
    assert "requirements.txt" in caught.value.hint


def test_the_default_is_the_first_lock_found() -> None:
    """pylock.toml, uv.lock, requirements.txt, in this order."""
    assert default_source({"requirements.txt", "uv.lock", "x"}) == "uv.lock"
    assert default_source({"requirements.txt", "pylock.toml"}) == "pylock.toml"
    assert default_source({"requirements.txt"}) == "requirements.txt"
    with pytest.raises(InputError) as caught:
        default_source(set())
    assert caught.value.code == "no-source"
