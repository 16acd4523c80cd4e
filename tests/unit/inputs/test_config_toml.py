"""pkgc's config.toml."""

from __future__ import annotations

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import OPTIONS, Config, parse_config, parse_size

PATH = "/home/u/.config/pkgc/config.toml"


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_config(text.encode(), PATH)
    assert caught.value.code == "invalid-config"
    assert caught.value.message.startswith(PATH)
    return caught.value


def test_every_kind_of_value() -> None:
    """Options, cache and network settings arrive checked and in one type."""
    config = parse_config(
        b"""
        index-url = "https://i"
        extra-index-url = "https://e"
        find-links = ["wheels", "/abs", "https://f", "~/w"]
        no-index = false
        link-mode = "copy"
        require-hashes = true
        color = "never"
        verbose = 2
        constraint = ["c.txt"]
        cert = "ca.pem"
        [cache]
        max-size = "20 GB"
        [network]
        concurrent-downloads = 8
        stall-timeout = 12
        connect-timeout = 1.5
        """,
        PATH,
    )
    folder = "/home/u/.config/pkgc"
    assert config == Config(
        options={
            "index-url": "https://i",
            "extra-index-url": ("https://e",),
            "find-links": (f"{folder}/wheels", "/abs", "https://f", "~/w"),
            "no-index": False,
            "link-mode": "copy",
            "require-hashes": True,
            "color": "never",
            "verbose": 2,
            "constraint": (f"{folder}/c.txt",),
            "cert": f"{folder}/ca.pem",
        },
        cache={"max-size": 20_000_000_000},
        network={"concurrent-downloads": 8, "stall-timeout": 12.0, "connect-timeout": 1.5},
        path=PATH,
    )


def test_an_empty_file_says_nothing() -> None:
    """An empty config.toml is no error."""
    assert parse_config(b"", PATH) == Config(path=PATH)


def test_unknown_keys_are_errors_with_the_nearest_name() -> None:
    """A misspelt key that is ignored costs an afternoon."""
    error = refused("link-moed = 'copy'")
    assert "'link-moed'" in error.message
    assert error.hint is not None
    assert "link-mode" in error.hint
    error = refused("index_url = 'x'")
    assert error.hint is not None
    assert "index-url" in error.hint
    error = refused("[network]\nstall_timeout = 3")
    assert "network.stall_timeout" in error.message
    assert error.hint is not None
    assert "network.stall-timeout" in error.hint
    refused("[index]\nurl = 'x'")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("offline = 1", "offline must be true or false"),
        ("only-binary = [1]", "list of strings"),
        ("index-url = ['x']", "must be a string"),
        ("link-mode = 'magic'", "must be one of auto"),
        ("color = []", "must be one of"),
        ("verbose = -1", "verbose must be"),
        ("cache = 3", r"\[cache\] must be a table"),
        ("[cache]\nmax-size = true", "max-size must be"),
        ("[cache]\nmax-size = 'much'", "cache.max-size must be"),
        ("[cache]\nmax-size = -1", "negative"),
        ("[network]\nconcurrent-downloads = 0", "1 or more"),
        ("[network]\nstall-timeout = inf", "positive number"),
        ("[network]\nstall-timeout = nan", "positive number"),
        ("x = ", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
    ],
)
def test_wrong_values_name_file_key_and_expectation(text: str, why: str) -> None:
    """Invariant 8."""
    with pytest.raises(InputError, match=why):
        parse_config(text.encode(), PATH)


def test_all_problems_are_listed() -> None:
    """One run shows all mistakes."""
    error = refused("offline = 1\nnonsense = 2\n[cache]\nsize = 3")
    assert error.context is not None
    assert len(error.context.splitlines()) == 3
    with pytest.raises(InputError, match="not UTF-8"):
        parse_config(b"\xff", PATH)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (5, 5),
        ("0", 0),
        ("20GB", 20 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("10k", 10_000),
        ("7 MB", 7_000_000),
        ("3b", 3),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    """GB is 10**9 and GiB 2**30."""
    assert parse_size(text) == size


def test_the_options_of_sync_have_keys() -> None:
    """Every option has a key in config.toml (design, section 5)."""
    names = (
        "venv python constraint index-url extra-index-url find-links no-index require-hashes "
        "only-binary no-binary link-mode compile-bytecode refresh refresh-package "
        "reinstall reinstall-package offline inexact strict dry-run check output-format quiet verbose "
        "no-progress color"
    )
    assert set(names.split()) <= set(OPTIONS)
