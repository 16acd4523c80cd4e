"""pylock.toml and uv.lock as text, for tests: one `[[…]]` table for each package, every value on one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.sdists import BuiltSdist
from tests.support.wheels import BuiltWheel

Table = Mapping[str, Any]

#: A project that is its dependencies only, at the place of the lock.
HERE = {"virtual": "."}


def toml(value: Any) -> str:
    """A value as TOML has it inline; JSON's strings, numbers and booleans are TOML's too."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


def _keys(arguments: Table) -> dict[str, Any]:
    return {key.replace("_", "-"): value for key, value in arguments.items()}


def _document(key: str, head: Table, packages: tuple[Table, ...]) -> str:
    lines = [f"{name} = {toml(value)}" for name, value in head.items() if value is not None]
    for package in packages:
        lines += ["", f"[[{key}]]", *(f"{name} = {toml(value)}" for name, value in package.items())]
    return "\n".join(lines) + "\n"


def pylock(*packages: Table, **frame: Any) -> str:
    """A pylock.toml.

    Args:
        packages: its ``[[packages]]``.
        frame: more keys of the top level, ``-`` as ``_``, or other values of usual ones; None drops one.
    """
    head: dict[str, Any] = {"lock-version": "1.0", "created-by": "tests"}
    head |= _keys(frame)
    return _document("packages", head, packages) if packages else f"{_document('', head, ())}packages = []\n"


def uvlock(*packages: Table, **frame: Any) -> str:
    """A uv.lock; arguments as of `pylock`, the tables are ``[[package]]``."""
    head: dict[str, Any] = {"version": 1, "revision": 3, "requires-python": ">=3.8"}
    head |= _keys(frame)
    return _document("package", head, packages)


def listed(file: BuiltWheel | BuiltSdist, url: str | None = None, **other: Any) -> dict[str, Any]:
    """A file as pylock.toml lists it, with its sha256 and size.

    Args:
        other: more keys (``path``), or other values of usual ones; None drops one.
    """
    table: dict[str, Any] = {"name": file.filename, "url": url, "size": len(file.data)}
    table |= {"hashes": {"sha256": file.sha256}, **other}
    return {key: value for key, value in table.items() if value is not None}


def wheel_package(wheel: BuiltWheel, url: str = "", **other: Any) -> dict[str, Any]:
    """A package of a pylock.toml with one wheel; `other` are more keys of the package, ``-`` as ``_``."""
    name, version = wheel.filename.split("-")[:2]
    table = {"name": name.replace("_", "-"), "version": version, **_keys(other)}
    return {**table, "wheels": [listed(wheel, url)]}


def uv_file(file: BuiltWheel | BuiltSdist, url: str | None = None, **other: Any) -> dict[str, Any]:
    """A file as uv.lock lists it; None drops a key."""
    table: dict[str, Any] = {"url": url, "hash": f"sha256:{file.sha256}", "size": len(file.data), **other}
    return {key: value for key, value in table.items() if value is not None}


def uv_package(wheel: BuiltWheel, index: str, url: str, *needs: str | Table, **other: Any) -> dict[str, Any]:
    """A package of a uv.lock with one wheel of an index.

    Args:
        needs: its dependencies: names, or whole tables.
        other: more keys, ``-`` as ``_``, or other values of usual ones.
    """
    name, version = wheel.filename.split("-")[:2]
    table: dict[str, Any] = {
        "name": name.replace("_", "-"),
        "version": version,
        "source": {"registry": index},
    }
    table["dependencies"] = edges(*needs)
    return {**table, "wheels": [uv_file(wheel, url)], **_keys(other)}


def uv_project(*needs: str | Table, name: str = "app", source: Table = HERE, **other: Any) -> dict[str, Any]:
    """A source tree of a uv.lock: by default the lock's own project, which is its dependencies only."""
    table: dict[str, Any] = {"name": name, "version": "0.1", "source": dict(source)}
    return {**table, "dependencies": edges(*needs), **_keys(other)}


def edges(*needs: str | Table) -> list[Table]:
    """Dependencies as uv.lock writes them."""
    return [{"name": one} if isinstance(one, str) else one for one in needs]
