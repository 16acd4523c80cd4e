"""Requirements files in memory, read as the daemon reads them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, RequirementsInput
from pkgc_daemon.inputs.locations import is_url
from pkgc_daemon.inputs.requirements import read_requirements, select_wanted
from pkgc_daemon.vocabulary import Digest, DirectSource

A, B, C = (f"--hash=sha256:{letter * 64}" for letter in "abc")
DA, DB, DC = (Digest("sha256", letter * 64) for letter in "abc")

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.12.1",
    "os_name": "posix",
    "platform_machine": "m68k",
    "platform_release": "1",
    "platform_system": "Linux",
    "platform_version": "1",
    "python_full_version": "3.12.1",
    "platform_python_implementation": "CPython",
    "python_version": "3.12",
    "sys_platform": "linux",
}


async def read(
    files: Mapping[str, str | bytes],
    *sources: str,
    env: Mapping[str, str] | None = None,
    opened: list[str] | None = None,
    **options: Any,
) -> RequirementsInput:
    """Read `sources` out of `files` (path or URL -> content), in /w."""

    async def read_file(path: str) -> bytes:
        if opened is not None:
            opened.append(path)
        place = (
            path if is_url(path) else posixpath.normpath(path)
        )  # as a kernel sees it: nothing here is a symbolic link
        if place not in files:
            raise InputError("unreadable-file", f"{path}: no such file")
        content = files[place]
        return content.encode() if isinstance(content, str) else content

    async def variables(names: frozenset[str]) -> Mapping[str, str]:
        return {name: (env or {})[name] for name in names if name in (env or {})}

    options.setdefault("constraints", ())
    return await read_requirements(
        sources or ("requirements.txt",), cwd="/w", read_file=read_file, variables=variables, **options
    )


async def one(text: str, **options: Any) -> RequirementsInput:
    """What one file says."""
    return await read({"/w/requirements.txt": text}, **options)


async def refused(text: str, code: str, **options: Any) -> InputError:
    """The error of `one`."""
    with pytest.raises(InputError) as caught:
        await one(text, **options)
    assert caught.value.code == code
    assert caught.value.exit_status == 2
    return caught.value


async def lock(
    text: str,
    constraints: str = "",
    *,
    require_hashes: bool | None = None,
    names: Mapping[DirectSource, str] | None = None,
) -> Lock:
    """What `text` as /w/r.txt means for `MARKERS`."""
    given = await read(
        {"/w/r.txt": text, "/w/c.txt": constraints}, "r.txt", constraints=["c.txt"] if constraints else []
    )
    return select_wanted(given, MARKERS, require_hashes=require_hashes, names=names)


async def no_lock(
    code: str, text: str, constraints: str = "", *, require_hashes: bool | None = None
) -> InputError:
    """The error of `lock`."""
    with pytest.raises(InputError) as caught:
        await lock(text, constraints, require_hashes=require_hashes)
    assert caught.value.code == code
    return caught.value
