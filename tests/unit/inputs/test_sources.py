"""Kinds of sources, and what is read when none is named."""

from __future__ import annotations

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.sources import (
    check_requirements_file,
    check_supported,
    check_together,
    default_source,
    kind_of,
)


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
        ("setup.py", "setup"),
        ("x/setup.cfg", "setup"),
        ("https://example.org/pylock.toml", "pylock"),
        ("https://example.org/a/uv.lock?token=x/y#pylock.toml", "uv.lock"),
        ("https://example.org/pylock%2Eprod.toml", "pylock"),
        ("https://example.org/pylock%252Eprod.toml", "requirements"),
        ("https://example.org/r.txt?file=pylock.toml", "requirements"),
        ("file:///w/poetry.lock", "poetry.lock"),
        ("what?pylock.toml", "requirements"),
    ],
)
def test_kinds(source: str, kind: str) -> None:
    """The name decides, so that a lock is never parsed as a requirements file."""
    assert kind_of(source) == kind


@pytest.mark.parametrize(
    "source", ["requirements.txt", "-", "pylock.toml", "uv.lock", "https://h/pylock.toml"]
)
def test_what_can_be_read(source: str) -> None:
    """A lock that pkgc reads must not be refused."""
    check_supported(source)
    check_together([source])


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("poetry.lock", "poetry export -f requirements.txt"),
        ("pdm.lock", "pdm export"),
        ("a/Pipfile.lock", "pipenv requirements --hash"),
        ("pyproject.toml", "uv lock"),
        ("setup.py", "uv pip compile setup.py"),
        ("setup.cfg", "uv pip compile setup.cfg"),
    ],
)
def test_what_cannot_be_read_comes_with_a_command(source: str, command: str) -> None:
    """The person is one command away from a lock that pkgc reads."""
    for check in (check_supported, lambda name: check_together([name]), check_requirements_file):
        with pytest.raises(InputError) as caught:
            check(source)
        assert caught.value.code == "unsupported-source"
        assert caught.value.exit_status == 2
        assert source in caught.value.message
        assert caught.value.hint is not None
        assert command in caught.value.hint


def test_a_lock_stands_alone() -> None:
    """Two locks name two environments; half of each would be neither."""
    check_together(["a.txt", "b.txt", "-"])
    for sources in (["pylock.toml", "r.txt"], ["r.txt", "uv.lock"], ["pylock.toml", "pylock.dev.toml"]):
        with pytest.raises(InputError) as caught:
            check_together(sources)
        assert caught.value.code == "mixed-sources"
        assert caught.value.context is not None
        assert all(source in caught.value.context for source in sources)
    with pytest.raises(InputError) as caught:
        check_requirements_file("https://u:pw@example.org/pylock.toml")
    assert caught.value.code == "mixed-sources"
    assert "pw" not in str(caught.value.to_wire())


def test_the_default_is_the_first_lock_found() -> None:
    """pylock.toml, uv.lock, requirements.txt, in this order."""
    assert default_source({"requirements.txt", "uv.lock", "x"}) == "uv.lock"
    assert default_source({"requirements.txt", "pylock.toml"}) == "pylock.toml"
    assert default_source({"requirements.txt"}) == "requirements.txt"
    with pytest.raises(InputError) as caught:
        default_source(set())
    assert caught.value.code == "no-source"
