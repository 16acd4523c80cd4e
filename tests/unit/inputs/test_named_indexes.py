"""Named indexes and pins, from command line, variables and config.toml, put in order."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import Config, parse_config
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.inputs.indexes import (
    IndexChoice,
    default_index,
    environment_choice,
    index_options,
    names_files,
)
from pkgc_daemon.inputs.namedindexes import split_index, split_pin, split_setting
from pkgc_daemon.inputs.pipconfig import PipConfiguration
from pkgc_daemon.vocabulary import IndexOptions

CONFIG = """
[[index]]
name = "pytorch"
url = "https://torch.example/whl"
explicit = true
packages = ["torch"]
[[index]]
name = "corp"
url = "https://corp.example/simple"
cache-control = { pages = "max-age=600" }
"""
DEFAULT = """
[[index]]
name = "mirror"
url = "https://mirror.example/simple"
default = true
"""
PIP = PipConfiguration(index_url="https://pip.example/simple", trusted_hosts=("p",))


def options(
    cli: IndexChoice | None = None,
    config: str = "",
    env: Mapping[str, str] | None = None,
    given: RequirementsInput | None = None,
    pip: PipConfiguration | None = None,
) -> IndexOptions:
    return index_options(
        cli=cli or IndexChoice(),
        given=given or RequirementsInput(),
        config=parse_config(config.encode(), "/c/config.toml"),
        pip=pip,
        env=env or {},
        cwd="/w",
    )


def test_named_indexes_come_before_the_main_one_and_extra_ones_after_it() -> None:
    """As uv's --index: who names an index means that it goes first."""
    found = options(
        IndexChoice(
            "https://main.example",
            ("https://extra.example",),
            named=(("n", "https://n.example"), ("", "dir")),
        ),
        CONFIG,
    )
    assert found.indexes == (
        "https://n.example",
        "file:///w/dir",
        "https://corp.example/simple",
        "https://main.example",
        "https://extra.example",
    )
    assert found.names == {
        "https://n.example": "n",
        "https://torch.example/whl": "pytorch",
        "https://corp.example/simple": "corp",
    }
    assert found.page_rules == {"https://corp.example/simple": "max-age=600"}
    assert options(config=CONFIG).indexes == ("https://corp.example/simple", default_index())


def test_an_explicit_index_serves_its_pins_only() -> None:
    """Dependency confusion: it is not asked for anything else."""
    found = options(config=CONFIG)
    assert found.pins == {"torch": "https://torch.example/whl"}
    assert "https://torch.example/whl" not in found.indexes


def test_the_default_index_takes_the_place_of_pypi() -> None:
    """But whatever names a main index more strongly wins."""
    assert options(config=DEFAULT).indexes == ("https://mirror.example/simple",)
    assert options(IndexChoice("https://cli.example"), DEFAULT).indexes == ("https://cli.example",)
    assert options(config=DEFAULT, env={"PKGC_INDEX_URL": "https://e"}).indexes == ("https://e",)
    assert options(config=DEFAULT, given=RequirementsInput(index_url="https://f")).indexes == ("https://f",)
    assert options(config='index-url = "https://o"\n' + DEFAULT).indexes == ("https://o",)
    found = options(IndexChoice("https://cli.example", pins=(("a", "mirror"),)), DEFAULT)
    assert found.pins == {"a": "https://mirror.example/simple"}, "its name goes on meaning it"


def test_pins_of_the_command_line_beat_those_of_config() -> None:
    """The strongest word on a project counts, and the others stay."""
    config = 'pin-index = ["torch=corp", "b=corp"]\n' + CONFIG
    assert options(config=config).pins == {
        "torch": "https://corp.example/simple",
        "b": "https://corp.example/simple",
    }
    cli = IndexChoice(named=(("n", "https://n.example"),), pins=(("torch", "n"),))
    assert options(cli, config).pins == {"torch": "https://n.example", "b": "https://corp.example/simple"}
    env = {"PKGC_INDEX": "n=https://n.example", "PKGC_PIN_INDEX": "Torch=n x=corp"}
    assert options(config=config, env=env).pins == {
        "torch": "https://n.example",
        "x": "https://corp.example/simple",
        "b": "https://corp.example/simple",
    }


def test_a_known_name_with_another_url_keeps_its_meaning() -> None:
    """A mirror for an explicit index must not become an index for everything."""
    found = options(IndexChoice(named=(("pytorch", "https://mirror.example/torch"),)), CONFIG)
    assert found.pins == {"torch": "https://mirror.example/torch"}
    assert found.indexes == ("https://corp.example/simple", default_index())
    found = options(env={"PKGC_INDEX": "corp=https://other.example"}, config=CONFIG)
    assert found.indexes == ("https://other.example", default_index())
    assert found.page_rules == {"https://other.example": "max-age=600"}


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    """A pin that is silently ignored is a hole."""
    with pytest.raises(InputError) as caught:
        options(IndexChoice(pins=(("torch", "pytroch"),)), CONFIG)
    assert caught.value.code == "unknown-index"
    assert "'pytroch'" in caught.value.message
    assert caught.value.context == "expected: one of corp, pytorch\nfound: pytroch"
    assert caught.value.hint == "did you mean pytorch?"
    with pytest.raises(InputError) as caught:
        options(IndexChoice(pins=(("torch", "x"),)))
    assert "--index NAME=URL" in (caught.value.hint or "")
    with pytest.raises(InputError, match="PKGC_PIN_INDEX must be PROJECT=NAME"):
        options(env={"PKGC_PIN_INDEX": "torch"})
    with pytest.raises(InputError, match="PKGC_INDEX must be"):
        environment_choice({"PKGC_INDEX": "x="})


def test_without_indexes_no_named_one_is_asked() -> None:
    """--no-index; the pins stay, so that selection can say why a pinned project has no source."""
    found = options(IndexChoice(no_index=True), CONFIG)
    assert found.indexes == ()
    assert found.pins == {"torch": "https://torch.example/whl"}


@pytest.mark.parametrize(
    ("cli", "config", "env", "expected"),
    [
        (IndexChoice(), "", {}, False),
        (IndexChoice(), 'extra = ["a"]\nno-build = true', {}, False),
        (IndexChoice(), 'cert = "/c.pem"', {}, False),
        (IndexChoice(), CONFIG, {}, True),
        (IndexChoice(), 'find-links = ["w"]', {}, True),
        (IndexChoice(named=(("", "https://x"),)), "", {}, True),
        (IndexChoice(), "", {"PKGC_INDEX": "https://x"}, True),
    ],
)
def test_pips_configuration_is_left_alone_when_something_here_names_an_index(
    cli: IndexChoice, config: str, env: dict[str, str], expected: bool
) -> None:
    """Two tools' indexes in one run are dependency confusion."""
    read = parse_config(config.encode(), "/c/config.toml")
    assert names_files(cli, RequirementsInput(), read, env) is expected
    assert ("https://pip.example/simple" in options(cli, config, env, pip=PIP).indexes) is not expected


def test_who_else_names_files() -> None:
    """The requirements files do, and no config.toml is none."""
    assert names_files(IndexChoice(), RequirementsInput(no_index=True), None, {})
    assert names_files(IndexChoice(), RequirementsInput(find_links=("/w",)), None, {})
    assert not names_files(IndexChoice(), RequirementsInput(), Config(), {})


def test_a_tilde_is_the_clients_home() -> None:
    """Never the daemon's; and never a folder of that name."""
    found = options(
        config='find-links = ["~/w"]\nindex-url = "~/mirror"\ncert = "~/ca.pem"\n[[index]]\nurl = "~/i"',
        env={"HOME": "/home/me"},
    )
    assert found.find_links == ("/home/me/w",)
    assert found.indexes == ("file:///home/me/i", "file:///home/me/mirror")
    assert found.cert == "/home/me/ca.pem"


def test_directories_of_config_start_at_its_folder() -> None:
    """docs/commands.md says so; the working directory is another one every time."""
    found = options(config='index-url = "mirror"\nextra-index-url = ["more", "https://e"]')
    assert found.indexes == ("file:///c/mirror", "file:///c/more", "https://e")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h.example/simple?a=b", ("", "https://h.example/simple?a=b")),
        ("corp=https://u:p=x@h.example/", ("corp", "https://u:p=x@h.example/")),
        ("a.b_c-1=dir", ("a.b_c-1", "dir")),
        ("./a=b", ("", "./a=b")),
    ],
)
def test_names_before_urls(text: str, expected: tuple[str, str]) -> None:
    """A token in a URL may hold '='."""
    assert split_index(text) == expected


def test_settings() -> None:
    """Values may hold '=' and may be empty."""
    assert split_setting("--build-option=--x=1") == ("--build-option", "--x=1")
    assert split_setting("k=") == ("k", "")
    for bad in ("k", "=v", " =v", ""):
        with pytest.raises(ValueError, match="KEY=VALUE"):
            split_setting(bad)


@given(st.text(max_size=20))
def test_no_text_whatever_breaks_the_splitters(text: str) -> None:
    """Anything may be in a variable: it is understood or refused, and what is understood is well formed."""
    for split in (split_index, split_pin, split_setting):
        try:
            first, second = split(text)
        except ValueError:
            continue
        assert "=" not in first
        assert split is split_setting or second
