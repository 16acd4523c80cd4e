"""Reading requirements files and what they include (R1, R7-R9)."""

from __future__ import annotations

import asyncio
import time

import pytest

from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.inputs.requirements import location_url
from pkgc_daemon.vocabulary import Digest, Place
from tests.unit.inputs.reading import one, read, refused

A = "a" * 64


async def test_a_hashed_lock() -> None:
    """The main road: names, pins, markers, hashes and line numbers all arrive."""
    given = await one(
        f"# made by a tool\n-i https://example.org/simple\n"
        f"a[x]==1.0 ; python_version > '3' \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{'b' * 64}\n"
        "    # via -r in.txt\nb==2\n"
    )
    first, second = given.lines
    assert (first.name, str(first.specifier)) == ("a", "==1.0")
    assert first.extras == {"x"}
    assert str(first.marker) == 'python_version > "3"'
    assert first.hashes == {Digest("sha256", A), Digest("sha256", "b" * 64)}
    assert first.place == Place("requirements.txt", 3)
    assert first.text == "a[x]==1.0 ; python_version > '3'"
    assert (second.name, second.hashes, second.place.line) == ("b", frozenset(), 7)
    assert given.index_url == "https://example.org/simple"
    assert given.warnings == ()


async def test_standard_input() -> None:
    """`-` is read as it is; what it includes starts at the working directory."""
    given = await read({"-": "-r sub/b.txt", "/w/sub/b.txt": "b==1"}, "-")
    assert given.lines[0].place == Place("sub/b.txt", 1)


async def test_includes_start_at_the_including_file() -> None:
    """R1/R8: not at the working directory, and constraints stay constraints."""
    files = {
        "/w/reqs/main.txt": "-r ../base.txt\n--constraint=c.txt\nm==1",
        "/w/base.txt": "b==1",
        "/w/reqs/c.txt": "b==1\n-r more.txt",
        "/w/reqs/more.txt": "n==1",
        "/etc/c.txt": "z==1",
    }
    given = await read(files, "reqs/main.txt", constraints=("/etc/c.txt",))
    assert [(line.name, str(line.place)) for line in given.lines] == [
        ("b", "base.txt:1"),
        # As in pip: -r inside a constraints file adds requirements.
        ("n", "reqs/more.txt:1"),
        ("m", "reqs/main.txt:3"),
    ]
    assert [str(line.place) for line in given.constraints] == ["/etc/c.txt:1", "reqs/c.txt:1"]


async def test_file_urls() -> None:
    """R1: a file: URL is a path, and what it includes is joined to the URL."""
    files = {"/x y/a.txt": "-r b%20c.txt", "/x y/b c.txt": "b==1"}
    given = await read(files, "file:///x%20y/a.txt")
    assert given.lines[0].name == "b"
    with pytest.raises(InputError, match="not the URL of a local file"):
        await read({}, "file://elsewhere/a.txt")


async def test_one_file_included_twice_is_read_once() -> None:
    """R8: including twice is fine; both includes see the same content."""
    opened: list[str] = []
    files = {"/w/requirements.txt": "-r b.txt\n-r b.txt", "/w/b.txt": "b==1"}
    given = await read(files, opened=opened)
    assert len(given.lines) == 2
    assert opened == ["/w/requirements.txt", "/w/b.txt"]


async def test_recursion_names_both_files_and_the_line() -> None:
    """R8."""
    files = {"/w/requirements.txt": "a==1\n-r d/b.txt", "/w/d/b.txt": "-r ../requirements.txt"}
    with pytest.raises(InputError) as caught:
        await read(files)
    assert caught.value.code == "recursive-requirements"
    assert caught.value.message == ("d/b.txt:1: requirements.txt recursively references itself in d/b.txt")


async def test_includes_cannot_explode() -> None:
    """Files that include their successors twice stop at a bound, not at 2**40 reads."""
    files = {f"/w/{i}.txt": f"-r {i + 1}.txt\n-r {i + 1}.txt" for i in range(40)}
    with pytest.raises(InputError) as caught:
        await read({**files, "/w/40.txt": ""}, "0.txt")
    assert caught.value.code == "too-many-files"


async def test_a_missing_included_file_names_the_line() -> None:
    """The person learns which line to correct; the code and the status stay."""
    with pytest.raises(PkgcError) as caught:
        await one("a==1\n-r gone.txt")
    assert caught.value.code == "unreadable-file"
    assert caught.value.exit_status == 2
    assert caught.value.message.startswith("requirements.txt:2: cannot read gone.txt: ")


async def test_every_bad_line_is_listed_at_once() -> None:
    """One run shows all mistakes of one kind."""
    error = await refused("a=1\nb==1\nc = = 2\n", "invalid-requirement")
    assert error.message.startswith("requirements.txt:1: invalid requirement 'a=1'")
    assert "(and 1 more)" in error.message
    assert error.context is not None
    assert "requirements.txt:3: invalid requirement 'c = = 2'" in error.context
    assert error.hint is not None
    assert "==" in error.hint


async def test_an_unknown_option_names_the_line() -> None:
    """Nothing is guessed."""
    error = await refused("a==1\n--index-ulr https://u:pw@example.org\n", "invalid-option")
    assert "requirements.txt:2: no such option: --index-ulr" in error.message
    assert "pw" not in str(error.to_wire())


async def test_values_of_variables_stay_out_of_errors() -> None:
    """${TOKEN} is a secret even where the line is wrong."""
    env = {"TOKEN": "s3cret"}
    for text in (
        "a ${TOKEN}",
        "--${TOKEN}",
        "--pre ${TOKEN}\na=1",
        "./${TOKEN} ; x y",
        "-e https://${TOKEN}",
    ):
        with pytest.raises(InputError) as caught:
            await one(text, env=env)
        assert "s3cret" not in str(caught.value.to_wire())
    given = await one("--pre ${TOKEN}\nu @ https://${TOKEN}@example.org/u.zip", env=env)
    assert "s3cret" not in str(given.warnings) + given.lines[0].text


async def test_variables_reach_options() -> None:
    """Credentials of private indexes come from the client's environment, one lookup a file."""
    given = await one("--index-url https://${USER}:${TOKEN}@h/simple", env={"USER": "u", "TOKEN": "t"})
    assert given.index_url == "https://u:t@h/simple"


async def test_a_tab_before_hash_is_an_error_with_a_hint() -> None:
    """R7: pip does not separate at tabs; silently dropping the hash would be worse."""
    error = await refused(f"a==1\t--hash=sha256:{A}", "invalid-requirement")
    assert error.hint is not None
    assert "tab" in error.hint


async def test_global_options() -> None:
    """All of pip's options are understood, those without effect on pins accepted."""
    given = await one(
        "--extra-index-url https://e1\n--no-index\n--index-url https://i\n-f https://f\n"
        "--trusted-host h:1\n--pre\n--prefer-binary\n--use-feature fast-deps\n--all-releases :all:\n"
        "--only-final x\n--require-hashes\n--only-binary :all:\n--no-binary z\n"
    )
    assert given.no_index
    assert given.extra_index_urls == ("https://e1",)
    assert given.find_links == ("https://f",)
    assert given.trusted_hosts == ("h:1",)
    assert given.require_hashes
    assert given.require_hashes_place == Place("requirements.txt", 11)
    assert given.only_binary == {":all:"}
    assert given.no_binary == {"z"}
    assert given.warnings == ()


async def test_formats_of_the_command_line_come_first() -> None:
    """A file may exempt a project from --no-binary of the command line."""
    given = await one("--only-binary a", no_binary=("a,b",), only_binary=())
    assert given.no_binary == {"b"}
    assert given.only_binary == {"a"}


async def test_what_is_ignored_is_said() -> None:
    """R7/R8: global options beside a requirement, a lone --hash, a second -r, stray words."""
    files = {
        "/w/requirements.txt": (
            f"a==1 --index-url https://x -C k=v\n--hash=sha256:{A}\n-r b.txt -r c.txt --pre\n--pre b==2\n"
            "-f x -f y"
        ),
        "/w/b.txt": "b==1",
    }
    given = await read(files)
    assert [line.name for line in given.lines] == ["a", "b"]
    assert given.index_url is None
    assert [warning.partition(": ")[0] for warning in given.warnings] == [
        f"requirements.txt:{number}" for number in range(1, 6)
    ]
    assert "--index-url" in given.warnings[0]
    assert "config-settings" not in given.warnings[0]
    assert "b==2" in given.warnings[3]


async def test_find_links_are_tried_beside_the_file_first() -> None:
    """pip's rule: relative to the requirements file, then to the working directory."""

    async def exists(path: str) -> bool:
        return path == "/w/reqs/here"

    files = {"/w/reqs/r.txt": "-f here\n-f there\n-f /abs\n-f file:///u"}
    given = await read(files, "reqs/r.txt", exists=exists)
    assert given.find_links == ("/w/reqs/here", "/w/there", "/abs", "file:///u")
    given = await read(files, "reqs/r.txt")
    assert given.find_links[1] == "/w/reqs/there"


async def test_an_index_may_be_a_folder() -> None:
    """pip accepts a path for --index-url; it becomes a file: URL."""
    given = await one("-i ../mirror dir/\n--extra-index-url ./e x")
    assert given.index_url == "file:///w/../mirror"
    assert location_url("a b", "/w") == "file:///w/a%20b"


@pytest.mark.parametrize("line", ["-e .", "a[x]==1", "./path", "https://example.org/x.tar.gz"])
async def test_constraints_must_be_names_and_versions(line: str) -> None:
    """R9."""
    with pytest.raises(InputError) as caught:
        await read({"/w/r.txt": "a==1", "/w/c.txt": f"\n{line}"}, "r.txt", constraints=("c.txt",))
    assert caught.value.code == "invalid-constraint"
    assert caught.value.message.startswith("c.txt:2: ")


async def test_hostile_nesting_is_an_error() -> None:
    """Thousands of brackets in a marker do not end the daemon."""
    await refused("a==1 ; " + "(" * 20_000 + "os_name == 'x'" + ")" * 20_000, "invalid-requirement")


async def test_a_latin1_file_under_a_latin1_locale() -> None:
    """R2: the client's locale, not the daemon's."""
    given = await one(b"# \xe9\na==1".decode("latin-1"), env={})  # as UTF-8: no warning
    assert given.warnings == ()
    files = {"/w/requirements.txt": b"# \xe9\na==1"}
    given = await read(files, env={"LANG": "de_DE.ISO8859-1"})
    assert len(given.warnings) == 1
    with pytest.raises(InputError, match="is not UTF-8"):
        await read(files, env={})


async def test_other_locks_are_refused_with_the_command_that_converts_them() -> None:
    """Instead of a thousand syntax errors, wherever they are named."""
    with pytest.raises(InputError, match=r"poetry\.lock") as caught:
        await read({}, "poetry.lock")
    assert caught.value.code == "unsupported-source"
    assert caught.value.hint is not None
    assert "poetry export" in caught.value.hint
    error = await refused("a==1\n-r pyproject.toml", "unsupported-source")
    assert error.message.startswith("requirements.txt:2: ")


async def test_a_lock_is_no_part_of_a_requirements_file() -> None:
    """A pylock.toml that is included would lose what it says besides versions."""
    error = await refused("-r pylock.toml", "mixed-sources")
    assert error.message.startswith("requirements.txt:1: ")
    with pytest.raises(InputError) as caught:
        await read({"/w/r.txt": "a==1"}, "r.txt", constraints=("uv.lock",))
    assert caught.value.code == "mixed-sources"


async def test_a_huge_file_does_not_stop_the_event_loop() -> None:
    """The daemon serves others while it parses one client's 100,000 hashes."""
    text = "".join(
        f"p{number}==1 \\\n" + " \\\n".join([f"    --hash=sha256:{A}"] * 100) + "\n" for number in range(400)
    )
    longest, running = 0.0, True

    async def heart() -> None:
        nonlocal longest
        while running:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started)

    beating = asyncio.create_task(heart())
    given = await one(text)
    running = False
    await beating
    assert len(given.lines) == 400
    assert longest < 0.5
    with pytest.raises(InputError, match="bytes"):
        await read({"/w/requirements.txt": b"#" * (64 * 2**20 + 1)})
