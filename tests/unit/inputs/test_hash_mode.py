"""Hash-checking mode of requirements files (H1-H6, H9)."""

from __future__ import annotations

import pytest

from pkgc_daemon.inputs.given import Lock
from pkgc_daemon.inputs.wanted import missing_hash_error
from pkgc_daemon.vocabulary import ArchiveSource, Digest
from tests.unit.inputs.reading import DA, DB, A, B, lock, no_lock

MD5 = f"#md5={'0' * 32}"


def names(found: Lock) -> tuple[list[str], list[str]]:
    return [wanted.name for wanted in found.wanted], [wanted.name for wanted in found.missing]


async def test_h1_one_hash_switches_the_mode_on_for_all() -> None:
    """H1/H2: what lacks a hash is never installed, and the cause is known."""
    found = await lock(f"a==1\nb==1 {A}\nc==1")
    assert found.hash_mode
    assert names(found) == (["b"], ["a", "c"])
    assert found.hash_cause == "the --hash at r.txt:2"


async def test_h1_a_hash_on_a_line_that_does_not_apply_counts_too() -> None:
    """As in pip, the mode must not depend on the platform."""
    for text, constraints in (
        (f"a==1\nb==1 ; sys_platform == 'win32' {A}", ""),
        (f"a==1\nb @ https://example.org/b.whl.zip ; os_name == 'nt' {A}", ""),
        (f"a==1\nhg+https://example.org/b#egg=b ; os_name == 'nt' {A}", ""),
        ("a==1", f"z==1 {A}"),
    ):
        assert names(await lock(text, constraints)) == ([], ["a"])


async def test_h1_can_be_asked_for_and_opted_out_of() -> None:
    """Explicitly, in the file or on the command line; hashes that are there are still checked."""
    assert "command line" in (await lock("a==1", require_hashes=True)).hash_cause
    found = await lock("a==1\n--require-hashes")
    assert "r.txt:2" in found.hash_cause
    assert names(found) == ([], ["a"])
    for found in (
        await lock(f"a==1\nb==1 {A}", require_hashes=False),
        await lock(f"--no-require-hashes\na==1\nb==1 {A}"),
    ):
        assert not found.hash_mode
        assert [wanted.hashes for wanted in found.wanted] == [frozenset(), {DA}]
        assert not found.missing


async def test_h1_opposite_options_are_an_error() -> None:
    """Wherever the two were given."""
    await no_lock("conflicting-options", "--no-require-hashes\na==1", require_hashes=True)
    error = await no_lock("conflicting-options", "a==1\n--require-hashes", require_hashes=False)
    assert error.context is not None
    assert "r.txt:2" in error.context


async def test_h1_a_fragment_satisfies_the_mode_but_does_not_switch_it_on() -> None:
    """pip's rule: the digest in a URL is checked, and other lines may go without."""
    url = f"u @ https://example.org/u.zip#sha256={'a' * 64}"
    found = await lock(f"{url}\nb==1")
    assert not found.hash_mode
    assert names(found) == (["u", "b"], [])
    found = await lock(f"{url}\nb==1 {B}")
    assert names(found) == (["u", "b"], [])
    source = found.wanted[0].source
    assert found.wanted[0].hashes == {DA}
    assert isinstance(source, ArchiveSource)
    assert source.integrity == {DA}


async def test_h5_a_weak_fragment_is_checked_but_never_enough() -> None:
    """md5 proves nothing; what it guards against is a broken download."""
    found = await lock(f"u @ https://example.org/u.zip{MD5}\nb==1 {B}")
    assert names(found) == (["b"], ["u"])
    source = found.missing[0].source
    assert isinstance(source, ArchiveSource)
    assert source.integrity == {Digest("md5", "0" * 32)}


async def test_h6_hashes_of_a_url_and_of_options_are_one_set() -> None:
    """As in pip: any of them is enough for hash mode (the fragment must match besides)."""
    (wanted,) = (await lock(f"u @ https://example.org/u.zip#sha256={'a' * 64} {A} {B}")).wanted
    assert wanted.hashes == {DA, DB}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("u @ git+https://example.org/u.git", "a repository"),
        ("git+https://example.org/u.git@main", "a repository"),
        ("./u", "a directory"),
        ("-e ./u", "an editable directory"),
        ("-e git+https://example.org/u.git", "a repository"),
    ],
)
async def test_h4_repositories_and_directories_have_no_hash(line: str, what: str) -> None:
    """Hash mode must not pass over what nothing can check."""
    error = await no_lock("hash-unsupported", f"a==1 {A}\n{line}")
    assert error.message.startswith("r.txt:2: ")
    assert what in error.message
    assert "r.txt:1" in error.message
    assert (await lock(f"a==1 {A}\n{line}", require_hashes=False)).wanted[1].source is not None


async def test_h4_a_hash_that_cannot_be_checked_is_an_error_in_any_mode() -> None:
    """Somebody relies on it."""
    error = await no_lock("hash-unsupported", f"./u {A}", require_hashes=False)
    assert "says nothing" in error.message
    await no_lock("hash-unsupported", f"git+https://example.org/u#sha256={'a' * 64}")
    await no_lock("hash-unsupported", f"./u {A}")


async def test_hashes_of_editables_are_dropped() -> None:
    """pip's rule, said aloud: they neither count nor switch the mode on."""
    found = await lock(f"-e ./u {A} -C k=v\nb==1")
    assert not found.hash_mode
    assert found.wanted[0].hashes == frozenset()
    assert found.wanted[0].settings == (("k", "v"),)
    assert any("r.txt:1: --hash of an editable" in warning for warning in found.warnings)


async def test_other_errors_come_before_missing_hashes() -> None:
    """Nothing is downloaded for a lock that is wrong anyway."""
    await no_lock("conflicting-requirements", f"a==1\nb==1 {A}\nc==1\nc==2")


async def test_h9_the_error_has_lines_to_paste() -> None:
    """Bootstrapping a hashed lock takes a copy, not a calculation."""
    found = await lock(f"a==1 ; os_name == 'posix'\nb==1 {B}\nu @ https://k:pw@example.org/u.zip\nc==3")
    first, second, third = found.missing
    error = missing_hash_error([(first, (DA, DB)), (second, (DB,)), (third, ())], found.hash_cause)
    assert (error.code, error.exit_status) == ("missing-hash", 2)
    assert error.message == (
        "r.txt:1: \"a==1 ; os_name == 'posix'\" has no --hash, but the --hash at r.txt:2 demands one for "
        "every requirement (and 2 more)"
    )
    assert (error.context or "").splitlines() == [
        f"a==1 ; os_name == 'posix' {A} {B}  # r.txt:1",
        f"u @ https://example.org/u.zip {B}  # r.txt:3",
        "c==3  # r.txt:4",
    ]
    assert error.hint is not None
    assert "trust" in error.hint
    bare = missing_hash_error([(third, ())], found.hash_cause)
    assert bare.hint is not None
    assert "generate-hashes" in bare.hint
