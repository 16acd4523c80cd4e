"""Revisions of remote repositories: what a name means now, who may ask, and how failures are said."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.building.git import checkout_git, resolve_git
from pkgc_daemon.building.gitcommands import Git, Ran, git_environment
from pkgc_daemon.building.gitrefs import chosen
from pkgc_daemon.building.giturls import check_revision, is_full_commit, read_remote
from pkgc_daemon.errors import InputError, PkgcError
from tests.support.gitserver import GitServers, Repository, git_variables, needs_git

FILES = {"pyproject.toml": ""}
USER, PASSWORD = "alice", "pa:ss/w@rd!"
QUOTED = "alice:pa%3Ass%2Fw%40rd%21"


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody without any configuration of git; the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "SSH_"))]:
        monkeypatch.delenv(name)
    for name, value in git_variables(home).items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[GitServers]:
    """Servers of an empty folder."""
    with GitServers(tmp_path / "served") as started:
        yield started


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[GitServers]:
    """Servers that want a password."""
    with GitServers(tmp_path / "closed", auth=(USER, PASSWORD)) as started:
        yield started


@pytest.fixture
def repository(servers: GitServers) -> Repository:
    """demo, with one commit."""
    made = servers.repository("demo")
    made.commit(FILES)
    return made


def resolve(url: str, requested: str | None = None) -> str | None:
    answer: str | None = resolve_git({"url": url, "requested": requested})["commit"]
    return answer


def failure(url: str, requested: str | None = None) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        resolve(url, requested)
    return caught.value


@needs_git
def test_a_branch_is_where_it_is_now(servers: GitServers, repository: Repository) -> None:
    """A branch that has moved is installed anew; so is the default branch."""
    url = servers.http("demo")
    first = resolve(url, "main")
    moved = repository.commit({**FILES, "a": "1"})
    assert first != moved
    assert (
        resolve(url, "main")
        == resolve(url)
        == resolve(url, "HEAD")
        == resolve(url, "refs/heads/main")
        == moved
    )
    assert resolve(servers.git("demo"), "main") == resolve(servers.file("demo"), "main") == moved
    assert resolve(str(servers.folder / "demo"), "main") == moved


@needs_git
def test_the_default_branch_is_the_servers(servers: GitServers, repository: Repository) -> None:
    """Not every repository calls it main."""
    trunk = repository.commit({**FILES, "a": "1"}, "trunk")
    repository.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    assert resolve(servers.http("demo")) == trunk


@needs_git
@pytest.mark.parametrize("annotated", [True, False], ids=["annotated", "light"])
def test_a_tag_is_its_commit(servers: GitServers, repository: Repository, annotated: bool) -> None:
    """An annotated tag is an object of its own; what is recorded and compared is the commit."""
    commit = repository.commit(FILES, "dev")
    repository.tag("v1", commit, annotated=annotated)
    for name in ("v1", "refs/tags/v1", "tags/v1"):
        assert resolve(servers.http("demo"), name) == commit


@needs_git
def test_a_branch_wins_over_a_tag(servers: GitServers, repository: Repository) -> None:
    """pip and uv decide so; the same line must not install another commit here."""
    repository.tag("same", annotated=True)
    commit = repository.commit(FILES, "same")
    assert resolve(servers.http("demo"), "same") == commit


@needs_git
def test_names_with_slashes_and_of_pull_requests(servers: GitServers, repository: Repository) -> None:
    """`@feature/x` and `@refs/pull/1/head` are in use; a part of a name is not the name."""
    commit = repository.commit(FILES, "feature/x")
    repository.git("update-ref", "refs/pull/1/head", commit)
    url = servers.http("demo")
    assert (
        resolve(url, "feature/x") == resolve(url, "refs/pull/1/head") == resolve(url, "pull/1/head") == commit
    )
    assert failure(url, "x").code == "unknown-revision"


def test_a_whole_commit_needs_no_network() -> None:
    """A lock with commits syncs offline."""
    commit = "0123456789abcdef" * 2 + "01234567"
    assert resolve("https://192.0.2.1/nowhere", commit.upper()) == commit
    assert resolve("https://192.0.2.1/nowhere", "ab" * 32) == "ab" * 32


@needs_git
def test_a_short_commit_is_left_to_the_checkout(servers: GitServers, repository: Repository) -> None:
    """No server says what the beginning of a commit means; a branch that looks like one wins."""
    url = servers.http("demo")
    commit = repository.git("rev-parse", "main")
    assert resolve(url, commit[:8]) is None
    branch = repository.commit({**FILES, "a": "1"}, "deadbeef")
    assert resolve(url, "deadbeef") == branch


@needs_git
def test_an_unknown_revision_lists_what_is_near(servers: GitServers, repository: Repository) -> None:
    """Most unknown revisions are typing errors."""
    for name in ("v1.0.0", "v1.0.1", "nothing-like-it"):
        repository.tag(name)
    error = failure(servers.http("demo"), "v1.0.2")
    assert error.code == "unknown-revision"
    assert "v1.0.2" in error.message
    assert "/demo" in error.message
    assert "v1.0.1" in str(error.context)
    assert "nothing" not in str(error.context)


@needs_git
def test_an_empty_repository(servers: GitServers) -> None:
    """It has a default branch without a commit."""
    servers.repository("empty")
    assert failure(servers.http("empty")).code == "unknown-revision"


@needs_git
@pytest.mark.parametrize("scheme", ["http", "git"])
def test_an_unreachable_server(scheme: str) -> None:
    """The error is about the network, and says what git said."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/demo"
        error = failure(url, "main")
    assert error.code == "git-unreachable"
    assert url in error.message
    assert "127.0.0.1" in str(error.context)
    assert error.hint


@needs_git
def test_a_missing_repository(servers: GitServers) -> None:
    """The server is there, the repository is not."""
    for url in (servers.http("nothing"), servers.git("nothing"), servers.file("nothing"), "/nothing/here"):
        assert failure(url).code == "git-unreachable"


@needs_git
def test_credentials_of_the_url(closed: GitServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They work, characters that URLs escape included; they stand in no command line and no file."""
    commit = closed.repository("demo").commit({**FILES, "a": "1"})
    seen = tmp_path / "seen"
    real = next(f"{p}/git" for p in os.environ["PATH"].split(":") if os.access(f"{p}/git", os.X_OK))
    spy(tmp_path / "bin", f'echo "$@" >>{seen}; ps -eo args >>{seen}; exec {real} "$@"', monkeypatch)
    url = closed.http("demo", QUOTED)
    assert resolve(url, "main") == commit
    work = tmp_path / "work"
    work.mkdir()
    args = {"url": url, "commit": commit, "requested": "main", "work": str(work), "offline": False}
    found = checkout_git({**args, "repository": str(tmp_path / "cache" / "demo")})
    assert (Path(found["path"]) / "a").read_text() == "1"
    written = seen.read_text()
    assert "ls-remote" in written
    assert "fetch" in written
    for place in (work, tmp_path / "cache"):
        for path in place.rglob("*"):
            if path.is_file():
                written += path.read_bytes().decode("latin-1")
    for secret in (PASSWORD, "pa%3Ass", USER + ":", USER + "@"):
        assert secret not in written


def spy(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@needs_git
def test_credentials_of_a_helper(closed: GitServers, person: Path) -> None:
    """What works with `git clone` works with pkgc: helpers, and CI's variables; a user in the URL chooses."""
    commit = closed.repository("demo").commit(FILES)
    (person / "store").write_text(f"{closed.http('', QUOTED)}\n")
    (person / ".gitconfig").write_text(f"[credential]\n\thelper = store --file={person / 'store'}\n")
    assert resolve(closed.http("demo")) == commit
    assert resolve(closed.http("demo", USER)) == commit


@needs_git
def test_credentials_of_the_url_win_over_helpers(closed: GitServers, person: Path) -> None:
    """The URL is what the line says; a stale entry of a helper must not be tried in its place."""
    commit = closed.repository("demo").commit(FILES)
    (person / "store").write_text(f"{closed.http('', 'alice:stale')}\n")
    (person / ".gitconfig").write_text(f"[credential]\n\thelper = store --file={person / 'store'}\n")
    assert resolve(closed.http("demo", QUOTED)) == commit


@needs_git
def test_a_token_without_password(tmp_path: Path) -> None:
    """`https://TOKEN@host/…` is what many CI jobs write."""
    with GitServers(tmp_path / "closed", auth=("t0ken-of-mine", "")) as closed:
        commit = closed.repository("demo").commit(FILES)
        assert resolve(closed.http("demo", "t0ken-of-mine")) == commit


@needs_git
def test_settings_in_variables_stay(closed: GitServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI systems configure git by GIT_CONFIG_COUNT; credentials of a URL are added behind."""
    commit = closed.repository("demo").commit(FILES)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{closed.http('', QUOTED)}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://elsewhere.invalid/")
    assert resolve("https://elsewhere.invalid/demo") == commit
    assert resolve(closed.http("demo", QUOTED)) == commit


@needs_git
@pytest.mark.parametrize("userinfo", ["", "alice:wr0ngpass", "s3cr3t-token"])
def test_a_refused_request_never_asks(closed: GitServers, userinfo: str) -> None:
    """In a job nobody answers a prompt; the error says what to do, and shows no secret."""
    closed.repository("demo").commit(FILES)
    error = failure(closed.http("demo", userinfo), "main")
    assert error.code == "git-authentication"
    assert "helper" in str(error.hint)
    for secret in ("wr0ngpass", "s3cr3t-token"):
        assert secret not in str(error.to_wire())


@needs_git
def test_an_askpass_of_git_is_used_and_windows_are_not(
    closed: GitServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIT_ASKPASS is how CI gives passwords; SSH_ASKPASS opens a window on somebody's screen."""
    commit = closed.repository("demo").commit(FILES)
    window = tmp_path / "window"
    for name, text in (
        ("ssh", f"touch {window}"),
        ("git", f"case $1 in User*) echo alice;; *) echo '{PASSWORD}';; esac"),
    ):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(tmp_path / "ssh"))
    assert failure(closed.http("demo")).code == "git-authentication"
    assert not window.exists()
    monkeypatch.setenv("GIT_ASKPASS", str(tmp_path / "git"))
    assert resolve(closed.http("demo")) == commit


def test_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container: the error names what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    error = failure("https://host.invalid/demo", "main")
    assert error.code == "git-missing"
    assert "install git" in str(error.hint)


def test_what_does_not_speak_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead connection ends, and so does all that git started."""
    note = tmp_path / "pid"
    spy(tmp_path / "bin", f"echo begun >&2; sleep 60 & echo $! >{note}; trap '' TERM; wait", monkeypatch)
    git = Git(read_remote("https://host.invalid/demo"), stall=0.4)
    monkeypatch.setattr("pkgc_daemon.building.gitcommands._GRACE", 0.2)
    began = time.monotonic()
    with pytest.raises(PkgcError) as caught:
        git.run("fetch")
    assert time.monotonic() - began < 5
    assert caught.value.code == "git-stalled"
    assert "begun" in str(caught.value.context)
    wait_gone(int(note.read_text()))


def test_what_speaks_is_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow fetch may take hours."""
    spy(
        tmp_path / "bin",
        "for i in 1 2 3 4 5 6; do printf 'x\\r' >&2; sleep 0.1; done; echo done",
        monkeypatch,
    )
    ran = Git(read_remote("https://host.invalid/demo"), stall=0.4).run("fetch")
    assert ran.output == b"done\n"


def test_cancel_stops_what_git_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its helpers hold the connection."""
    note = tmp_path / "pid"
    spy(tmp_path / "bin", f"sleep 60 & echo $! >{note}; wait", monkeypatch)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(PkgcError) as caught:
        Git(read_remote("https://host.invalid/demo"), cancelled=stop.is_set).run("fetch")
    assert caught.value.code == "interrupted"
    wait_gone(int(note.read_text()))


def wait_gone(process: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                time.sleep(0.02)
                continue
        return
    pytest.fail(f"process {process} still runs")


def test_ssh_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown host or a locked key is an error, not a question; the user's own command is obeyed."""
    spy(tmp_path / "bin", 'case "$*" in *core.sshCommand) exit 1; esac; echo "$GIT_SSH_COMMAND"', monkeypatch)
    for url in ("ssh://git@host.invalid/x", "git@host.invalid:x/y.git"):
        assert b"BatchMode=yes" in Git(read_remote(url)).run("fetch").output
    monkeypatch.setenv("GIT_SSH_COMMAND", "my-ssh")
    assert Git(read_remote("ssh://git@host.invalid/x")).run("fetch").output == b"my-ssh\n"


@needs_git
def test_a_configured_ssh_is_obeyed(person: Path, tmp_path: Path) -> None:
    """The variable would win over core.sshCommand, so it is not set then."""
    proof = tmp_path / "proof"
    script = tmp_path / "my-ssh"
    script.write_text(f'#!/bin/sh\necho "$@" >{proof}\nexit 1\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (person / ".gitconfig").write_text(f"[core]\n\tsshCommand = {script}\n[ssh]\n\tvariant = ssh\n")
    assert failure("ssh://git@host.invalid/x").code == "git-unreachable"
    assert "host.invalid" in proof.read_text()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-u",
        "--upload-pack=touch x",
        "ext::sh -c true",
        "fd::17",
        "foo::https://host/x",
        "ext://host/x",
        "ftp://host/x",
        "javascript:x",
        "relative/path",
        "./x",
        "https:///x",
        "https://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x@host/y",
        "-oProxyCommand=x@host:y",
        "git@-oProxyCommand=x:y",
        "git@host:-x",
        "git@host::x",
        "ssh://user:secret@host/x",
        "file://host/x",
        "file:x",
        "https://host/a b",
        "https://host/a\nb",
        "https://us%0aer:secret@host/x",
        "https://user:sec/ret@host/x",
    ],
)
def test_urls_that_git_must_not_see(url: str) -> None:
    """A line of a lock must not run a program, nor be an option; and its secrets are not shown."""
    with pytest.raises(InputError) as caught:
        read_remote(url)
    assert caught.value.code == "invalid-git-url"
    assert not {word for word in ("secret", "sec/ret") if word in str(caught.value.to_wire())}


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:pw@host.example:8443/a/b.git", "https://host.example:8443/a/b.git"),
        ("HTTPS://host/a", "https://host/a"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("ssh://git@host:22/a", "ssh://git@host:22/a"),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("git://host/a", "git://host/a"),
        ("file:///a/b c".replace(" ", "%20"), "file:///a/b%20c"),
        ("file://localhost/a", "file:///a"),
        ("/a/b c", "/a/b c"),
    ],
)
def test_urls_that_git_gets(url: str, clean: str) -> None:
    """Everything that pip takes behind git+ works, and credentials are taken out."""
    assert read_remote(url).url == clean


@given(st.text(max_size=60))
def test_no_url_becomes_an_option_or_a_program(text: str) -> None:
    """Whatever a lock says, git gets a URL of a known kind or an absolute path."""
    for url in (text, f"ssh://{text}", f"https://{text}", f"git@{text}"):
        try:
            clean = read_remote(url).url
        except InputError:
            continue
        assert clean.startswith(("http://", "https://", "ssh://", "git://", "file:///", "/")) or "@" in clean
        assert not clean.startswith("-")
        assert "::" not in clean.split("/")[0] or clean.startswith("/")


@given(st.text(max_size=40))
def test_no_revision_becomes_an_option_or_an_expression(text: str) -> None:
    """A revision is a name."""
    try:
        check_revision(text, "url")
    except InputError:
        return
    assert text
    assert text[0] not in "-/"
    assert not set(text) & set(" ~^:?*[\\\n\0")
    assert ".." not in text


def test_secrets_of_git_are_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """git and its helpers say URLs, and servers say what they like."""
    spy(
        tmp_path / "bin",
        "echo 'fatal: https://bob:hunter22@h/x s3cr3t/pw alice9 gone' >&2; exit 1",
        monkeypatch,
    )
    git = Git(read_remote("https://alice9:s3cr3t%2Fpw@host.invalid/demo"))
    with pytest.raises(PkgcError) as caught:
        git.check("cannot read", "fetch")
    shown = str(caught.value.to_wire())
    assert "gone" in shown
    for secret in ("hunter22", "s3cr3t", "alice9"):
        assert secret not in shown
    assert "s3cr3t" not in repr(git.remote)


def test_variables_that_point_elsewhere_are_dropped() -> None:
    """In a hook or an alias git is told to work on another repository."""
    given = {
        "GIT_DIR": "/x",
        "GIT_INDEX_FILE": "/y",
        "GIT_TRACE_CURL": "/z",
        "HTTPS_PROXY": "p",
        "GIT_SSL_CAINFO": "c",
    }
    env = git_environment(read_remote("https://host/x"), given)
    assert not {"GIT_DIR", "GIT_INDEX_FILE", "GIT_TRACE_CURL"} & env.keys()
    assert (env["HTTPS_PROXY"], env["GIT_SSL_CAINFO"], env["GIT_TERMINAL_PROMPT"]) == ("p", "c", "0")


def test_the_choice_needs_whole_names() -> None:
    """ls-remote matches ends of names; `a/v1` is not `v1`."""
    refs = {"refs/tags/a/v1": "1" * 40, "refs/remotes/refs/heads/v1": "2" * 40, "refs/tags/v2": "3" * 40}
    assert chosen(refs, "v1") is None
    assert chosen(refs | {"refs/tags/v2^{}": "4" * 40}, "v2") == "4" * 40
    assert is_full_commit("1" * 40)
    assert not is_full_commit("1" * 41)


def test_causes_of_failures() -> None:
    """What large hosts and ssh say becomes the right code: people search for it, programs match it."""
    said = {
        "h: Permission denied (publickey).\nfatal: Could not read from remote": "git-authentication",
        "Host key verification failed.\nfatal: Could not read from remote repository.": "git-authentication",
        "fatal: unable to access 'https://h/': The requested URL returned error: 403": "git-authentication",
        "fatal: unable to access 'https://h/': Could not resolve host: h": "git-unreachable",
        "remote: Repository not found.\nfatal: repository 'https://h/x/' not found": "git-unreachable",
        "fatal: write error: No space left on device\nfatal: early EOF": "disk-full",
        "fatal: something new": "git-failed",
    }
    assert {text: Ran(128, b"", text).cause for text in said} == said
