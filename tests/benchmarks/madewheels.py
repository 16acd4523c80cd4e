"""Wheels of a wanted number of packages, files or bytes for the cost model, and the locks that name them."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.wheels import BuiltWheel, make_wheel

#: Files of one folder in a wheel of many files, as in real ones.
_IN_A_FOLDER = 20
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """A lock and the wheels that it names."""

    lock: Path
    wheels: list[Path]


def packages(folder: Path, counts: Sequence[int]) -> dict[int, Made]:
    """Locks of so many packages of three small modules each; each lock begins like the larger ones."""
    built = [_package(number) for number in range(max(counts))]
    paths = [wheel.write_to(folder) for wheel in built]
    return {count: Made(_lock(folder, f"packages-{count}", built[:count]), paths[:count]) for count in counts}


def files(folder: Path, counts: Sequence[int]) -> dict[int, Made]:
    """Locks of one package with so many small modules."""
    made = {}
    for count in counts:
        name = f"files-{count}"
        content = {f"files_{count}/__init__.py": ""}
        for number in range(count - 1):
            content[f"files_{count}/part{number // _IN_A_FOLDER}/module{number}.py"] = _module(number)
        wheel = make_wheel(name, "1.0", content)
        made[count] = Made(_lock(folder, name, [wheel]), [wheel.write_to(folder)])
    return made


def megabytes(folder: Path, counts: Sequence[int]) -> dict[int, Made]:
    """Locks of one package with one file of so many MB, which nothing compresses."""
    made = {}
    for count in counts:
        name = f"bytes-{count}"
        content = {f"bytes_{count}/data.bin": random.Random(count).randbytes(count * MB)}
        wheel = make_wheel(name, "1.0", content, compression=zipfile.ZIP_STORED)
        made[count] = Made(_lock(folder, name, [wheel]), [wheel.write_to(folder)])
    return made


def _package(number: int) -> BuiltWheel:
    name = f"tiny_{number:04}"
    modules = ("__init__", "first", "second")
    content = {f"{name}/{module}.py": _module(number) for module in modules}
    return make_wheel(name, "1.0", content)


def _module(number: int) -> str:
    return f"VALUE = {number}\n\n\ndef value() -> int:\n    return VALUE\n" * 4


def _lock(folder: Path, name: str, wheels: Sequence[BuiltWheel]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.txt"
    lines = [
        f"{wheel.filename.partition('-')[0].replace('_', '-')}==1.0 --hash=sha256:{wheel.sha256}\n"
        for wheel in wheels
    ]
    path.write_text("".join(lines))
    return path
