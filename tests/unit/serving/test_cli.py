"""The command line parser: what each word means, and that nothing but its arguments matters."""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import BUILD, CACHE, INDEX, INDEX_CACHE_CONTROL, NETWORK
from pkgc_daemon.inputs.config import OPTIONS as CONFIG_OPTIONS
from pkgc_daemon.inputs.indexes import IndexChoice
from pkgc_daemon.serving.calls import (
    Answer,
    CacheCall,
    Call,
    DaemonCall,
    FetchCall,
    ListCall,
    Source,
    StatusCall,
    SyncCall,
    Terminal,
    VersionCall,
)
from pkgc_daemon.serving.cli import command_line_indexes, parse
from pkgc_daemon.serving.further import CONFIG_ONLY
from pkgc_daemon.serving.options import COMMANDS, OPTIONS
from pkgc_daemon.serving.text import Style, error_text

TERMINAL = Terminal(stdin=True, stdout=True, stderr=True, columns=80, rows=24)
PLAIN = Terminal()


def call(*argv: str, env: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None) -> Call:
    result = parse(argv, env or {}, "/home/me/project", PLAIN, config, config_file="/etc/pkgc/config.toml")
    assert not isinstance(result, Answer), result.text
    return result


def sync(
    *argv: str, env: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None
) -> SyncCall:
    result = call("sync", *argv, env=env, config=config)
    assert isinstance(result, SyncCall)
    return result


def refusal(*argv: str, env: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        parse(argv, env or {}, "/home/me/project", PLAIN, config, config_file="/etc/pkgc/config.toml")
    return error_text(caught.value, Style(False))


def test_bare_sync_has_the_documented_defaults() -> None:
    got = sync()
    assert got.venv == "/home/me/project/.venv"
    assert (got.sources, got.constraints, got.index_url, got.require_hashes) == ((), (), None, None)
    assert got.link_mode == "auto"
    assert not any((got.no_index, got.offline, got.refresh, got.reinstall, got.inexact, got.strict))
    assert not any((got.dry_run, got.check, got.compile_bytecode))
    assert got.display.output_format == "text"
    assert got.display.progress


def test_every_sync_option_on_the_command_line_arrives() -> None:
    got = sync(
        *("a.txt", "-", "--venv=env", "-p", "3.11", "-c", "c.txt", "-c", "/abs/d.txt"),
        *("-i", "https://one.example/simple", "--extra-index-url", "https://two.example/simple"),
        *("-f", "wheels", "--find-links", "https://three.example/", "--no-index", "--no-require-hashes"),
        *("--only-binary", "A_b,c", "--no-binary", ":all:", "--link-mode", "copy", "--compile-bytecode"),
        *("--refresh", "--refresh-package", "Foo.Bar", "--reinstall", "--reinstall-package", "x"),
        *("--inexact", "--strict", "--dry-run", "--check", "--output-format", "json", "-vv", "--no-progress"),
        *("--color", "always"),
    )
    assert got.sources == ("a.txt", "-")
    assert got.venv == "/home/me/project/env"
    assert got.python == "3.11"
    assert got.constraints == ("/home/me/project/c.txt", "/abs/d.txt")
    assert got.index_url == "https://one.example/simple"
    assert got.extra_index_urls == ("https://two.example/simple",)
    assert got.find_links == ("/home/me/project/wheels", "https://three.example/")
    assert got.require_hashes is False
    assert got.only_binary == ("a-b", "c")
    assert got.no_binary == (":all:",)
    assert got.link_mode == "copy"
    assert got.refresh_packages == {"foo-bar"}
    assert got.reinstall_packages == {"x"}
    switches = (got.no_index, got.compile_bytecode, got.refresh, got.reinstall, got.inexact, got.strict)
    assert all(switches)
    assert got.dry_run
    assert got.check
    assert got.display.output_format == "json"
    assert (got.display.verbosity, got.display.progress, got.display.color) == (2, False, "always")


def test_other_commands() -> None:
    assert isinstance(call("fetch", "r.txt", "--python", "3.12", "--offline"), FetchCall)
    assert isinstance(call("list", "--venv", "e", "--output-format=json"), ListCall)
    assert isinstance(call("status"), StatusCall)
    assert isinstance(call("--version"), VersionCall)
    for action in ("dir", "size", "list", "verify", "clean"):
        got = call("cache", action)
        assert isinstance(got, CacheCall)
        assert got.action == action
    cleaned = call("cache", "clean", "Foo_Bar", "foo.bar", "x")
    assert isinstance(cleaned, CacheCall)
    assert cleaned.names == ("foo-bar", "x")
    for action in ("run", "start", "stop", "restart", "status", "logs"):
        daemon = call("daemon", action)
        assert isinstance(daemon, DaemonCall)
        assert daemon.action == action


def test_command_line_beats_variable_beats_config_beats_default() -> None:
    env, config = {"PKGC_LINK_MODE": "copy"}, {"link-mode": "symlink"}
    got = sync("--link-mode", "reflink", env=env, config=config)
    assert (got.link_mode, got.origins["link-mode"]) == ("reflink", Source("argv", "--link-mode"))
    got = sync(env=env, config=config)
    assert (got.link_mode, got.origins["link-mode"]) == ("copy", Source("env", "PKGC_LINK_MODE"))
    got = sync(config=config)
    assert got.link_mode == "symlink"
    assert got.origins["link-mode"] == Source("config", "/etc/pkgc/config.toml: link-mode")
    assert sync().origins["link-mode"].kind == "default"


def test_variables_of_every_kind() -> None:
    got = sync(
        env={
            "PKGC_EXTRA_INDEX_URL": "https://a.example/ https://b.example/",
            "PKGC_CONSTRAINT": "~/c.txt d.txt",
            "PKGC_REQUIRE_HASHES": "0",
            "PKGC_COMPILE_BYTECODE": "true",
            "PKGC_NO_PROGRESS": "1",
            "PKGC_VERBOSE": "3",
            "PKGC_ONLY_BINARY": "a,b c",
            "PKGC_LINK_MODE": "",
            "HOME": "/home/me",
        }
    )
    assert got.extra_index_urls == ("https://a.example/", "https://b.example/")
    assert got.constraints == ("/home/me/c.txt", "/home/me/project/d.txt")
    assert got.require_hashes is False
    assert got.compile_bytecode
    assert not got.display.progress
    assert got.display.verbosity == 3
    assert got.only_binary == ("a", "b", "c")
    assert got.link_mode == "auto", "an empty variable counts as not set"


def test_a_switch_of_config_can_be_switched_off_by_variable_and_by_negation() -> None:
    config = {"offline": True, "compile-bytecode": True}
    assert not sync(env={"PKGC_OFFLINE": "0"}, config=config).offline
    assert not sync("--no-compile-bytecode", config=config).compile_bytecode


def test_relative_paths_of_config_start_from_its_directory_except_venv() -> None:
    got = sync(config={"find-links": ["./wheels"], "venv": "env", "python": "bin/python"})
    assert got.find_links == ("/etc/pkgc/wheels",)
    assert got.python == "/etc/pkgc/bin/python"
    assert got.venv == "/home/me/project/env"


def test_venv_falls_back_to_virtual_env() -> None:
    assert sync(env={"VIRTUAL_ENV": "/venvs/x"}).venv == "/venvs/x"
    assert sync(env={"VIRTUAL_ENV": "/venvs/x", "PKGC_VENV": "y"}).venv == "/home/me/project/y"
    assert sync("--venv", "../e", env={"VIRTUAL_ENV": "/venvs/x"}).venv == "/home/me/project/../e"


@pytest.mark.parametrize(
    ("argv", "env", "config", "expected"),
    [
        (["sync", "--link-mode", "cpy"], {}, {}, "--link-mode cpy: not one of auto, hardlink"),
        (["sync"], {"PKGC_LINK_MODE": "foo"}, {}, "PKGC_LINK_MODE=foo: not one of auto"),
        (["sync"], {}, {"link-mode": "foo"}, "/etc/pkgc/config.toml: link-mode = foo: not one of auto"),
        (["sync"], {"PKGC_OFFLINE": "perhaps"}, {}, "PKGC_OFFLINE=perhaps: must be 1 or 0"),
        (["sync"], {}, {"offline": "yes"}, "config.toml: offline = yes: must be true or false"),
        (["sync"], {}, {"find-links": 3}, "find-links = 3: must be a string or a list of strings"),
        (["sync"], {}, {"venv": ["a"]}, "must be a string"),
        (["sync"], {"PKGC_VERBOSE": "-1"}, {}, "PKGC_VERBOSE=-1: must be"),
        (["sync", "-i", "host:80/simple"], {}, {}, "--index-url host:80/simple: neither a path nor"),
        (["sync", "-i", "https:///simple"], {}, {}, "--index-url https:///simple: neither a path nor"),
        (["sync", "-f", "ftp://x/"], {}, {}, "--find-links ftp://x/: neither a path nor"),
        (["sync", "--refresh-package", "a b"], {}, {}, "--refresh-package a b: not a project name"),
        (["sync", "--only-binary", "a,;"], {}, {}, "--only-binary ;: not a project name"),
        (["sync", "--venv", ""], {}, {}, "must not be empty"),
        (["sync", "--refresh"], {"PKGC_OFFLINE": "1"}, {}, "--refresh and PKGC_OFFLINE exclude each other"),
        (["sync", "-q", "-v"], {}, {}, "--quiet and --verbose exclude each other"),
        (["sync", "-", "-"], {}, {}, "can be read once only"),
        (["sync", ""], {}, {}, "must not be empty"),
        (["fetch"], {}, {}, "needs at least one SOURCE"),
        (["cache", "clean", "a/b"], {}, {}, "'a/b' is not a project name"),
        (["sync", "--venv"], {}, {}, "--venv needs a value: --venv DIR"),
        (["sync", "--offline=1"], {}, {}, "--offline takes no value"),
        (["status", "x"], {}, {}, "extra argument"),
    ],
)
def test_what_is_wrong_is_said_with_its_source(
    argv: list[str], env: dict[str, str], config: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(*argv, env=env, config=config)


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["snyc"], "did you mean sync?"),
        (["install", "x"], "did you mean pkgc sync?"),
        (["cache", "sise"], "did you mean size?"),
        (["cache"], "pkgc cache --help"),
        (["sync", "--ofline"], "did you mean --offline?"),
        (["sync", "-r", "x.txt"], "name the file itself"),
        (["list", "--dry-run"], "it is an option of pkgc sync"),
        (["--offline", "sync"], "options go after it: pkgc sync --offline"),
        (["sync", "--link-mode", "hardlnk"], "did you mean hardlink?"),
        ([], "pkgc --help"),
    ],
)
def test_a_slip_gets_a_hint(argv: list[str], hint: str) -> None:
    assert f"hint: {hint}" in refusal(*argv) or hint in refusal(*argv).split("hint:")[1]


def test_credentials_of_a_bad_url_are_not_repeated() -> None:
    text = refusal("sync", "-i", "htps://me:secret@host/simple")
    assert "secret" not in text
    assert "--index-url" in text


def test_control_characters_of_argv_do_not_reach_the_terminal() -> None:
    text = refusal("sync", "--link-mode", "\x1b[2J\x07\u202e")
    assert "\x1b" not in text
    assert "\\x1b[2J\\x07\\u202e" in text


def test_without_a_working_directory_only_absolute_paths_are_understood() -> None:
    """Seen from the root directory, `.venv` would be an environment that nobody meant."""
    for argv in (["sync"], ["list"], ["sync", "--venv", "v"], ["sync", "--venv", "/v", "-c", "c.txt"]):
        with pytest.raises(InputError) as caught:
            parse(argv, {}, "", PLAIN)
        assert caught.value.code == "no-working-directory"
    got = parse(["sync", "/r.txt", "--venv", "/v"], {}, "", PLAIN)
    assert isinstance(got, SyncCall)
    assert got.venv == "/v"


@pytest.mark.parametrize(
    ("argv", "env", "config", "expected"),
    [
        ([], {}, {}, "auto"),
        ([], {"NO_COLOR": "1"}, {}, "never"),
        ([], {"NO_COLOR": "1", "FORCE_COLOR": "1"}, {}, "never"),
        ([], {"FORCE_COLOR": "1"}, {}, "always"),
        ([], {"FORCE_COLOR": "0"}, {}, "auto"),
        ([], {"TERM": "dumb"}, {}, "never"),
        ([], {"NO_COLOR": "1", "PKGC_COLOR": "always"}, {}, "always"),
        (["--color", "always"], {"NO_COLOR": "1"}, {}, "always"),
        (["--color=never"], {"FORCE_COLOR": "1"}, {}, "never"),
        ([], {"NO_COLOR": "1"}, {"color": "always"}, "never"),
        ([], {}, {"color": "always"}, "always"),
    ],
)
def test_who_decides_on_colours(
    argv: list[str], env: dict[str, str], config: dict[str, Any], expected: str
) -> None:
    assert sync(*argv, env=env, config=config).display.color == expected


def test_the_stronger_source_wins_between_quiet_and_verbose() -> None:
    assert sync("-v", env={"PKGC_QUIET": "1"}).display.verbosity == 1
    assert sync("-q", config={"verbose": 2}).display.verbosity == -1


def test_after_two_dashes_everything_is_a_source() -> None:
    assert sync("--", "--help", "-r").sources == ("--help", "-r")


def test_formats_follow_pips_rule() -> None:
    assert sync("--no-binary", "a", "--no-binary", ":none:", "--no-binary", "b").no_binary == ("b",)
    assert sync("--only-binary", "a,:all:,b").only_binary == (":all:",)


def test_parsing_looks_at_nothing_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own variables, directory and files are not the client's: reading them would be a bug."""
    parse(["sync", "x", "--offline"], {}, "/c", TERMINAL)  # build the parser first

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the parser looked at this process")

    class Guarded(dict[str, str]):
        __getitem__ = get = __contains__ = __iter__ = forbidden

    with monkeypatch.context() as patched:
        patched.setattr(os, "environ", Guarded())
        for name in ("getcwd", "stat", "lstat", "open", "get_terminal_size", "write"):
            patched.setattr(os, name, forbidden)
        patched.setattr(builtins, "open", forbidden)
        patched.setattr(builtins, "print", forbidden)
        results = [
            parse(argv, {}, "/c", TERMINAL)
            for argv in (["sync", "x", "--offline"], ["sync", "--help"], ["--help"])
        ]
        with pytest.raises(InputError):
            parse(["sync", "--nope"], {}, "/c", TERMINAL)
    assert [type(result) for result in results] == [SyncCall, Answer, Answer]


def test_two_calls_share_nothing() -> None:
    assert sync("a", "-c", "x").constraints != sync("b").constraints == ()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=8),
            st.sampled_from(
                [
                    "sync",
                    "fetch",
                    "cache",
                    "clean",
                    "--",
                    "-",
                    "-v",
                    "-qv",
                    "--venv",
                    "--color=",
                    "--no-index=x",
                ]
                + [option.flag for option in OPTIONS.values()]
            ),
        ),
        max_size=6,
    )
)
def test_no_words_whatever_make_the_parser_fail_or_print(words: list[str]) -> None:
    try:
        result = parse(words, {}, "/c", PLAIN)
    except InputError as error:
        result = Answer(error_text(error, Style(False)), 2, error.exit_status)
    assert isinstance(result, Call | Answer)
    if isinstance(result, Answer):
        assert result.text.endswith("\n")
        assert "\x1b" not in result.text


def test_a_parse_takes_less_than_3_ms() -> None:
    """The whole no-op sync has 18 ms."""
    argv = ["sync", "r.txt", "--venv", "v", "-c", "c.txt", "--offline", "-v"]
    parse(argv, {}, "/c", TERMINAL)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        parse(argv, {}, "/c", TERMINAL)
        best = min(best, time.perf_counter() - start)
    assert best < 0.003


def test_every_option_belongs_to_a_command_and_every_command_to_a_call() -> None:
    used = {key for command in COMMANDS.values() for key in command.options}
    assert used == set(OPTIONS)
    for name, command in COMMANDS.items():
        call(*name.split(), *(["x"] if command.required else []))


def test_the_config_file_knows_the_same_keys_as_the_command_line() -> None:
    """A key that only one of them knows is refused, or obeyed by nobody."""
    assert set(OPTIONS) - {"index"} <= set(CONFIG_OPTIONS), "index is [[index]] there"
    tables = {"cache": CACHE, "network": NETWORK, "build": BUILD, "index": INDEX}
    others = {f"{table}.{key}" for table, keys in tables.items() for key in keys}
    others |= {f"index.cache-control.{key}" for key in INDEX_CACHE_CONTROL}
    assert (set(CONFIG_OPTIONS) - set(OPTIONS)) | others == set(CONFIG_ONLY)


def test_only_words_of_the_command_line_count_as_such_for_the_indexes() -> None:
    """Variables and config.toml have other places in the order of precedence of indexes."""
    got = sync(
        *("-i", "https://cli.example/simple", "-f", "wheels"),
        env={"PKGC_EXTRA_INDEX_URL": "https://env.example/", "PKGC_NO_INDEX": "1"},
        config={"find-links": ("/conf",)},
    )
    assert got.extra_index_urls == ("https://env.example/",)
    assert command_line_indexes(got) == IndexChoice(
        index_url="https://cli.example/simple", find_links=("/home/me/project/wheels",)
    )
    assert command_line_indexes(sync("--no-index")) == IndexChoice(no_index=True)
