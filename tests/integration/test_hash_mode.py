"""Hash-checking mode (complaint 2; H1-H11): what switches it on, and what nobody gets past."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import interpreters
from tests.support.gitserver import Repository, needs_git
from tests.support.instance import Instance, snapshot
from tests.support.locks import failure, impatient, make_venv, pin, versions
from tests.support.sdists import make_sdist, project_files
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

#: Two projects of an index; what the tables below are about.
ONE, TWO = make_wheel("one", "1.0"), make_wheel("two", "1.0")
#: The same version of `one`, built anew: other bytes.
OTHER = make_wheel("one", "1.0", {"one.py": "other = 1\n"})


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module; every test has a server, and bytes, of its own."""
    host_calls = request.param == "client-acts"
    with impatient(tmp_path_factory.mktemp("hash-mode") / "pkgc", host_calls=host_calls) as instance:
        (instance.root / "tree").mkdir()
        for path, data in project_files("tree", "1.0").items():
            (instance.root / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (instance.root / "tree" / path).write_bytes(data)
        OTHER.write_to(instance.root / "other")
        ONE.write_to(instance.root / "files")
        yield instance


@pytest.fixture(scope="module")
def pair() -> Iterator[IndexServer]:
    """An index with `one` and `two`."""
    with IndexServer() as server:
        for wheel in (ONE, TWO):
            server.add(wheel.data, wheel.filename)
        yield server


def digest(data: bytes, algorithm: str) -> str:
    """A digest as `--hash` spells it."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def native(name: str, **options: Any) -> BuiltWheel:
    """A wheel with a better tag than a pure one: it is tried first."""
    version = interpreters.running().version.replace(".", "")
    return make_wheel(name, "1.0", tag=f"cp{version}-none-any", **options)


def fetched(pkgc: Instance, *args: str | Path) -> dict[str, str]:
    """name -> sha256 of what `pkgc fetch` of requirements.txt got."""
    lock = pkgc.root / "requirements.txt"
    answer = pkgc.ok("fetch", lock, *args, "--output-format", "json").json
    return {one["name"]: one["sha256"] for one in answer["fetched"]}


H1, H2 = pin(ONE), pin(TWO)
SHA = f"#sha256={ONE.sha256}"
MD5 = f"#{digest(ONE.data, 'md5').replace(':', '=')}"
WEAK = hashlib.md5(ONE.data).hexdigest()

#: (lines, arguments, the code of the error or '' for none). URL is that of ONE.
SWITCHES: dict[str, tuple[str, str, str]] = {
    "off without any hash": ("one==1.0\ntwo==1.0", "", ""),
    "on by one --hash, for all": (f"{H1}\ntwo==1.0", "", "missing-hash"),
    "on, and all have one": (f"{H1}\n{H2}", "", ""),
    "on by a --hash whose line does not apply": (
        f"one==1.0\ntwo==1.0 ; python_version < '3' --hash=sha256:{TWO.sha256}",
        "",
        "missing-hash",
    ),
    "on by option": ("one==1.0", "--require-hashes", "missing-hash"),
    "on by a line of the file": ("one==1.0\n--require-hashes", "", "missing-hash"),
    "not on by a fragment": ("one @ URL" + SHA + "\ntwo==1.0", "", ""),
    "satisfied by a fragment": ("one @ URL" + SHA + f"\n{H2}", "", ""),
    "not satisfied by a weak fragment": ("one @ URL" + MD5, "--require-hashes", "missing-hash"),
    "not satisfied by what the index advertises": ("one==1.0", "--require-hashes", "missing-hash"),
    "off by option": (f"{H1}\ntwo==1.0", "--no-require-hashes", ""),
    "off by a line of the file": (f"--no-require-hashes\n{H1}\ntwo==1.0", "", ""),
    "off, and what is given is checked": (
        f"one==1.0 --hash=sha256:{OTHER.sha256}\ntwo==1.0",
        "--no-require-hashes",
        "no-allowed-hash",
    ),
    "off, and a fragment is checked": (
        f"one @ URL#sha256={OTHER.sha256}\ntwo==1.0",
        "--no-require-hashes",
        "hash-mismatch",
    ),
    "both on the command line": (
        "one==1.0",
        "--require-hashes --no-require-hashes",
        "conflicting-options",
    ),
    "on in the file, off on the command line": (
        "--require-hashes\none==1.0",
        "--no-require-hashes",
        "conflicting-options",
    ),
    "off in the file, on on the command line": (
        "--no-require-hashes\none==1.0",
        "--require-hashes",
        "conflicting-options",
    ),
    "both in the file": ("--no-require-hashes\n--require-hashes\none==1.0", "", "conflicting-options"),
    "a range is no pin": (f"one>=1.0 --hash=sha256:{ONE.sha256}", "", "unpinned-requirement"),
    "two specifiers are no pin": (f"one==1.0,>=0.5 --hash=sha256:{ONE.sha256}", "", "unpinned-requirement"),
    "=== is one": (f"one===1.0 --hash=sha256:{ONE.sha256}", "", ""),
    "md5 is no --hash": (f"one==1.0 --hash=md5:{WEAK}", "", "invalid-option"),
    "blake2b is no --hash": (f"one==1.0 --hash={digest(ONE.data, 'blake2b')}", "", "invalid-option"),
    "a weak fragment is checked": ("one @ URL" + MD5, "", ""),
    "a wrong weak fragment is refused": (f"one @ URL#md5={'0' * 32}", "", "hash-mismatch"),
    "one of several is enough": (
        f"one==1.0 --hash=sha512:{'0' * 128} --hash=sha256:{'0' * 64} --hash=sha256:{ONE.sha256}",
        "",
        "",
    ),
    "upper case is the same": (f"one==1.0 --hash=sha256:{ONE.sha256.upper()}", "", ""),
    "repeated lines must agree": (
        f"{H1}\none==1.0 --hash=sha256:{OTHER.sha256}",
        "",
        "conflicting-requirements",
    ),
    "repeated lines intersect": (
        f"{H1} --hash=sha256:{'0' * 64}\none==1.0 --hash=sha256:{ONE.sha256}",
        "",
        "",
    ),
    "a path with its hash": (f"./files/{ONE.filename} --hash=sha256:{ONE.sha256}", "", ""),
    "a path without": (f"./files/{ONE.filename}\n{H2}", "", "missing-hash"),
    "a path to other bytes": (f"./other/{ONE.filename} --hash=sha256:{'0' * 64}", "", "hash-mismatch"),
    "a directory": (f"./tree\n{H2}", "", "hash-unsupported"),
    "an editable directory": (f"-e ./tree\n{H2}", "", "hash-unsupported"),
    "a directory by option": ("./tree", "--require-hashes", "hash-unsupported"),
    "a repository": (f"tree @ git+https://host.invalid/x\n{H2}", "", "hash-unsupported"),
    "a repository at a commit": (
        f"tree @ git+https://host.invalid/x@{'a' * 40}",
        "--require-hashes",
        "hash-unsupported",
    ),
}


@pytest.mark.parametrize("case", SWITCHES)
def test_what_the_mode_demands(pkgc: Instance, pair: IndexServer, case: str) -> None:
    """H1-H8: a lock that means to be checked whole is never checked in part, and one that need not be is not
    in the way."""
    lines, args, code = SWITCHES[case]
    lock = pkgc.requirements(*lines.replace("URL", pair.file_url(ONE.filename)).splitlines())
    call: list[str | Path] = ["fetch", lock, "-i", pair.url, *args.split()]
    if not code:
        answer = pkgc.ok(*call, "--output-format", "json").json
        assert {one["name"]: one["sha256"] for one in answer["fetched"]}["one"] == ONE.sha256
        return
    error = failure(pkgc, *call)
    assert error["code"] == code, error
    place = f"{lock}:" if "require-hashes" not in args else ""
    assert place in error["everything"], "which line it was"


@pytest.mark.parametrize("way", ["option", "variable", "config", "required file"])
def test_every_way_to_demand_hashes(pkgc: Instance, pair: IndexServer, tmp_path: Path, way: str) -> None:
    """A CI image that demands hashes by a variable or a file is obeyed like one that does it by option."""
    lock = pkgc.requirements("one==1.0")
    config = tmp_path / "config.toml"
    config.write_text("require-hashes = true\n" if way == "config" else "")
    (pkgc.root / "strict.txt").write_text("--require-hashes\n")
    env = {"PKGC_CONFIG": str(config)} | ({"PKGC_REQUIRE_HASHES": "1"} if way == "variable" else {})
    more = {"option": ["--require-hashes"], "required file": ["strict.txt"]}.get(way, [])
    error = failure(pkgc, "fetch", lock, *more, "-i", pair.url, env=env)
    assert error["code"] == "missing-hash"
    if way != "required file":  # what a file demands, only the file can take back
        pkgc.ok("fetch", lock, "--no-require-hashes", "-i", pair.url, env=env)


CONSTRAINTS: dict[str, tuple[str, str, str]] = {
    "it gives the pin and the hash": ("one", H1, ""),
    "it gives the hash": ("one==1.0", H1, ""),
    "its hash counts": ("one==1.0", f"one==1.0 --hash=sha256:{OTHER.sha256}", "no-allowed-hash"),
    "its hash and that of the line": (
        f"{H1}",
        f"one==1.0 --hash=sha256:{OTHER.sha256}",
        "conflicting-requirements",
    ),
    "it gives a URL with its hash": ("one", "one @ URL" + SHA, ""),
    "it switches the mode on for others": ("one==1.0\ntwo==1.0", H1, "missing-hash"),
    "it does not, when it is not hashed": ("one==1.0", "one==1.0", ""),
}


@pytest.mark.parametrize("case", CONSTRAINTS)
def test_hashes_of_constraints(pkgc: Instance, pair: IndexServer, case: str) -> None:
    """R9: teams keep pins and hashes in one constraints file; nobody notices when its hashes are ignored."""
    lines, constraint, code = CONSTRAINTS[case]
    lock = pkgc.requirements(*lines.splitlines())
    limits = pkgc.requirements(constraint.replace("URL", pair.file_url(ONE.filename)), name="limits.txt")
    call = ("fetch", lock, "-c", limits, "-i", pair.url)
    if code:
        assert failure(pkgc, *call)["code"] == code
    else:
        assert fetched(pkgc, *call[2:]) == {"one": ONE.sha256}


def test_missing_hashes_are_computed_and_can_be_pasted(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """H9: whoever begins with hashes gets the lines to paste, of every kind of requirement at once."""
    wheel, url, local = (make_wheel(name, "1.0") for name in ("unhashed", "by-url", "by-path"))
    sdist = make_sdist("from-source", "1.0")
    for offered in (wheel, url, sdist):
        index.add(offered.data, offered.filename)
    lines = [
        "unhashed==1.0",
        "from-source==1.0",
        f"by-url @ {index.file_url(url.filename)}",
        str(local.write_to(tmp_path)),
    ]
    lock = pkgc.requirements(H1, *lines)
    one = make_wheel("one", "1.0")
    index.add(one.data, one.filename)
    before = snapshot(tmp_path)
    result = pkgc.run("sync", lock, "--venv", tmp_path / "venv", "-i", index.url)
    assert result.status == 2, str(result)
    assert f"{lock}:1" in result.err, "the cause: a --hash"
    pasted = [
        next(told.strip() for told in result.err.splitlines() if told.strip().startswith(f"{line} --hash="))
        for line in lines
    ]
    digests = (wheel.sha256, sdist.sha256, url.sha256, local.sha256)
    for line, told, sha256 in zip(lines, pasted, digests, strict=True):
        assert f"--hash=sha256:{sha256}" in told, line
    assert snapshot(tmp_path) == before
    answer = pkgc.sync(pkgc.requirements(H1, *pasted), "--venv", tmp_path / "venv", "-i", index.url)
    assert sorted(versions(answer)) == ["by-path", "by-url", "from-source", "one", "unhashed"]


def test_a_missing_hash_that_cannot_be_computed(pkgc: Instance, pair: IndexServer) -> None:
    """H9: what cannot be had is still named as what lacks a hash, beside those that could be computed."""
    error = failure(pkgc, "fetch", pkgc.requirements("two==1.0", "absent==1.0", H1), "-i", pair.url)
    assert error["code"] == "missing-hash"
    assert f"two==1.0 --hash=sha256:{TWO.sha256}" in error["context"]
    assert "absent==1.0" in error["context"]
    assert "absent==1.0 --hash" not in error["context"]


def test_a_mismatch_shows_every_algorithm(pkgc: Instance, index: IndexServer) -> None:
    """H9: expected and found, in each algorithm of the lock: else nobody can tell a typo from an attack."""
    wheel = make_wheel("shown", "1.0")
    index.add(wheel.data, wheel.filename, hashes=False)
    wrong = [f"sha256:{'1' * 64}", f"sha384:{'2' * 96}", f"sha512:{'3' * 128}"]
    for line in (
        f"shown==1.0 {' '.join(f'--hash={one}' for one in wrong)}",
        f"shown @ {index.file_url(wheel.filename)} {' '.join(f'--hash={one}' for one in wrong)}",
    ):
        error = failure(pkgc, "fetch", pkgc.requirements(line), "-i", index.url)
        assert error["code"] == "hash-mismatch"
        for one in (*wrong, *(digest(wheel.data, how) for how in ("sha256", "sha384", "sha512"))):
            assert one in error["everything"], line


def test_a_wheel_that_was_built_answers_for_its_source(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """H10: the cached wheel serves the source's hash, and no hash of its own: it differs on every machine."""
    sdist = make_sdist("baked", "1.0")
    index.add(sdist.data, sdist.filename)
    lock = pkgc.requirements(f"baked==1.0 --hash=sha256:{sdist.sha256}")
    first = pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    assert [one["from"] for one in first["installed"]] == ["build"]
    index.clear_log()
    assert pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)["kept"] == 1
    again = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url)
    assert [one["from"] for one in again["installed"]] == ["store"]
    assert index.log == []
    built = first["installed"][0]["sha256"]
    for wrong in (built, "0" * 64):
        lock = pkgc.requirements(f"baked==1.0 --hash=sha256:{wrong}")
        error = failure(pkgc, "sync", lock, "--venv", tmp_path / "two", "-i", index.url)
        assert error["code"] == "no-allowed-hash"
        assert sdist.sha256 in error["everything"]


def test_a_url_that_is_known_is_checked_all_the_same(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """H11: what a URL held once is no answer to a lock that wants other bytes of it; and bytes that the lock
    names need no URL."""
    old, new = make_wheel("moving", "1.0"), make_wheel("moving", "1.0", {"moving.py": "new = 1\n"})
    url = index.add(old.data, old.filename)

    def ask(line: str) -> str:
        pkgc.requirements(line)
        return fetched(pkgc)["moving"]

    assert ask(f"moving @ {url}") == old.sha256
    for how in ("--hash=sha256:", "#sha256="):
        space = " " if how.startswith("-") else ""
        error = failure(pkgc, "fetch", pkgc.requirements(f"moving @ {url}{space}{how}{new.sha256}"))
        assert error["code"] == "hash-mismatch"
        assert old.sha256 in error["everything"]
        assert new.sha256 in error["everything"]
    index.add(new.data, new.filename)
    assert ask(f"moving @ {url}#sha256={new.sha256}") == new.sha256
    index.clear_log()
    assert ask(f"moving @ {url}#sha256={old.sha256}") == old.sha256
    assert ask(f"moving @ {url} --hash=sha256:{new.sha256}") == new.sha256
    assert index.log == []


@pytest.mark.parametrize("where", ["index", "index without hashes", "folder", "links page"])
def test_the_next_file_when_the_first_has_another_hash(
    pkgc: Instance, index: IndexServer, tmp_path: Path, where: str
) -> None:
    """T7, T7b: a lock of one wheel goes on working after its author uploads a better-tagged one; when none
    fits, one error lists every file that was tried, with its digests (T7c)."""
    name = f"through_{where}".replace(" ", "_")
    better, good = native(name), make_wheel(name, "1.0")
    args: list[str | Path]
    if where == "folder":
        args = ["--no-index", "-f", better.write_to(tmp_path).parent]
        good.write_to(tmp_path)
    else:
        for wheel in (better, good):
            index.add(wheel.data, wheel.filename, hashes=where == "index")
        args = ["-i", index.url]
    if where == "links page":
        links = "".join(f'<a href="{index.file_url(one.filename)}">x</a>' for one in (better, good))
        args = ["--no-index", "-f", index.put("/links/", links.encode())]
    pkgc.requirements(f"{name}==1.0 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}")
    error = failure(pkgc, "fetch", pkgc.root / "requirements.txt", *args)
    assert error["code"] == ("no-allowed-hash" if where == "index" else "hash-mismatch")
    for wheel in (better, good):
        assert wheel.filename in error["everything"]
        assert wheel.sha256 in error["everything"]
    for allowed in (f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"):
        assert allowed in error["everything"]
    pkgc.requirements(pin(good))
    assert fetched(pkgc, *args) == {name.replace("_", "-"): good.sha256}
    if where == "index":
        assert index.requests_for(better.filename) == []


def test_an_index_whose_hash_is_wrong(pkgc: Instance, index: IndexServer) -> None:
    """T4, H7: the index's own digest guards against corruption, also for locks without hashes."""
    wheel = make_wheel("broken", "1.0")
    index.add(wheel.data, wheel.filename, {"sha256": "0" * 64})
    error = failure(pkgc, "fetch", pkgc.requirements("broken==1.0"), "-i", index.url)
    assert error["code"] == "advertised-hash-mismatch"
    assert "0" * 64 in error["everything"]
    assert wheel.sha256 in error["everything"]
    url = index.file_url(wheel.filename)
    index.behave(wheel.filename, Behaviour(times=None, data=wheel.data + b"x"))
    error = failure(pkgc, "fetch", pkgc.requirements(f"broken @ {url}#sha1={'0' * 40}"))
    assert error["code"] == "hash-mismatch"


@needs_git
def test_what_has_no_hash_is_never_taken_in_hash_mode(
    pkgc: Instance, pair: IndexServer, tmp_path: Path
) -> None:
    """H4: a directory or a repository changes under its name; nothing of it is run or installed."""
    repository = Repository(tmp_path / "repository")
    files = {path: data.decode() for path, data in project_files("tree", "1.0").items()}
    commit = repository.commit(files)
    venv = make_venv(tmp_path / "venv", interpreters.running().path)
    before = snapshot(venv)
    for line in (f"tree @ git+file://{repository.folder}@{commit}", "./tree", "-e ./tree"):
        lock = pkgc.requirements(line, H2)
        error = failure(pkgc, "sync", lock, "--venv", venv, "-i", pair.url)
        assert (error["code"], error["exit"]) == ("hash-unsupported", 2)
        assert f"{lock}:1" in error["everything"]
        assert "--no-require-hashes" in error["hint"]
    assert snapshot(venv) == before
    answer = pkgc.sync(lock, "--venv", venv, "-i", pair.url, "--no-require-hashes", cwd=pkgc.root)
    assert sorted(versions(answer)) == ["tree", "two"]
