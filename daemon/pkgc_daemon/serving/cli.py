"""The command line: a pure function from (argv, environment, directory, terminal, config) to a `Call`.

typer only splits words into options here.  It is built once from the table in `options`, never runs a
callback, prints nothing, and knows no variables or paths: those of this process are not the client's.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import typer

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.indexes import IndexChoice
from pkgc_daemon.inputs.namedindexes import split_index, split_pin, split_setting
from pkgc_daemon.serving.calls import (
    Answer,
    CacheCall,
    Call,
    ColorChoice,
    DaemonCall,
    Display,
    FetchCall,
    InputCall,
    ListCall,
    StatusCall,
    SyncCall,
    Terminal,
    VersionCall,
    WhyCall,
)
from pkgc_daemon.serving.help import help_text, wants_help
from pkgc_daemon.serving.options import COMMANDS, GROUPS, OPTIONS, Command, Option
from pkgc_daemon.serving.values import Values, absolute, did_you_mean, normalized_name

__all__ = ["command_line_indexes", "help_text", "parse"]

_Parser = Any
"""typer's command object; its class is private to typer (and was click's before typer 0.26)."""

# BadParameter is the only public name; its base is what every wrong usage raises.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# Habits from other tools, answered better than by the nearest spelling.
_HABITS: Mapping[str, str] = {
    "-r": "name the file itself: pkgc sync requirements.txt",
    "--requirement": "name the file itself: pkgc sync requirements.txt",
    "--requirements": "name the file itself: pkgc sync requirements.txt",
    "--default-index": "that is --index-url here",
    "--index-package": "that is --pin-index here",
    "--config-setting": "that is -C/--config-settings here",
    "--no-dev": "that is --no-default-groups here",
    "--frozen": "pkgc never changes a lock: leave it out",
    "--locked": "pkgc never changes a lock: leave it out",
    "--exact": "that is what pkgc sync does unless --inexact is given",
    "--no-cache": "pkgc always works through its cache; --refresh asks the indexes again",
    "--cache-dir": "set PKGC_CACHE_DIR",
}
_COMMAND_HABITS: Mapping[str, str] = {
    "install": "pkgc sync",
    "download": "pkgc fetch",
    "freeze": "pkgc list",
    "pip": "pkgc sync",
}


def parse(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    terminal: Terminal,
    config: Mapping[str, Any] | None = None,
    *,
    config_file: str = "config.toml",
) -> Call | Answer:
    """Understand one command line.

    Args:
        argv: the words after ``pkgc``.
        env: the client's environment.
        cwd: the client's working directory, absolute.
        terminal: the client's terminal.
        config: `Config.options` of the client's config.toml: option key -> value.
        config_file: its path, for messages and relative paths.

    Returns:
        What to do, or help.

    Raises:
        InputError: what is wrong with it (``usage``, ``invalid-option``, ``no-working-directory``).
    """
    if wants_help(argv):
        return help_text(
            argv,
            columns=terminal.columns if terminal.stdout else None,
            color=color_choice(None, env) != "never"
            and (terminal.stdout or color_choice(None, env) == "always"),
        )
    if argv and argv[0] in ("--version", "-V"):
        return VersionCall(cwd=cwd)
    command, words = find_command(argv)
    arguments, given = _split(command, words)
    values = Values(command, given, env, config or {}, config_file, cwd)
    if command.required and not arguments:
        raise _usage(f"pkgc {command.name} needs at least one {command.argument}", command)
    common: dict[str, Any] = {"cwd": cwd, "origins": values.origins, "display": _display(values, env)}
    match command.name.split():
        case ["sync"]:
            _refuse_contradictions(values, argv)
            return SyncCall(
                **common,
                **_inputs(arguments, values),
                venv=_venv(values, env, cwd),
                link_mode=values.of("link-mode", "auto"),
                compile_bytecode=values.of("compile-bytecode", False),
                reinstall=values.of("reinstall", False),
                reinstall_packages=frozenset(values.of("reinstall-package", ())),
                inexact=values.of("inexact", False),
                strict=values.of("strict", False),
                dry_run=values.of("dry-run", False),
                check=values.of("check", False),
            )
        case ["fetch"]:
            _refuse_contradictions(values, argv)
            return FetchCall(**common, **_inputs(arguments, values))
        case ["list"]:
            return ListCall(**common, venv=_venv(values, env, cwd))
        case ["why"]:
            return WhyCall(**common, names=_names(arguments, command), venv=_venv(values, env, cwd))
        case ["cache", action]:
            return CacheCall(**common, action=action, names=_names(arguments, command))  # type: ignore[arg-type]
        case ["daemon", action]:
            return DaemonCall(**common, action=action)  # type: ignore[arg-type]
        case _:
            return StatusCall(**common)


def command_line_indexes(call: InputCall) -> IndexChoice:
    """What the command line alone says of indexes, as `inputs.indexes.index_options` wants it.

    That function puts variables, requirements files and config.toml in their order by itself: values
    that came from there are left out here.
    """

    def given(key: str) -> bool:
        return call.origins[key].kind == "argv"

    return IndexChoice(
        index_url=call.index_url if given("index-url") else None,
        extra_index_urls=call.extra_index_urls if given("extra-index-url") else (),
        named=call.named_indexes if given("index") else (),
        pins=call.index_pins if given("pin-index") else (),
        find_links=call.find_links if given("find-links") else (),
        no_index=True if given("no-index") else None,
    )


def find_command(argv: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that `argv` names, and the words after it.

    Raises:
        InputError: ``usage``: there is none, or it does not exist.
    """
    if not argv:
        raise InputError("usage", "which command? pkgc alone does nothing", hint="see the list: pkgc --help")
    first = argv[0]
    if first.startswith("-") and first != "-":
        known = any(first in _spellings(option) for option in OPTIONS.values())
        raise InputError(
            "usage",
            f"{first} stands before the command",
            hint=f"options go after it: pkgc sync {first}" if known else "see pkgc --help",
        )
    if first in COMMANDS:
        return COMMANDS[first], list(argv[1:])
    if first in GROUPS:
        members = [name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")]
        if len(argv) < 2 or argv[1].startswith("-"):
            raise InputError(
                "usage", f"pkgc {first} needs one of {', '.join(members)}", hint=f"see pkgc {first} --help"
            )
        if argv[1] in members:
            return COMMANDS[f"{first} {argv[1]}"], list(argv[2:])
        raise InputError(
            "usage",
            f"no such command: pkgc {first} {argv[1]}",
            hint=did_you_mean(argv[1], members) or f"there are {', '.join(members)}",
        )
    top = [name for name in COMMANDS if " " not in name] + list(GROUPS)
    habit = _COMMAND_HABITS.get(first)
    raise InputError(
        "usage",
        f"no such command: pkgc {first}",
        hint=f"did you mean {habit}?" if habit else did_you_mean(first, top) or f"there are {', '.join(top)}",
    )


def _split(command: Command, words: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Let typer sort the words after a command into arguments and option values."""
    try:
        with _parser(command.name).make_context(command.name, words) as context:
            found: Mapping[str, Any] = context.params
    except _UsageError as error:
        raise _translated(error, command) from error
    given: dict[str, Any] = {}
    for key in command.options:
        value = found[OPTIONS[key].parameter]
        if value is not None and value != () and value != []:
            given[key] = value
    return tuple(found.get("arguments") or ()), given


@cache
def _parser(name: str) -> _Parser:
    """typer's parser of one command, made from the table: an option that was not given is None or ()."""
    command = COMMANDS[name]
    parameters = [_parameter(OPTIONS[key]) for key in command.options]
    if command.argument:
        parameters.append(_keyword("arguments", list[str] | None, typer.Argument(None)))

    def run(**_: Any) -> None:
        """Never called: only the parsed parameters are used."""

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, add_help_option=False)(run)
    parser = typer.main.get_command(app)
    for parameter in parser.params:
        if hasattr(parameter, "_runtime_param"):  # since typer 0.28; others load nothing
            parameter._runtime_param = _AsGiven()
    return parser


class _AsGiven:
    """Takes the place of typer's coercion: the values are words already, and `values` checks them.

    typer would load pydantic for it at the first parse: 160 ms before the first command is served.
    """

    def coerce(self, value: Any, **_: Any) -> Any:
        """The value itself."""
        return value


def _parameter(option: Option) -> inspect.Parameter:
    flags = option.flag if option.negation is None else f"{option.flag}/{option.negation}"
    spellings = (flags, *((option.short,) if option.short else ()))
    kind: Any = {
        "flag": bool | None,
        "toggle": bool | None,
        "one": str | None,
        "many": list[str] | None,
        "count": int | None,
    }[option.kind]
    info = typer.Option(None, *spellings, count=option.kind == "count")
    return _keyword(option.parameter, kind, info)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _spellings(option: Option) -> tuple[str, ...]:
    return tuple(filter(None, (option.flag, option.negation, option.short)))


def _translated(error: Exception, command: Command) -> InputError:
    """typer's complaint about a command's words, in our words."""
    flag = getattr(error, "option_name", None)
    own = [OPTIONS[key] for key in command.options]
    flags = [spelling for option in own for spelling in _spellings(option)]
    if not isinstance(flag, str):
        return _usage(str(getattr(error, "message", error)), command)
    option = next((option for option in own if flag in _spellings(option)), None)
    if option is not None:
        problem = f"needs a value: {option.spelling}" if option.takes_value else "takes no value"
        return _usage(f"{flag} {problem}", command)
    elsewhere = [
        name
        for name, other in COMMANDS.items()
        if any(flag in _spellings(OPTIONS[key]) for key in other.options)
    ]
    hint = _HABITS.get(flag) or did_you_mean(flag, flags)
    if elsewhere:
        hint = f"it is an option of pkgc {elsewhere[0]}"
    return _usage(f"pkgc {command.name} has no option {flag}", command, hint)


def _usage(message: str, command: Command, hint: str | None = None) -> InputError:
    return InputError("usage", message, hint=hint or f"see pkgc {command.name} --help")


def _inputs(arguments: tuple[str, ...], values: Values) -> dict[str, Any]:
    """The fields of `InputCall`."""
    if arguments.count("-") > 1:
        raise InputError("usage", "standard input ('-') can be read once only")
    if "" in arguments:
        raise InputError("usage", "a SOURCE must not be empty")
    return {
        "sources": arguments,
        "constraints": values.of("constraint", ()),
        "require_hashes": values.of("require-hashes"),
        "extras": frozenset(values.of("extra", ())),
        "all_extras": values.of("all-extras", False),
        "groups": frozenset(values.of("group", ())),
        "no_default_groups": values.of("no-default-groups", False),
        "only_binary": values.of("only-binary", ()),
        "no_binary": values.of("no-binary", ()),
        "no_build": values.of("no-build", False),
        "no_build_isolation": values.of("no-build-isolation", False),
        "config_settings": tuple(map(split_setting, values.of("config-settings", ()))),
        "index_url": values.of("index-url"),
        "extra_index_urls": values.of("extra-index-url", ()),
        "named_indexes": _distinct("index", map(split_index, values.of("index", ())), values),
        "index_pins": _distinct("pin-index", map(split_pin, values.of("pin-index", ())), values),
        "find_links": values.of("find-links", ()),
        "no_index": values.of("no-index", False),
        "offline": values.of("offline", False),
        "refresh": values.of("refresh", False),
        "refresh_packages": frozenset(values.of("refresh-package", ())),
        "python": values.of("python"),
    }


def _distinct(key: str, pairs: Iterable[tuple[str, str]], values: Values) -> tuple[tuple[str, str], ...]:
    """The pairs, unless one name (or project) stands for two things: which one was meant?"""
    known: dict[str, str] = {}
    result = tuple(pairs)
    for name, meant in result:
        if name and known.setdefault(name, meant) != meant:
            raise InputError(
                "invalid-option",
                f"{values.label(key)}: {name} is given twice, with different values",
                hint="give each once",
            )
    return result


def _refuse_contradictions(values: Values, words: Sequence[str]) -> None:
    """Options that cannot both be obeyed are an error, wherever they came from.

    Of other toggles the last one counts; what is checked must not depend on an order (H1, as pip).
    """
    if {"--require-hashes", "--no-require-hashes"} <= set(words):
        raise InputError("conflicting-options", "--require-hashes and --no-require-hashes exclude each other")
    for key in ("refresh", "refresh-package"):
        if values.of(key) and values.of("offline"):
            raise InputError(
                "usage",
                f"{values.label(key)} and {values.label('offline')} exclude each other",
                hint="asking an index again needs the network",
            )


def _venv(values: Values, env: Mapping[str, str], cwd: str) -> str:
    given = values.of("venv")
    return str(given) if given else absolute(env.get("VIRTUAL_ENV") or ".venv", cwd, env)


def _names(arguments: tuple[str, ...], command: Command) -> tuple[str, ...]:
    names = []
    for text in arguments:
        name = normalized_name(text)
        if name is None:
            raise _usage(f"{text!r} is not a project name", command)
        names.append(name)
    return tuple(dict.fromkeys(names))


_RANK = {"argv": 0, "env": 1, "config": 2, "default": 3}


def _display(values: Values, env: Mapping[str, str]) -> Display:
    quiet, verbose = values.of("quiet", 0), values.of("verbose", 0)
    if quiet and verbose:
        # The stronger source wins: -v on the command line beats PKGC_QUIET=1.
        ranks = [_RANK[values.origins[key].kind] for key in ("quiet", "verbose")]
        if ranks[0] == ranks[1]:
            raise InputError(
                "usage", f"{values.label('quiet')} and {values.label('verbose')} exclude each other"
            )
        quiet, verbose = (quiet, 0) if ranks[0] < ranks[1] else (0, verbose)
    return Display(
        output_format=values.of("output-format", "text"),
        verbosity=-1 if quiet else verbose,
        color=color_choice(values, env),
        progress=not values.of("no-progress", False),
    )


def color_choice(values: Values | None, env: Mapping[str, str]) -> ColorChoice:
    """The first that speaks of --color, PKGC_COLOR, NO_COLOR, FORCE_COLOR, config.toml, TERM."""
    given: ColorChoice = values.of("color", "auto") if values else "auto"
    kind = values.origins["color"].kind if values and "color" in values.origins else "default"
    if given != "auto" and kind in ("argv", "env"):
        return given
    if env.get("NO_COLOR"):
        return "never"
    if env.get("FORCE_COLOR", "0") not in ("", "0"):
        return "always"
    if given == "auto" and env.get("TERM") == "dumb":
        return "never"
    return given
