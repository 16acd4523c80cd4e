"""URLs of repositories: what is refused before git sees it."""

from __future__ import annotations

import pytest

from pkgc_daemon.building.giturls import read_remote
from pkgc_daemon.errors import InputError


def test_a_query_is_refused() -> None:
    """A token in it would stand in git's command line, which everybody on the machine can list."""
    with pytest.raises(InputError) as caught:
        read_remote("https://h.example/demo.git?private_token=s3cret")
    assert caught.value.code == "invalid-git-url"
    assert "credential helper" in str(caught.value.hint)
    assert "s3cret" not in str(caught.value.to_wire())
    assert read_remote("/srv/what?/demo").url == "/srv/what?/demo"
