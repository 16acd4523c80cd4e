"""Where files are looked for: the order of everything that has a say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import Config
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.inputs.indexes import IndexChoice, default_index, index_options
from pkgc_daemon.inputs.pipconfig import PipConfiguration
from pkgc_daemon.vocabulary import IndexOptions

PIP = PipConfiguration(
    index_url="https://pip", trusted_hosts=("p",), cert="/pip.pem", client_cert="/pipc.pem", proxy="prx:1"
)


def options(
    cli: IndexChoice | None = None,
    given: RequirementsInput | None = None,
    config: Mapping[str, object] | None = None,
    pip: PipConfiguration | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str = "/w",
) -> IndexOptions:
    return index_options(
        cli=cli or IndexChoice(),
        given=given or RequirementsInput(),
        config=Config(config) if config is not None else None,
        pip=pip,
        env=env or {},
        cwd=cwd,
    )


def test_the_strongest_index_wins() -> None:
    """Command line, variables, files, config.toml, pip's configuration, PyPI."""
    cli = IndexChoice(index_url="https://cli")
    env = {"PKGC_INDEX_URL": "https://env"}
    given = RequirementsInput(index_url="https://file")
    config = {"index-url": "https://config"}
    assert options(cli, given, config, PIP, env).indexes == ("https://cli",)
    assert options(None, given, config, PIP, env).indexes == ("https://env",)
    assert options(None, given, config, PIP).indexes == ("https://file",)
    assert options(None, None, config, PIP).indexes == ("https://config",)
    assert options(pip=PIP).indexes == ("https://pip",)
    assert options().indexes == (default_index(),)
    assert default_index().endswith("/simple/")


def test_lists_of_files_add_to_the_command_lines() -> None:
    """Extra indexes and find-links accumulate, the stronger first, each once."""
    found = options(
        IndexChoice(extra_index_urls=("https://c1",), find_links=("here",), trusted_hosts=("h",)),
        RequirementsInput(
            index_url="https://i",
            extra_index_urls=("https://f1", "https://c1"),
            find_links=("/f",),
            trusted_hosts=("g",),
        ),
        {"extra-index-url": ("https://o",)},
        env={"PKGC_EXTRA_INDEX_URL": "https://unused", "PKGC_FIND_LINKS": "https://unused"},
    )
    assert found.indexes == ("https://i", "https://c1", "https://f1", "https://o")
    assert found.find_links == ("/w/here", "/f")
    assert found.trusted_hosts == ("h", "g")
    found = options(env={"PKGC_EXTRA_INDEX_URL": "https://a https://b"})
    assert found.indexes == (default_index(), "https://a", "https://b")


def test_no_index_in_a_file_is_final() -> None:
    """R: a later --index-url does not bring the index back."""
    found = options(IndexChoice(index_url="https://cli"), RequirementsInput(no_index=True))
    assert (found.no_index, found.indexes) == (True, ())
    assert options(config={"no-index": True}).no_index
    assert not options(config={"no-index": True}, env={"PKGC_NO_INDEX": "0"}).no_index
    assert options(IndexChoice(no_index=True), env={"PKGC_NO_INDEX": "false"}).no_index
    with pytest.raises(InputError, match="PKGC_NO_INDEX"):
        options(env={"PKGC_NO_INDEX": "perhaps"})


@pytest.mark.parametrize(
    "cli",
    [
        IndexChoice(find_links=("/f",)),
        IndexChoice(extra_index_urls=("https://e",)),
        IndexChoice(no_index=True),
    ],
)
def test_pips_index_is_not_mixed_in(cli: IndexChoice) -> None:
    """pip's configuration names indexes only if nothing else does: else confusion of dependencies."""
    found = options(cli, pip=PIP)
    assert "https://pip" not in found.indexes
    assert found.trusted_hosts == ()


def test_trust_and_proxies() -> None:
    """PKGC_CERT, then pip's, then SSL_CERT_FILE (as pip has it); the environment's proxies, then pip's."""
    env = {
        "PKGC_CERT": "k.pem",
        "SSL_CERT_FILE": "/s.pem",
        "https_proxy": "http://p",
        "HTTPS_PROXY": "http://q",
    }
    found = options(pip=PIP, env={**env, "NO_PROXY": "x,y", "ALL_PROXY": "http://a", "HTTP_PROXY": ""})
    assert found.cert == "/w/k.pem"
    assert found.client_cert == "/pipc.pem"
    assert found.proxies == {"https": "http://p", "all": "http://a", "no": "x,y"}
    assert options(IndexChoice(cert="/c.pem"), pip=PIP, env=env).cert == "/c.pem"
    del env["PKGC_CERT"]
    assert options(pip=PIP, env=env).cert == "/pip.pem"
    assert options(env=env).cert == "/s.pem"
    found = options(pip=PIP)
    assert found.cert == "/pip.pem"
    assert found.proxies == {"http": "prx:1", "https": "prx:1"}
    assert options(env={"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}).proxies == {}
    assert options().cert is None


def test_netrc() -> None:
    """NETRC, else the caller's home, never the daemon's."""
    assert options(env={"NETRC": "n", "HOME": "/h"}).netrc == "/w/n"
    assert options(env={"HOME": "/h"}).netrc == "/h/.netrc"
    assert options().netrc is None


def test_folders_as_indexes() -> None:
    """pip takes a path for --index-url; file: URLs stay as they are."""
    assert options(IndexChoice(index_url="mirror")).indexes == ("file:///w/mirror",)
    assert options(IndexChoice(index_url="file:///m")).indexes == ("file:///m",)
