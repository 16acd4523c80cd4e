"""From lines to Wanted: markers, pins, constraints, repeats of pins (R9, R10, H3)."""

from __future__ import annotations

import pytest

from pkgc_daemon.vocabulary import Place, Wanted
from tests.unit.inputs.reading import DA, DB, DC, A, B, C, lock, no_lock


async def test_a_lock() -> None:
    """Normalized names, versions as written, hashes, extras, place."""
    found = await lock(f"Foo_Bar[X_y]==1.0.0 {A} {B}\nz===weird.version {C}")
    assert found.hash_mode
    assert found.wanted == (
        Wanted(
            "foo-bar",
            "1.0.0",
            frozenset({DA, DB}),
            False,
            frozenset({"x-y"}),
            Place("r.txt", 1),
            "Foo_Bar[X_y]==1.0.0",
        ),
        Wanted(
            "z", "weird.version", frozenset({DC}), True, frozenset(), Place("r.txt", 2), "z===weird.version"
        ),
    )


@pytest.mark.parametrize(
    ("pin", "version"),
    [("==1!2.0", "1!2.0"), ("==1.0+cu118", "1.0+cu118"), ("== 1.0rc1", "1.0rc1"), ("==1.0.dev3", "1.0.dev3")],
)
async def test_pins_of_all_shapes(pin: str, version: str) -> None:
    """Epochs, local versions and pre-releases are pins like any other."""
    assert (await lock(f"a{pin}")).wanted[0].version == version


async def test_markers_are_those_of_the_target() -> None:
    """Not those of the daemon's interpreter or machine."""
    text = (
        "a==1 ; platform_machine == 'm68k'\nb==1 ; sys_platform == 'win32'\n"
        "c==1 ; python_version < '3.12'\nd==1 ; extra == 'x'\ne==1 ; implementation_version >= '3.12'"
    )
    assert [wanted.name for wanted in (await lock(text)).wanted] == ["a", "e"]


async def test_a_marker_without_meaning_names_its_line() -> None:
    """Never a traceback of the library."""
    error = await no_lock("invalid-requirement", "a==1\nb==1 ; 'x' in extras")
    assert error.message.startswith("r.txt:2: ")


@pytest.mark.parametrize("spec", ["", ">=1", "==1.*", "~=1.0", "!=1"])
async def test_unpinned_lines_are_refused_with_a_hint_to_lock(spec: str) -> None:
    """sync installs what is written, it does not choose."""
    error = await no_lock("unpinned-requirement", f"ok==1\na{spec}\nb")
    assert error.message.startswith("r.txt:2: ")
    assert error.context is not None
    assert "r.txt:3" in error.context
    assert error.hint is not None
    assert "uv pip compile" in error.hint
    assert "pip-compile" in error.hint


async def test_hash_mode_wants_the_pin_alone() -> None:
    """H3: exactly one specifier; outside hash mode the pin is clear enough."""
    await no_lock("unpinned-requirement", f"a==1,>=0.5 {A}")
    assert (await lock("a==1,>=0.5")).wanted[0].version == "1"


async def test_repeats_are_merged() -> None:
    """R10: specifiers and hashes are intersected, extras united."""
    (wanted,) = (await lock(f"A[x]==1.0 {A} {B}\na>=0.5 {B} {C}\na[y]==1")).wanted
    assert wanted.version == "1.0"
    assert wanted.hashes == {DB}
    assert wanted.extras == {"x", "y"}


async def test_repeats_for_different_targets_do_not_meet() -> None:
    """Universal locks name one project once per platform."""
    text = f"a==1 ; sys_platform == 'win32' {A}\na==2 ; sys_platform == 'linux' {B}"
    (wanted,) = (await lock(text)).wanted
    assert (wanted.version, wanted.place.line) == ("2", 2)


async def test_contradictions_name_both_lines() -> None:
    """R10."""
    error = await no_lock("conflicting-requirements", "a==1\nb==1\na==2")
    assert "r.txt:1" in error.message
    assert "r.txt:3" in error.message
    error = await no_lock("conflicting-requirements", f"a==1 {A}\na==1 {B}")
    assert "r.txt:1" in error.message
    assert "r.txt:2" in error.message
    await no_lock("conflicting-requirements", f"a==1 {A}\na==1 --hash=sha512:{'a' * 128}")
    await no_lock("conflicting-requirements", "a===1.0\na===1")


async def test_a_local_version_satisfies_the_public_pin() -> None:
    """PEP 440: ==1.0 allows 1.0+cpu, so both lines agree on 1.0+cpu."""
    assert (await lock("a==1.0\na==1.0+cpu")).wanted[0].version == "1.0+cpu"
    await no_lock("conflicting-requirements", "a==1.0+cu\na==1.0+cpu")


async def test_constraints_pin_and_hash_what_is_asked_for() -> None:
    """R9: they add nothing by themselves, but give pin and hashes to an unpinned requirement."""
    found = await lock("a\nb[x]==2", f"A==1 {A}\nb<3 {B}\nunrelated==7 {C}")
    assert [str(wanted) for wanted in found.wanted] == ["a==1", "b==2"]
    assert [wanted.hashes for wanted in found.wanted] == [{DA}, {DB}]
    assert found.hash_mode
    assert found.wanted[0].place == Place("r.txt", 1)


async def test_constraints_forbid() -> None:
    """R9: a constraint that excludes the pin is an error that names both."""
    error = await no_lock("conflicting-requirements", "a==2", "a<2")
    assert "r.txt:1" in error.message
    assert "c.txt:1" in error.message
    assert (await lock("a==2", "a<2 ; sys_platform == 'win32'")).wanted[0].version == "2"


async def test_an_empty_lock_warns() -> None:
    """An exact sync to nothing empties the environment: say so."""
    assert "r.txt" in (await lock("# nothing\n")).warnings[-1]
