"""Which file of which index serves a pin: formats, tags, order of indexes, hashes, caching of pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.instance import Instance, running
from tests.support.locks import failure, holds, importing, pin, versions
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


@pytest.fixture(scope="module")
def pkgc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module: nothing here depends on who acts; each test has an index of its own."""
    with running(tmp_path_factory.mktemp("selection") / "pkgc") as instance:
        yield instance


def offer(index: IndexServer, name: str, version: str = "1.0", **options: object) -> BuiltWheel:
    """Make a wheel and offer it; `index_name`, `hashes` and page metadata go to the page."""
    page = {key: options.pop(key) for key in ("hashes", "yanked", "requires_python") if key in options}
    where = str(options.pop("at", "simple"))
    wheel = make_wheel(name, version, **options)  # type: ignore[arg-type]
    index.add(wheel.data, wheel.filename, index=where, **page)  # type: ignore[arg-type]
    return wheel


def chosen(pkgc: Instance, index: IndexServer, *args: str | Path, **options: object) -> list[str]:
    """File names that `pkgc fetch` of requirements.txt takes."""
    lock = pkgc.root / "requirements.txt"
    answer = pkgc.ok("fetch", lock, "-i", index.url, *args, "--output-format", "json", **options).json
    return [one["filename"] for one in answer["fetched"]]


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "html"])
def test_both_formats_of_the_simple_api(pkgc: Instance, as_json: bool) -> None:
    """Old indexes speak HTML, new ones JSON: the same lock works with both, URLs being relative."""
    with IndexServer(json=as_json) as index:
        wheel = offer(index, "plain", requires_python=">=3.8")
        offer(index, "plain", "2.0", requires_python=">=4")
        pkgc.requirements(pin(wheel))
        index.clear_log()
        assert chosen(pkgc, index) == [wheel.filename]
        pkgc.requirements("plain==2.0")
        error = failure(pkgc, "fetch", pkgc.root / "requirements.txt", "-i", index.url)
        assert error["code"] == "no-matching-wheel"
        assert ">=4" in error["everything"]
    pkgc.ok("cache", "clean", "plain")


def test_base_href_and_absolute_urls(pkgc: Instance, index: IndexServer) -> None:
    """Pages may send to other paths and hosts: PEP 503 leaves that open."""
    wheel = make_wheel("based", "1.0")
    index.put(f"/elsewhere/{wheel.filename}", wheel.data, "application/octet-stream")
    index.put(
        "/simple/based/",
        f'<html><head><base href="/elsewhere/"></head><a href="{wheel.filename}">x</a></html>'.encode(),
    )
    pkgc.requirements(pin(wheel))
    assert chosen(pkgc, index) == [wheel.filename]


def test_yanked_files_serve_exact_pins_with_a_warning(pkgc: Instance, index: IndexServer) -> None:
    """PEP 592: a lock keeps working when a release is yanked, but its owner hears of it."""
    wheel = offer(index, "regret", yanked="breaks everything")
    lock = pkgc.requirements(pin(wheel))
    answer = pkgc.ok("fetch", lock, "-i", index.url, "--output-format", "json").json
    assert [one["code"] for one in answer["warnings"]] == ["yanked"]
    assert "breaks everything" in answer["warnings"][0]["message"]


def test_build_tags_and_tag_preference(pkgc: Instance, index: IndexServer) -> None:
    """The best file is the most specific one, then the highest build (as number, not as text)."""
    offer(index, "built", tag="py3-none-any", build="9")
    offer(index, "built", tag="py3-none-any", build="10")
    version = interpreters.running().version.replace(".", "")
    best = offer(index, "special", tag=f"cp{version}-none-any")
    for tag in ("py3-none-any", f"py{version}-none-any", "py2.py3-none-any"):
        offer(index, "special", tag=tag)
    pkgc.requirements("built==1.0", "special==1.0")
    assert chosen(pkgc, index) == ["built-1.0-10-py3-none-any.whl", best.filename]


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_tags_are_those_of_the_target(
    pkgc: Instance, index: IndexServer, version: str, tmp_path: Path
) -> None:
    """An environment of another Python than the daemon's gets files for its own Python, and they run."""
    python = interpreters.find(version)
    if python is None:
        pytest.skip(f"no CPython {version} here")
    for one in ("39", "310", "311", "312", "313"):
        offer(index, "native", tag=f"cp{one}-cp{one}-linux_x86_64", files={"native.py": f"tag = 'cp{one}'\n"})
    offer(index, "native", tag="py3-none-any", files={"native.py": "tag = 'any'\n"})
    lock = pkgc.requirements("native==1.0")
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.url, "--python", python.path)
    assert importing(venv, "import native; print(native.tag)") == "cp" + version.replace(".", "")
    pkgc.ok("cache", "clean", "native")


def test_first_index_wins_for_unhashed_pins(pkgc: Instance, index: IndexServer) -> None:
    """Dependency confusion: what the private index has by name never comes from a public one."""
    offer(index, "private", "1.0", at="company", files={"private.py": "ours = 1\n"})
    evil = offer(index, "private", "2.0", at="public", files={"private.py": "evil = 1\n"})
    extra = ("--extra-index-url", index.index_url("public"))
    lock = pkgc.requirements("private==2.0")
    error = failure(pkgc, "fetch", lock, "-i", index.index_url("company"), *extra)
    assert error["code"] == "no-matching-version"
    assert index.page_requests("private", "public") == []
    # with a hash the bytes are right wherever they come from
    lock = pkgc.requirements(pin(evil))
    pkgc.ok("fetch", lock, "-i", index.index_url("company"), *extra)
    # an index that cannot be asked might have the name: going on would be the same hole
    index.behave("/company/private/", Behaviour(times=None, status=403))
    lock = pkgc.requirements("private==2.0")
    error = failure(pkgc, "fetch", lock, "-i", index.index_url("company"), *extra, "--refresh")
    assert error["code"] == "index-forbidden"
    assert "requirements.txt:1" in error["everything"]
    assert "private==2.0" in error["everything"]


def test_advertised_hash_that_is_not_allowed_is_not_downloaded(pkgc: Instance, index: IndexServer) -> None:
    """A better-tagged file outside of the lock is skipped without a transfer."""
    wanted = offer(index, "locked", tag="py3-none-any")
    version = interpreters.running().version.replace(".", "")
    other = offer(index, "locked", tag=f"cp{version}-none-any")
    pkgc.requirements(pin(wanted))
    assert chosen(pkgc, index) == [wanted.filename]
    assert index.requests_for(other.filename) == []


def test_next_candidate_when_nothing_is_advertised(pkgc: Instance, index: IndexServer) -> None:
    """Indexes without hashes: files are tried in order until one has the locked bytes."""
    version = interpreters.running().version.replace(".", "")
    wrong = offer(index, "silent", tag=f"cp{version}-none-any", hashes=False)
    wanted = offer(index, "silent", tag="py3-none-any", hashes=False)
    lock = pkgc.requirements(pin(wanted))
    answer = pkgc.ok("fetch", lock, "-i", index.url, "--output-format", "json").json
    assert [one["sha256"] for one in answer["fetched"]] == [wanted.sha256]
    assert len(index.requests_for(wrong.filename)) == 1
    listed = pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"]
    assert wrong.sha256 not in {one["sha256"] for one in listed}
    assert pkgc.leftovers() == []


def test_no_file_matches_and_every_one_is_listed(pkgc: Instance, index: IndexServer) -> None:
    """Whoever has to find out what happened sees every file with what it had, and what was allowed."""
    version = interpreters.running().version.replace(".", "")
    wheels = [
        offer(index, "forged", tag=tag, hashes=False) for tag in ("py3-none-any", f"cp{version}-none-any")
    ]
    advertised = offer(index, "forged", tag="py2.py3-none-any")
    lock = pkgc.requirements(f"forged==1.0 --hash=sha256:{'ab' * 32}")
    error = failure(pkgc, "fetch", lock, "-i", index.url)
    assert (error["code"], error["exit"]) == ("hash-mismatch", 1)
    for wheel in (*wheels, advertised):
        assert wheel.filename in error["everything"]
        assert wheel.sha256 in error["everything"]
    assert "ab" * 32 in error["everything"]
    assert "requirements.txt:1" in error["everything"]
    assert pkgc.leftovers() == []


def test_other_algorithms(pkgc: Instance, index: IndexServer) -> None:
    """A lock with sha512 or blake2b works although the index advertises sha256 only, and stays a no-op."""
    wheel = offer(index, "strong")
    sha512 = hashlib.sha512(wheel.data).hexdigest()
    lock = pkgc.requirements(f"strong==1.0 --hash=sha512:{sha512}")
    venv = pkgc.root / "strong-venv"
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert answer["installed"][0]["sha256"] == wheel.sha256
    index.clear_log()
    again = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert (again["installed"], again["kept"]) == ([], 1)
    assert index.log == []
    bad = pkgc.requirements(f"strong==1.0 --hash=sha512:{'0' * 128}")
    error = failure(pkgc, "sync", bad, "--venv", venv, "-i", index.url)
    assert sha512 in error["everything"], "the found value in the algorithm of the lock"


def test_page_is_fetched_anew_once_for_a_new_pin(pkgc: Instance) -> None:
    """A release of this minute installs although the page is cached for an hour; a missing one asks once."""
    with IndexServer(page_headers={"Cache-Control": "max-age=3600"}) as index:
        old = offer(index, "moving")
        pkgc.requirements(pin(old, hashed=False))
        assert chosen(pkgc, index) == [old.filename]
        index.clear_log()
        assert chosen(pkgc, index) == [old.filename]
        assert index.page_requests("moving") == [], "fresh: nobody is asked"
        new = offer(index, "moving", "2.0")
        pkgc.requirements(pin(new))
        assert chosen(pkgc, index) == [new.filename]
        assert len(index.page_requests("moving")) == 1
        index.clear_log()
        error = failure(pkgc, "fetch", pkgc.requirements("moving==3.0"), "-i", index.url)
        assert error["code"] == "no-matching-version"
        assert len(index.page_requests("moving")) == 1


def test_etag_and_refresh(pkgc: Instance) -> None:
    """Pages without freshness are revalidated by their ETag; --refresh asks even for fresh ones."""
    with IndexServer() as index:
        wheel = offer(index, "tagged")
        pkgc.requirements(pin(wheel, hashed=False))
        chosen(pkgc, index)
        index.clear_log()
        chosen(pkgc, index)
        assert [hit.status for hit in index.page_requests("tagged")] == [304]
    with IndexServer(page_headers={"Cache-Control": "max-age=3600"}) as index:
        for name in ("fresh", "other"):
            offer(index, name)
        lock = pkgc.requirements("fresh==1.0", "other==1.0")
        chosen(pkgc, index)
        index.clear_log()
        chosen(pkgc, index, "--refresh-package", "Fresh")
        assert [hit.path for hit in index.page_requests()] == ["/simple/fresh/"]
        index.clear_log()
        chosen(pkgc, index, env={"PKGC_REFRESH": "1"})
        assert len(index.page_requests()) == 2
        both = pkgc.run("fetch", lock, "--refresh", "--offline")
        assert both.status == 2


def test_no_store_is_obeyed(pkgc: Instance) -> None:
    """A page that must not be stored is not written to disk."""
    with IndexServer(page_headers={"Cache-Control": "no-store"}) as index:
        wheel = offer(index, "volatile")
        pkgc.requirements(pin(wheel, hashed=False))
        chosen(pkgc, index)
        pages = pkgc.cache / "pages"
        assert not any(b"volatile-1.0" in path.read_bytes() for path in pages.rglob("*") if path.is_file())


def test_unhashed_pin_follows_what_the_index_serves(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Invariant 4: 'same version' from another origin, or a file that was exchanged, is not up to date."""
    first = offer(index, "shifting", files={"shifting.py": "answer = 1\n"})
    lock = pkgc.requirements("shifting==1.0")
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    kept = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert (kept["installed"], kept["kept"]) == ([], 1)
    second = offer(index, "shifting", files={"shifting.py": "answer = 2\n"})
    assert first.filename == second.filename
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert [one["sha256"] for one in answer["installed"]] == [second.sha256]
    assert importing(venv, "import shifting; print(shifting.answer)") == "2"
    # the same name and version from another index
    third = offer(index, "shifting", at="other", files={"shifting.py": "answer = 3\n"})
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.index_url("other"))
    assert [one["sha256"] for one in answer["installed"]] == [third.sha256]


def test_record_names_the_origin(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """PEP 710: what is installed says where from, without the credentials that fetched it."""
    wheel = offer(index, "origin")
    venv = tmp_path / "venv"
    url = index.index_url(credentials="me:s3cret")
    pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", venv, "-i", url)
    assert holds(venv) == {"origin": "1.0"}
    record = next(venv.glob("lib/*/site-packages/origin-1.0.dist-info/provenance_url.json"))
    told = json.loads(record.read_text())
    assert told["url"] == index.file_url(wheel.filename)
    assert told["pkgc"]["index"] == index.url
    assert "s3cret" not in record.read_text()
    listed = pkgc.ok("list", "--venv", venv, "--output-format", "json").json
    assert versions(listed, "packages") == {"origin": "1.0"}


def test_find_links(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A folder of wheels or a page of links is enough, without any index."""
    house = tmp_path / "house"
    one, two = make_wheel("local-one", "1.0"), make_wheel("local-two", "1.0")
    one.write_to(house)
    index.put(f"/links/{two.filename}", two.data, "application/octet-stream")
    page = index.put("/links/index.html", f'<a href="{two.filename}#sha256={two.sha256}">x</a>'.encode())
    pkgc.requirements(pin(one), pin(two))
    assert chosen(pkgc, index, "--no-index", "-f", house, "-f", page) == [one.filename, two.filename]
    assert index.page_requests() == []
    lock = pkgc.requirements("nowhere==1.0")
    error = failure(pkgc, "fetch", lock, "--no-index", "-f", tmp_path / "gone")
    assert str(tmp_path / "gone") in error["everything"]


def test_credentials_in_the_url_and_netrc(pkgc: Instance) -> None:
    """Private indexes: user:password in the URL or in ~/.netrc; wrong ones give an error without them."""
    with IndexServer(auth=("me", "s3cret")) as index:
        wheel = offer(index, "guarded")
        lock = pkgc.requirements(pin(wheel))
        error = failure(pkgc, "fetch", lock, "-i", index.url)
        assert error["code"] == "index-unauthorized"
        error = failure(pkgc, "fetch", lock, "-i", index.index_url(credentials="me:wr0ng"))
        assert error["code"] == "index-unauthorized"
        assert "wr0ng" not in error["everything"]
        netrc = pkgc.root / "my-netrc"
        netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
        netrc.chmod(0o600)
        pkgc.ok("fetch", lock, "-i", index.url, env={"NETRC": str(netrc)})
        pkgc.ok("cache", "clean", "guarded")
        pkgc.ok("fetch", lock, "-i", index.index_url(credentials="me:s3cret"))


def native_and_pure(index: IndexServer, name: str) -> tuple[BuiltWheel, BuiltWheel]:
    """A wheel with the better tag, and one that would do as well if nobody looked."""
    version = interpreters.running().version.replace(".", "")
    native = offer(index, name, tag=f"cp{version}-none-any", files={f"{name}.py": "kind = 'native'\n"})
    pure = offer(index, name, tag="py3-none-any", files={f"{name}.py": "kind = 'pure'\n"})
    return native, pure


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "unhashed"])
@pytest.mark.parametrize("status", [404, 403])
def test_a_source_that_fails_never_changes_the_choice(
    pkgc: Instance, index: IndexServer, hashed: bool, status: int
) -> None:
    """What is installed must not depend on which file a proxy could not give: it is an error, as in pip."""
    native, pure = native_and_pure(index, f"faulty{status}{hashed}".lower())
    line = f"{pin(native)} --hash=sha256:{pure.sha256}" if hashed else pin(native, hashed=False)
    index.behave(native.filename, Behaviour(times=None, status=status))
    error = failure(pkgc, "fetch", pkgc.requirements(line), "-i", index.url)
    assert error["code"] == "http-status"
    assert native.filename in error["everything"]
    assert index.requests_for(pure.filename) == []


def test_the_same_file_of_another_index_is_tried(pkgc: Instance, index: IndexServer) -> None:
    """The first index lists everything but cannot give it; the mirror that the user named has the bytes."""
    native, pure = native_and_pure(index, "mirrored")
    index.add(native.data, native.filename, index="mirror")
    index.behave(
        index.file_url(native.filename).removeprefix(index.origin), Behaviour(times=None, status=404)
    )
    pkgc.requirements(f"{pin(native)} --hash=sha256:{pure.sha256}")
    assert chosen(pkgc, index, "--extra-index-url", index.index_url("mirror")) == [native.filename]


def test_corrupt_bytes_of_an_unhashed_pin_are_an_error(pkgc: Instance, index: IndexServer) -> None:
    """Bytes that are not those of the page: without a lock's hash no other file is known to do."""
    native, pure = native_and_pure(index, "corrupted")
    index.behave(native.filename, Behaviour(times=None, data=b"x" * len(native.data)))
    error = failure(pkgc, "fetch", pkgc.requirements("corrupted==1.0"), "-i", index.url)
    assert error["code"] == "advertised-hash-mismatch"
    assert index.requests_for(pure.filename) == []


def test_a_page_of_wrong_files_is_not_downloaded_whole(pkgc: Instance, index: IndexServer) -> None:
    """A page may list 20,000 files without a hash: a handful is tried, not all of them."""
    for build in range(30):
        offer(index, "endless", build=str(build), files={"endless.py": f"n = {build}\n"}, hashes=False)
    index.clear_log()
    error = failure(
        pkgc, "fetch", pkgc.requirements(f"endless==1.0 --hash=sha256:{'ab' * 32}"), "-i", index.url
    )
    assert error["code"] == "hash-mismatch"
    assert "10 more files that were not tried" in error["everything"]
    assert sum("endless-1.0" in hit.path for hit in index.log) == 20


def test_requires_python_of_the_wheel_itself(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Pages may omit requires-python, folders always do, and the cache asks no page: METADATA decides."""
    best = offer(index, "picky", build="2", files={"picky.py": "new = 1\n"}, tag="py3-none-any")
    index.remove(best.filename)
    fits = offer(index, "picky", files={"picky.py": "old = 1\n"})
    wheel = make_wheel("picky", "1.0", requires_python=">=3.99", build="2")
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements("picky==1.0")
    assert chosen(pkgc, index) == [fits.filename], "the next candidate"
    # the bytes are in the cache now, and the store alone could decide
    lock = pkgc.requirements(pin(wheel))
    for options in (["-i", index.url], ["-i", index.url, "--offline"], ["-i", "http://nosuch.invalid/"]):
        error = failure(pkgc, "sync", lock, "--venv", tmp_path / "venv", *options)
        assert error["code"] == "no-matching-wheel"
        assert ">=3.99" in error["everything"]
    folder = tmp_path / "folder"
    wheel.write_to(folder)
    loose = pkgc.requirements("picky==1.0")
    error = failure(pkgc, "fetch", loose, "--no-index", "-f", folder)
    assert error["code"] == "no-matching-wheel"
    assert ">=3.99" in error["everything"]


def test_unhashed_pin_that_the_index_does_not_have(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Installed from A, asked of B: "up to date" would vouch for bytes that B does not serve."""
    offer(index, "moved")
    lock = pkgc.requirements("moved==1.0")
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    offer(index, "moved", "2.0", at="other")
    other = index.index_url("other")
    error = failure(pkgc, "sync", lock, "--venv", venv, "-i", other)
    assert error["code"] == "no-matching-version"
    error = failure(pkgc, "sync", lock, "--venv", venv, "-i", index.index_url("empty"))
    assert error["code"] == "unknown-package"
    assert holds(venv) == {"moved": "1.0"}
    kept = pkgc.sync(lock, "--venv", venv, "-i", other, "--offline")
    assert (kept["installed"], kept["kept"]) == ([], 1)


def test_unhashed_pin_of_an_index_without_hashes(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The same file of the same index is kept sync after sync; another index's is installed, once."""
    offer(index, "bare", hashes=False)
    ours = offer(index, "bare", files={"bare.py": "b = 1\n"}, at="other", hashes=False)
    lock = pkgc.requirements("bare==1.0")
    venv = tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert pkgc.sync(lock, "--venv", venv, "-i", index.url)["kept"] == 1
    other = index.index_url("other")
    answer = pkgc.sync(lock, "--venv", venv, "-i", other)
    assert [one["sha256"] for one in answer["installed"]] == [ours.sha256]
    assert pkgc.sync(lock, "--venv", venv, "-i", other)["kept"] == 1


def test_settings_of_pip_that_are_not_read_are_said(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Whoever's pip.conf names the index expects the rest of it to count as well."""
    offer(index, "piped")
    lock = pkgc.requirements("piped==1.0")
    env = {"PIP_INDEX_URL": index.url, "PIP_CONSTRAINT": "/c.txt", "PIP_NO_BINARY": "piped"}
    answer = pkgc.ok("fetch", lock, "--output-format", "json", env=env).json
    (warning,) = answer["warnings"]
    assert warning["code"] == "pip-setting-ignored"
    assert "constraint (PIP_CONSTRAINT), no-binary (PIP_NO_BINARY)" in warning["message"]
    assert pkgc.ok("fetch", lock, "-i", index.url, "--output-format", "json", env=env).json["warnings"] == []
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index.url}\nrequire-hashes = yes\n")
    env = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    error = failure(pkgc, "fetch", lock, env=env)
    assert error["code"] == "missing-hash"
    assert str(tmp_path / "pip.conf") in error["everything"]
    pkgc.ok("fetch", lock, "--no-require-hashes", env=env)


def test_a_lock_of_two_algorithms(pkgc: Instance, index: IndexServer) -> None:
    """pip and uv install this: the sha256 is of another file, the sha512 of the one that the index has."""
    other, wheel = make_wheel("mixed", "1.0"), make_wheel("mixed", "1.0", build="2")
    index.add(wheel.data, wheel.filename)
    sha512 = hashlib.sha512(wheel.data).hexdigest()
    pkgc.requirements(f"{pin(other)} --hash=sha512:{sha512}")
    assert chosen(pkgc, index) == [wheel.filename]


def test_a_withdrawn_project_does_not_come_back(pkgc: Instance) -> None:
    """After the index has said 404, its old page, fresh for minutes, is not used again."""
    with IndexServer(page_headers={"Cache-Control": "max-age=600"}) as index:
        wheel = offer(index, "withdrawn")
        pkgc.requirements(pin(wheel, hashed=False))
        chosen(pkgc, index)
        index.behave("/simple/withdrawn/", Behaviour(status=404, times=None))
        lock = pkgc.root / "requirements.txt"
        for args in (["--refresh"], [], ["--offline"]):
            error = failure(pkgc, "fetch", lock, "-i", index.url, *args)
            assert error["code"] == ("not-in-cache" if args == ["--offline"] else "unknown-package")


def test_a_hostile_page_stops_nobody(pkgc: Instance, index: IndexServer) -> None:
    """Megabytes of half comments cost milliseconds; another client is served meanwhile."""
    index.put("/simple/hostile/", b"<!--" * 4_000_000, "text/html")
    error = failure(pkgc, "fetch", pkgc.requirements("hostile==1.0"), "-i", index.url, timeout=20)
    assert error["code"] == "no-matching-version"


def test_an_index_folder_that_is_not_there(pkgc: Instance, tmp_path: Path) -> None:
    """A typo in a path is called that, not a missing package."""
    lock = pkgc.requirements("anything==1.0")
    error = failure(pkgc, "fetch", lock, "-i", tmp_path / "nowhere")
    assert error["code"] == "index-unreadable"
    assert str(tmp_path / "nowhere") in error["everything"]
    assert failure(pkgc, "fetch", lock, "-i", tmp_path)["code"] == "unknown-package"
