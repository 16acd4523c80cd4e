"""Wheel tags of a target interpreter, computed from what a probe told of it; never of this process.

The order is that of `packaging.tags.sys_tags()` run in the target (packaging 26.3: native ``linux_*``
before ``manylinux_*`` and ``musllinux_*``), first match wins (standards.md T1; PEP 425, 600, 656, 703).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

#: Architectures for which PEP 600 tags exist without a look at the ABI of the executable.
_MANYLINUX_ARCHITECTURES = frozenset(
    {"x86_64", "aarch64", "ppc64", "ppc64le", "s390x", "loongarch64", "riscv64"}
)
_LEGACY_MANYLINUX = {(2, 5): "manylinux1", (2, 12): "manylinux2010", (2, 17): "manylinux2014"}
#: Highest minor version assumed of a glibc major version that has ended.
_LAST_GLIBC_MINOR = 50
_MAX_NUMBER = 200
_EM_386, _EM_ARM = 3, 40
_ARM_EABI_MASK, _ARM_EABI_5, _ARM_HARD_FLOAT = 0xFF000000, 0x05000000, 0x00000400


class TagFacts(NamedTuple):
    """What the tags of an interpreter depend on; hashable, so that its tags are computed once."""

    implementation: str
    version: tuple[int, int]
    version_nodot: str
    debug: bool
    free_threaded: bool
    ext_suffix: str
    system: str
    """platform.system()"""
    platform: str
    """sysconfig.get_platform()"""
    bits: int
    """Of a pointer: 32 or 64."""
    elf: tuple[int, bool, int, int] | None
    """Bits, little-endian?, machine and flags of the executable's ELF header."""
    glibc: tuple[int, int] | None
    musl: tuple[int, int] | None
    refused: frozenset[tuple[int, int]]
    """glibc versions that the target's `_manylinux` module refuses (PEP 600)."""
    macos: tuple[tuple[int, int], str] | None
    """Release and machine of platform.mac_ver()."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> TagFacts:
        """Read the ``tags`` map of a probe.

        Raises:
            KeyError, TypeError, ValueError: it is not one.
        """
        header = data["elf"]
        return cls(
            implementation=str(data["implementation"]),
            version=_pair(data["version"]),
            version_nodot=str(data["version_nodot"]),
            debug=bool(data["debug"]),
            free_threaded=bool(data["free_threaded"]),
            ext_suffix=str(data["ext_suffix"]),
            system=str(data["system"]),
            platform=str(data["platform"]),
            bits=int(data["bits"]),
            elf=(int(header["bits"]), bool(header["little"]), int(header["machine"]), int(header["flags"]))
            if header
            else None,
            glibc=_pair(data["glibc"]) if data["glibc"] else None,
            musl=_pair(data["musl"]) if data["musl"] else None,
            refused=frozenset(_pair(version) for version in data["refused"]),
            macos=(_pair([*str(data["macos"][0]).split("."), 0][:2]), str(data["macos"][1]))
            if data["macos"]
            else None,
        )


def _pair(value: Any) -> tuple[int, int]:
    """Two version numbers; bounded, because a probe may come from another user's client."""
    major, minor = (int(number) for number in value)
    if not (0 <= major <= _MAX_NUMBER and 0 <= minor <= _MAX_NUMBER):
        raise ValueError(f"no version number: {major}.{minor}")
    return major, minor


@lru_cache(maxsize=64)
def tags_of(facts: TagFacts) -> tuple[str, ...]:
    """All tags that the interpreter accepts, most preferred first."""
    from packaging.tags import INTERPRETER_SHORT_NAMES, compatible_tags, cpython_tags, generic_tags

    platforms = list(platforms_of(facts))
    short = INTERPRETER_SHORT_NAMES.get(facts.implementation) or facts.implementation
    nodot = facts.version_nodot or "".join(map(str, facts.version))
    own: Iterable[object]
    interpreter: str | None
    if short == "cp":
        own = cpython_tags(facts.version, _cpython_abis(facts), platforms)
        interpreter = "cp" + nodot
    else:
        own = generic_tags(short + nodot, _generic_abis(facts), platforms)
        interpreter = "pp3" if short == "pp" else None
    return tuple(map(str, (*own, *compatible_tags(facts.version, interpreter, platforms))))


def _cpython_abis(facts: TagFacts) -> list[str]:
    """PEP 425 and 703; a debug build also loads extension modules of a release build (3.8 and later)."""
    version = "cp" + "".join(map(str, facts.version))
    threading = "t" if facts.version >= (3, 13) and facts.free_threaded else ""
    release = version + threading
    return [release + "d", release] if facts.debug else [release]


def _generic_abis(facts: TagFacts) -> list[str]:
    """The ABI that the name of an extension module tells, e.g. ``.pypy310-pp73-x86_64-linux-gnu.so``."""
    parts = facts.ext_suffix.split(".")
    if len(parts) < 3 or not parts[1]:
        return []
    pieces = parts[1].split("-")
    if pieces[0].startswith("cpython"):
        abi = "cp" + pieces[1] if len(pieces) > 1 else pieces[0]
    elif pieces[0].startswith("cp"):
        abi = pieces[0]
    elif pieces[0].startswith("pypy"):
        abi = "-".join(pieces[:2])
    elif pieces[0].startswith("graalpy"):
        abi = "-".join(pieces[:3])
    else:
        abi = parts[1]
    return [_normalized(abi)]


def _normalized(text: str) -> str:
    return text.replace(".", "_").replace("-", "_").replace(" ", "_")


def platforms_of(facts: TagFacts) -> Iterator[str]:
    """The platform part of the tags, most preferred first."""
    if facts.system == "Linux":
        return _linux_platforms(facts)
    if facts.system == "Darwin" and facts.macos:
        return _mac_platforms(facts)
    return iter([_normalized(facts.platform)])


def _mac_platforms(facts: TagFacts) -> Iterator[str]:
    from packaging.tags import mac_platforms

    version, machine = facts.macos or ((0, 0), "")
    if facts.bits == 32:
        machine = "ppc" if machine.startswith("ppc") else "i386"
    return mac_platforms(version, machine)


def _linux_platforms(facts: TagFacts) -> Iterator[str]:
    system, _, arch = _normalized(facts.platform).partition("_")
    if system != "linux":
        yield _normalized(facts.platform)
        return
    if facts.bits == 32:  # a 32-bit interpreter on a 64-bit kernel
        arch = {"x86_64": "i686", "aarch64": "armv8l"}.get(arch, arch)
    architectures = ["armv8l", "armv7l"] if arch == "armv8l" else [arch]
    for name in architectures:
        yield f"linux_{name}"
    if facts.glibc and _has_manylinux_abi(facts, architectures):
        yield from _manylinux_platforms(facts.glibc, facts.refused, architectures)
    if facts.musl:
        major, newest = facts.musl
        for name in architectures:
            for minor in range(newest, -1, -1):
                yield f"musllinux_{major}_{minor}_{name}"


def _has_manylinux_abi(facts: TagFacts, architectures: list[str]) -> bool:
    """Whether the executable has an ABI that manylinux wheels are built for (hard float on 32-bit Arm)."""
    if "armv7l" in architectures or "i686" in architectures:
        if facts.elf is None:
            return False
        bits, little, machine, flags = facts.elf
        if bits != 32 or not little:
            return False
        if "i686" in architectures:
            return machine == _EM_386
        return machine == _EM_ARM and flags & _ARM_EABI_MASK == _ARM_EABI_5 and flags & _ARM_HARD_FLOAT != 0
    return not _MANYLINUX_ARCHITECTURES.isdisjoint(architectures)


def _manylinux_platforms(
    glibc: tuple[int, int], refused: frozenset[tuple[int, int]], architectures: list[str]
) -> Iterator[str]:
    """PEP 600 tags from the target's glibc down to 2.5 (x86) or 2.17, each followed by its old alias."""
    oldest = 5 if not {"x86_64", "i686"}.isdisjoint(architectures) else 17
    newest = [glibc, *((major, _LAST_GLIBC_MINOR) for major in range(glibc[0] - 1, 1, -1))]
    for arch in architectures:
        for major, last in newest:
            for minor in range(last, (oldest if major == 2 else 0) - 1, -1):
                if (major, minor) in refused:
                    continue
                yield f"manylinux_{major}_{minor}_{arch}"
                alias = _LEGACY_MANYLINUX.get((major, minor))
                if alias:
                    yield f"{alias}_{arch}"
