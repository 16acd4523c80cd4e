"""The same text read by pkgc and by pip itself: pip's code is the only specification of the format."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.markers import default_environment
from pip._internal.exceptions import CommandError, InstallationError, RequirementsFileParseError
from pip._internal.req import req_file

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.lines import decode, expand, logical_lines
from pkgc_daemon.inputs.options import OptionError, parse_options, split_line
from pkgc_daemon.inputs.requirements import RequirementsInput, read_requirements, select_wanted

A, B = "a" * 64, "B" * 96

#: Pieces that meet in files, and the characters on which the rules turn.
PIECES = st.sampled_from(
    [
        *"\\ \t\n\r#'\"-=;$ax\x0b\x0c\x1c\x1f\x85\u00a0\u2028é",
        "\\\n",
        " \\\n",
        "\n#",
        " #",
        "${A}",
        "${NEST}",
        "${EMPTY}",
        "${UNSET}",
        "a==1",
        "b[x]>=2",
        " ; os_name == 'posix'",
        f" --hash=sha256:{A}",
        f" --hash=sha384:{B}",
        f" --hash sha256:{A}",
        " --hash=md5:00",
        "--index-url https://i",
        "-i",
        "--extra-index-url=https://e",
        "--no-index",
        "--pre",
        "--prefer-binary",
        "--only-binary :all:",
        "--no-binary=a,b",
        "--require-hashes",
        "--no-require",
        "--req",
        "--trusted-host h",
        "-f links",
        "-flinks",
        "-C k=v",
        "--config-settings k",
        "--",
        "-e .",
        "-x",
        "./d",
        " ; ",
        "u @ ",
        "https://h.example/u.zip",
        "git+https://h.example/u@v",
        "#egg=u",
        f"#sha256={A}",
        "[x]",
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)
ENVIRONMENT = {"A": "a==1 --pre", "NEST": "${A}${UNSET}", "EMPTY": ""}


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("a \\\n # c \\\nb")
@example("\\\\a\\\n\\b\\\\\n")
def test_logical_lines_are_pips(text: str) -> None:
    """R3-R6: where lines begin and end, what is a comment, what is expanded."""
    with mock.patch.dict(os.environ, ENVIRONMENT, clear=True):
        expected = list(req_file.preprocess(text))
    assert [(number, expand(line, ENVIRONMENT)) for number, line in logical_lines(text)] == expected


def _pip_options(line: str) -> tuple[str, dict[str, object]] | None:
    try:
        arguments, values = req_file.get_line_parser(None)(line)
    except (req_file.OptionParsingError, CommandError):
        return None
    return arguments, vars(values)


@settings(max_examples=600, deadline=None)
@given(TEXTS.map(lambda text: " ".join(text.split("\n"))))
@example(f"a --hash sha256:{A} --hash=sha384:{B}")
@example("--no-require-hashes --no-requ x --trusted h -ci.txt")
@example("--use-feature fast-deps --only-b a,:all:")
def test_options_are_pips(line: str) -> None:
    """R7: the split, abbreviations, quotes, arguments, and what is an error."""
    expected = _pip_options(line)
    text, option_text = split_line(line)
    try:
        options = parse_options(option_text)
    except OptionError as exc:
        # pip compares malformed digests with the bytes that arrive; pkgc refuses them at once.
        if "hex digits" not in str(exc):
            assert expected is None
        return
    if expected is None and options.all("use-feature"):
        return  # pip refuses features that it does not know; pkgc needs none of them
    assert expected is not None
    arguments, values = expected
    assert text == arguments
    # Not --use-feature: pip keeps its list from one line to the next.
    for name, dest in {
        "extra-index-url": "extra_index_urls",
        "constraint": "constraints",
        "requirement": "requirements",
        "editable": "editables",
        "find-links": "find_links",
        "trusted-host": "trusted_hosts",
    }.items():
        assert options.all(name) == values[dest], name
    for name in ("no-index", "pre", "prefer-binary", "require-hashes", "no-require-hashes"):
        assert bool(options.all(name)) == values[name.replace("-", "_")]
    indexes = options.all("index-url")
    assert (indexes[-1] if indexes else None) == values["index_url"]
    hashes = values["hashes"] or {}
    assert isinstance(hashes, dict)
    assert {(digest.algorithm, digest.hex) for digest in options.hashes} == {
        (algorithm, digest.lower()) for algorithm, digests in hashes.items() for digest in digests
    }


def _read(root: Path, source: str, stdin: str = "") -> RequirementsInput | InputError:
    async def read_file(path: str) -> bytes:
        if path == "-":
            return stdin.encode("utf-8", "replace")
        try:
            return Path(path).read_bytes()
        except OSError as exc:
            raise InputError("unreadable-file", str(exc)) from exc

    async def variables(names: frozenset[str]) -> Mapping[str, str]:
        return {name: value for name, value in ENVIRONMENT.items() if name in names}

    try:
        return asyncio.run(
            read_requirements(
                [source], constraints=[], cwd=str(root), read_file=read_file, variables=variables
            )
        )
    except InputError as exc:
        return exc


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.text(max_size=8), max_size=20).map("".join))
@example("a==1;(((")
@example("a @ b; c")
@example("-r \0")
@example("[")
@example("a===1\na==1.0\na>=x")
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever a file holds, the outcome is requirements or an InputError, never a traceback."""
    found = _read(Path("/"), "-", text)
    if isinstance(found, RequirementsInput):
        with contextlib.suppress(InputError):
            lock = select_wanted(found, dict(default_environment()), require_hashes=None)  # type: ignore[arg-type]
            names = [wanted.name for wanted in (*lock.wanted, *lock.missing) if wanted.name]
            assert len(names) == len(set(names))
            assert not lock.hash_mode or all(wanted.hashes for wanted in lock.wanted)


INCLUDES = st.lists(
    st.sampled_from(
        [
            "a==1",
            "b==2 -r d/y.txt",
            "-r d/y.txt",
            "-r z.txt",
            "-r ../x.txt",
            "-c z.txt",
            "-c d/y.txt -r z.txt",
            "#",
        ]
    ),
    max_size=3,
).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(INCLUDES, INCLUDES, INCLUDES)
def test_includes_are_pips(x: str, y: str, z: str) -> None:
    """R8: what is included from where, as requirement or constraint, in which order, and recursion."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        (root / "d").mkdir()
        for name, text in {"x.txt": x, "d/y.txt": y, "z.txt": z, "d/z.txt": "e==5"}.items():
            (root / name).write_text(text)
        parser = req_file.RequirementsFileParser(mock.Mock(), req_file.get_line_parser(None))
        found = _read(root, str(root / "x.txt"))
        try:
            lines = list(parser.parse(str(root / "x.txt"), False))
        except RequirementsFileParseError:
            assert isinstance(found, InputError)
            assert found.code == "recursive-requirements"
            return
        except InstallationError:
            # d/y.txt asks for d/d/y.txt, which does not exist.
            assert isinstance(found, InputError)
            assert found.code in {"unreadable-file", "recursive-requirements"}
            return
    assert isinstance(found, RequirementsInput)
    for ours, constraint in ((found.lines, False), (found.constraints, True)):
        expected = [
            (line.requirement, os.path.relpath(line.filename, root), line.lineno)
            for line in lines
            if line.requirement is not None and line.constraint is constraint
        ]
        assert [
            (line.text, os.path.relpath(root / line.place.file, root), line.place.line) for line in ours
        ] == expected


@pytest.mark.parametrize(
    "data",
    [
        b"a==1\n",
        "\ufeffé==1".encode(),
        "é".encode("utf-16"),
        "é".encode("utf-32"),
        b"# coding: latin-1\n\xe9",
        b"\n# coding=cp1252\n\x80",
        b"#\n#\n# coding=cp1252\nx",
        b"  # coding: latin-1\n\xc3\xa9",
    ],
)
def test_encodings_are_pips(data: bytes) -> None:
    """R2."""
    assert decode(data, "r.txt")[0] == req_file._decode_req_file(data, "r.txt")
