"""The script that a target interpreter runs to describe itself; it is not imported by pkgc at run time.

Its text is handed to any CPython or PyPy from 3.8 on, with ``-I -S -B -X utf8 -c``, so it uses nothing
newer.  ``-S`` keeps the code of the environment (`.pth` files, sitecustomize) from running, and halves
the time; what `site` does for a virtual environment (PEP 405) is therefore done by `enter_environment`.
The one module of the environment that is imported, if it is there, is `_manylinux` (PEP 600 wants it).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def enter_environment() -> str | None:
    """Set sys.prefix as `site` would, and return the environment's pyvenv.cfg, if there is one (PEP 405).

    Python 3.14 does this before any script runs; setting the same value again is harmless.
    """
    folder = os.path.dirname(os.path.abspath(sys.executable))
    for prefix in (folder, os.path.dirname(folder)):
        config = os.path.join(prefix, "pyvenv.cfg")
        if os.path.isfile(config):
            sys.prefix = sys.exec_prefix = prefix
            return config
    return None


def base_executable(config: str | None) -> str:
    """The interpreter that an environment was made from (itself outside of one).

    `sys._base_executable` is the environment's own on Python 3.8 to 3.10, so `home` is read as well.
    """
    if config is None or sys.prefix == sys.base_prefix:
        return getattr(sys, "_base_executable", None) or sys.executable
    found = getattr(sys, "_base_executable", None)
    if found and os.path.realpath(os.path.dirname(found)) != os.path.realpath(
        os.path.dirname(sys.executable)
    ):
        return str(found)
    home = ""
    with open(config, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            key, equals, value = line.partition("=")
            if equals and key.strip().lower() == "home":
                home = value.strip()
    version = "python%d.%d" % sys.version_info[:2]
    for name in (version, os.path.basename(sys.executable), "python3", "python", "pypy3"):
        candidate = os.path.join(home, name)
        if home and os.access(candidate, os.X_OK):
            return candidate
    return os.path.realpath(sys.executable)


def markers() -> dict[str, str]:
    """The PEP 508 environment marker variables, as packaging.markers.default_environment gives them."""
    import platform

    release = sys.implementation.version
    implementation_version = "%d.%d.%d" % (release.major, release.minor, release.micro)
    if release.releaselevel != "final":
        implementation_version += release.releaselevel[0] + str(release.serial)
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": implementation_version,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def paths(virtual: bool) -> dict[str, str]:
    """Where an installer puts things; in an environment, headers go where pip puts them."""
    import sysconfig

    if virtual and "venv" in sysconfig.get_scheme_names():
        found = sysconfig.get_paths("venv")
    else:
        found = sysconfig.get_paths()
    wanted = {key: found[key] for key in ("purelib", "platlib", "scripts", "data", "include", "stdlib")}
    if virtual:
        wanted["include"] = os.path.join(sys.prefix, "include", "site", "python%d.%d" % sys.version_info[:2])
    return wanted


def externally_managed(stdlib: str) -> str | None:
    """The `Error` text of EXTERNALLY-MANAGED in the user's language (PEP 668), or None without the file."""
    marker = os.path.join(stdlib, "EXTERNALLY-MANAGED")
    if not os.path.isfile(marker):
        return None
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(marker, encoding="utf-8")
        section = parser["externally-managed"]
    except (OSError, KeyError, UnicodeDecodeError, configparser.Error):
        return ""
    language = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    language = language.partition(".")[0]
    for key in ("Error-" + language, "Error-" + language.partition("_")[0], "Error"):
        if key in section:
            return section[key]
    return ""


def elf() -> dict[str, Any]:
    """Class, byte order, machine, flags and program interpreter of the running executable (empty: no ELF)."""
    import struct

    try:
        with open(sys.executable, "rb") as file:
            ident = file.read(16)
            if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
                return {}
            order = "<" if ident[5] == 1 else ">"
            layout = order + ("HHIIIIIHHH" if ident[4] == 1 else "HHIQQQIHHH")
            header = struct.unpack(layout, file.read(struct.calcsize(layout)))
            machine, offset, flags, entry_size, count = header[1], header[4], header[6], header[8], header[9]
            entry = order + ("IIIIIIII" if ident[4] == 1 else "IIQQQQQQ")
            loader = ""
            for index in range(count):
                file.seek(offset + entry_size * index)
                fields = struct.unpack(entry, file.read(struct.calcsize(entry)))
                if fields[0] == 3:  # PT_INTERP
                    start, size = (fields[1], fields[4]) if ident[4] == 1 else (fields[2], fields[5])
                    file.seek(start)
                    loader = os.fsdecode(file.read(min(size, 4096))).strip("\0")
                    break
    except (OSError, struct.error):
        return {}
    return {
        "bits": 32 * ident[4],
        "little": ident[5] == 1,
        "machine": machine,
        "flags": flags,
        "loader": loader,
    }


def numbers(text: str) -> list[int] | None:
    """The first two numbers of a dotted version, or None."""
    import re

    match = re.match(r"([0-9]+)\.([0-9]+)", text)
    return [int(match.group(1)), int(match.group(2))] if match else None


def glibc() -> list[int] | None:
    """[major, minor] of the C library if it is glibc (PEP 600)."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc":
            return numbers(version)
    except (AttributeError, OSError, ValueError):
        pass
    try:
        import ctypes

        version_of = ctypes.CDLL(None).gnu_get_libc_version
    except (ImportError, OSError, AttributeError):
        return None
    version_of.restype = ctypes.c_char_p
    return numbers(version_of().decode("ascii", "replace"))


def musl(loader: str) -> list[int] | None:
    """[major, minor] of the C library if it is musl (PEP 656): its loader prints them."""
    if "musl" not in loader:
        return None
    import subprocess

    try:
        run = subprocess.run(
            [loader], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.strip() for line in run.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].startswith("musl") or not lines[1].startswith("Version "):
        return None
    return numbers(lines[1][len("Version ") :])


def manylinux_refusals(libc: list[int] | None, arch: str, folders: list[str]) -> list[list[int]]:
    """glibc versions up to `libc` that a `_manylinux` module of the target refuses (PEP 600)."""
    if libc is None:
        return []
    known, sys.path = sys.path, sys.path + folders
    try:
        import _manylinux  # type: ignore[import-not-found]
    except ImportError:
        return []
    finally:
        sys.path = known
    legacy = {
        (2, 5): "manylinux1_compatible",
        (2, 12): "manylinux2010_compatible",
        (2, 17): "manylinux2014_compatible",
    }
    refused = []
    for minor in range(libc[1] + 1):
        verdict = None
        if hasattr(_manylinux, "manylinux_compatible"):
            verdict = _manylinux.manylinux_compatible(libc[0], minor, arch)
        elif (libc[0], minor) in legacy:
            verdict = getattr(_manylinux, legacy[libc[0], minor], None)
        if verdict is not None and not verdict:
            refused.append([libc[0], minor])
    return refused


def tag_facts(site_folders: list[str]) -> dict[str, Any]:
    """What the compatibility tags depend on (PEP 425, 600, 656, 703)."""
    import platform
    import struct
    import sysconfig
    from importlib.machinery import EXTENSION_SUFFIXES

    debug = sysconfig.get_config_var("Py_DEBUG")
    if debug is None:  # not set on Windows
        debug = hasattr(sys, "gettotalrefcount") or "_d.pyd" in EXTENSION_SUFFIXES
    header = elf() if sys.platform == "linux" else {}
    libc = glibc() if sys.platform == "linux" else None
    arch = sysconfig.get_platform().partition("-")[2].replace("-", "_").replace(".", "_")
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:2]),
        "version_nodot": str(sysconfig.get_config_var("py_version_nodot") or ""),
        "debug": bool(debug),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "ext_suffix": str(sysconfig.get_config_var("EXT_SUFFIX") or ""),
        "system": platform.system(),
        "platform": sysconfig.get_platform(),
        "bits": struct.calcsize("P") * 8,
        "elf": header,
        "glibc": libc,
        "musl": musl(header.get("loader", "")),
        "refused": manylinux_refusals(libc, arch, site_folders) if libc else [],
        "macos": list(platform.mac_ver()[::2]) if sys.platform == "darwin" else [],
    }


def pycache_magic() -> str:
    """The magic number of this interpreter's bytecode, in hex."""
    try:
        from _frozen_importlib_external import MAGIC_NUMBER
    except ImportError:
        from importlib.util import MAGIC_NUMBER
    return "".join("%02x" % byte for byte in MAGIC_NUMBER)


def main() -> None:
    """Print one JSON object between two copies of the word that the caller chose."""
    import json

    config = enter_environment()
    virtual = sys.prefix != sys.base_prefix
    places = paths(virtual)
    stdlib = places.pop("stdlib")
    facts = {
        "executable": sys.executable,
        "base_executable": base_executable(config),
        "version": "%d.%d.%d" % sys.version_info[:3],
        "implementation": sys.implementation.name,
        "cache_tag": sys.implementation.cache_tag or "",
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "markers": markers(),
        "paths": places,
        "externally_managed": None if virtual else externally_managed(stdlib),
        "pycache_magic": pycache_magic(),
        "tags": tag_facts([places["purelib"], places["platlib"]]),
    }
    word = sys.argv[1]
    sys.stdout.write("\n" + word + json.dumps(facts) + word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
