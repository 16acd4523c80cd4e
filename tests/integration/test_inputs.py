"""What requirements files, options, variables and configurations mean, through the real client."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support import interpreters
from tests.support.instance import Instance, running, snapshot
from tests.support.locks import failure, pin, versions
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

ALPHA = make_wheel("alpha", "1.0")
BETA = make_wheel("beta", "2.0")
GAMMA = make_wheel("gamma", "3.0+local.1")
DOTTED = make_wheel("zope.interface", "1!4.0")
LEVELS = ("argv", "env", "file", "config", "pip")


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for all tests of this module: they only read inputs and look at index pages."""
    root = tmp_path_factory.mktemp("inputs") / "pkgc"
    with running(root, host_calls=request.param == "client-acts") as instance:
        yield instance


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """alpha, beta, gamma, zope.interface; and one index for each place that can name one."""
    with IndexServer() as server:
        for wheel in (ALPHA, BETA, GAMMA, DOTTED):
            server.add(wheel.data, wheel.filename)
        for level in (*LEVELS, "extra"):
            server.add(ALPHA.data, ALPHA.filename, index=level)
        server.add(BETA.data, BETA.filename, index="extra")
        yield server


@pytest.fixture(autouse=True)
def fresh(pkgc: Instance) -> None:
    """No configuration is left from the test before."""
    for path in (pkgc.root / "config.toml", pkgc.home / ".config/pip/pip.conf", pkgc.root / ".venv/pip.conf"):
        path.unlink(missing_ok=True)


def would(pkgc: Instance, *args: str | Path, **options: object) -> dict[str, str]:
    """name -> version of what a sync of an environment that does not exist would install."""
    return versions(dry(pkgc, *args, **options))


def dry(pkgc: Instance, *args: str | Path, **options: object) -> dict[str, object]:
    """The answer of a dry run into an environment that does not exist."""
    return pkgc.sync(*args, "--dry-run", "--venv", "nothing-here", **options)


def served_by(pkgc: Instance, *args: str | Path, **options: object) -> str | None:
    """The index from which a dry run would take alpha."""
    answer = pkgc.sync(*args, "--dry-run", "--venv", "nothing-here", **options)
    return str(answer["installed"][0]["origin"].get("index"))


def pip_conf(pkgc: Instance, *lines: str) -> dict[str, str]:
    """Write the user's pip.conf; the variables with which it is read."""
    path = pkgc.home / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("[global]", *lines)) + "\n")
    return {"PIP_CONFIG_FILE": ""}


def test_every_way_to_write_a_pin(pkgc: Instance, index: IndexServer) -> None:
    """A lock that pip understands is understood, whichever tool wrote it."""
    lock = pkgc.requirements(
        "# locked by hand\r",
        f"Alpha[ssh, socks] == 1.0 \\\r\n    --hash=sha256:{ALPHA.sha256} \\\r\n    # via nobody\r",
        "",
        f"beta===2.0 --hash sha256:{BETA.sha256}   # a comment",
        f"gamma==3.0+local.1 --hash=sha512:{'0' * 128} --hash=sha256:{GAMMA.sha256}",
        f"Zope_Interface==1!4.0 ; python_version >= '3' --hash=sha256:{DOTTED.sha256}",
    )
    lock.write_bytes(b"\xef\xbb\xbf" + lock.read_bytes())
    found = would(pkgc, lock, "-i", index.url)
    assert found == {"alpha": "1.0", "beta": "2.0", "gamma": "3.0+local.1", "zope-interface": "1!4.0"}


def test_markers_are_those_of_the_target(pkgc: Instance, index: IndexServer) -> None:
    """A lock for several Pythons installs what the environment's Python needs, not the daemon's."""
    lock = pkgc.requirements(
        "alpha==1.0 ; python_version < '3.10'",
        "beta==2.0 ; python_version >= '3.10'",
        "gamma==3.0+local.1 ; sys_platform == 'win32'",
        "gamma==3.0+local.1 ; extra == 'nope'",
    )
    old = interpreters.find("3.9")
    assert would(pkgc, lock, "-i", index.url) == {"beta": "2.0"}
    if old is not None:
        assert would(pkgc, lock, "-i", index.url, "--python", old.path) == {"alpha": "1.0"}


def test_nested_files_are_relative_to_the_file_that_names_them(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A project's requirements work from any working directory."""
    folder = pkgc.root / "project"
    (folder / "deep er").mkdir(parents=True, exist_ok=True)
    (folder / "main.txt").write_text(f"-r 'deep er/more.txt'\n-c constraints.txt\n-i {index.url}\nalpha\n")
    (folder / "deep er/more.txt").write_text("-r../last.txt\n")
    (folder / "last.txt").write_text("--requirement=deep\\ er/end.txt\n")
    (folder / "deep er/end.txt").write_text("beta==2.0\n")
    (folder / "constraints.txt").write_text("alpha==1.0\nunused==9\n")
    assert would(pkgc, "project/main.txt") == {"alpha": "1.0", "beta": "2.0"}
    assert would(pkgc, folder / "main.txt", cwd=tmp_path) == {"alpha": "1.0", "beta": "2.0"}
    (folder / "constraints.txt").write_text("alpha==1.1\nbeta==2.1\n")
    error = failure(pkgc, "sync", folder / "main.txt", "--dry-run")
    assert (error["code"], error["exit"]) == ("conflicting-requirements", 2)
    assert "end.txt:1" in error["everything"]
    assert "constraints.txt:2" in error["everything"]


def test_a_file_that_includes_itself_ends(pkgc: Instance, index: IndexServer) -> None:
    """A loop of -r is an error or harmless, never a daemon that hangs."""
    pkgc.requirements("-r two.txt", "alpha==1.0", name="one.txt")
    pkgc.requirements("-r one.txt", name="two.txt")
    result = pkgc.run("sync", "one.txt", "-i", index.url, "--dry-run", timeout=20)
    assert result.status in (0, 2)
    assert "Traceback" not in result.err


def test_constraints_pin_and_hash(pkgc: Instance, index: IndexServer) -> None:
    """-c gives the version and the hash of what the requirements only name."""
    constraints = pkgc.requirements(pin(ALPHA), pin(BETA), name="constraints.txt")
    lock = pkgc.requirements("alpha")
    assert would(pkgc, lock, "-c", constraints, "-i", index.url) == {"alpha": "1.0"}
    assert would(pkgc, lock, "-i", index.url, env={"PKGC_CONSTRAINT": "constraints.txt"}) == {"alpha": "1.0"}


def test_standard_input_and_default_source(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """`tool export | pkgc sync -` works, also with -r in it; no SOURCE means requirements.txt here."""
    (tmp_path / "more.txt").write_text("beta==2.0\n")
    text = f"-i {index.url}\nalpha==1.0\n-r more.txt\n"
    assert would(pkgc, "-", stdin=text, cwd=tmp_path) == {"alpha": "1.0", "beta": "2.0"}
    (tmp_path / "requirements.txt").write_text(text)
    assert would(pkgc, cwd=tmp_path) == {"alpha": "1.0", "beta": "2.0"}
    (tmp_path / "requirements.txt").unlink()
    error = failure(pkgc, "sync", cwd=tmp_path)
    assert (error["code"], error["exit"]) == ("no-source", 2)
    error = failure(pkgc, "sync", "-", stdin="alpha\n")
    assert error["code"] == "unpinned-requirement"
    assert "standard input" in error["message"] or "-:1" in error["message"] or "stdin" in error["message"]


def test_variables_of_the_client_and_their_secrecy(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """${TOKEN} comes from the caller's shell, is never shown, and a change of it is seen at once."""
    lock = pkgc.requirements("-i ${MY_INDEX}", "alpha==${ALPHA_VERSION}", "beta==2.0")
    secret = index.index_url(credentials="user:tops3cret")
    env = {"MY_INDEX": secret, "ALPHA_VERSION": "1.0"}
    result = pkgc.ok("sync", lock, "--dry-run", "--output-format", "json", "-v", "--venv", "no", env=env)
    assert versions(result.json) == {"alpha": "1.0", "beta": "2.0"}
    assert "tops3cret" not in str(result)
    error = failure(pkgc, "sync", lock, "--dry-run", env=env | {"ALPHA_VERSION": "7.7"})
    assert error["code"] == "no-matching-version"
    assert "tops3cret" not in error["everything"]
    assert "tops3cret" not in "".join(path.read_text() for path in pkgc.cache.rglob("*.log"))
    bad = pkgc.run("sync", lock, "--dry-run", env=env | {"ALPHA_VERSION": "== tops3cret"})
    assert bad.status == 2
    assert "tops3cret" not in str(bad)


@pytest.mark.parametrize("strongest", range(len(LEVELS)))
def test_precedence_of_what_names_the_index(pkgc: Instance, index: IndexServer, strongest: int) -> None:
    """The command line beats PKGC_*, the file, config.toml and pip's configuration, in this order."""
    here = LEVELS[strongest:]
    args = ["-i", index.index_url("argv")] if "argv" in here else []
    env = {"PKGC_INDEX_URL": index.index_url("env")} if "env" in here else {}
    lock = pkgc.requirements(*([f"-i {index.index_url('file')}"] if "file" in here else []), "alpha==1.0")
    if "config" in here:
        (pkgc.root / "config.toml").write_text(f'index-url = "{index.index_url("config")}"\n')
    env |= pip_conf(pkgc, f"index-url = {index.index_url('pip')}")
    assert served_by(pkgc, lock, *args, env=env) == index.index_url(here[0])


def test_pip_configuration_is_read_only_when_nothing_else_speaks(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A find-links of pkgc's own must not silently bring in a company's pip.conf, and the reverse works."""
    env = pip_conf(pkgc, f"index-url = {index.index_url('pip')}")
    lock = pkgc.requirements("alpha==1.0")
    assert served_by(pkgc, lock, env=env) == index.index_url("pip")
    assert served_by(pkgc, lock, env={"PIP_INDEX_URL": index.index_url("env")}) == index.index_url("env")
    # no-index is a word of its own: pip's index is not asked
    error = failure(pkgc, "sync", lock, "--no-index", "--dry-run", "--venv", "no", env=env)
    assert error["code"] == "unknown-package"
    broken = pip_conf(pkgc, "this is = not [ an ini")
    (pkgc.home / ".config/pip/pip.conf").write_text("nonsense without section\n")
    assert failure(pkgc, "sync", lock, "--dry-run", env=broken)["code"] == "invalid-pip-config"
    assert served_by(pkgc, lock, "-i", index.url, env=broken) == index.url


def test_pip_configuration_with_folders(pkgc: Instance, tmp_path: Path) -> None:
    """file: indexes, find-links folders and no-index of pip.conf work, as for pip."""
    folder = tmp_path / "wheelhouse"
    ALPHA.write_to(folder)
    simple = tmp_path / "simple"
    ALPHA.write_to(simple / "alpha")
    lock = pkgc.requirements(pin(ALPHA))
    for lines in (
        (f"index-url = {simple.as_uri()}",),
        (f"find-links = {folder}", "no-index = true"),
        (f"find-links = {folder.as_uri()}", "no-index = true"),
    ):
        assert would(pkgc, lock, env=pip_conf(pkgc, *lines)) == {"alpha": "1.0"}


def test_pip_configuration_with_a_certificate(pkgc: Instance, tmp_path: Path) -> None:
    """A company index with its own authority works as it does for pip: `cert` in pip.conf."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    lock = pkgc.requirements("alpha==1.0")
    with IndexServer(tls=context) as secure:
        secure.add(ALPHA.data, ALPHA.filename)
        env = pip_conf(pkgc, f"index-url = {secure.url}")
        assert failure(pkgc, "sync", lock, "--dry-run", env=env)["code"] == "tls-certificate"
        # SSL_CERT_FILE is what machines behind a proxy set for every program
        env = {"SSL_CERT_FILE": ssl.get_default_verify_paths().openssl_cafile}
        env |= pip_conf(pkgc, f"index-url = {secure.url}", f"cert = {bundle}")
        assert served_by(pkgc, lock, env=env) == secure.url
        assert served_by(pkgc, lock, "-i", secure.url, env={"PKGC_CERT": str(bundle)}) == secure.url
        assert served_by(pkgc, lock, "-i", secure.url, env={"SSL_CERT_FILE": str(bundle)}) == secure.url


def test_pip_configuration_of_the_environment(pkgc: Instance, index: IndexServer) -> None:
    """VENV/pip.conf is pip's "site" configuration and beats the user's."""
    lock = pkgc.requirements("alpha==1.0")
    venv = pkgc.root / ".venv"
    if not venv.exists():
        pkgc.sync(pkgc.requirements("# nothing", name="none.txt"), "--venv", venv, "-i", index.url)
    env = pip_conf(pkgc, f"index-url = {index.index_url('pip')}")
    (venv / "pip.conf").write_text(f"[install]\nindex-url = {index.index_url('config')}\n")
    answer = pkgc.sync(lock, "--dry-run", "--venv", venv, env=env)
    assert answer["installed"][0]["origin"]["index"] == index.index_url("config")


def test_index_options_in_files(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """-i, --extra-index-url, -f and --no-index in a file mean what they mean to pip."""
    house = pkgc.root / "house"
    GAMMA.write_to(house)
    lock = pkgc.requirements(
        f"--index-url={index.index_url('argv')}",
        f"--extra-index-url {index.index_url('extra')}",
        "-f ./house",
        "alpha==1.0",
        "beta==2.0",
        "gamma==3.0+local.1",
    )
    answer = pkgc.sync(lock, "--dry-run", "--venv", "no", cwd=tmp_path)
    origins = {one["name"]: one["origin"] for one in answer["installed"]}
    assert origins["alpha"]["index"] == index.index_url("argv")
    assert origins["beta"]["index"] == index.index_url("extra")
    assert origins["gamma"]["kind"] == "find-links"
    pkgc.requirements("--no-index", "-f ./house", "gamma==3.0+local.1")
    index.clear_log()
    assert would(pkgc, lock, env={"PKGC_INDEX_URL": index.url}) == {"gamma": "3.0+local.1"}
    assert index.log == []
    pkgc.requirements("--no-index", "alpha==1.0")
    assert failure(pkgc, "sync", lock, "--dry-run")["code"] == "unknown-package"


def test_hash_mode_switches(pkgc: Instance, index: IndexServer) -> None:
    """--require-hashes protects a lock that forgot them; a file can demand it, the command can waive it."""
    bare, mixed = pkgc.requirements("alpha==1.0", name="bare.txt"), pkgc.requirements(pin(ALPHA), "beta==2.0")
    assert failure(pkgc, "sync", bare, "-i", index.url, "--require-hashes")["code"] == "missing-hash"
    demanding = pkgc.requirements("--require-hashes", "alpha==1.0", name="demanding.txt")
    assert failure(pkgc, "sync", demanding, "-i", index.url)["code"] == "missing-hash"
    missing = failure(pkgc, "sync", mixed, "-i", index.url)
    assert missing["code"] == "missing-hash"
    assert f"beta==2.0 --hash=sha256:{BETA.sha256}" in missing["context"]  # H9
    assert would(pkgc, mixed, "-i", index.url, "--no-require-hashes") == {"alpha": "1.0", "beta": "2.0"}
    assert failure(pkgc, "sync", bare, env={"PKGC_REQUIRE_HASHES": "1"})["code"] == "missing-hash"


def test_what_this_version_cannot_do_is_said(pkgc: Instance, index: IndexServer) -> None:
    """Other version control, other lock formats: refused by name and line, never half understood."""
    for line in ("hg+https://example.invalid/x", "svn+https://example.invalid/x#egg=x"):
        error = failure(pkgc, "sync", pkgc.requirements("alpha==1.0", line), "-i", index.url)
        assert (error["code"], error["exit"]) == ("unsupported-requirement", 2), line
        assert "requirements.txt:2" in error["message"]
    for name in ("pdm.lock", "poetry.lock", "pyproject.toml", "Pipfile.lock"):
        (pkgc.root / name).write_text("")
        error = failure(pkgc, "sync", name)
        (pkgc.root / name).unlink()
        assert error["exit"] == 2
        assert name in error["message"]
        assert error["hint"]


def test_an_edited_file_is_read_again(pkgc: Instance, index: IndexServer) -> None:
    """What was parsed once is remembered by content, not by name or time."""
    lock = pkgc.requirements("alpha==1.0")
    stamp = lock.stat().st_mtime_ns
    assert would(pkgc, lock, "-i", index.url) == {"alpha": "1.0"}
    lock.write_text("beta==2.0\n")
    os.utime(lock, ns=(stamp, stamp))
    assert would(pkgc, lock, "-i", index.url) == {"beta": "2.0"}


def test_process_substitution(pkgc: Instance, index: IndexServer) -> None:
    """`pkgc sync <(uv export)` reads the shell's pipe, not the daemon's, and each time anew."""
    for line, expected in (("alpha==1.0", "alpha"), ("beta==2.0", "beta"), ("beta==2.0", "beta")):
        reading, writing = os.pipe()
        os.write(writing, f"{line}\n".encode())
        os.close(writing)
        args = [f"/dev/fd/{reading}", "--dry-run", "--venv", "no", "-i", index.url, "--output-format", "json"]
        process = pkgc.start("sync", *args, pass_fds=(reading,))
        os.close(reading)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, out + err
        assert [one["name"] for one in json.loads(out)["installed"]] == [expected]


def test_several_sources(pkgc: Instance, index: IndexServer) -> None:
    """Sources add up; the same pin twice is one, two versions of a project are an error with both places."""
    one = pkgc.requirements("alpha==1.0", name="one.txt")
    two = pkgc.requirements("alpha==1.0", "beta==2.0", name="two.txt")
    assert would(pkgc, one, two, "-i", index.url) == {"alpha": "1.0", "beta": "2.0"}
    three = pkgc.requirements("alpha==1.1", name="three.txt")
    error = failure(pkgc, "sync", one, three, "-i", index.url)
    assert (error["code"], error["exit"]) == ("conflicting-requirements", 2)
    assert "one.txt:1" in error["everything"]
    assert "three.txt:1" in error["everything"]


def test_strange_paths(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Working directories with blanks, other scripts, or bytes that are no text: they work or are refused."""
    for name in ("with blank", "schön ☃", "quote'\"s"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "requirements.txt").write_text("alpha==1.0\n")
        assert versions(pkgc.sync("--venv", "v", "-i", index.url, cwd=folder)) == {"alpha": "1.0"}
        assert (folder / "v/bin/python").exists()
    undecodable = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    undecodable.mkdir()
    (undecodable / "requirements.txt").write_text("alpha==1.0\n")
    result = pkgc.run("sync", "--venv", tmp_path / "other", "-i", index.url, "--dry-run", cwd=undecodable)
    assert result.status in (0, 1, 2)
    assert "internal-error" not in result.err
    assert "Traceback" not in result.err


def test_index_without_a_slash_and_variables_for_lists(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """People leave out the last slash; lists in variables are separated by blanks."""
    lock = pkgc.requirements("alpha==1.0", "beta==2.0", "gamma==3.0+local.1")
    GAMMA.write_to(tmp_path / "house")
    env = {
        "PKGC_INDEX_URL": index.index_url("argv").rstrip("/"),
        "PKGC_EXTRA_INDEX_URL": f"{index.index_url('env')} {index.index_url('extra').rstrip('/')}",
        "PKGC_FIND_LINKS": "house",
    }
    found = would(pkgc, lock, env=env, cwd=tmp_path)
    assert found == {"alpha": "1.0", "beta": "2.0", "gamma": "3.0+local.1"}


def test_empty_pipe_is_refused(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """`broken-export | pkgc sync -` must not empty an environment; an empty file may, and says so."""
    pkgc.sync(pkgc.requirements(pin(ALPHA)), "--venv", venv, "-i", index.url)
    before = snapshot(venv)
    refused = pkgc.run("sync", "-", "--venv", venv, "-i", index.url, "--output-format", "json", stdin="")
    assert refused.status == 2
    assert refused.error_code == "empty-lock"
    assert snapshot(venv) == before
    answer = pkgc.sync(pkgc.requirements("# nothing", name="none.txt"), "--venv", venv, "-i", index.url)
    assert [one["name"] for one in answer["removed"]] == ["alpha"]
    assert any(one["code"] == "empty-lock" for one in answer["warnings"])
