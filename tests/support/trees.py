"""What an environment holds, in a form in which two environments can be compared file by file."""

from __future__ import annotations

import configparser
import csv
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: Files of a .dist-info that say who installed it and how; tools differ in them by design.
PROVENANCE = frozenset({"INSTALLER", "REQUESTED", "provenance_url.json", "uv_cache.json", "uv_build.json"})

_TOP_METADATA = re.compile(r"lib(64)?/python[^/]+/site-packages/[^/]+\.dist-info/METADATA")


class Fact(NamedTuple):
    """One file or symbolic link of an environment."""

    content: str
    """sha256 of its bytes, ``-> target`` of a link, or a word for content that may differ."""
    executable: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """What a tool put into an environment."""

    files: Mapping[str, Fact]
    """By path relative to the environment; without provenance, RECORD and bytecode."""
    records: Mapping[str, frozenset[tuple[str, str, str]]]
    """.dist-info folder -> rows of its RECORD, without rows of files that may differ."""
    entry_points: frozenset[str]
    """Paths of the generated scripts."""


def listing(venv: Path) -> frozenset[str]:
    """Every file and symbolic link of `venv` by relative path; links to folders are not followed."""
    found = []
    for folder, folders, files in os.walk(venv):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [os.path.relpath(os.path.join(folder, name), venv) for name in files + links]
    return frozenset(found)


def read_installed(venv: Path, before: frozenset[str]) -> Installed:
    """What stands in `venv` beside the files that were there `before`.

    Generated scripts are compared by existence and mode only. Of other scripts whose first line names the
    environment's interpreter, the path in that line is left out (each tool writes its own environment's).
    """
    paths = [path for path in listing(venv) - before if not _ignored(path)]
    # Packages that vendor others hold further .dist-info folders, deeper down.
    infos = {path.rsplit("/", 1)[0] for path in paths if _TOP_METADATA.fullmatch(path)}
    entry_points = frozenset(
        f"bin/{name}" for info in infos for name in _scripts(venv / info / "entry_points.txt")
    )
    files: dict[str, Fact] = {}
    rewritten = set(entry_points)
    for path in paths:
        fact = _fact(venv, path)
        if path in entry_points:
            fact = fact._replace(content="generated")
        elif fact.content.startswith("script "):
            rewritten.add(path)
        files[path] = fact
    records = {info: _record(venv, info, rewritten) for info in infos}
    return Installed(files, records, entry_points)


def _ignored(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if name.endswith(".pyc") or path == ".lock":
        return True
    return folder.endswith(".dist-info") and (name in PROVENANCE or name == "RECORD")


def _fact(venv: Path, path: str) -> Fact:
    full = venv / path
    status = full.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Fact(f"-> {os.readlink(full)}", False)
    data = full.read_bytes()
    executable = bool(status.st_mode & 0o111)
    first, newline, rest = data.partition(b"\n")
    if path.startswith("bin/") and first.startswith(b"#!" + os.fsencode(venv) + b"/bin/python"):
        return Fact(f"script {hashlib.sha256(newline + rest).hexdigest()}", executable)
    return Fact(hashlib.sha256(data).hexdigest(), executable)


def _scripts(entry_points: Path) -> list[str]:
    if not entry_points.exists():
        return []
    parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive (E1)
    parser.read_string(entry_points.read_text("utf-8"))
    return [
        name
        for group in ("console_scripts", "gui_scripts")
        if parser.has_section(group)
        for name in parser[group]
    ]


def _record(venv: Path, info: str, rewritten: set[str]) -> frozenset[tuple[str, str, str]]:
    site = info.rsplit("/", 1)[0]
    rows = set()
    with (venv / info / "RECORD").open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            path = os.path.normpath(os.path.join(site, row[0]))
            if _ignored(path):
                continue
            # The text of these depends on the tool and on where the environment stands.
            rows.add((path, "", "") if path in rewritten else (path, row[1], row[2]))
    return frozenset(rows)


def differences(one: Installed, other: Installed, names: tuple[str, str]) -> list[str]:
    """Every difference of two environments as one readable line; empty when they are equal."""
    lines = []
    for path in sorted(one.files.keys() | other.files.keys()):
        first, second = one.files.get(path), other.files.get(path)
        if first is None or second is None:
            lines.append(f"{path}: only {names[first is None]} has it")
        elif first != second:
            lines.append(f"{path}: {names[0]} {first}, {names[1]} {second}")
    for info in sorted(one.records.keys() | other.records.keys()):
        mine, theirs = one.records.get(info, frozenset()), other.records.get(info, frozenset())
        lines += [f"{info}/RECORD: only {names[0]}: {row}" for row in sorted(mine - theirs)]
        lines += [f"{info}/RECORD: only {names[1]}: {row}" for row in sorted(theirs - mine)]
    return lines
