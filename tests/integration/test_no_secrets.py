"""No credential is written anywhere, whichever way it was given (invariant 8)."""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.builds import shared_instance
from tests.support.gitserver import GitServers
from tests.support.instance import Instance, Result
from tests.support.lockfiles import listed, pylock
from tests.support.locks import holds
from tests.support.sdists import make_sdist, project_files
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import make_wheel

#: What begins every secret of this module, and nothing else.
MARK = "hush9x"


@pytest.fixture(params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Instance]:
    """An instance of its own, whose builds and clients have a TMPDIR below its root."""
    with shared_instance(tmp_path / "pkgc", request.param) as instance:
        (instance.root / "tmp").mkdir()
        instance.env["TMPDIR"] = str(instance.root / "tmp")
        yield instance


def with_user(url: str, userinfo: str) -> str:
    """`url` with credentials in it."""
    return url.replace("://", f"://{userinfo}@")


def traces(files: Mapping[str, bytes]) -> list[str]:
    """What holds a secret, plain or as HTTP's basic credentials have it."""
    # Three alignments; characters that hold bits of what stands before or behind are left out.
    coded = [
        base64.b64encode(b"x" * shift + MARK.encode() + b"xx")[skip : (shift + len(MARK)) * 8 // 6]
        for shift, skip in ((0, 0), (1, 2), (2, 3))
    ]
    needles = (MARK.encode(), *coded)
    return [
        f"{name}: …{data[max(0, at - 60) : at + 40]!r}…"
        for name, data in files.items()
        for needle in needles
        if (at := data.find(needle)) >= 0
    ]


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file below, by its path: the path may tell a secret, too."""
    found: dict[str, bytes] = {}
    for folder in folders:
        for base, names, files in os.walk(folder):
            found |= dict.fromkeys((f"name {Path(base, name)}" for name in names), b"")
            for name in files:
                path = Path(base, name)
                if path.is_file():
                    found[f"{path}"] = path.read_bytes() + str(path).encode()
    return found


def test_what_holds_a_secret_is_found() -> None:
    """The counter-proof: what this module looks for it does find."""
    basic = {f"{n}": base64.b64encode(f"{'u' * n}:{MARK}-1".encode()) for n in range(1, 4)}
    found = traces({"plain": b"x" + MARK.encode(), "other": b"hush", **basic})
    assert [one.partition(":")[0] for one in found] == ["plain", "1", "2", "3"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_no_byte_that_is_written_tells_a_secret(pkgc: Instance, tmp_path: Path) -> None:
    """Cache folders are copied to CI caches and backups, outputs to issues: a token in them is out."""
    given, venv = tmp_path / "given", tmp_path / "venv"
    given.mkdir()
    files = {
        name: make_wheel(name, "1.0") for name in ("pinned", "named", "direct", "signed", "linked", "locked")
    }
    sdist, wrapped = make_sdist("source", "1.0"), make_sdist("wrapped", "1.0")
    outputs: dict[str, Result] = {}
    with (
        IndexServer(auth=("user", f"{MARK}-index")) as index,
        IndexServer(auth=("user", f"{MARK}-named")) as named,
        IndexServer(auth=("user", f"{MARK}-direct")) as direct,
        IndexServer() as plain,
        GitServers(tmp_path / "served", auth=("user", f"{MARK}-git")) as git,
    ):
        index.add(files["pinned"].data, files["pinned"].filename)
        index.add(wrapped.data, wrapped.filename)
        named.add(files["named"].data, files["named"].filename)
        for file in (files["direct"], files["locked"], sdist):
            direct.put(f"/d/{file.filename}", file.data, "application/octet-stream")
        plain.put(f"/cdn/{files['signed'].filename}", files["signed"].data, "application/octet-stream")
        signed = f"{plain.origin}/cdn/{files['signed'].filename}?X-Amz-Signature={MARK}-signature"
        plain.put(f"/signed/{files['signed'].filename}", b"")
        plain.behave(f"/signed/{files['signed'].filename}", Behaviour(times=None, redirect=signed))
        plain.put(f"/l/{files['linked'].filename}", files["linked"].data, "application/octet-stream")
        links = plain.put("/links/", f'<a href="/l/{files["linked"].filename}">x</a>'.encode())
        made = project_files("cloned", "1.0")
        git.repository("cloned").commit({path: data.decode() for path, data in made.items()})

        places = {
            name: with_user(direct.origin, f"user:{MARK}-direct") for name in ("direct", "source", "locked")
        }
        remote = "\n".join(
            (
                f"-i {index.index_url(credentials=f'user:{MARK}-index')}",
                f"-f {links}?access_token={MARK}-links",
                "pinned==1.0",
                f"wrapped==1.0 --hash=sha256:{wrapped.sha256}",
                "named==1.0",
                "linked==1.0",
                f"direct @ {places['direct']}/d/{files['direct'].filename}?access_token={MARK}-token",
                f"{places['source']}/d/{sdist.filename}?x=1&private_token={MARK}-token",
                f"signed @ {plain.origin}/signed/{files['signed'].filename}",
                f"cloned @ git+{git.http('cloned', f'user:{MARK}-git')}@main",
            )
        )
        direct.put("/r/more.txt", remote.encode(), "text/plain")
        source = f"{with_user(direct.origin, f'user:{MARK}-direct')}/r/more.txt?token={MARK}-file"
        (given / "requirements.txt").write_text(f"-r {source}\n")
        locked = f"{places['locked']}/d/{files['locked'].filename}"
        (given / "pylock.toml").write_text(
            pylock({"name": "locked", "version": "1.0", "wheels": [listed(files["locked"], locked)]})
        )
        options = (
            "--no-require-hashes",
            f"--index=corp={named.index_url(credentials=f'user:{MARK}-named')}",
            "--pin-index=named=corp",
            "--venv",
            venv,
        )

        def run(name: str, *args: str | Path) -> Result:
            outputs[name] = result = pkgc.run(*args, cwd=given)
            return result

        for source_file in ("requirements.txt", source):
            for more in ((), ("--output-format", "json"), ("-vv", "--reinstall", "--refresh"), ("--check",)):
                done = run(f"sync {more}", "sync", source_file, *options, *more)
                assert done.status == 0, str(done)
        assert holds(venv) == dict.fromkeys(
            (*(name for name in files if name != "locked"), "source", "wrapped", "cloned"), "1.0"
        )
        for name in holds(venv):
            assert run(f"why {name}", "why", name, "--venv", venv).status == 0
            run(f"why {name} json", "why", name, "--venv", venv, "--output-format", "json")
        assert "/r/more.txt?token=***:3: pinned==1.0" in outputs["why pinned"].out
        assert run("pylock", "sync", "pylock.toml", "--venv", tmp_path / "venv2", "-vv").status == 0
        for command in (("cache", "list"), ("daemon", "status"), ("list", "--venv", venv)):
            run(" ".join(map(str, command)), *command)
            run(f"{command} json", *command, "--output-format", "json")

        # What fails says more: wrong passwords, files that are not there, other bytes, missing hashes.
        gone = f"gone @ {places['direct']}/d/gone-1.0-py3-none-any.whl?access_token={MARK}-token"
        wrong = files["direct"].filename
        failing = {
            "gone": gone,
            "password": f"direct @ {with_user(direct.origin, f'user:{MARK}-wrong')}/d/{wrong}",
            "hash": f"direct @ {places['direct']}/d/{wrong}?token={MARK}-token --hash=sha256:{'0' * 64}",
            "missing": f"direct @ {places['direct']}/d/{wrong}?token={MARK}-new\n--require-hashes",
            "git": f"cloned @ git+{git.http('cloned', f'user:{MARK}-wrong')}@main",
            "branch": f"cloned @ git+{git.http('cloned', f'user:{MARK}-git')}@none",
            "index": f"-i {index.index_url(credentials=f'user:{MARK}-wrong')}\nabsent==1.0",
            "remote": f"-r {with_user(direct.origin, f'user:{MARK}-wrong')}/r/none.txt",
            "syntax": f"direct @ {places['direct']}/d/{wrong} ; nonsense",
        }
        for name, text in failing.items():
            (given / f"{name}.txt").write_text(text + "\n")
            for more in (("-vv",), ("--output-format", "json")):
                args = ("sync", f"{name}.txt", "--venv", tmp_path / "never", *more)
                assert run(f"{name} {more}", *args).status != 0, name

        outs = {name: f"{result.out}{result.err}".encode() for name, result in outputs.items()}
        assert traces(outs) == []
        written = (pkgc.root, pkgc.run_dir, venv, tmp_path / "venv2")
        assert traces(contents(*written)) == [], "while the daemon runs"
        pkgc.ok("daemon", "stop")
    assert traces(contents(*written)) == [], "after it has written everything"
    assert not (tmp_path / "never").exists()
    catalog = pkgc.cache / "catalog.sqlite3"
    assert catalog.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(catalog)
    asked = "SELECT name, text FROM requests WHERE venv = ?"
    texts = dict(connection.execute(asked, (str(venv),)).fetchall())
    connection.close()
    assert texts["direct"] == f"direct @ {direct.origin}/d/{wrong}?access_token=***"
