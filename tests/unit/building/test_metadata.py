"""METADATA of build requirements, read within bounds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pkgc_daemon.building.metadata import read_metadata
from pkgc_daemon.errors import PkgcError


def test_requirements_are_read(tmp_path: Path) -> None:
    """A lost dependency makes a build fail; the description is not taken for fields."""
    path = tmp_path / "METADATA"
    path.write_text(
        "Metadata-Version: 2.1\nName: a\nRequires-Dist: b>=1\nSummary: x\n  y\nrequires-dist: c ;\n"
        "  os_name == 'posix'\n\nRequires-Dist: no\n"
    )
    found = read_metadata(str(path), "a 1").requires
    assert [" ".join(text.split()) for text in found] == ["b>=1", "c ; os_name == 'posix'"]


@pytest.mark.parametrize("text", ["Summary: " + "x" * (4 << 20), "Requires-Dist: b\n" * 5001])
def test_large_metadata_is_refused(text: str, tmp_path: Path) -> None:
    """A hostile build requirement must not fill the daemon's memory."""
    (tmp_path / "METADATA").write_text(text)
    with pytest.raises(PkgcError) as caught:
        read_metadata(str(tmp_path / "METADATA"), "evil 1.0")
    assert caught.value.code == "build-requirements"
    assert "evil 1.0" in caught.value.message


def test_other_fields_cost_nothing(tmp_path: Path) -> None:
    """Hundreds of thousands of fields would take the parser of mails minutes."""
    path = tmp_path / "METADATA"
    path.write_text("".join(f"X{number}: 1\n" for number in range(300_000)) + "Requires-Dist: b\n")
    began = time.process_time()
    assert read_metadata(str(path), "a 1").requires == ("b",)
    assert time.process_time() - began < 5
