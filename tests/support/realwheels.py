"""Real wheels and sdists named by a lock, fetched once through pip into `.check-data/` of the project (not an
index).

The bytes come from wherever pip is configured to find them; the lock's hashes say which bytes they are, so
that a second run needs no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.tags import platform_tags

from tests.support.interpreters import Cpython

PROJECT = Path(__file__).resolve().parents[2]
DATA = PROJECT / ".check-data"

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


class Pin(NamedTuple):
    """One line of a lock that uv wrote: a pinned requirement and its hashes."""

    requirement: Requirement
    hashes: tuple[str, ...]
    """``sha256:…``"""


def pins(lock: Path) -> list[Pin]:
    """Every pin of `lock`, whatever its marker says."""
    joined = lock.read_text("utf-8").replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        text = line.split(" #")[0].strip()
        if text and not text.startswith(("#", "-")):
            found.append(Pin(Requirement(text.split(" --hash")[0]), tuple(_HASH.findall(text))))
    return found


def pins_for(lock: Path, markers: Mapping[str, str]) -> list[Pin]:
    """The pins of `lock` that hold where the marker variables are `markers`."""
    environment = dict(markers)
    return [
        pin
        for pin in pins(lock)
        if pin.requirement.marker is None or pin.requirement.marker.evaluate(environment)
    ]


def wheels_for(lock: Path, interpreters: Iterable[Cpython]) -> list[Path]:
    """The wheels that the interpreters need for `lock`, fetched if they are not there yet.

    Returns:
        paths in `.check-data/wheels`, sorted, each once.

    Raises:
        RuntimeError: pip could not fetch them; its output is in the message.
    """
    needed: set[Path] = set()
    for interpreter in interpreters:
        needed.update(_wheels_of_one(lock, interpreter))
    return sorted(needed)


def sdists_for(lock: Path) -> list[Path]:
    """The source archives that `lock` names by their hashes, fetched if they are not there yet.

    Returns:
        paths in `.check-data/wheels`, sorted.

    Raises:
        RuntimeError: pip could not fetch them; its output is in the message.
    """
    identity = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return _pooled(DATA / "resolved" / f"{lock.stem}-sdists-{identity}.json", lambda to: _sdists(lock, to))


def _wheels_of_one(lock: Path, interpreter: Cpython) -> list[Path]:
    identity = [hashlib.sha256(lock.read_bytes()).hexdigest(), interpreter.full_version, *platform_tags()]
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    record = DATA / "resolved" / f"{lock.stem}-{interpreter.version}-{key}.json"
    return _pooled(record, lambda folder: _download(lock, interpreter, folder))


def _pooled(record: Path, fetch: Callable[[Path], list[Path]]) -> list[Path]:
    """The files that `record` lists; where one is missing, all of them, which `fetch` puts into a folder."""
    pool = DATA / "wheels"
    with exclusive("wheels"):
        if record.exists():
            sizes: dict[str, int] = json.loads(record.read_text())
            paths = [pool / name for name in sizes]
            if all(path.exists() and path.stat().st_size == sizes[path.name] for path in paths):
                return paths
        pool.mkdir(parents=True, exist_ok=True)
        record.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DATA, prefix="fetching-") as folder:
            fetched = fetch(Path(folder))
            for path in fetched:
                path.replace(pool / path.name)
        paths = [pool / path.name for path in fetched]
        write_atomically(record, json.dumps({path.name: path.stat().st_size for path in paths}, indent=1))
        return paths


def _download(lock: Path, interpreter: Cpython, folder: Path) -> list[Path]:
    wanted = pins_for(lock, interpreter.markers)
    options = ["--only-binary", ":all:", "--implementation", "cp"]
    options += ["--python-version", interpreter.full_version]
    for platform in platform_tags():
        options += ["--platform", platform]
    return _fetch(wanted, options, folder, f"the wheels of {lock.name} for Python {interpreter.version}")


def _sdists(lock: Path, folder: Path) -> list[Path]:
    return _fetch(pins(lock), ["--no-binary", ":all:"], folder, f"the source archives of {lock.name}")


def _fetch(wanted: Sequence[Pin], options: Sequence[str], folder: Path, what: str) -> list[Path]:
    lines = folder / "pins.txt"
    # Without markers: pip evaluates them for the interpreter that runs it, not for --python-version.
    lines.write_text(
        "".join(
            f"{pin.requirement.name}{pin.requirement.specifier}"
            + "".join(f" --hash={digest}" for digest in pin.hashes)
            + "\n"
            for pin in wanted
        )
    )
    target = folder / "files"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--quiet",
        "--no-input",
    ]
    command += ["--no-deps", "--require-hashes", "--requirement", str(lines), "--dest", str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pip could not fetch {what}:\n{done.stdout}{done.stderr}")
    fetched = sorted(path for path in target.iterdir() if path.is_file())
    if len(fetched) != len(wanted):
        raise RuntimeError(f"{what}: {len(wanted)} pins gave {len(fetched)} files")
    return fetched


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a half."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold `.check-data/NAME.lock`: several pytest processes may want the same data at once."""
    DATA.mkdir(exist_ok=True)
    with (DATA / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source`: by a symbolic link to its absolute path, else by a copy."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
