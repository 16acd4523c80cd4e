"""What a hostile or absurd input may cost: it is refused, instead of holding up everybody else."""

from __future__ import annotations

import asyncio
import time
import tomllib

import pytest
import tomli
from packaging.specifiers import Specifier

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs import tomlfiles
from pkgc_daemon.inputs.lines import expand
from pkgc_daemon.inputs.options import OptionError, apply_format, parse_options
from pkgc_daemon.inputs.tomlfiles import parse_toml
from pkgc_daemon.inputs.tomlkeys import deep_key
from tests.unit.inputs.reading import lock, read

DEEP = ".".join("b" * 65)


@pytest.mark.parametrize(
    "text",
    [
        f"[{DEEP}]",
        f"[[ {DEEP} ]]",
        f"{DEEP} = 1",
        f"x = {{y = [1, {{{DEEP} = 1}}]}}",
        DEEP.replace(".", " . ") + "=1",
        DEEP.replace("b.", '"b\\"".') + "=1",
        DEEP.replace("b.b", "'.'.b") + "=1",
        'x = ["\'.", ".", {' + DEEP + ' = "y"}]',
    ],
)
def test_deep_keys_are_refused(text: str) -> None:
    """Parsers take quadratic time for them, and the compiled one stops every other call meanwhile."""
    tomllib.loads(text)
    with pytest.raises(InputError) as caught:
        parse_toml(f"a = 1\n{text}\n".encode(), "pylock.toml", "invalid-lock")
    assert caught.value.code == "invalid-lock"
    assert "pylock.toml:2:" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [".".join("b" * 64) + " = 1", "x = [" + "'1.0', " * 200 + "]", 'x = "' + "." * 200 + '"', "a.b=1\n" * 99],
)
def test_other_dots_are_left_alone(text: str) -> None:
    """Version numbers in one long line are no key."""
    assert deep_key(text) == 0


def test_keys_are_counted_in_linear_time() -> None:
    """The check must not be what it guards against."""
    began = time.process_time()
    for line in ("." * 300_000, ". " * 300_000, "'." * 300_000, '."\\' * 200_000, "a." * 60 + "'" * 300_000):
        deep_key(line)
    assert time.process_time() - began < 5


def test_large_files_let_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled parser would hold the interpreter for seconds."""
    monkeypatch.setattr(tomli, "loads", lambda _: pytest.fail("compiled"))
    monkeypatch.setattr(tomlfiles, "_FAST", 100)
    assert parse_toml(b"a = 1\n" + b"#" * 100, "pylock.toml", "invalid-lock").content == {"a": 1}


async def test_a_giant_logical_line_is_refused() -> None:
    """The place is told; nothing of it is parsed."""
    with pytest.raises(InputError) as caught:
        await read({"/w/requirements.txt": "a==1\n" + "b==1 \\\n" * 300_000})
    assert caught.value.code == "input-too-large"
    assert caught.value.message.startswith("requirements.txt:2:")


@pytest.mark.parametrize(
    "line",
    [
        "a" + ",".join(f"!={n}" for n in range(1001)) + ",==2000",
        "a[" + ",".join(f"e{n}" for n in range(1001)) + "]==1",
        "a==1 ; " + " or ".join(["os_name=='x'"] * 3000),
    ],
)
async def test_requirements_are_bounded(line: str) -> None:
    """One of a megabyte would be parsed for seconds."""
    with pytest.raises(InputError) as caught:
        await read({"/w/requirements.txt": line})
    assert caught.value.code == "invalid-requirement"
    assert "are read" in caught.value.message


def test_options_are_bounded() -> None:
    """Hashes, words, and what is quoted (split a character at a time)."""
    many = " ".join(f"--hash=sha256:{number:064x}" for number in range(10_001))
    for text in (many, "-- " + "a " * 10_001, "--pre '" + "a" * 200_000 + "'"):
        with pytest.raises(OptionError):
            parse_options(text)


@pytest.mark.parametrize(
    ("value", "chosen"),
    [("a,:all:", {":all:"}), (":all:,b", {":all:"}), (":all:,b,:none:,c", {"c"}),
     (":all:,:none:,x,:all:,y", {":all:"}), (":all:,a,:none:,b,:all:,c,:none:,d", {"d"})],
)  # fmt: skip
def test_formats_in_linear_time(value: str, chosen: set[str]) -> None:
    """As pip takes them, however many they are."""
    found = {"z"}
    apply_format(value, found, set())
    assert found == chosen
    began = time.process_time()
    apply_format(":all:,:none:," * 100_000, set(), set())
    assert time.process_time() - began < 2


def test_references_to_variables_are_bounded() -> None:
    """Each looks through the whole line."""
    assert expand("${A}" * 1000, {"A": "x"}) == "x" * 1000
    with pytest.raises(OverflowError):
        expand("${A}" * 1001, {"A": "x"})


async def test_short_lines_give_others_their_turn() -> None:
    """Ten thousand lines of five characters are ten thousand requirements to parse."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await read({"/w/requirements.txt": "a==1\n" * 10_000})
    task.cancel()
    assert turns > 40


async def test_repeated_lines_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of thousands of lines of one project are merged in a moment."""
    from pkgc_daemon.inputs import merging

    calls: list[str] = []
    allows = merging._allows

    def counted(specifier: Specifier, version: str) -> bool:
        calls.append(version)
        return allows(specifier, version)

    monkeypatch.setattr(merging, "_allows", counted)
    found = await lock("a==1\n" + "a>=0.5\n" * 1000)
    assert len(found.wanted) == 1
    assert len(calls) == 1
