"""`pkgc why`: where a package came from, who asked for it, and whether its files are still those."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import interpreters
from tests.support.gitserver import Repository, needs_git
from tests.support.instance import Instance, snapshot
from tests.support.lockfiles import pylock, wheel_package
from tests.support.locks import failure, impatient, make_venv, output_of, pin, site
from tests.support.peertools import UV, run, uv_environment
from tests.support.sdists import make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module."""
    host_calls = request.param == "client-acts"
    with impatient(tmp_path_factory.mktemp("why") / "pkgc", host_calls=host_calls) as instance:
        yield instance


@dataclass(frozen=True)
class Synced:
    """An environment with a package of every origin, and what is true of each: name -> key -> value."""

    venv: Path
    lock: Path
    facts: Mapping[str, Mapping[str, Any]]
    server: IndexServer


@pytest.fixture(scope="module")
def synced(pkgc: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    """Sync one lock with every kind of line."""
    root = tmp_path_factory.mktemp("every-origin")
    wheels = {
        name: make_wheel(name, "1.0", {f"{name}.py": "x = 1\n"})
        for name in ("indexed", "linked", "direct", "local")
    }
    with IndexServer() as server:
        server.add(wheels["indexed"].data, wheels["indexed"].filename)
        direct = server.add(wheels["direct"].data, wheels["direct"].filename, index="other")
        sdist, tool = make_sdist("sourced", "1.0", requires=["tool"]), make_wheel("tool", "3.0")
        source = server.add(sdist.data, sdist.filename)
        server.add(tool.data, tool.filename)
        links = wheels["linked"].write_to(root / "links").parent
        local = wheels["local"].write_to(root)
        for name in ("folder", "edited"):
            for path, data in project_files(name, "1.0").items():
                (root / name / path).parent.mkdir(parents=True, exist_ok=True)
                (root / name / path).write_bytes(data)
        repository = Repository(root / "repository")
        files = {f"sub/{path}": data.decode() for path, data in project_files("cloned", "1.0").items()}
        commit = repository.commit(files)
        git = f"git+file://{repository.folder}@main#subdirectory=sub"
        lines = {
            "indexed": "indexed==1.0",
            "linked": "linked==1.0",
            "direct": f"direct @ {direct}",
            "local": str(local),
            "folder": f"folder @ file://{root}/folder",
            "edited": f"-e {root}/edited",
            "cloned": f"cloned @ {git}",
            "sourced": "sourced==1.0",
        }
        facts: dict[str, dict[str, Any]] = {
            "indexed": {"kind": "index", "url": server.file_url(wheels["indexed"].filename)},
            "linked": {"kind": "find-links", "url": f"file://{links}/{wheels['linked'].filename}"},
            "direct": {"kind": "url", "url": direct},
            "local": {"kind": "path", "url": f"file://{local}"},
            "folder": {"kind": "directory", "url": f"file://{root}/folder"},
            "edited": {"kind": "directory", "url": f"file://{root}/edited", "editable": True},
            "cloned": {
                "kind": "vcs",
                "url": f"file://{repository.folder}",
                "commit": commit,
                "requested": "main",
                "subdirectory": "sub",
            },
            "sourced": {"kind": "index", "url": source},
        }
        for name, told in facts.items():
            told["text"] = lines[name]
            told["sha256"] = wheels[name].sha256 if name in wheels else None
        facts["sourced"]["sha256"] = sdist.sha256
        facts["sourced"]["requires"] = [{"name": "tool", "version": "3.0", "sha256": tool.sha256}]
        lock = pkgc.requirements(*lines.values(), name="every.txt")
        venv = make_venv(root / "venv", interpreters.running().path)
        pkgc.sync(lock, "--venv", venv, "-i", server.url, "-f", links)
        yield Synced(venv, lock, facts, server)


def why(pkgc: Instance, venv: Path, *names: str) -> list[dict[str, Any]]:
    """The packages that ``pkgc why`` tells of, as JSON has them."""
    answer = pkgc.ok("why", *names, "--venv", venv, "--output-format", "json").json
    assert answer["ok"] is True
    packages: list[dict[str, Any]] = answer["packages"]
    return packages


def told(pkgc: Instance, venv: Path, *names: str) -> dict[str, str]:
    """key -> value of the text for one package."""
    text = pkgc.ok("why", *names, "--venv", venv).out
    rows = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    return {key.strip(): value.strip() for key, _, value in (row.partition("  ") for row in rows)}


KINDS = {
    "indexed": "from an index",
    "linked": "from find-links",
    "direct": "a direct URL",
    "local": "a local file",
    "folder": "a directory",
    "edited": "a directory, editable",
    "cloned": "a repository",
    "sourced": "from an index",
}


@needs_git
@pytest.mark.parametrize("name", KINDS)
def test_every_origin(pkgc: Instance, synced: Synced, name: str) -> None:
    """Complaint 4: "where did this come from" has an answer, for people and for programs, whatever it is."""
    facts = synced.facts[name]
    (package,) = why(pkgc, synced.venv, name)
    assert (package["name"], package["version"], package["installer"]) == (name, "1.0", "pkgc")
    assert package["origin"]["kind"] == facts["kind"]
    assert package["origin"]["url"] == facts["url"]
    assert package["hashes"].get("sha256") == facts["sha256"]
    for key in ("commit", "requested", "subdirectory"):
        assert package[key] == facts.get(key), key
    assert package["editable"] is facts.get("editable", False)
    assert package["asked_by"]["text"] == facts["text"]
    assert package["asked_by"]["place"].rpartition(":")[0] == str(synced.lock)
    assert package["damaged"] is None
    assert package["files"]["bad"] == 0
    assert package["files"]["checked"] >= 4
    text = told(pkgc, synced.venv, name)
    assert text["installed by"] == "pkgc"
    assert text["from"] == f"{facts['url']} ({KINDS[name]})"
    assert text["files"] == f"all {package['files']['checked']} files match"
    assert text["asked for by"] == f"{package['asked_by']['place']}: {facts['text']}"
    assert text.get("sha256") == facts["sha256"]
    assert ("fetched" in text) is (facts["sha256"] is not None)
    if facts["kind"] == "index":
        assert (package["origin"]["index"], text["index"]) == (synced.server.url, synced.server.url)
    if name == "cloned":
        assert text["commit"] == f"{facts['commit']} (of main)"
        assert text["subdirectory"] == "sub"


@needs_git
def test_what_was_built_here(pkgc: Instance, synced: Synced) -> None:
    """A wheel from source is what its build requirements made of it: they are told with their hashes."""
    for name in ("sourced", "folder", "edited", "cloned"):
        (package,) = why(pkgc, synced.venv, name)
        built = package["built"]
        assert len(built["sha256"]) == 64, name
        assert built["filename"] == f"{name}-1.0-py3-none-any.whl"
        assert built["requires"] == synced.facts[name].get("requires", []), name
        text = told(pkgc, synced.venv, name)
        assert text["built"].startswith("here 2"), name
        assert text["wheel"] == f"{built['filename']} sha256:{built['sha256']}"
        for one in built["requires"]:
            assert text["built with"] == f"{one['name']} {one['version']} sha256:{one['sha256']}"
    assert why(pkgc, synced.venv, "direct")[0]["built"] is None


@needs_git
def test_several_names_and_unknown_ones(pkgc: Instance, synced: Synced) -> None:
    """In any spelling, in the order asked for; a name that is not there is an error, after the others."""
    names = [one["name"] for one in why(pkgc, synced.venv, "Local", "indexed")]
    assert names == ["local", "indexed"]
    result = pkgc.run("why", "indexed", "lokal", "nothing", "--venv", synced.venv)
    assert result.status == 1
    assert result.out.startswith("indexed 1.0\n")
    assert "lokal, nothing are not installed" in result.err
    assert "did you mean local?" in result.err
    json_result = pkgc.run("why", "indexed", "lokal", "--venv", synced.venv, "--output-format", "json")
    assert (json_result.status, json_result.json["ok"]) == (1, False)
    assert json_result.error_code == "not-installed"
    assert [one["name"] for one in json_result.json["packages"]] == ["indexed"]
    assert failure(pkgc, "why", "x", "--venv", synced.venv.parent / "no")["code"] == "no-environment"
    assert failure(pkgc, "why", "--venv", synced.venv)["exit"] == 2
    assert failure(pkgc, "why", "a/b", "--venv", synced.venv)["exit"] == 2


def test_it_asks_nobody_and_changes_nothing(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Looking must be safe at any time, with every server down and in a read-only shell."""
    wheel = make_wheel("looked-at", "1.0")
    index.add(wheel.data, wheel.filename)
    venv = tmp_path / "venv"
    pkgc.sync(pkgc.requirements("looked-at==1.0"), "--venv", venv, "-i", index.url)
    index.stop()
    before = snapshot(venv)
    why(pkgc, venv, "looked-at")
    assert snapshot(venv) == before
    env = {"VIRTUAL_ENV": str(venv)}
    assert "looked-at 1.0" in pkgc.ok("why", "looked_at", env=env).out


def test_changed_and_missing_files(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """T23: an edited file in site-packages is found when somebody asks, and named; bytecode is no change."""
    files = {f"touched/{name}.py": f"{name} = 1\n" for name in ("__init__", "kept", "edited", "lost")}
    wheel = make_wheel("touched", "1.0", files, entry_points="[console_scripts]\ntouched = touched:main\n")
    index.add(wheel.data, wheel.filename)
    venv = tmp_path / "venv"
    pkgc.sync(pkgc.requirements("touched==1.0"), "--venv", venv, "-i", index.url)
    output_of(venv / "bin/python", "-c", "import touched.kept")
    assert why(pkgc, venv, "touched")[0]["files"]["bad"] == 0
    (site(venv) / "touched/lost.py").unlink()
    (site(venv) / "touched/edited.py").chmod(0o644)
    (site(venv) / "touched/edited.py").write_text("edited = 2\n")
    (venv / "bin/touched").unlink()
    (package,) = why(pkgc, venv, "touched")
    assert package["files"]["bad"] == 3
    assert package["files"]["changed"] == ["touched/edited.py"]
    assert sorted(Path(path).name for path in package["files"]["missing"]) == ["lost.py", "touched"]
    result = pkgc.ok("why", "touched", "--venv", venv)
    assert f"3 of {package['files']['checked']} files are not what was installed" in result.out
    assert "changed touched/edited.py" in result.out
    assert "missing touched/lost.py" in result.out
    pkgc.sync(pkgc.requirements("touched==1.0"), "--venv", venv, "-i", index.url, "--reinstall")
    assert why(pkgc, venv, "touched")[0]["files"]["bad"] == 0


def test_who_asked_for_it_last(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The line is that of the last lock that was synced, also when it changed nothing else; what no lock of
    pkgc put there has none."""
    wheel = make_wheel("asked", "1.0")
    index.add(wheel.data, wheel.filename)
    venv = tmp_path / "venv"
    first = pkgc.requirements("# a comment", "asked==1.0", name="first.txt")
    pkgc.sync(first, "--venv", venv, "-i", index.url)
    (one,) = why(pkgc, venv, "asked")
    assert (one["asked_by"]["place"], one["asked_by"]["text"]) == (f"{first}:2", "asked==1.0")
    second = pkgc.requirements("asked >= 1.0, == 1.0", name="second.txt")
    assert pkgc.sync(second, "--venv", venv, "-i", index.url)["kept"] == 1
    (two,) = why(pkgc, venv, "asked")
    assert (two["asked_by"]["place"], two["asked_by"]["text"]) == (f"{second}:1", "asked >= 1.0, == 1.0")
    assert two["fetched_at"] == one["fetched_at"]
    third = tmp_path / "pylock.toml"
    third.write_text(pylock(wheel_package(wheel, index.file_url(wheel.filename))))
    assert pkgc.sync(third, "--venv", venv)["kept"] == 1
    assert str(third) in why(pkgc, venv, "asked")[0]["asked_by"]["place"]
    pkgc.ok("daemon", "stop")
    assert str(third) in why(pkgc, venv, "asked")[0]["asked_by"]["place"], "it survives the daemon"
    other = make_wheel("asked", "2.0")
    index.add(other.data, other.filename)
    install_by_uv(venv, tmp_path, index, "asked==2.0")
    (gone,) = why(pkgc, venv, "asked")
    assert (gone["version"], gone["asked_by"], gone["origin"]) == ("2.0", None, None)


def install_by_uv(venv: Path, work: Path, index: IndexServer, *what: str) -> None:
    """``uv pip install`` into an environment."""
    command = [str(UV), "pip", "install", "--no-deps", "--default-index", index.url, *what]
    run(command, uv_environment(work / "uv-cache", VIRTUAL_ENV=str(venv)))


def test_an_environment_that_uv_made(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Whoever comes from uv sees what its records tell, and that they tell nothing of index and hash."""
    wheels = {name: make_wheel(name, "1.0") for name in ("plain", "linked")}
    for wheel in wheels.values():
        index.add(wheel.data, wheel.filename)
    venv = tmp_path / "venv"
    run([str(UV), "venv", "--quiet", str(venv)], uv_environment(tmp_path / "uv-cache"))
    url = index.file_url(wheels["linked"].filename)
    install_by_uv(venv, tmp_path, index, "plain==1.0", f"linked @ {url}")
    plain, linked = why(pkgc, venv, "plain", "linked")
    assert (plain["installer"], plain["origin"], plain["hashes"]) == ("uv", None, {})
    assert plain["files"]["bad"] == 0
    assert (linked["origin"]["kind"], linked["origin"]["url"]) == ("url", url)
    assert linked["asked_by"] is plain["asked_by"] is None
    text = told(pkgc, venv, "plain")
    assert text["installed by"] == "uv"
    assert text["from"] == "unknown: its installer recorded nothing"
    assert text["asked for by"] == "no lock that pkgc knows of"


def test_bytes_that_came_by_a_url_once(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A hashed pin that the cache serves without an index did not come from one, and is not said to."""
    wheel = make_wheel("once", "1.0")
    url = index.add(wheel.data, wheel.filename, index="elsewhere")
    pkgc.ok("fetch", pkgc.requirements(f"once @ {url}"))
    venv = tmp_path / "venv"
    pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", venv, "--offline")
    assert not list(site(venv).glob("*/direct_url.json")), "the lock names a version, not a URL (PEP 610)"
    (package,) = why(pkgc, venv, "once")
    assert (package["origin"]["kind"], package["origin"]["url"]) == ("url", url)
    assert told(pkgc, venv, "once")["from"] == f"{url} (a direct URL)"
    assert pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", venv, "--offline")["kept"] == 1


def test_credentials_in_a_lock_are_not_told(pkgc: Instance, tmp_path: Path) -> None:
    """The line that asked is shown; the token in it is not."""
    with IndexServer(auth=("me", "s3cret")) as index:
        wheel = make_wheel("token", "1.0")
        index.add(wheel.data, wheel.filename)
        url = index.file_url(wheel.filename).replace("//", "//me:s3cret@")
        venv = tmp_path / "venv"
        pkgc.sync(pkgc.requirements(f"token @ {url}", name="secret.txt"), "--venv", venv)
        for form in ("text", "json"):
            result = pkgc.ok("why", "token", "--venv", venv, "--output-format", form)
            assert "s3cret" not in result.out + result.err
            assert wheel.filename in result.out
        record = json.loads((site(venv) / "token-1.0.dist-info/direct_url.json").read_text())
        assert "s3cret" not in json.dumps(record)
