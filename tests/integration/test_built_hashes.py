"""A wheel that was built here answers for the hash of its source, never for its own (H10; invariant 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import Bench, origins, shared_instance
from tests.support.instance import Instance
from tests.support.lockfiles import listed, pylock
from tests.support.locks import failure, site
from tests.support.sdists import make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One store for this module; every test has a project of its own."""
    with shared_instance(tmp_path_factory.mktemp("built") / "pkgc", request.param) as instance:
        yield instance


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """See `Bench`."""
    return Bench(pkgc, index, tmp_path)


def built_hash(bench: Bench, name: str) -> str:
    """The sha256 of the wheel that was built, as `pkgc why` tells it."""
    answer = bench.pkgc.ok("why", name, "--venv", bench.venv(), "--output-format", "json")
    sha256: str = answer.json["packages"][0]["built"]["sha256"]
    return sha256


def refused(bench: Bench, name: str, sha256: str) -> None:
    """No way of naming that hash gets a wheel."""
    filename = f"{name}-1.0-py3-none-any.whl"
    lock = bench.folder / "pylock.toml"
    file = {"url": f"{bench.index.origin}/gone/{filename}", "hashes": {"sha256": sha256}}
    lock.write_text(pylock({"name": name, "version": "1.0", "wheels": [file]}))
    digest = f"--hash=sha256:{sha256}"
    ways: dict[str, tuple[str | Path, ...]] = {
        "pin": (bench.lock(f"{name}==1.0 {digest}", name="pin.txt"), "--no-build"),
        "pin, offline": (bench.lock(f"{name}==1.0 {digest}", name="pin.txt"), "--no-build", "--offline"),
        "url": (bench.lock(f"{name} @ {file['url']} {digest}", name="url.txt"),),
        "fragment": (bench.lock(f"{name} @ {file['url']}#sha256={sha256}", name="fragment.txt"),),
        "path": (bench.lock(f"./none/{filename} {digest}", name="path.txt"),),
        "pylock": (lock,),
    }
    for way, args in ways.items():
        venv = bench.venv("never")
        error = failure(bench.pkgc, "sync", *args, "--venv", venv, "-i", bench.index.url, cwd=bench.folder)
        assert error["code"] in ("no-allowed-hash", "not-in-cache", "http-status", "file-not-found"), way
        assert not venv.exists(), way


def test_the_hash_of_a_wheel_built_of_an_sdist(bench: Bench) -> None:
    """A lock would be satisfied by what happens to lie in this machine's cache, with a record that names the
    index's source archive as having that hash; everywhere else it fails."""
    sdist = make_sdist("solid", "1.0")
    bench.offer(sdist)
    assert origins(bench.sync("solid==1.0")) == {"solid": "build"}
    refused(bench, "solid", built_hash(bench, "solid"))
    # The cache of builds is what it was, also for a lock with the hash of the source.
    again = bench.sync(f"solid==1.0 --hash=sha256:{sdist.sha256}", venv="again")
    assert origins(again) == {"solid": "store"}
    assert bench.provenance("solid", "again")["archive_info"]["hashes"] == {"sha256": sdist.sha256}


def test_the_hash_of_an_editable_wheel(bench: Bench) -> None:
    """A pin of an index must not install a .pth, which runs whatever is in somebody's folder."""
    folder = bench.folder / "flow"
    for path, data in project_files("flow", "1.0").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    bench.sync(f"-e {folder}")
    published = make_wheel("flow", "1.0")
    bench.offer(published)
    refused(bench, "flow", built_hash(bench, "flow"))
    bench.sync(f"flow==1.0 --hash=sha256:{published.sha256}", venv="pinned")
    assert not list(site(bench.venv("pinned")).glob("*.pth"))


Loss = Callable[[Instance], None]
LOSSES: dict[str, Loss] = {
    "restarted": lambda _: None,
    "catalog lost": lambda pkgc: (pkgc.cache / "catalog.sqlite3").unlink(),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_later_daemon_knows_what_was_built(bench: Bench, loss: str) -> None:
    """What is known only until the daemon exits protects nobody."""
    name = f"later{'' if loss == 'restarted' else 'still'}"
    bench.offer(make_sdist(name, "1.0"))
    bench.sync(f"{name}==1.0")
    sha256 = built_hash(bench, name)
    bench.pkgc.ok("daemon", "stop")
    LOSSES[loss](bench.pkgc)
    refused(bench, name, sha256)


def test_the_same_bytes_from_an_index_are_the_indexs(bench: Bench) -> None:
    """A reproducible build is no reason to refuse the index's own wheel: it is downloaded once."""
    bench.offer(make_sdist("twin", "1.0"))
    bench.sync("twin==1.0")
    sha256 = built_hash(bench, "twin")
    data = (bench.pkgc.cache / "artifacts" / sha256[:2] / sha256).read_bytes()
    url = bench.index.add(data, "twin-1.0-py3-none-any.whl")
    line = f"twin==1.0 --hash=sha256:{sha256}"
    assert origins(bench.sync(line, venv="first", options=("--no-build",))) == {"twin": "network"}
    record = bench.provenance("twin", "first")
    assert (record["url"], record["archive_info"]["hashes"]["sha256"]) == (url, sha256)
    assert "built" not in json.dumps(record)
    bench.index.clear_log()
    answer = bench.sync(line, venv="second", options=("--no-build",))
    assert (origins(answer), bench.index.log) == ({"twin": "store"}, [])
    assert bench.provenance("twin", "second") == record


def test_files_of_indexes_are_found_by_listed_hashes(bench: Bench) -> None:
    """The counter-proof of `refused`: the same ways get a wheel that was downloaded."""
    wheel = make_wheel("found", "1.0")
    bench.offer(wheel)
    bench.sync("found==1.0")
    lock = bench.folder / "pylock.toml"
    file = listed(wheel, f"{bench.index.origin}/gone/{wheel.filename}")
    lock.write_text(pylock({"name": "found", "version": "1.0", "wheels": [file]}))
    bench.index.stop()
    answer = bench.pkgc.sync(lock, "--venv", bench.venv("other"))
    assert origins(answer) == {"found": "store"}
