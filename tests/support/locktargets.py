"""Interpreters that no machine has to have: what locks are selected for in tests."""

from __future__ import annotations

from collections.abc import Mapping

from pkgc_daemon.vocabulary import Interpreter

_LINUX = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_release": "6.1.0",
    "platform_system": "Linux",
    "platform_version": "#1 SMP",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
}
_WINDOWS = {**_LINUX, "os_name": "nt", "platform_system": "Windows", "sys_platform": "win32"}
_MACOS = {**_LINUX, "platform_system": "Darwin", "sys_platform": "darwin", "platform_machine": "arm64"}
_PLATFORMS: Mapping[str, Mapping[str, str]] = {"linux": _LINUX, "win32": _WINDOWS, "darwin": _MACOS}


def target(version: str = "3.12.1", platform: str = "linux") -> Interpreter:
    """A CPython of `version` on ``linux``, ``win32`` or ``darwin``."""
    minor = ".".join(version.split(".")[:2])
    markers = {
        **_PLATFORMS[platform],
        "python_version": minor,
        "python_full_version": version,
        "implementation_version": version,
    }
    return Interpreter(
        executable=f"/opt/python{minor}/bin/python",
        version=version,
        implementation="cpython",
        cache_tag=f"cpython-{minor.replace('.', '')}",
        prefix="/venv",
        base_prefix="/opt",
        markers=markers,
        tags=("py3-none-any",),
        paths={},
    )
