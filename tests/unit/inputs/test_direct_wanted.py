"""Direct references among constraints and repeats (R9, R10)."""

from __future__ import annotations

import pytest

from pkgc_daemon.vocabulary import ArchiveSource, Digest, DirectorySource, Place, VcsSource, Wanted
from tests.unit.inputs.reading import DA, DB, A, B, lock, no_lock

ZIP = "https://example.org/u.zip"
WHEEL = "https://example.org/u-2.0-py3-none-any.whl"
GIT = "git+https://example.org/u.git"
MD5 = Digest("md5", "0" * 32)


async def test_a_direct_reference_is_wanted_as_its_content_is() -> None:
    """No version; its source, extras, hashes and settings; a name only if the text tells one."""
    found = await lock(f"U[x] @ {ZIP} {A} -C k=v\n./d", require_hashes=False)
    assert found.wanted == (
        Wanted(
            name="u",
            version="",
            hashes=frozenset({DA}),
            extras=frozenset({"x"}),
            place=Place("r.txt", 1),
            text=f"U[x] @ {ZIP}",
            source=ArchiveSource(ZIP),
            settings=(("k", "v"),),
        ),
        Wanted("", "", place=Place("r.txt", 2), text="./d", source=DirectorySource("/w/d")),
    )
    assert found.warnings == ()


async def test_lines_whose_marker_is_false_do_not_matter() -> None:
    """A URL for Windows does not stop a Linux sync, whatever is wrong with the project there."""
    found = await lock(
        f"u==1\nu @ {ZIP} ; sys_platform == 'win32'\n./x ; os_name == 'nt'\n-e ./y ; os_name == 'nt'\n"
        "hg+https://example.org/r ; os_name == 'nt'"
    )
    assert [str(wanted) for wanted in found.wanted] == ["u==1"]
    assert found.wanted[0].source is None


async def test_what_cannot_be_installed_is_named_with_its_line() -> None:
    """hg, svn and bzr: not half understood, and without credentials in the message."""
    error = await no_lock("unsupported-requirement", "a==1\nhg+https://k:pw@example.org/u\nsvn+svn://h/x")
    assert error.message.startswith("r.txt:2: ")
    assert "Mercurial" in error.message
    assert "pw" not in str(error.to_wire())
    assert error.context is not None
    assert "r.txt:3" in error.context


async def test_no_binary_is_a_matter_of_selection() -> None:
    """Lines are not refused for it: what can be built is built."""
    assert [str(w) for w in (await lock("--no-binary :all:\na==1")).wanted] == ["a==1"]


@pytest.mark.parametrize(
    "text",
    [
        f"u @ {ZIP}\nu @ {ZIP}",
        f"u @ {ZIP}\n{ZIP}",
        f"{ZIP}\nu @ {ZIP}",
        f"u @ {ZIP}\nu @ https://k:pw@EXAMPLE.org/u.zip",
        "u @ ./d\n./d/../d",
        f"u @ {GIT}@main\n{GIT}@main#egg=u",
        "./d\nfile:///w/d",
    ],
)
async def test_r10_the_same_source_twice_is_one(text: str) -> None:
    """Files include each other; saying the same twice is no contradiction."""
    assert len((await lock(text)).wanted) == 1


async def test_r10_repeats_of_a_source_intersect_their_hashes() -> None:
    """And unite what must match besides: both lines are obeyed."""
    (wanted,) = (await lock(f"u @ {ZIP}#md5={MD5.hex} {A} {B}\nu[x] @ {ZIP} {A}")).wanted
    assert wanted.hashes == {DA}
    assert wanted.extras == {"x"}
    assert wanted.source == ArchiveSource(ZIP, integrity=frozenset({MD5}))
    error = await no_lock("conflicting-requirements", f"u @ {ZIP} {A}\nu @ {ZIP} {B}")
    assert "r.txt:1" in error.message
    assert "r.txt:2" in error.message
    await no_lock("conflicting-requirements", f"u @ {ZIP}#sha256={'a' * 64}\nu @ {ZIP}#sha256={'b' * 64}")
    await no_lock("conflicting-requirements", f"u @ {ZIP}#md5={'0' * 32}\nu @ {ZIP}#md5={'1' * 32}")


@pytest.mark.parametrize(
    "other",
    [
        f"u @ {WHEEL}",
        f"u @ {ZIP}#subdirectory=s",
        f"u @ {ZIP}?x",
        "u @ ./u.zip",
        "u @ ./d",
        f"u @ {GIT}",
    ],
)
async def test_r10_different_sources_exclude_each_other(other: str) -> None:
    """Both lines are named; nothing is chosen for the person."""
    error = await no_lock("conflicting-requirements", f"a==1\nu @ {ZIP}\n{other}")
    assert "r.txt:2" in error.message
    assert "r.txt:3" in error.message


async def test_r10_revisions_count() -> None:
    """Two branches are two sources."""
    await no_lock("conflicting-requirements", f"u @ {GIT}@main\nu @ {GIT}@next")
    await no_lock("conflicting-requirements", f"u @ {GIT}@main\nu @ {GIT}")


async def test_r10_an_editable_and_its_directory_are_one() -> None:
    """As in uv, the editable wins: it is the stronger wish."""
    for text in ("-e ./d\n./d", "./d\n-e ./d"):
        (wanted,) = (await lock(text)).wanted
        assert wanted.source == DirectorySource("/w/d", True)


async def test_r10_a_pin_beside_a_url_is_what_its_content_must_be() -> None:
    """pip compares the pin with the built metadata; so the pin is not lost."""
    for text in (f"u==1.0\nu @ {ZIP}", f"u @ {ZIP}\nu==1.0"):
        (wanted,) = (await lock(text)).wanted
        assert (wanted.version, wanted.source) == ("1.0", ArchiveSource(ZIP))
    (wanted,) = (await lock(f"u @ {ZIP}", "u==1.0")).wanted
    assert wanted.version == "1.0"
    await no_lock("conflicting-requirements", f"u==1.0\nu @ {ZIP}\nu>2")


async def test_r10_the_version_in_a_wheels_name_is_compared_at_once() -> None:
    """Without a download."""
    (wanted,) = (await lock(f"u>=2\nu @ {WHEEL}")).wanted
    assert (wanted.version, wanted.source) == ("", ArchiveSource(WHEEL))
    assert (await lock(f"u==2.0+local\nu @ {WHEEL}")).wanted[0].version == "2.0+local"
    for line in ("u==1", "u<2", "u===2"):
        error = await no_lock("conflicting-requirements", f"{line}\nu @ {WHEEL}")
        assert "r.txt:1" in error.message
        assert "r.txt:2" in error.message


async def test_r10_a_range_that_cannot_be_checked_is_said() -> None:
    """Only the content tells the version, and a range is no pin that could be compared with it."""
    found = await lock(f"u @ {ZIP}", "u<3")
    assert found.wanted[0].version == ""
    assert any(warning.startswith("c.txt:1: 'u<3' is not checked") for warning in found.warnings)


async def test_r10_settings_must_agree() -> None:
    """One wheel is built, in one way."""
    found = await lock(f"u @ {ZIP} -C k=v\nu @ {ZIP}\nu @ {ZIP} -C k=v")
    assert found.wanted[0].settings == (("k", "v"),)
    await no_lock("conflicting-requirements", f"u @ {ZIP} -C k=v\nu @ {ZIP} -C k=w")
    found = await lock("u==1", "u==1 -C k=v")
    assert found.wanted[0].settings == ()
    assert found.warnings == ("c.txt:1: --config-settings of a constraint is ignored",)


async def test_r9_a_url_constraint_gives_the_source() -> None:
    """pip's rule: whoever asks for the project gets it from there."""
    for text in ("u", "u==1.0"):
        (wanted,) = (await lock(text, f"U @ {ZIP}#sha256={'a' * 64}\nother @ {GIT}")).wanted
        assert wanted.source == ArchiveSource(ZIP, integrity=frozenset({DA}))
        assert wanted.hashes == {DA}
        assert wanted.version == text.partition("==")[2]
        assert wanted.place == Place("r.txt", 1)
    (wanted,) = (await lock("u", f"{GIT}@v1#egg=u")).wanted
    assert wanted.source == VcsSource("https://example.org/u.git", "v1")
    assert (await lock("u", f"u @ {ZIP} {A}")).wanted[0].hashes == {DA}


async def test_r9_a_url_constraint_forbids_other_sources() -> None:
    """It limits where a project may come from."""
    assert len((await lock(f"u @ {ZIP}", f"u @ {ZIP}")).wanted) == 1
    error = await no_lock("conflicting-requirements", f"u @ {GIT}", f"u @ {ZIP}")
    assert "c.txt:1" in error.message
    assert (await lock("u==1", f"u @ {ZIP} ; os_name == 'nt'")).wanted[0].source is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-e ./d", "may not be editable"),
        (f"u[x] @ {ZIP}", "may not have extras"),
        (ZIP, "must have a name"),
        ("./d", "must have a name"),
        (GIT, "must have a name"),
    ],
)
async def test_r9_what_may_not_be_a_constraint(line: str, why: str) -> None:
    """Refused by name and line, as pip does."""
    error = await no_lock("invalid-constraint", "u==1", f"\n{line}")
    assert error.message.startswith("c.txt:2: ")
    assert why in error.message


async def test_names_that_were_found_out_take_part_in_a_second_selection() -> None:
    """`./d` turns out to be `u`: then the constraints and repeats of `u` count for it."""
    text, source = f"./d\n{ZIP}\nv==1", DirectorySource("/w/d")
    first = await lock(text, "u==3")
    assert [wanted.name for wanted in first.wanted] == ["", "", "v"]
    again = await lock(text, "u==3", names={source: "u", ArchiveSource(ZIP): "w"})
    assert [str(wanted) for wanted in again.wanted] == ["u==3", "w", "v==1"]
    assert (await lock("./d\nu==1", names={source: "u"})).wanted[0].version == "1"
    assert [w.hashes for w in (await lock(f"{ZIP} {A} {B}\nu @ {ZIP} {B}")).wanted] == [{DB}]
