"""Options of locks, builds and named indexes, and the command why, as the parser understands them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.indexes import IndexChoice
from pkgc_daemon.serving.calls import Answer, Call, FetchCall, SyncCall, Terminal, WhyCall
from pkgc_daemon.serving.cli import command_line_indexes, parse
from pkgc_daemon.serving.text import Style, error_text


def call(*argv: str, env: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None) -> Call:
    found = parse(argv, env or {}, "/w", Terminal(), config, config_file="/etc/pkgc/config.toml")
    assert not isinstance(found, Answer), found.text
    return found


def refusal(*argv: str, env: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        call(*argv, env=env, config=config)
    assert caught.value.code in ("usage", "invalid-option")
    return error_text(caught.value, Style(False))


@pytest.mark.parametrize("command", ["sync", "fetch"])
def test_every_option_arrives(command: str) -> None:
    """An option that is parsed and forgotten is worse than none."""
    got = call(
        *(command, "pylock.toml", "--extra", "Cli_Tools", "--extra=b", "--group", "Dev.Docs", "--all-extras"),
        *("--no-default-groups", "-C", "editable_mode=compat", "--config-settings", "x=1=2", "-C", "x=1=2"),
        *("--no-build", "--no-build-isolation", "--index", "corp=https://corp.example/simple"),
        *("--index", "https://more.example/?a=b", "--index=m=mirror", "--pin-index", "Torch_Vision=corp"),
    )
    assert isinstance(got, SyncCall | FetchCall)
    assert got.extras == {"cli-tools", "b"}
    assert got.groups == {"dev-docs"}
    assert got.all_extras
    assert got.no_default_groups
    assert got.config_settings == (("editable_mode", "compat"), ("x", "1=2"), ("x", "1=2"))
    assert got.no_build
    assert got.no_build_isolation
    assert got.named_indexes == (
        ("corp", "https://corp.example/simple"),
        ("", "https://more.example/?a=b"),
        ("m", "/w/mirror"),
    )
    assert got.index_pins == (("torch-vision", "corp"),)
    assert command_line_indexes(got) == IndexChoice(named=got.named_indexes, pins=got.index_pins)


def test_defaults() -> None:
    """Nothing of it is on unless somebody asks."""
    got = call("sync")
    assert isinstance(got, SyncCall)
    assert (got.extras, got.groups, got.config_settings) == (frozenset(), frozenset(), ())
    assert (got.named_indexes, got.index_pins) == ((), ())
    assert not any((got.all_extras, got.no_default_groups, got.no_build, got.no_build_isolation))


def test_variables_and_config() -> None:
    """Every option has both; their indexes have other places in the order than the command line's."""
    got = call(
        "sync",
        env={
            "PKGC_EXTRA": "a b",
            "PKGC_NO_BUILD": "1",
            "PKGC_INDEX": "corp=https://corp.example https://x.example",
            "PKGC_PIN_INDEX": "a=corp",
            "PKGC_CONFIG_SETTINGS": "k=v l=w",
        },
        config={"group": ("Dev",), "no-build": False, "no-build-isolation": True},
    )
    assert isinstance(got, SyncCall)
    assert got.extras == {"a", "b"}
    assert got.groups == {"dev"}
    assert got.no_build
    assert got.no_build_isolation
    assert got.config_settings == (("k", "v"), ("l", "w"))
    assert got.named_indexes == (("corp", "https://corp.example"), ("", "https://x.example"))
    assert command_line_indexes(got) == IndexChoice()


@pytest.mark.parametrize(
    ("argv", "env", "expected"),
    [
        (["--extra", "a b"], {}, "--extra a b: not a project name"),
        (["--group", "-"], {}, "--group -: not a project name"),
        (["-C", "x"], {}, "--config-settings x: must be KEY=VALUE"),
        (["--index", "corp="], {}, "--index corp=: must be a URL or a directory, or NAME=URL"),
        (["--index", "a b=https://x"], {}, "the name before '='"),
        (["--index", "corp=ftp://x"], {}, "neither a path nor an http:, https: or file: URL"),
        (["--pin-index", "torch"], {}, "--pin-index torch: must be PROJECT=NAME"),
        (["--pin-index", "a/b=x"], {}, "'a/b' is not a project name"),
        ([], {"PKGC_PIN_INDEX": "torch="}, "PKGC_PIN_INDEX=torch=: '' is not the name of an index"),
        ([], {"PKGC_NO_BUILD": "perhaps"}, "PKGC_NO_BUILD=perhaps: must be 1 or 0"),
        (["--index", "a=https://x", "--index", "a=https://y"], {}, "--index: a is given twice"),
        (["--pin-index", "t=a", "--pin-index", "T=b"], {}, "--pin-index: t is given twice"),
    ],
)
def test_what_is_wrong_is_said_with_the_options_name(
    argv: list[str], env: dict[str, str], expected: str
) -> None:
    """Invariant 8."""
    assert expected in refusal("sync", *argv, env=env)


def test_credentials_of_a_named_index_are_not_repeated() -> None:
    """Invariant 8: a terminal's scrollback is read by others."""
    for url in ("htps://me:secret@host/simple", "a b=https://me:secret@host/"):
        assert "secret" not in refusal("sync", "--index", url)


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["sync", "--config-setting", "a=b"], "--config-settings"),
        (["sync", "--default-index", "x"], "--index-url"),
        (["sync", "--no-dev"], "--no-default-groups"),
        (["sync", "--frozen"], "never changes a lock"),
        (["why", "x", "--extra", "y"], "it is an option of pkgc sync"),
    ],
)
def test_habits_from_other_tools_get_a_hint(argv: list[str], hint: str) -> None:
    """The right name is one line away."""
    assert hint in refusal(*argv)


def test_why() -> None:
    """Names in any spelling, each once; the environment as for sync."""
    got = call("why", "Foo_Bar", "foo.bar", "x", "--output-format", "json", env={"VIRTUAL_ENV": "/v"})
    assert isinstance(got, WhyCall)
    assert got.names == ("foo-bar", "x")
    assert got.venv == "/v"
    assert got.display.output_format == "json"
    assert call("why", "x", "--venv", "e").venv == "/w/e"  # type: ignore[attr-defined]
    assert "needs at least one NAME" in refusal("why")
    assert "'a/b' is not a project name" in refusal("why", "a/b")
