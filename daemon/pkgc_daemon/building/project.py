"""What a source tree says of itself without running its code: how it is built, its name, its version.

Read are pyproject.toml (PEP 518, 517, 621), PKG-INFO where it can be relied on (PEP 643) and the name in
setup.cfg.
Nothing is executed, guessed from folder names or looked up elsewhere; what only a build tells is None.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from typing import Any, NoReturn

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.tomlkeys import MOST_PARTS, deep_key

#: What builds a project that does not say it (PEP 517, "Source trees"; the versions that pip and uv ask for).
LEGACY_REQUIRES = ("setuptools>=40.8.0",)
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"

#: Bytes that a project file may have.
_LARGEST = 16 << 20
_BACKEND = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?\Z")
_NAME = re.compile(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?\Z", re.IGNORECASE)
_METADATA_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\Z")


def read_project(folder: str, label: str | None = None) -> dict[str, Any]:
    """How the project in `folder` is built, and its name and version as far as they are static.

    Args:
        folder: absolute path; of the project itself, not of the repository around it.
        label: how errors call the folder (default: its path).

    Returns:
        ``name`` (normalized) and ``version`` (as written), or None: a build has to tell; ``requires``: what
        the backend needs; ``backend``: its object, ``module:object``; ``backend_path``: folders of the tree
        in which it is; ``legacy``: the project names no backend (standards.md B2).

    Raises:
        InputError: ``not-a-project``: neither pyproject.toml nor setup.py; ``invalid-project``: a file
            contradicts its specification, or cannot be read.
    """
    return _Reader(folder, label or folder).read()


def stated_identities(folder: str, label: str | None = None) -> list[tuple[str | None, str | None]]:
    """(name, version) by each file that states any, as `read_project` gives them; the most binding one first.

    A backend may write another version into PKG-INFO than pyproject.toml has (setuptools' ``tag_build``).

    Raises:
        InputError: as `read_project`.
    """
    reader = _Reader(folder, label or folder)
    pyproject = reader.pyproject()
    found = [reader.by_pkg_info(), reader.by_pyproject(pyproject or {})]
    return [identity for identity in found if identity != (None, None)]


class _Reader:
    def __init__(self, folder: str, label: str) -> None:
        self.folder = folder
        self.label = label

    def read(self) -> dict[str, Any]:
        pyproject = self.pyproject()
        if pyproject is None and not os.path.isfile(os.path.join(self.folder, "setup.py")):
            raise InputError(
                "not-a-project",
                f"{self.label} holds no Python project",
                context="expected pyproject.toml or setup.py\nfound neither",
                hint="If the project is deeper inside, name its folder with #subdirectory=…",
            )
        requires, backend, backend_path, legacy = self.build_system(pyproject or {})
        name, version = self.by_pyproject(pyproject or {})
        if name is None or version is None:
            other_name, other_version = self.by_pkg_info()
            name, version = name or other_name, version or other_version
        if name is None:
            name = self.by_setup_cfg()
        return {
            "name": name,
            "version": version,
            "requires": requires,
            "backend": backend,
            "backend_path": backend_path,
            "legacy": legacy,
        }

    # -- how it is built -------------------------------------------------------------------------------

    def pyproject(self) -> dict[str, Any] | None:
        data = self._content("pyproject.toml")
        if data is None:
            return None
        try:
            text = data.decode("utf-8")
            if line := deep_key(text):
                raise ValueError(f"line {line}: a key of more than {MOST_PARTS} parts")
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            self._refuse("pyproject.toml", "it is not valid TOML", str(error), "TOML in UTF-8", error)

    def build_system(self, pyproject: Mapping[str, Any]) -> tuple[list[str], str, list[str], bool]:
        if "build-system" not in pyproject:
            return list(LEGACY_REQUIRES), LEGACY_BACKEND, [], True
        table = self._table(pyproject, "build-system")
        if "requires" not in table:
            self._refuse(
                "pyproject.toml", "build-system.requires is missing", "no such key", "a list (PEP 518)"
            )
        requires = self._strings(table, "requires")
        for text in requires:
            try:
                Requirement(text)
            except (InvalidRequirement, RecursionError) as error:
                what = "build-system.requires has what is no requirement"
                self._refuse("pyproject.toml", what, repr(text), "a requirement (PEP 508)", error)
        backend_path = self._strings(table, "backend-path")
        for text in backend_path:
            if not self._is_inside(text):
                what = "build-system.backend-path leaves the project"
                self._refuse("pyproject.toml", what, repr(text), "a relative path inside (PEP 517)")
        backend = table.get("build-backend")
        if backend is None:
            return requires, LEGACY_BACKEND, backend_path, True
        if not isinstance(backend, str) or not _BACKEND.match(backend):
            self._refuse(
                "pyproject.toml", "build-system.build-backend is malformed", repr(backend), "module:object"
            )
        return requires, backend, backend_path, False

    def _table(self, document: Mapping[str, Any], key: str) -> dict[str, Any]:
        table = document.get(key, {})
        if not isinstance(table, dict):
            self._refuse("pyproject.toml", f"{key} is no table", repr(table)[:80], f"[{key}]")
        return table

    def _strings(self, table: Mapping[str, Any], key: str) -> list[str]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            what = f"build-system.{key} is no list of strings"
            self._refuse("pyproject.toml", what, repr(value)[:80], "a list of strings")
        return value

    def _is_inside(self, path: str) -> bool:
        """Whether `path` stays in the project, whatever symbolic links it passes (by components)."""
        if not path or os.path.isabs(path) or "\0" in path:
            return False
        top = os.path.realpath(self.folder)
        return os.path.commonpath([top, os.path.realpath(os.path.join(top, path))]) == top

    # -- what it is ------------------------------------------------------------------------------------

    def by_pyproject(self, pyproject: Mapping[str, Any]) -> tuple[str | None, str | None]:
        if "project" not in pyproject:
            return None, None
        table = self._table(pyproject, "project")
        name = table.get("name")
        if name is not None and not (isinstance(name, str) and _NAME.match(name)):
            self._refuse("pyproject.toml", "project.name is no name", repr(name)[:80], "a name (PEP 508)")
        dynamic = table.get("dynamic", [])
        version = None if isinstance(dynamic, list) and "version" in dynamic else table.get("version")
        return _name(name), _version(version)

    def by_pkg_info(self) -> tuple[str | None, str | None]:
        """PKG-INFO's word, if its metadata version promises that a build will say the same (B4)."""
        data = self._content("PKG-INFO")
        if data is None:
            return None, None
        fields: dict[str, str] = {}
        dynamic: set[str] = set()
        for line in data.decode("utf-8", "replace").split("\n"):
            line = line.rstrip("\r")
            if not line:
                break
            key, separator, value = line.partition(":")
            if line[0] in " \t" or not separator:
                continue
            if key.strip().lower() == "dynamic":
                dynamic.add(value.strip().lower())
            fields.setdefault(key.strip().lower(), value.strip())
        metadata = _METADATA_VERSION.match(fields.get("metadata-version", ""))
        if metadata is None or int(metadata[1]) != 2 or int(metadata[2]) < 2:
            return None, None
        name = None if "name" in dynamic else fields.get("name")
        version = None if "version" in dynamic else fields.get("version")
        return _name(name), _version(version)

    def by_setup_cfg(self) -> str | None:
        """The name in setup.cfg; a broken file says nothing: only setuptools has to understand it."""
        data = self._content("setup.cfg")
        if data is None:
            return None
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(data.decode("utf-8"))
        except (configparser.Error, ValueError):
            return None
        return _name(parser.get("metadata", "name", fallback=None))

    # -- files -----------------------------------------------------------------------------------------

    def _content(self, name: str) -> bytes | None:
        """A project file's bytes; None if there is none. Opening a pipe must not hang."""
        path = os.path.join(self.folder, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._refuse(name, "it cannot be read", error.strerror or str(error), "a readable file", error)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                return None
            if not stat.S_ISREG(found.st_mode):
                self._refuse(name, "it is no regular file", f"mode {found.st_mode:o}", "a file")
            try:
                data = file.read(_LARGEST + 1)
            except OSError as error:
                self._refuse(
                    name, "it cannot be read", error.strerror or str(error), "a readable file", error
                )
        if len(data) > _LARGEST:
            self._refuse(name, "it is too large", f"over {_LARGEST} bytes", f"at most {_LARGEST} bytes")
        return data

    def _refuse(
        self, file: str, what: str, found: str, expected: str, cause: BaseException | None = None
    ) -> NoReturn:
        raise InputError(
            "invalid-project",
            f"{self.label}/{file}: {what}",
            context=f"expected {expected}\nfound {found}",
        ) from cause


def _name(text: object) -> str | None:
    return canonicalize_name(text) if isinstance(text, str) and _NAME.match(text) else None


def _version(text: object) -> str | None:
    """`text`, if it is a version; its backend will say more of one that is none."""
    if not isinstance(text, str):
        return None
    try:
        Version(text)
    except InvalidVersion:
        return None
    return text.strip()
