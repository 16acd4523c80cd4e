"""Requirements files from the network (R1)."""

from __future__ import annotations

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.vocabulary import Place
from tests.unit.inputs.reading import read

ROOT = "https://u:pw@h.example/a/r.txt?v=1"


async def refused(text: str, code: str) -> InputError:
    with pytest.raises(InputError) as caught:
        await read({ROOT: text}, ROOT)
    assert caught.value.code == code
    assert "pw" not in str(caught.value.to_wire())
    return caught.value


async def test_a_remote_file_is_read_by_its_url() -> None:
    """Named by the command, included, or as constraints; messages show no credentials."""
    opened: list[str] = []
    files = {
        ROOT: "a==1",
        "/w/requirements.txt": f"-r {ROOT}#x\n-c http://h.example/c.txt",
        "http://h.example/c.txt": "a<2",
    }
    given = await read(files, ROOT, opened=opened)
    assert opened == [ROOT]
    assert given.lines[0].place == Place("https://h.example/a/r.txt?v=1", 1)
    given = await read(files, constraints=(ROOT,))
    assert [line.name for line in given.lines] == ["a"]
    assert [str(line.place) for line in given.constraints] == [
        "https://h.example/a/r.txt?v=1:1", "http://h.example/c.txt:1",
    ]  # fmt: skip


async def test_includes_are_joined_to_the_url() -> None:
    """R1: as urljoin does it, with the credentials of the host."""
    opened: list[str] = []
    files = {
        ROOT: "-r ./b.txt\n-r ../c.txt\n-r /d.txt\n-c https://other.example/e.txt",
        "https://u:pw@h.example/a/b.txt": "b==1",
        "https://u:pw@h.example/c.txt": "c==1",
        "https://u:pw@h.example/d.txt": "d==1",
        "https://other.example/e.txt": "b<2",
    }
    given = await read(files, ROOT, opened=opened)
    assert [line.name for line in given.lines] == ["b", "c", "d"]
    assert opened == list(files)


async def test_recursion_over_the_network_ends() -> None:
    """R8."""
    with pytest.raises(InputError) as caught:
        await read({"https://h.example/r.txt": "-r r.txt"}, "https://h.example/r.txt")
    assert caught.value.code == "recursive-requirements"


@pytest.mark.parametrize(
    "line",
    [
        "-r file:///etc/passwd",
        "-c file:///etc/passwd",
        "./x",
        "./x.zip",
        "/x.zip",
        "x.zip",
        "x @ ./x",
        "x @ file:///x",
        "file:///x.zip",
        "file:x",
        "-e .",
        "-e ./x",
        "-e x @ file:///x",
        "git+file:///x",
        "-e git+file:///x",
        "x @ git+file:///x ; os_name == 'nt'",
        "-f links",
        "-f /links",
        "--find-links file:///links",
        "-i ./mirror",
        "--extra-index-url file:///mirror",
        "-c requirements.txt\n./x",
    ],
)
async def test_a_remote_file_names_nothing_local(line: str) -> None:
    """A file from elsewhere does not choose what of this disk is read or built."""
    with pytest.raises(InputError) as caught:
        await read({ROOT: f"a==1\n{line}", "https://u:pw@h.example/a/requirements.txt": ""}, ROOT)
    error = caught.value
    assert error.code == "remote-names-local"
    assert f"https://h.example/a/r.txt?v=1:{2 + line.count(chr(10))}: " in error.message
    assert error.hint is not None
    assert "download" in error.hint


async def test_what_a_remote_file_may_name() -> None:
    """Everything that is remote too."""
    given = await read(
        {
            ROOT: "a==1\nb @ https://h.example/b.zip\ngit+ssh://git@h.example/c\n-e git+https://h.example/d\n"
            "-f https://h.example/links\n-i https://h.example/simple"
        },
        ROOT,
    )
    assert len(given.lines) == 4
    assert given.find_links == ("https://h.example/links",)


async def test_variables_stay_out_of_the_refusal() -> None:
    """The value may be a secret, also in what a remote file wrongly names."""
    with pytest.raises(InputError) as caught:
        await read({ROOT: "./${TOKEN}\n-f ${TOKEN}"}, ROOT, env={"TOKEN": "s3cret"})
    assert caught.value.code == "remote-names-local"
    assert "s3cret" not in str(caught.value.to_wire())


async def test_a_remote_file_reads_no_variables() -> None:
    """R6 is for the user's own files: a stranger's must not send the environment to a host of its choice."""
    text = "--index-url https://h.example/${TOKEN}\nu @ https://h.example/${TOKEN}/u.zip"
    given = await read({ROOT: text, "/w/r.txt": f"-r {ROOT}\n-r {ROOT}"}, "r.txt", env={"TOKEN": "s3cret"})
    assert given.index_url == "https://h.example/${TOKEN}"
    assert "s3cret" not in repr(given)
    assert given.warnings == ("https://h.example/a/r.txt?v=1: is a remote file: variables are not put in",)


async def test_a_url_without_a_host_is_no_file() -> None:
    """A typing error is told as one."""
    with pytest.raises(InputError) as caught:
        await read({}, "https:///r.txt")
    assert caught.value.code == "invalid-requirement"


async def test_a_locks_url_is_no_requirements_file() -> None:
    """Wherever it stands."""
    await refused("-r poetry.lock", "unsupported-source")
    await refused("-c https://h.example/pylock.toml", "mixed-sources")
