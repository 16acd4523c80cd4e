"""Tags of interpreters that are not on this machine, from facts; and refusals of targets."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from pkgc_daemon.environments.interpreter import interpreter_from_wire, probe_interpreter
from pkgc_daemon.environments.tags import TagFacts, platforms_of, tags_of
from pkgc_daemon.environments.target import check_target
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import Interpreter

LINUX = TagFacts(
    implementation="cpython",
    version=(3, 12),
    version_nodot="312",
    debug=False,
    free_threaded=False,
    ext_suffix=".cpython-312-x86_64-linux-gnu.so",
    system="Linux",
    platform="linux-x86_64",
    bits=64,
    elf=(64, True, 62, 0),
    glibc=(2, 28),
    musl=None,
    refused=frozenset(),
    macos=None,
)


def facts(**changes: Any) -> TagFacts:
    return LINUX._replace(**changes)


def test_native_linux_comes_before_manylinux() -> None:
    """packaging 26.3 prefers what was built on this machine."""
    platforms = list(platforms_of(LINUX))
    assert platforms[:2] == ["linux_x86_64", "manylinux_2_28_x86_64"]
    assert platforms[-2:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64"]
    assert platforms.index("manylinux2014_x86_64") == platforms.index("manylinux_2_17_x86_64") + 1


def test_other_architectures_end_at_glibc_2_17() -> None:
    """No wheel for aarch64 can be older (PEP 599)."""
    platforms = list(platforms_of(facts(platform="linux-aarch64")))
    assert platforms[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def test_musl_gets_no_manylinux_wheel() -> None:
    """A manylinux wheel does not load with musl (PEP 656)."""
    platforms = list(platforms_of(facts(glibc=None, musl=(1, 2))))
    assert platforms == [
        "linux_x86_64",
        "musllinux_1_2_x86_64",
        "musllinux_1_1_x86_64",
        "musllinux_1_0_x86_64",
    ]


@pytest.mark.parametrize(
    ("platform", "elf", "first", "many"),
    [
        ("linux-x86_64", (32, True, 3, 0), "linux_i686", "manylinux_2_5_i686"),
        ("linux-x86_64", None, "linux_i686", None),
        ("linux-armv7l", (32, True, 40, 0x05000400), "linux_armv7l", "manylinux_2_17_armv7l"),
        ("linux-armv7l", (32, True, 40, 0x05000200), "linux_armv7l", None),
        ("linux-aarch64", (32, True, 40, 0x05000400), "linux_armv8l", "manylinux_2_17_armv7l"),
    ],
)
def test_32_bit_targets(platform: str, elf: Any, first: str, many: str | None) -> None:
    """A 64-bit wheel does not load in a 32-bit Python, a hard-float one not on a soft-float ABI."""
    platforms = list(platforms_of(facts(platform=platform, elf=elf, bits=32)))
    assert platforms[0] == first
    assert (many in platforms) if many else not any("manylinux" in name for name in platforms)


def test_free_threaded_and_debug_builds() -> None:
    """abi3 wheels do not load in a free-threaded build (PEP 703, 803)."""
    free = tags_of(facts(version=(3, 13), version_nodot="313", free_threaded=True))
    assert free[0] == "cp313-cp313t-linux_x86_64"
    assert not any("-abi3-" in tag for tag in free)
    assert "cp312-abi3t-linux_x86_64" in free
    debug = tags_of(facts(debug=True))
    assert debug[0] == "cp312-cp312d-linux_x86_64"
    assert "cp312-cp312-linux_x86_64" in debug
    assert "cp311-abi3-manylinux_2_28_x86_64" in debug


def test_pypy_and_graalpy() -> None:
    """Their wheels carry their own names."""
    pypy = tags_of(
        facts(
            implementation="pypy",
            version=(3, 10),
            version_nodot="310",
            ext_suffix=".pypy310-pp73-x86_64-linux-gnu.so",
        )
    )
    assert pypy[0] == "pp310-pypy310_pp73-linux_x86_64"
    assert "pp3-none-any" in pypy
    assert "py3-none-any" in pypy
    graal = tags_of(
        facts(implementation="graalpy", version=(3, 11), ext_suffix=".graalpy-311-native-x86_64-linux.so")
    )
    assert graal[0] == "graalpy312-graalpy_311_native-linux_x86_64"


def test_macos_and_unknown_systems() -> None:
    """The daemon may serve a client that runs elsewhere than it was tested."""
    mac = tags_of(
        facts(system="Darwin", platform="macosx-11.0-arm64", glibc=None, elf=None, macos=((14, 2), "arm64"))
    )
    assert mac[0] == "cp312-cp312-macosx_14_0_arm64"
    other = list(platforms_of(facts(system="FreeBSD", platform="freebsd-14.1-amd64", glibc=None)))
    assert other == ["freebsd_14_1_amd64"]


def test_a_manylinux_module_of_the_target_is_obeyed() -> None:
    """PEP 600: a distribution may say that its glibc is not compatible."""
    platforms = list(platforms_of(facts(refused=frozenset({(2, 28), (2, 17)}))))
    assert "manylinux_2_28_x86_64" not in platforms
    assert "manylinux2014_x86_64" not in platforms
    assert "manylinux_2_27_x86_64" in platforms


@pytest.fixture(scope="module")
def virtual() -> Interpreter:
    """An environment at /somewhere/env, in shape."""
    real = interpreter_from_wire(probe_interpreter({"python": sys.executable}))
    prefix = "/somewhere/env"
    paths = {
        "purelib": f"{prefix}/lib/python3.12/site-packages",
        "platlib": f"{prefix}/lib/python3.12/site-packages",
        "scripts": f"{prefix}/bin",
        "data": prefix,
        "include": f"{prefix}/include/site/python3.12",
    }
    return replace(
        real,
        prefix=prefix,
        base_prefix="/usr",
        executable=f"{prefix}/bin/python",
        paths=paths,
        version="3.12.1",
    )


def test_an_environment_is_accepted(virtual: Interpreter) -> None:
    """Also when it is spelled with a slash at the end."""
    check_target(virtual, "/somewhere/env")
    check_target(virtual, "/somewhere/env/")


@pytest.mark.parametrize(
    ("changes", "venv", "code"),
    [
        ({"version": "3.7.17"}, "/somewhere/env", "python-too-old"),
        ({"version": "2.7.18"}, "/somewhere/env", "python-too-old"),
        ({"base_prefix": "/somewhere/env"}, "/somewhere/env", "not-an-environment"),
        (
            {"base_prefix": "/somewhere/env", "externally_managed": "use apt"},
            "/somewhere/env",
            "externally-managed",
        ),
        ({}, "/somewhere/env2", "wrong-environment"),
        ({"executable": "/somewhere/env/bin/python3"}, "/somewhere/env", "broken-environment"),
        ({"paths": {"purelib": "/somewhere/env-evil/lib"}}, "/somewhere/env", "paths-outside"),
        ({"paths": {"purelib": "/somewhere/env/../lib"}}, "/somewhere/env", "paths-outside"),
        ({"paths": {"purelib": "lib"}}, "/somewhere/env", "paths-outside"),
    ],
)
def test_refusals(virtual: Interpreter, changes: dict[str, Any], venv: str, code: str) -> None:
    """pkgc must not change what is not a virtual environment of its own."""
    with pytest.raises(PkgcError) as caught:
        check_target(replace(virtual, **changes), venv)
    assert caught.value.code == code
    if code == "externally-managed":
        assert caught.value.context == "use apt"
