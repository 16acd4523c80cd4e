"""Elsewhere: the daemon opens nothing, and believes nothing, for a client whose paths mean something else."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.serving.asking import Asking
from pkgc_daemon.serving.buildable import Buildable, cache_key
from pkgc_daemon.serving.context import Context
from pkgc_daemon.serving.elsewhere import check_url, options_for
from pkgc_daemon.serving.hostcalls import World
from pkgc_daemon.serving.trust import Peer, PeerClass
from pkgc_daemon.vocabulary import IndexOptions
from tests.unit.serving.test_builds import interpreter


def world(kind: PeerClass) -> World:
    return World(Peer(os.getuid(), 4711, kind), cast("Any", None), cast("Any", None), {})


@pytest.mark.parametrize(
    "options",
    [
        IndexOptions(find_links=("/srv/wheels",)),
        IndexOptions(indexes=("file:///srv/simple/",)),
        IndexOptions(pins={"demo": "FILE:///srv/simple/"}),
        IndexOptions(cert="/srv/ca.pem"),
        IndexOptions(client_cert="/srv/me.pem"),
    ],
)
def test_a_container_does_not_make_the_daemon_open_files_of_the_host(options: IndexOptions) -> None:
    """Else it installs, or sends, what it could not read itself."""
    with pytest.raises(InputError) as caught:
        options_for(world("own-elsewhere"), options, {})
    assert caught.value.code == "local-files-elsewhere"
    assert options_for(world("own"), options, {}) is options


def test_nor_its_credentials() -> None:
    """The netrc file at that path is another person's, or another machine's."""
    options = IndexOptions(indexes=("https://i.invalid/simple/",), netrc="/home/me/.netrc")
    assert options_for(world("own-elsewhere"), options, {}).netrc is None


def test_packages_by_path_are_refused() -> None:
    """Else a lock that names a file of the container installs the host's file of that name."""
    with pytest.raises(InputError):
        check_url(world("own-elsewhere"), "file:///srv/demo-1.0-py3-none-any.whl")
    check_url(world("own"), "file:///srv/demo-1.0-py3-none-any.whl")
    check_url(world("own-elsewhere"), "https://i.invalid/demo-1.0-py3-none-any.whl")


def test_what_a_container_says_it_built_is_for_itself() -> None:
    """Else one container decides what every other client of that user gets for a hashed source archive."""

    def key(kind: PeerClass) -> str:
        context = Context(cast("Any", None), world(kind), cast("Any", None), {}, cast("Any", None))
        asking = Asking(interpreter(), IndexOptions(), RequirementsInput(), "normal", context=context)
        return cache_key(Buildable("archive", "sha256:" + "0" * 64, "demo"), asking, ())

    assert key("own") == key("own")
    assert len({key("own"), key("own-elsewhere"), key("own-elsewhere")}) == 3
