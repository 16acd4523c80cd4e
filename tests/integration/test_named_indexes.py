"""Indexes with names: who serves what, which never stands in for which, and how fresh their pages are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import Instance
from tests.support.locks import IMPATIENT, failure, holds, impatient, pin, site
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

SECRET = "s3cret"


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module; every test has a server of its own."""
    host_calls = request.param == "client-acts"
    with impatient(tmp_path_factory.mktemp("named") / "pkgc", host_calls=host_calls) as instance:
        yield instance


@pytest.fixture(autouse=True)
def no_config(pkgc: Instance) -> None:
    """No test finds the indexes of another one in config.toml."""
    configure(pkgc)


def configure(pkgc: Instance, text: str = "") -> None:
    """Write config.toml."""
    (pkgc.root / "config.toml").write_text(f"{text}\n{IMPATIENT}")


def entry(name: str, url: str, **more: Any) -> str:
    """An ``[[index]]`` of config.toml."""
    lines = ["[[index]]", f'name = "{name}"', f'url = "{url}"']
    for key, value in more.items():
        text = f"{{ pages = {json.dumps(value)} }}" if key == "pages" else json.dumps(value)
        lines.append(f"{'cache-control' if key == 'pages' else key} = {text}")
    return "\n".join(lines) + "\n"


def offer(index: IndexServer, name: str, version: str = "1.0", *where: str) -> dict[str, BuiltWheel]:
    """A wheel of its own bytes on each of these indexes of the server."""
    wheels = {at: make_wheel(name, version, {f"{name}.py": f"at = {at!r}\n"}) for at in where}
    for at, wheel in wheels.items():
        index.add(wheel.data, wheel.filename, index=at)
    return wheels


def served(pkgc: Instance, *args: str | Path, **options: Any) -> dict[str, str]:
    """project -> the index that `pkgc fetch` of requirements.txt took it from."""
    lock = pkgc.root / "requirements.txt"
    answer = pkgc.ok("fetch", lock, *args, "--output-format", "json", **options).json
    return {one["name"]: one["url"].split("/files/")[1].split("/")[0] for one in answer["fetched"]}


def asked(index: IndexServer) -> set[str]:
    """The indexes of the server whose pages were asked for, since its log was cleared."""
    found = {hit.path.split("/")[1] for hit in index.log if hit.path.endswith("/")}
    index.clear_log()
    return found


@pytest.mark.parametrize("way", ["option", "variable", "config list", "config table"])
def test_an_index_with_a_name_is_asked_first(pkgc: Instance, index: IndexServer, way: str) -> None:
    """The company's index goes before the public one, wherever it was defined: it decides what an unhashed
    name is."""
    name = "first" + way.replace(" ", "")
    offer(index, name, "1.0", "corp", "public")
    offer(index, f"{name}p", "1.0", "public")
    url = index.index_url("corp")
    configure(
        pkgc,
        {"config list": f'index = ["corp={url}"]', "config table": entry("corp", url)}.get(way, ""),
    )
    args = ["--index", f"corp={url}"] if way == "option" else []
    env = {"PKGC_INDEX": f"corp={url}"} if way == "variable" else {}
    pkgc.requirements(f"{name}==1.0", f"{name}p==1.0")
    found = served(pkgc, *args, "-i", index.index_url("public"), env=env)
    assert found == {name: "corp", f"{name}p": "public"}
    assert index.page_requests(name, "public") == []


def test_explicit_default_and_packages(pkgc: Instance, index: IndexServer) -> None:
    """An explicit index sees no name but those that are pinned to it; a default one takes PyPI's place."""
    offer(index, "torchy", "1.0", "gpu", "main")
    offer(index, "plainy", "1.0", "gpu", "main")
    configure(
        pkgc,
        entry("gpu", index.index_url("gpu"), explicit=True, packages=["Torchy"])
        + entry("main", index.index_url("main"), default=True),
    )
    pkgc.requirements("torchy==1.0", "plainy==1.0")
    assert served(pkgc) == {"torchy": "gpu", "plainy": "main"}
    assert index.page_requests("plainy", "gpu") == []
    assert index.page_requests("torchy", "main") == []
    # the command line takes the place of the default one, and leaves the pins alone
    offer(index, "plainy", "1.0", "elsewhere")
    assert served(pkgc, "-i", index.index_url("elsewhere")) == {"torchy": "gpu", "plainy": "elsewhere"}


@pytest.mark.parametrize("way", ["option", "variable", "config key", "config packages"])
@pytest.mark.parametrize("hashed", [False, True], ids=["unhashed", "hashed"])
def test_a_pinned_project_never_comes_from_elsewhere(
    pkgc: Instance, index: IndexServer, tmp_path: Path, way: str, hashed: bool
) -> None:
    """Dependency confusion: whoever uploads the name (or a higher version of it) elsewhere gets nowhere, and
    neither does a missing release or an outage of the right index."""
    name = f"ours_{way}_{hashed}".replace(" ", "_").lower()
    project, url = name.replace("_", "-"), index.index_url("corp")
    wheels = offer(index, name, "1.0", "public", "extra") | offer(index, name, "0.9", "corp")
    offer(index, name, "2.0", "public")
    config = entry("corp", url, explicit=True, packages=[name] if way == "config packages" else [])
    configure(pkgc, (f'pin-index = ["{name}=corp"]\n' if way == "config key" else "") + config)
    args: list[str | Path] = ["-i", index.index_url("public"), "--extra-index-url", index.index_url("extra")]
    args += ["-f", wheels["public"].write_to(tmp_path).parent]
    args += ["--pin-index", f"{name}=corp"] if way == "option" else []
    env = {"PKGC_PIN_INDEX": f"{name}=corp"} if way == "variable" else {}
    line = pin(wheels["public"], hashed=hashed)
    lock = pkgc.requirements(line)
    error = failure(pkgc, "fetch", lock, *args, env=env)
    assert error["code"] == "no-matching-version"
    assert f"pinned to the index corp ({url})" in error["everything"]
    index.remove(f"{name}-0.9-py3-none-any.whl", index="corp")
    assert failure(pkgc, "fetch", lock, *args, env=env)["code"] in ("unknown-package", "no-matching-version")
    index.behave(f"/corp/{project}/", Behaviour(times=None, status=503))
    assert failure(pkgc, "fetch", lock, *args, env=env)["code"] == "index-error"
    assert asked(index) == {"corp"}
    index.behave_well()
    mine = offer(index, name, "1.0", "corp")["corp"]
    pkgc.requirements(pin(mine, hashed=hashed))
    assert served(pkgc, *args, env=env) == {project: "corp"}
    assert asked(index) == {"corp"}


def test_an_unhashed_pin_takes_the_first_index_that_has_the_name(pkgc: Instance, index: IndexServer) -> None:
    """A later index with that very version has no say; with a hash every index may serve, because the hash
    decides."""
    offer(index, "shared", "1.0", "second")
    offer(index, "shared", "0.9", "first")
    args = [f"--index={at}={index.index_url(at)}" for at in ("empty", "first", "second")]
    pkgc.requirements("shared==1.0")
    error = failure(pkgc, "fetch", pkgc.root / "requirements.txt", *args, "-i", index.index_url("last"))
    assert error["code"] == "no-matching-version"
    assert asked(index) == {"empty", "first"}
    wheel = make_wheel("shared", "1.0", {"shared.py": "at = 'second'\n"})
    pkgc.requirements(pin(wheel))
    assert served(pkgc, *args, "-i", index.index_url("last")) == {"shared": "second"}
    pkgc.requirements("shared==0.9")
    assert served(pkgc, *args, "-i", index.index_url("last")) == {"shared": "first"}


def test_names_that_no_index_has(pkgc: Instance, index: IndexServer) -> None:
    """A typo in a pin must not end in the public index: it is an error, with what was perhaps meant."""
    url = index.index_url("corp")
    lock = pkgc.requirements("whatever==1.0")
    error = failure(pkgc, "fetch", lock, "--index", f"corp={url}", "--pin-index", "whatever=crop")
    assert (error["code"], error["exit"]) == ("unknown-index", 2)
    assert "did you mean corp?" in error["hint"]
    configure(pkgc, 'pin-index = ["whatever=corp"]')
    error = failure(pkgc, "fetch", lock, "-i", url)
    assert error["code"] == "unknown-index"
    for wrong in ("whatever", "what ever=corp", "whatever=a/b", "=corp"):
        configure(pkgc)
        error = failure(pkgc, "fetch", lock, "--index", f"corp={url}", "--pin-index", wrong)
        assert error["exit"] == 2, wrong
        assert "--pin-index" in error["everything"]
    for text in (
        entry("corp", url) + entry("corp", url),
        entry("a", url, default=True) + entry("b", url, default=True),
        entry("a", url, packages=["x"]) + entry("b", url, packages=["X"]),
        entry("a", url, default=True, explicit=True),
        entry("a", url, pages="max-age=ever"),
        entry("a", url, pages="immutable"),
        entry("a/b", url),
        '[[index]]\nname = "a"\n',
        '[[index]]\nname = "a"\nurl = "ftp://x/"\n',
    ):
        configure(pkgc, text)
        error = failure(pkgc, "fetch", lock, "-i", url)
        assert (error["code"], error["exit"]) == ("invalid-config", 2), text
        assert str(pkgc.root / "config.toml") in error["everything"]
    assert index.log == []


def test_the_command_line_moves_an_index(pkgc: Instance, index: IndexServer) -> None:
    """A mirror for one run: its name keeps what config.toml says of it, pins and explicitness above all."""
    offer(index, "mirrored", "1.0", "mirror", "main")
    offer(index, "normal", "1.0", "mirror", "main")
    configure(pkgc, entry("corp", index.index_url("gone"), explicit=True, packages=["mirrored"]))
    pkgc.requirements("mirrored==1.0", "normal==1.0")
    found = served(pkgc, "--index", f"corp={index.index_url('mirror')}", "-i", index.index_url("main"))
    assert found == {"mirrored": "mirror", "normal": "main"}
    assert index.page_requests("", "gone") == []


def test_a_folder_can_be_an_index_with_a_name(pkgc: Instance, index: IndexServer) -> None:
    """Air-gapped hosts have a folder where others have a server."""
    wheel = make_wheel("shelved", "1.0")
    wheel.write_to(pkgc.root / "shelf" / "shelved")
    (pkgc.root / "shelf" / "shelved" / "index.html").write_text(f'<a href="{wheel.filename}">x</a>')
    configure(pkgc, entry("shelf", "./shelf", explicit=True, packages=["shelved"]))
    lock = pkgc.requirements("shelved==1.0")
    answer = pkgc.ok("fetch", lock, "-i", index.url, "--output-format", "json").json
    assert [one["sha256"] for one in answer["fetched"]] == [wheel.sha256]
    assert index.log == []
    error = failure(pkgc, "fetch", pkgc.requirements("shelved==1.0"), "--no-index")
    assert "--no-index" in error["everything"]


def counted(pkgc: Instance, index: IndexServer, *args: str | Path, times: int = 3) -> int:
    """The page requests of several syncs, of an environment that is right already and of a new one."""
    index.clear_log()
    lock = pkgc.root / "requirements.txt"
    for number in range(times):
        venv = pkgc.root / f"venvs/{'same' if number else 'new'}-{index.port}"
        pkgc.sync(lock, "--venv", venv, *args)
    return len(index.page_requests())


def test_pages_of_an_index_that_says_no_store(pkgc: Instance) -> None:
    """Complaint 5: an index whose headers forbid to keep anything costs a page request a sync, at most, and
    with a rule in config.toml one in ten minutes; the file is fetched once, whatever the headers."""
    with IndexServer(page_headers={"Cache-Control": "no-store"}) as index:
        wheel = make_wheel("unkept", "1.0")
        index.add(wheel.data, wheel.filename)
        index.behave(wheel.filename, Behaviour(times=None, headers={"Cache-Control": "no-store"}))
        pkgc.requirements("unkept==1.0")
        assert counted(pkgc, index, "-i", index.url) == 3
        assert len(index.requests_for(wheel.filename)) == 1
        configure(pkgc, entry("slow", index.url, pages="max-age=600"))
        assert counted(pkgc, index) == 1
        assert index.requests_for(wheel.filename) == []
        assert counted(pkgc, index) == 0
        assert counted(pkgc, index, "--refresh", times=1) == 1, "asked for, whatever the rule"
        configure(pkgc)
        assert counted(pkgc, index, "-i", index.url) == 3, "what the rule let be kept serves only the rule"


def test_a_rule_that_is_stricter_than_the_index(pkgc: Instance) -> None:
    """An index that lets pages be kept for a day hides a fresh release from its own company for that long."""
    with IndexServer(page_headers={"Cache-Control": "max-age=86400"}) as index:
        old = make_wheel("daily", "1.0")
        index.add(old.data, old.filename)
        pkgc.requirements("daily==1.0")
        assert counted(pkgc, index, "-i", index.url) == 1
        configure(pkgc, entry("strict", index.url, pages="no-cache"))
        assert counted(pkgc, index) == 3
        assert {hit.status for hit in index.page_requests()} <= {200, 304}


def test_credentials_of_a_named_index_are_shown_nowhere(pkgc: Instance, tmp_path: Path) -> None:
    """Tokens in config.toml and on command lines must not end in CI logs, records, the cache or `status`."""
    with IndexServer(auth=("me", SECRET)) as index:
        wheel = make_wheel("guarded", "1.0")
        index.add(wheel.data, wheel.filename)
        url = index.index_url(credentials=f"me:{SECRET}")
        configure(pkgc, entry("corp", url, explicit=True, packages=["guarded", "nothere"]))
        lock, venv = pkgc.requirements("guarded==1.0"), tmp_path / "venv"
        missing = pkgc.requirements("nothere==1.0", name="missing.txt")
        calls: list[tuple[str | Path, ...]] = [
            ("sync", lock, "--venv", venv, "--dry-run", "-vv"),
            ("sync", lock, "--venv", venv, "-vv"),
            ("sync", lock, "--venv", venv, "--reinstall", "--output-format", "json"),
            ("sync", missing, "--venv", venv),
            ("sync", missing, "--venv", venv, "--output-format", "json"),
            ("fetch", missing, "--index", f"other={url}", "--pin-index", "nothere=corb"),
            ("fetch", missing, "--index", f"other={url.replace(SECRET, 'wrong' + SECRET)}"),
            ("why", "guarded", "--venv", venv),
            ("why", "guarded", "--venv", venv, "--output-format", "json"),
            ("list", "--venv", venv, "--output-format", "json"),
            ("cache", "list", "--output-format", "json"),
            ("status", "--output-format", "json"),
            ("daemon", "logs"),
        ]
        for call in calls:
            result = pkgc.run(*call)
            assert SECRET not in result.out + result.err, call
        assert holds(venv) == {"guarded": "1.0"}
        assert "corp" in pkgc.run("fetch", missing).err
        told = pkgc.ok("why", "guarded", "--venv", venv, "--output-format", "json").json["packages"][0]
        assert told["origin"]["index_name"] == "corp"
        record = json.loads((site(venv) / "guarded-1.0.dist-info/provenance_url.json").read_text())
        assert record["pkgc"]["index"] == index.url
        pkgc.ok("daemon", "stop")
        for folder in (venv, pkgc.cache, pkgc.run_dir):
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    assert SECRET.encode() not in path.read_bytes(), path
