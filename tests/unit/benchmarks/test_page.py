"""The page keeps what people wrote, and the locks and wheels of the benchmarks are what they say."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.benchmarks import locks, madewheels
from tests.benchmarks.page import BEGIN, END, filled, write
from tests.support.realwheels import PROJECT, pins


def test_only_what_was_measured_is_replaced(tmp_path: Path) -> None:
    """The profile and what was tried are written by hand: a run must not erase them."""
    path = tmp_path / "page.md"
    path.write_text(f"# Head\n\n{BEGIN}\n\nold\n\n{END}\n\nprofile\n")
    write(path, "| new |\n")
    assert path.read_text() == f"# Head\n\n{BEGIN}\n\n| new |\n\n{END}\n\nprofile\n"
    write(path, "| new |\n")
    assert path.read_text().count("| new |") == 1


@pytest.mark.parametrize(
    "text", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{END}", f"{BEGIN}\n{BEGIN}\n{END}"]
)
def test_a_page_without_its_marks_is_refused(text: str) -> None:
    """Half of the page would be taken for an old measurement."""
    with pytest.raises(ValueError, match="once each"):
        filled(text, "new")


def test_the_page_of_the_project_has_its_marks() -> None:
    """The run would fail at its end, after forty minutes."""
    filled((PROJECT / "docs" / "performance.md").read_text(), "new")


def test_the_changed_lock_differs_in_one_package(tmp_path: Path) -> None:
    """The row of one changed package would measure none, or many."""
    large = PROJECT / "examples" / "large.txt"
    other = tmp_path / "changed.txt"
    other.write_text(locks.replaced(large.read_text(), locks.CHANGE.read_text()))
    before, after = {str(pin) for pin in pins(large)}, {str(pin) for pin in pins(other)}
    assert len(before - after) == len(after - before) == 1


def test_a_package_that_the_lock_lacks_is_refused() -> None:
    """Nothing would be changed, and the row would measure a no-op."""
    with pytest.raises(ValueError, match="0 times"):
        locks.replaced("a==1 \\\n    --hash=sha256:0\n", "b==2 \\\n    --hash=sha256:1\n")


def test_made_wheels_have_the_size_that_the_model_says(tmp_path: Path) -> None:
    """The cost of a file or a byte would be that of another number of them."""
    some = madewheels.packages(tmp_path, (2, 3))
    assert [len(pins(one.lock)) for one in some.values()] == [2, 3]
    assert some[2].wheels == some[3].wheels[:2]
    (wheel,) = madewheels.files(tmp_path, (45,))[45].wheels
    with zipfile.ZipFile(wheel) as archive:
        assert sum(name.endswith(".py") for name in archive.namelist()) == 45
    (wheel,) = madewheels.megabytes(tmp_path, (1,))[1].wheels
    assert madewheels.MB < wheel.stat().st_size < 1.01 * madewheels.MB
