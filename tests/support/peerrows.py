"""Short words for tests of single scenarios: one daemon a module, both ways; what records and servers say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import Instance, running
from tests.support.locks import site
from tests.support.server import Hit, IndexServer

#: The two ways of a module-scoped `pkgc`.
WAYS = ("daemon-acts", "client-acts")


@contextmanager
def both_ways(
    request: pytest.FixtureRequest, factory: pytest.TempPathFactory, config: str = ""
) -> Iterator[Instance]:
    """For a module-scoped fixture with `params=WAYS`; tests have projects and indexes of their own.

    Args:
        config: text of config.toml.
    """
    root = factory.mktemp("rows") / "pkgc"
    root.mkdir()
    (root / "config.toml").write_text(config)
    with running(root, host_calls=request.param == "client-acts") as instance:
        yield instance


def record(venv: Path, name: str, version: str = "1.0") -> dict[str, Any]:
    """direct_url.json or provenance_url.json of what is installed; there is exactly one of them."""
    info = site(venv) / f"{name.replace('-', '_')}-{version}.dist-info"
    found = [info / one for one in ("direct_url.json", "provenance_url.json") if (info / one).exists()]
    assert len(found) == 1, found
    told: dict[str, Any] = json.loads(found[0].read_text())
    return told | {"file": found[0].name}


def recorded_sha256(venv: Path, name: str, version: str = "1.0") -> str:
    """The sha256 that the records of the environment give."""
    return str(record(venv, name, version)["archive_info"]["hashes"]["sha256"])


def module_text(venv: Path, name: str) -> str:
    """The text of a package's ``__init__.py`` (or module) as it stands in the environment."""
    base = site(venv)
    path = base / f"{name}.py"
    return (path if path.exists() else base / name / "__init__.py").read_text()


def statuses(server: IndexServer, where: str) -> list[int]:
    """The statuses of the answers for a file name or path, in their order."""
    return [hit.status for hit in server.requests_for(where)]


def bodies(server: IndexServer, where: str) -> list[Hit]:
    """The requests for a file name or path that were answered with bytes of it."""
    return [hit for hit in server.requests_for(where) if hit.sent]


def listed(pkgc: Instance, name: str) -> list[dict[str, Any]]:
    """The rows of `pkgc cache list` of one project."""
    rows = pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"]
    return [row for row in rows if row["name"] == name]


def stored_bytes(pkgc: Instance) -> dict[str, Any]:
    """How much the store holds of files and trees."""
    size = pkgc.ok("cache", "size", "--output-format", "json").json
    return {kind: size[kind] for kind in ("artifacts", "trees")}


def why(pkgc: Instance, venv: Path, name: str) -> dict[str, Any]:
    """What `pkgc why NAME` tells of one package."""
    told = pkgc.ok("why", name, "--venv", venv, "--output-format", "json").json
    assert len(told["packages"]) == 1, told
    package: dict[str, Any] = told["packages"][0]
    return package
