"""Large locks: the torch stack with CUDA, and wheels of random bytes (made once, the same everywhere)."""

from __future__ import annotations

import base64
import hashlib
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import locks
from tests.support.interpreters import running
from tests.support.realwheels import DATA, exclusive, wheels_for

MIB = 1 << 20

#: Sizes in MiB, in the shape of the torch stack: a large wheel and smaller ones.
QUICK = (200, 50, 50)


def real_lock() -> tuple[Path, list[Path]]:
    """69 packages with torch and its CUDA libraries, 3.1 GB, fetched once into `.check-data`.

    Raises:
        RuntimeError: they could not be fetched.
    """
    return locks.TORCH, wheels_for(locks.TORCH, [running()])


def made_lock(sizes: tuple[int, ...]) -> tuple[Path, list[Path]]:
    """A lock of made wheels with one large file each, made once; the same bytes on every machine.

    Args:
        sizes: MiB of each wheel.
    """
    folder = DATA / "big"
    wheels, lines = [], []
    with exclusive("big"):
        folder.mkdir(exist_ok=True)
        for number, size in enumerate(sizes):
            name = f"big{number}_{size}"
            wheel = folder / f"{name}-1.0-py3-none-any.whl"
            kept = wheel.with_suffix(".sha256")
            if not (wheel.exists() and kept.exists()):
                _make(wheel, name, size, seed=number)
                with wheel.open("rb") as file:
                    kept.write_text(hashlib.file_digest(file, "sha256").hexdigest())
            wheels.append(wheel)
            lines.append(f"{name.replace('_', '-')}==1.0 --hash=sha256:{kept.read_text()}\n")
        lock = folder / f"big-{sum(sizes)}.txt"
        lock.write_text("".join(lines))
    return lock, wheels


def _make(wheel: Path, name: str, size: int, seed: int) -> None:
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    small = {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **{f"{name}/module{i}.py": f"VALUE = {i}\n".encode() * 200 for i in range(100)},
    }
    rows = []
    temporary = wheel.with_suffix(".making")
    with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
        hasher = hashlib.sha256()
        # Every third is deflated, as libraries are on PyPI; inflating is part of the work then.
        with archive.open(
            _entry(f"{name}/library.so", deflated=seed % 3 == 2), "w", force_zip64=True
        ) as file:
            for block in _blocks(size, seed):
                hasher.update(block)
                file.write(block)
        rows.append(_row(f"{name}/library.so", hasher, size * MIB))
        for path, data in small.items():
            archive.writestr(_entry(path, deflated=True), data)
            rows.append(_row(path, hashlib.sha256(data), len(data)))
        archive.writestr(_entry(f"{info}/RECORD", deflated=True), "".join([*rows, f"{info}/RECORD,,\n"]))
    temporary.replace(wheel)


def _blocks(size: int, seed: int) -> Iterator[bytes]:
    source = random.Random(seed)
    for _ in range(size):
        yield source.randbytes(MIB)


def _entry(path: str, *, deflated: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    entry.external_attr = 0o100644 << 16
    return entry


def _row(path: str, hasher: hashlib._Hash, size: int) -> str:
    digest = base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{size}\n"
