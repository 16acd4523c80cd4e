"""The same uv.lock read by pkgc and by uv: uv's code is the only specification of the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import tomli
from packaging.markers import Environment
from packaging.pylock import Pylock
from packaging.tags import Tag

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import LockChoice
from pkgc_daemon.inputs.pylock import parse_pylock, select_pylock
from pkgc_daemon.inputs.uvlock import parse_uvlock, select_uvlock
from pkgc_daemon.vocabulary import Interpreter
from tests.support.locktargets import target
from tests.support.wheels import make_wheel

UV = Path(sysconfig.get_path("scripts")) / "uv"
pytestmark = pytest.mark.skipif(not UV.exists(), reason="uv is not installed beside pytest")

HEAD = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.9"\n'
#: Name -> (pyproject.toml, more files)
PROJECTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "plain": (
        HEAD
        + """
dependencies = ["app", "extra-lib[fast,slow]", "win; sys_platform == 'win32' or python_version < '3.10'"]
[project.optional-dependencies]
gui = ["extra-lib[gui]", "leaf==1.0"]
all = ["demo[gui]", "tool"]
[dependency-groups]
dev = ["lint"]
docs = ["leaf", {include-group = "dev"}]
test = ["tool; python_version >= '3.11'"]
[tool.uv]
default-groups = ["dev", "test"]
""",
        {},
    ),
    "forks": (
        HEAD
        + """
dependencies = [
  "lib==1.0; sys_platform == 'win32'", "lib==2.0; sys_platform == 'linux' and python_version < '3.11'",
  "lib==3.0; sys_platform == 'linux' and python_version >= '3.11'", "lib; sys_platform == 'darwin'", "app",
]
""",
        {},
    ),
    "conflicts": (
        HEAD
        + """
dependencies = ["uses-torch", "app"]
[project.optional-dependencies]
cpu = ["torch==1.0"]
gpu = ["torch==2.0", "extra-lib[gui]"]
other = ["leaf==1.0"]
[dependency-groups]
dev = ["lint"]
old = ["torch==3.0"]
[tool.uv]
conflicts = [[{extra = "cpu"}, {extra = "gpu"}, {group = "old"}], [{group = "dev"}, {extra = "other"}]]
""",
        {},
    ),
    "workspace": (
        HEAD
        + """
dependencies = ["member-a"]
[project.optional-dependencies]
b = ["member-b[x]"]
[tool.uv.sources]
member-a = { workspace = true }
member-b = { workspace = true }
[tool.uv.workspace]
members = ["member-a", "member-b"]
""",
        {
            "member-a/pyproject.toml": HEAD.replace("demo", "member-a")
            + 'dependencies = ["app"]\n[dependency-groups]\ndev = ["lint"]\n[tool.uv]\npackage = false\n',
            "member-b/pyproject.toml": HEAD.replace("demo", "member-b")
            + 'dependencies = ["leaf"]\n[project.optional-dependencies]\nx = ["tool"]\n'
            + '[build-system]\nrequires = []\nbuild-backend = "x"\n',
        },
    ),
    "no-project": (
        """
[dependency-groups]
dev = ["lint", "extra-lib[fast]; sys_platform != 'win32'"]
docs = ["leaf==1.0"]
[tool.uv.workspace]
members = ["member"]
""",
        {"member/pyproject.toml": HEAD.replace("demo", "member") + 'dependencies = ["tool"]\n'},
    ),
}
TARGETS = [("3.9.18", "linux"), ("3.12.1", "linux"), ("3.12.1", "win32"), ("3.10.2", "darwin")]
CHOICES: Mapping[str, list[tuple[str, str, bool]]] = {
    # extras, groups, default groups
    "plain": [
        ("", "", True),
        ("gui", "", True),
        ("all", "docs", False),
        ("gui all", "docs", True),
        ("", "", False),
    ],
    "forks": [("", "", True)],
    "conflicts": [
        ("", "", True),
        ("cpu", "", True),
        ("gpu", "", True),
        ("", "old", True),
        ("other", "", False),
        ("other cpu", "", False),
    ],
    "workspace": [("", "", True), ("b", "", True)],
    "no-project": [("", "", True), ("", "docs", True), ("", "docs", False)],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheels, and every project locked by uv."""
    top = tmp_path_factory.mktemp("uv")
    for name, version, requires in [
        ("app", "1.0", ("lib>=1", "win; sys_platform == 'win32'")),
        ("lib", "1.0", ()),
        ("lib", "2.0", ("leaf; python_version < '3.10'",)),
        ("lib", "3.0", ("extra-lib[fast]; python_full_version >= '3.11.5'",)),
        ("win", "1.0", ("leaf",)),
        ("leaf", "1.0", ()),
        ("leaf", "2.0", ()),
        ("lint", "1.0", ("lib",)),
        ("tool", "1.0", ("leaf",)),
        ("torch", "1.0", ()),
        ("torch", "2.0", ("win; platform_machine == 'x86_64'",)),
        ("torch", "3.0", ()),
        ("uses-torch", "1.0", ("torch", "lib")),
    ]:
        make_wheel(name, version, requires_dist=requires, requires_python=">=3.9").write_to(top / "links")
    metadata = "Metadata-Version: 2.1\nName: extra-lib\nVersion: 1.0\n" + "".join(
        f"Provides-Extra: {extra}\n" for extra in ("fast", "slow", "gui")
    )
    metadata += (
        "Requires-Dist: leaf ; extra == 'fast'\nRequires-Dist: extra-lib[fast] ; extra == 'slow'\n"
        "Requires-Dist: tool ; extra == 'gui' and sys_platform != 'darwin'\n"
    )
    make_wheel("extra-lib", "1.0", metadata=metadata).write_to(top / "links")
    for name, (pyproject, files) in PROJECTS.items():
        for path, text in {"pyproject.toml": pyproject, **files}.items():
            (top / name / path).parent.mkdir(parents=True, exist_ok=True)
            (top / name / path).write_text(text)
        uv(top, name, "lock")
    return top


def uv(top: Path, project: str, *arguments: str) -> str:
    """What uv prints, with the folder of wheels as its only index."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "VIRTUAL_ENV"))}
    common = "--project . --offline --no-index --find-links ../links --no-config --quiet"
    done = subprocess.run(
        [UV, *arguments, *common.split(), "--python", sys.executable, "--cache-dir", top / "cache"],
        cwd=top / project,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def export(top: Path, project: str, extras: str, groups: str, default: bool) -> bytes:
    """The choice as a pylock.toml, by uv."""
    options = [f"--extra={extra}" for extra in extras.split()] + [
        f"--group={group}" for group in groups.split()
    ]
    options += [] if default else ["--no-default-groups"]
    return uv(top, project, "export", "--frozen", "--format", "pylock.toml", *options).encode()


def exported(data: bytes, interpreter: Interpreter) -> dict[str, str]:
    """What `packaging` selects of a pylock.toml: name -> version."""
    chosen = Pylock.from_dict(tomli.loads(data.decode())).select(
        environment=cast("Environment", interpreter.markers), tags=[Tag("py3", "none", "any")]
    )
    return {
        package.name: "" if package.directory is not None else str(package.version) for package, _ in chosen
    }


def choice(extras: str, groups: str, default: bool) -> LockChoice:
    return LockChoice(frozenset(extras.split()), frozenset(groups.split()), default_groups=default)


def selected(top: Path, project: str, interpreter: Interpreter, asked: LockChoice) -> dict[str, str]:
    """What pkgc selects of the uv.lock: name -> version."""
    folder = top / project
    given = parse_uvlock(
        (folder / "uv.lock").read_bytes(),
        str(folder / "uv.lock"),
        "uv.lock",
        (folder / "pyproject.toml").read_bytes(),
    )
    assert given.warnings == ()
    return {one.name: one.version for one in select_uvlock(given, interpreter, asked).wanted}


@pytest.mark.parametrize(
    ("project", "asked"), [(project, asked) for project, choices in CHOICES.items() for asked in choices]
)
def test_the_same_packages(home: Path, project: str, asked: tuple[str, str, bool]) -> None:
    """`pkgc sync uv.lock` installs what `uv sync --frozen` installs, for every extra, group and platform."""
    data = export(home, project, *asked)
    differ: list[Any] = []
    for place in TARGETS:
        interpreter = target(*place)
        expected = exported(data, interpreter)
        found = selected(home, project, interpreter, choice(*asked))
        if found != expected:
            differ.append((place, found, expected))
        pylock = parse_pylock(data, str(home / project / "pylock.toml"), "pylock.toml")
        lock = select_pylock(pylock, interpreter, LockChoice())
        assert {one.name: one.version for one in lock.wanted} == expected
    assert differ == []


@pytest.mark.parametrize(
    "asked", [("cpu gpu", "", True), ("cpu", "old", True), ("other", "", True), ("gpu cpu other", "", False)]
)
def test_the_same_conflicts(home: Path, asked: tuple[str, str, bool]) -> None:
    """What uv refuses to install together, pkgc does not install together."""
    with pytest.raises(AssertionError, match="incompatible"):
        export(home, "conflicts", *asked)
    with pytest.raises(InputError) as caught:
        selected(home, "conflicts", target(), choice(*asked))
    assert caught.value.code == "conflicting-extras"


def test_a_lock_that_uv_calls_old(home: Path) -> None:
    """The hint comes when `uv lock --check` fails, and not when it does not."""
    uv(home, "plain", "lock", "--check")
    assert selected(home, "plain", target(), LockChoice())
    folder = home / "changed"
    shutil.copytree(home / "plain", folder)
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace('"app", ', '"app>=1.0", '))
    with pytest.raises(AssertionError, match="needs to be updated"):
        uv(home, "changed", "lock", "--check")
    lock = folder / "uv.lock"
    (warning,) = parse_uvlock(lock.read_bytes(), str(lock), "uv.lock", project.read_bytes()).warnings
    assert "app has other versions or extras" in warning
