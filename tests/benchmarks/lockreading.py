"""The rows of lock reading: a made uv.lock of 300 packages and 1.1 MB, from its bytes to a plan.

The seconds are the daemon's own (``seconds`` of the JSON output: what was read, looked at and planned),
because that is what is promised; uv's are those of its whole command, and stand beside them to compare.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.benchmarks.contestants import Call, Failed, PkgcCache, timed
from tests.benchmarks.report import Sample
from tests.support import peertools

#: Packages, and wheels of each, which makes 1.1 MB as large real ones have.
PACKAGES, WHEELS = 300, 10
_PLATFORMS = (
    "macosx_10_9_x86_64",
    "macosx_11_0_arm64",
    "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "musllinux_1_2_x86_64",
    "win_amd64",
    "win_arm64",
)


def make_project(folder: Path, index: str) -> Path:
    """A project whose uv.lock has `PACKAGES` packages, each reached from the one before it or from the root.

    Args:
        folder: gets pyproject.toml and uv.lock.
        index: URL of an index that is never asked.

    Returns:
        The path of uv.lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"package-{number:03}" for number in range(PACKAGES)]
    wanted = ", ".join(f'"{name}"' for name in names[::3])
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "big"\nversion = "1.0"\nrequires-python = ">=3.9"\ndependencies = [{wanted}]\n'
    )
    parts = ['version = 1\nrevision = 3\nrequires-python = ">=3.9"\n']
    edges = "".join(f'    {{ name = "{name}" }},\n' for name in names[::3])
    metadata = "".join(f'    {{ name = "{name}" }},\n' for name in names[::3])
    parts.append(
        '[[package]]\nname = "big"\nversion = "1.0"\nsource = { virtual = "." }\n'
        f"dependencies = [\n{edges}]\n\n"
        f"[package.metadata]\nrequires-dist = [\n{metadata}]\n"
    )
    for number, name in enumerate(names):
        parts.append(_package(index, names, number, name))
    (folder / "uv.lock").write_text("\n".join(parts))
    return folder / "uv.lock"


def _package(index: str, names: list[str], number: int, name: str) -> str:
    stem = name.replace("-", "_")
    lines = [
        "[[package]]",
        f'name = "{name}"',
        f'version = "1.{number}.0"',
        f'source = {{ registry = "{index}" }}',
    ]
    following = names[number + 1 : number + 3] if number % 3 != 2 else []
    if following:
        lines.append("dependencies = [")
        marker = ", marker = \"python_full_version < '3.15' or sys_platform == 'linux'\""
        lines += [f'    {{ name = "{one}"{marker if number % 2 else ""} }},' for one in following]
        lines.append("]")
    lines.append(f"sdist = {_file(index, f'{stem}-1.{number}.0.tar.gz')}")
    lines.append("wheels = [")
    files = [f"{stem}-1.{number}.0-py3-none-any.whl"]
    for python in ("cp310", "cp311", "cp312"):
        files += [f"{stem}-1.{number}.0-{python}-{python}-{platform}.whl" for platform in _PLATFORMS]
    lines += [f"    {_file(index, filename)}," for filename in files[:WHEELS]]
    lines.append("]\n")
    return "\n".join(lines)


def _file(index: str, filename: str) -> str:
    digest = hashlib.sha256(filename.encode()).hexdigest()
    url = f"{index}files/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{filename}"
    return (
        f'{{ url = "{url}", hash = "sha256:{digest}", size = {1000 + len(filename)}, '
        f'upload-time = "2026-01-01T00:00:00.000Z" }}'
    )


def plan_seconds(cache: PkgcCache, lock: Path, venv: Path) -> float:
    """Seconds of the daemon from the lock's bytes to a plan for an environment that is not there yet."""
    done = cache.instance.run("sync", lock, "--venv", venv, "--check", "--output-format", "json")
    document = done.json
    if len(document["installed"]) != PACKAGES:
        raise Failed(f"{lock}: {document['errors'] or len(document['installed'])}")
    seconds = document["seconds"]
    return float(sum(seconds[phase] for phase in ("read", "look", "plan")))


def uv_seconds(lock: Path, cache: Path) -> Sample:
    """One measured `uv export --frozen`, which reads the same lock and walks it."""
    command = [
        str(peertools.UV),
        "export",
        "--frozen",
        "--no-hashes",
        "--quiet",
        "--directory",
        str(lock.parent),
    ]
    return Sample(*timed(Call(command, peertools.uv_environment(cache))))


def touch(lock: Path, number: int) -> None:
    """Change the lock's bytes without changing what it says."""
    head, _, rest = lock.read_text().partition("\n")
    lock.write_text(f"{head.partition(' #')[0]} # {number}\n{rest}")
