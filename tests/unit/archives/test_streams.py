"""Archives of very many compressed streams."""

from __future__ import annotations

import bz2
import lzma
from pathlib import Path

import pytest

from pkgc_daemon.archives.tarreader import TarReader
from pkgc_daemon.errors import PkgcError


@pytest.mark.parametrize(("kind", "empty"), [("bzip2", bz2.compress(b"")), ("xz", lzma.compress(b""))])
def test_empty_streams_end(kind: str, empty: bytes, tmp_path: Path) -> None:
    """Megabytes of streams without content take quadratic time, and nobody could cancel it."""
    path = tmp_path / "t"
    path.write_bytes(empty * 1100)
    asked: list[int] = []

    def read(most: int) -> PkgcError:
        def cancelled() -> bool:
            asked.append(1)
            return len(asked) > most

        with TarReader(str(path), "p-1.tar", kind, cancelled=cancelled) as archive:  # type: ignore[arg-type]
            with pytest.raises(PkgcError) as caught:
                list(archive.members())
        return caught.value

    error = read(10_000)
    assert error.code == "bad-archive"
    assert "too many" in error.message
    asked.clear()
    assert read(10).code == "interrupted"
