"""Scanning environments: a distribution that is wrongly believed installed is never repaired."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgc_daemon.environments import scan
from pkgc_daemon.environments.scan import installed_from_wire, is_seeded, parse_pyvenv, scan_environment
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import Digest, Installed, Origin

SHA = "ab" * 32


class Environment:
    """A fake environment on disk."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.site = prefix / "lib" / "python3.12" / "site-packages"
        self.site.mkdir(parents=True)
        (prefix / "bin").mkdir()
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\npkgc = 0.1\n")

    def add(self, name: str, version: str, folder: str | None = None, **files: Any) -> Path:
        """A distribution with one module; keywords are further files of its .dist-info (None: left out)."""
        info = self.site / (folder or f"{name}-{version}.dist-info")
        info.mkdir()
        (self.site / f"{name}.py").write_text("x = 1\n")
        contents = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: other\n",
            "RECORD": f"{name}.py,,\n{info.name}/METADATA,,\n__pycache__/{name}.pyc,,\n",
            "INSTALLER": "pip\n",
            **files,
        }
        for file, text in contents.items():
            if text is not None:
                (info / file.replace("_json", ".json")).write_text(text)
        self.settle()
        return info

    def settle(self) -> None:
        """Make everything old enough that an unchanged mtime proves an unchanged file."""
        past = time.time_ns() - 10**9
        for root, folders, names in os.walk(self.prefix, topdown=False):
            for name in (*names, *folders):
                path = os.path.join(root, name)
                if os.lstat(path).st_mtime_ns > past:
                    os.utime(path, ns=(past, past))

    def scan(self) -> dict[str, Any]:
        site = str(self.site)
        return scan_environment({"prefix": str(self.prefix), "purelib": site, "platlib": site})

    def installed(self) -> dict[str, Installed]:
        return {found.name: found for found in installed_from_wire(self.scan())}


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "env")


def test_a_plain_distribution(env: Environment) -> None:
    """What pip installed has an unknown origin and satisfies unhashed pins only."""
    info = env.add("demo", "1.0")
    assert env.installed() == {"demo": Installed("demo", "1.0", str(info), installer="pip")}


def test_an_empty_environment_and_none(env: Environment, tmp_path: Path) -> None:
    """A new environment has no site-packages yet; a missing one is an error, not an empty one."""
    assert env.scan()["distributions"] == []
    shutil.rmtree(env.site)
    assert env.scan()["distributions"] == []
    with pytest.raises(PkgcError) as caught:
        scan_environment({"prefix": str(tmp_path / "no"), "purelib": "/no/a", "platlib": "/no/a"})
    assert caught.value.code == "not-an-environment"


@pytest.mark.parametrize(
    ("folder", "name", "version"),
    [
        ("My.Demo_x-1.0.dist-info", "my-demo-x", "1.0"),
        ("demo-x-1.0.dist-info", "demo", "9"),
        ("demo-1.0-1.dist-info", "demo", "9"),
        ("demo-1.0_local.dist-info", "demo", "9"),
        ("demo.dist-info", "demo", "9"),
        ("demo-1.0+cu118.dist-info", "demo", "1.0+cu118"),
        ("demo-1!2.0rc1.post2.dev3.dist-info", "demo", "1!2.0rc1.post2.dev3"),
    ],
)
def test_folder_names_need_not_be_normalized(env: Environment, folder: str, name: str, version: str) -> None:
    """D1: METADATA decides where the folder's name does not; else the same version is installed again."""
    env.add("demo", "9", folder)
    assert [(found.name, found.version) for found in env.installed().values()] == [(name, version)]


def test_provenance_gives_origin_and_hashes(env: Environment) -> None:
    """Invariant 4: an installation counts only with the recorded sha256."""
    told = {
        "url": "https://user:secret@host/files/demo-1.0-py3-none-any.whl",
        "archive_info": {"hashes": {"SHA256": SHA.upper(), "weird": "zz", "md5": 7}},
        "pkgc": {"index": "https://user:secret@host/simple/"},
    }
    env.add("demo", "1.0", provenance_url_json=json.dumps(told))
    found = env.installed()["demo"]
    assert found.hashes == {Digest("sha256", SHA)}
    assert found.origin == Origin(
        "index", "https://host/files/demo-1.0-py3-none-any.whl", "https://host/simple/"
    )
    assert not found.direct


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 3}', "[" * 100_000, '{"url": "\\ud800"}'])
def test_garbage_in_records_is_an_unknown_origin(env: Environment, text: str) -> None:
    """It must not stop a sync that would repair it, nor pass for a match."""
    env.add("demo", "1.0", provenance_url_json=text)
    env.add("other", "1.0", direct_url_json=text)
    found = env.installed()
    assert (found["demo"].origin, found["demo"].hashes, found["demo"].direct) == (None, frozenset(), False)
    assert (found["other"].origin, found["other"].direct) == (None, True)


def test_damage_is_seen(env: Environment) -> None:
    """Invariant 5: never 'up to date' over a half-installed package."""
    env.add("whole", "1.0")
    env.add("no-metadata", "1.0", "no_metadata-1.0.dist-info", METADATA=None)
    env.add("gone", "1.0")
    record = (
        "tool-1.0.dist-info/METADATA,,\ntool.py,,\n../../../bin/tool,,\n"
        '../../../share/doc,,\n../../../../elsewhere,,\n"we,ird.py",,\n'
    )
    env.add("tool", "1.0", RECORD=record)
    (env.site / "we,ird.py").write_text("")
    (env.prefix / "bin" / "tool").write_text("")
    (env.prefix / "share").mkdir()
    (env.prefix / "share" / "doc").write_text("")
    assert env.installed()["tool"].damaged is None
    (env.prefix / "bin" / "tool").unlink()
    (env.site / "gone.py").unlink()
    found = env.installed()
    assert found["whole"].damaged is None
    assert found["no-metadata"].damaged == "METADATA is missing"
    assert "gone.py" in (found["gone"].damaged or "")
    assert "bin/tool" in (found["tool"].damaged or "")


def test_two_records_of_one_project_are_both_reported(env: Environment) -> None:
    """Whose files are there cannot be told."""
    env.add("demo", "1.0")
    env.add("demo", "2.0")
    found = installed_from_wire(env.scan())
    assert [one.version for one in found] == ["1.0", "2.0"]
    assert all("more than once" in (one.damaged or "") for one in found)


def test_without_record_nothing_is_removable(env: Environment) -> None:
    """D2."""
    env.add("demo", "1.0", RECORD=None)
    found = env.installed()["demo"]
    assert (found.removable, found.obstacle, found.damaged) == (False, "RECORD is missing", None)


def test_older_forms(env: Environment, tmp_path: Path) -> None:
    """Distributions of setuptools and distutils are installed too."""
    site = env.site
    develop = tmp_path / "src"
    (develop / "my_dev.egg-info").mkdir(parents=True)
    (develop / "my_dev.egg-info" / "PKG-INFO").write_text("Name: my_dev\nVersion: 3.1\n")
    (site / "my-dev.egg-link").write_text(f"{develop}\n.")
    (site / "lost.egg-link").write_text("/nosuch\n.")
    for name, more in (("legacy_a-1.0-py3.12.egg-info", "installed-files.txt"), ("b_x-2.0.egg-info", "x")):
        (site / name).mkdir()
        (site / name / more).write_text("")
    (site / "Dist_U-4-py3.12.egg-info").write_text("Name: Dist-U\nVersion: 4.0\n")
    (site / "easy-5.0-py3.12.egg" / "EGG-INFO").mkdir(parents=True)
    (site / "~emo-1.0.dist-info").mkdir()
    found = {name: (one.version, one.direct, one.removable) for name, one in env.installed().items()}
    assert found == {
        "my-dev": ("3.1", True, False),
        "lost": ("0", True, False),
        "legacy-a": ("1.0", False, True),
        "b-x": ("2.0", False, False),
        "dist-u": ("4.0", False, False),
        "easy": ("5.0", False, False),
    }


def test_fingerprint_follows_every_change_and_only_changes(env: Environment) -> None:
    """It guards a plan: a missed change means files of somebody else are overwritten."""
    info = env.add("demo", "1.0", provenance_url_json="{}")
    seen = [env.scan()["fingerprint"]]

    def changed() -> None:
        seen.append(env.scan()["fingerprint"])
        assert len(set(seen)) == len(seen)

    scan._sites.clear()  # as another process sees it
    assert env.scan()["fingerprint"] == seen[0]
    (env.site / "__pycache__").mkdir()
    assert env.scan()["fingerprint"] == seen[0]
    (info / "RECORD").write_text("other.py,,\n")
    changed()
    (info / "provenance_url.json").write_text('{"x": 1}')
    changed()
    (info / "REQUESTED").write_text("")
    changed()
    (env.site / "user.py").write_text("")
    changed()
    (env.prefix / "bin" / "x").write_text("")
    changed()
    (env.prefix / "pyvenv.cfg").write_text("home = /elsewhere\n")
    changed()
    (env.prefix / ".pkgc").mkdir()
    (env.prefix / ".pkgc" / "journal").write_text("")
    changed()
    env.add("second", "1.0")
    changed()
    shutil.rmtree(info)
    changed()
    assert env.scan()["interrupted"]


def test_a_change_right_after_the_scan_is_seen(env: Environment) -> None:
    """Two writes within one tick of the clock leave the same mtime."""
    info = env.add("demo", "1.0", provenance_url_json=json.dumps({"url": "https://h/a"}))
    file = info / "provenance_url.json"
    now = time.time_ns() + 10**9  # as if a tick of the clock lasted a second
    os.utime(file, ns=(now, now))
    assert env.installed()["demo"].origin == Origin("index", "https://h/a")
    file.write_text(json.dumps({"url": "https://h/b"}))
    os.utime(file, ns=(now, now))
    assert env.installed()["demo"].origin == Origin("index", "https://h/b")


def test_a_warm_scan_reads_no_file(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no-op sync of 97 packages has two milliseconds for it."""
    for number in range(20):
        env.add(f"demo{number}", "1.0")
    first = env.scan()
    monkeypatch.setattr(scan, "read_distribution", None)
    assert env.scan() == first
    monkeypatch.undo()
    first["distributions"][0]["damaged"] = "changed by a caller"
    assert env.scan()["distributions"][0]["damaged"] is None


def test_lib64_is_scanned_when_it_is_another_directory(env: Environment) -> None:
    """And once only when it is a link to lib."""
    env.add("demo", "1.0")
    (env.prefix / "lib64").symlink_to("lib")
    arguments = {"prefix": str(env.prefix), "purelib": str(env.site)}
    linked = str(env.prefix / "lib64" / "python3.12" / "site-packages")
    assert len(scan_environment({**arguments, "platlib": linked})["distributions"]) == 1
    other = env.prefix / "plat"
    shutil.copytree(env.site, other)
    assert len(scan_environment({**arguments, "platlib": str(other)})["distributions"]) == 2


@pytest.mark.parametrize(
    ("config", "seeded"),
    [
        ("home = /usr/bin\n", True),
        ("HOME=/usr\nversion=3\n", True),
        ("home = /usr/bin\nuv = 0.13.8\n", False),
        ("home = /usr/bin\nuv = 0.13.8\nseed = true\n", True),
        ("home = /usr/bin\npkgc = 0.1.0\n", False),
        ("", False),
    ],
)
def test_seeds_belong_to_who_made_the_environment(config: str, seeded: bool) -> None:
    """Removing pip from an environment of `python -m venv` would surprise; uv spares it too."""
    assert is_seeded(parse_pyvenv(config)) is seeded


@pytest.mark.parametrize(
    "wire", [{}, {"distributions": [{}]}, {"distributions": [3]}, {"distributions": None}]
)
def test_a_hostile_answer_is_an_error(wire: dict[str, Any]) -> None:
    """It may come from another user's client."""
    with pytest.raises(PkgcError) as caught:
        installed_from_wire(wire)
    assert caught.value.code == "scan-failed"


@given(
    record=st.text(),
    metadata=st.text(),
    told=st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_of_records_crashes_a_scan(
    tmp_path_factory: pytest.TempPathFactory, record: str, metadata: str, told: str
) -> None:
    """An environment that cannot be scanned cannot be repaired."""
    env = Environment(tmp_path_factory.mktemp("wild") / "env")
    info = env.add("demo", "x_y")
    for name, text in (("RECORD", record), ("METADATA", metadata), ("direct_url.json", told)):
        (info / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    wire = env.scan()
    json.dumps(wire, ensure_ascii=False).encode("utf-8")
    assert len(installed_from_wire(wire)) == 1
