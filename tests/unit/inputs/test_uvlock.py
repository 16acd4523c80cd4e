"""uv.lock: which packages a walk reaches, where their bytes are, and what is refused (standards.md 1.4)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, LockChoice
from pkgc_daemon.inputs.uvlock import parse_uvlock, select_uvlock
from pkgc_daemon.vocabulary import (
    ArchiveSource,
    Digest,
    DirectorySource,
    FilesSource,
    LockedFile,
    Place,
    VcsSource,
    Wanted,
)
from tests.support.locktargets import target

A, B = "a" * 64, "b" * 64
HEAD = 'version = 1\nrevision = 3\nrequires-python = ">=3.9"\n'
INDEX = '{ registry = "https://i/simple" }'
COMMIT = "0123456789abcdef" * 2 + "01234567"


def package(name: str, version: str = "1.0", more: str = "", *, deps: str = "", source: str = INDEX) -> str:
    """A package with one wheel; `deps` are the names of its dependencies, or whole edges."""
    wheel = f'{{ url = "https://f/{name}-{version}-py3-none-any.whl", hash = "sha256:{A}" }}'
    return (
        f'\n[[package]]\nname = "{name}"\nversion = "{version}"\nsource = {source}\n'
        f"dependencies = [{edges(deps)}]\nwheels = [{wheel}]\n{more}\n"
    )


def project(more: str = "", *, deps: str = "", name: str = "demo", source: str = '{ virtual = "." }') -> str:
    """A source tree; by default the lock's own project, of which only the dependencies are installed."""
    return (
        f'\n[[package]]\nname = "{name}"\nversion = "0.1"\nsource = {source}\n'
        f"dependencies = [{edges(deps)}]\n{more}\n"
    )


def edges(deps: str) -> str:
    return deps if "{" in deps else ", ".join(f'{{ name = "{name}" }}' for name in deps.split())


def lock(
    text: str,
    *,
    head: str = HEAD,
    python: str = "3.12.1",
    platform: str = "linux",
    pyproject: str | None = None,
    location: str = "/w/sub/uv.lock",
    **choice: Any,
) -> Lock:
    """What a lock means: `text` behind the head."""
    beside = None if pyproject is None else pyproject.encode()
    parsed = parse_uvlock((head + text).encode(), location, "uv.lock", beside)
    return select_uvlock(parsed, target(python, platform), LockChoice(**choice))


def names(text: str, **options: Any) -> str:
    """The packages that are wanted, in their order, with the version where it is not 1.0."""
    return " ".join(one.name if one.version == "1.0" else str(one) for one in lock(text, **options).wanted)


def source(body: str, **options: Any) -> Wanted:
    """The one package of a lock whose package has this body."""
    text = project(deps="p") + f'\n[[package]]\nname = "p"\nversion = "1.0"\n{body}\n'
    (wanted,) = lock(text, **options).wanted
    return wanted


def refused(code: str, text: str, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        lock(text, **options)
    assert caught.value.code == code, caught.value.message
    assert "uv.lock" in caught.value.message
    return caught.value


def test_only_what_is_reached_is_wanted() -> None:
    """The lock holds every platform's packages; the environment gets those that its projects need."""
    text = project(deps="a") + package("a", deps="b") + package("b", deps="a") + package("z", deps="nowhere")
    assert names(text) == "a b"


def test_version_and_revision() -> None:
    """Another format is refused, with the way out; additions to this one are not in the way."""
    error = refused("unsupported-lock-version", project(), head=HEAD.replace("version = 1", "version = 2", 1))
    assert error.hint is not None
    assert "pylock" in error.hint
    assert names(project(deps="a") + package("a"), head=HEAD.replace("revision = 3", "revision = 99")) == "a"
    for version in ('"1"', "true", "1.0"):
        refused("invalid-lock", project(), head=f"version = {version}\n")


def test_requires_python() -> None:
    """Markers of the lock assume its requires-python, so for another Python they would lie."""
    refused("python-mismatch", project(), python="3.8.1")
    assert lock(project(), python="3.9.0rc1").wanted == ()


@pytest.mark.parametrize("key", ["supported-markers", "resolution-markers"])
def test_environments_of_the_lock(key: str) -> None:
    """A lock for other platforms is refused: its markers say nothing about this one."""
    head = HEAD + f"{key} = [\"sys_platform == 'win32'\"]\n"
    error = refused("unsupported-environment", project(), head=head)
    assert error.context is not None
    assert "win32" in error.context
    assert lock(project(), head=head, platform="win32").wanted == ()


def test_markers_on_edges() -> None:
    """A dependency of another platform is not installed, nor what only it needs."""
    edge = '{ name = "a", marker = "sys_platform == \'win32\'" }, { name = "b" }'
    text = project(deps=edge) + package("a", deps="c") + package("b") + package("c")
    assert names(text) == "b"
    assert names(text, platform="win32") == "a b c"


def test_forks() -> None:
    """Of two versions of one project the edge's version and source tell which is meant."""
    deps = (
        '{ name = "a", version = "1.0", source = %s, marker = "python_full_version < \'3.12\'" }, '
        '{ name = "a", version = "2.0", source = %s, marker = "python_full_version >= \'3.12\'" }'
    )
    text = project(deps=deps % (INDEX, INDEX)) + package("a") + package("a", "2.0")
    assert names(text) == "a==2.0"
    assert names(text, python="3.11.9") == "a"
    same = '{ name = "a", version = "1.0", source = { registry = "https://j/simple" } }'
    other = package("a", source='{ registry = "https://j/simple" }')
    (wanted,) = lock(project(deps=same) + package("a") + other).wanted
    assert isinstance(wanted.source, FilesSource)
    assert wanted.source.index == "https://j/simple"


def test_packages_under_their_old_name() -> None:
    """Locks of the first versions of uv, which call packages distributions, still install something."""
    text = project(deps="a") + package("a")
    assert names(text.replace("[[package]]", "[[distribution]]")) == "a"


def test_dangling_and_ambiguous_dependencies() -> None:
    """A lock with a hole is refused, by the name of what is missing: a part of it is no environment."""
    assert "'ghost'" in refused("invalid-lock", project(deps="ghost")).message
    assert "package 1 (demo)" in refused("invalid-lock", project(deps="ghost")).message
    twice = package("a") + package("a", "2.0")
    assert "any of 2" in refused("invalid-lock", project(deps="a") + twice).message
    gone = project(deps='{ name = "a", version = "3.0" }') + twice
    assert "'a==3.0'" in refused("invalid-lock", gone).message


def test_two_versions_of_one_name() -> None:
    """Markers that do not exclude each other are an error that names both places."""
    deps = '{ name = "a", version = "1.0" }, { name = "a", version = "2.0" }'
    error = refused("ambiguous-lock", project(deps=deps) + package("a") + package("a", "2.0"))
    assert "package 2 (a) at uv.lock:13" in error.message


EXTRAS = project(
    '[package.optional-dependencies]\ngui = [{ name = "a", extra = ["x"] }]\nall = [{ name = "demo", '
    'extra = ["gui"] }]\n[package.metadata]\nprovides-extras = ["gui", "all", "empty"]'
)


def test_extras() -> None:
    """Extras add their dependencies, through other extras and of other packages; unknown ones are errors."""
    text = EXTRAS + package("a", more='[package.optional-dependencies]\nx = [{ name = "b" }]') + package("b")
    assert names(text) == ""
    assert names(text, extras=frozenset({"gui"})) == "a b"
    assert names(text, extras=frozenset({"all"})) == "a b"
    assert names(text, extras=frozenset({"empty"})) == ""
    assert names(text, all_extras=True) == "a b"
    error = refused("unknown-extra", text, extras=frozenset({"gui", "cli"}))
    assert "'cli'" in error.message
    assert error.context is not None
    assert "all, empty, gui" in error.context


@pytest.mark.parametrize("key", ["dev-dependencies", "dependency-groups"])
def test_groups(key: str) -> None:
    """`dev` is installed unless the command or pyproject.toml says otherwise; unknown ones are errors."""
    groups = f'[package.{key}]\ndev = [{{ name = "a" }}]\ndocs = [{{ name = "b" }}]'
    text = project(groups, deps="c") + package("a") + package("b") + package("c")
    docs = frozenset({"docs"})
    assert names(text) == "a c"
    assert names(text, default_groups=False) == "c"
    assert names(text, groups=docs) == "a b c"
    assert names(text, groups=docs, default_groups=False) == "b c"
    assert names(text, pyproject='[tool.uv]\ndefault-groups = ["Docs"]') == "b c"
    assert names(text, pyproject='[tool.uv]\ndefault-groups = "all"') == "a b c"
    assert names(text, pyproject="[tool.uv]\ndefault-groups = []") == "c"
    error = refused("unknown-group", text, groups=frozenset({"test"}))
    assert error.context is not None
    assert "dev, docs" in error.context
    with pytest.raises(InputError, match=r"pyproject\.toml:2"):
        lock(text, pyproject="[tool.uv]\ndefault-groups = ")


def workspace(root: str) -> str:
    members = 'members = ["demo", "lib", "tool"]' if root else 'members = ["lib", "tool"]'
    return (
        f"[manifest]\n{members}\n{root}"
        + project('[package.optional-dependencies]\nx = [{ name = "b" }]', name="lib", deps="a",
                  source='{ editable = "lib" }')
        + project('[package.dev-dependencies]\ndev = [{ name = "c" }]', name="tool",
                  source='{ virtual = "tool" }')
        + package("a") + package("b") + package("c")
    )  # fmt: skip


def test_a_workspace_with_a_root() -> None:
    """The project in the lock's folder is what a sync is about; members come in as its dependencies."""
    text = workspace(project(deps="lib", source='{ editable = "." }'))
    assert names(text) == "demo lib a"
    found = {one.name: one.source for one in lock(text).wanted}
    assert found["demo"] == DirectorySource("/w/sub", editable=True)
    assert found["lib"] == DirectorySource("/w/sub/lib", editable=True)
    assert names(workspace(project())) == ""


def test_a_workspace_without_a_root() -> None:
    """Without a project in the lock's folder all members are installed, with their extras and groups."""
    assert names(workspace("")) == "lib a c"
    assert names(workspace(""), extras=frozenset({"x"}), default_groups=False) == "lib a b"
    broken = workspace("").replace('members = ["lib", "tool"]', 'members = ["lib", "gone"]')
    assert "gone" in refused("invalid-lock", broken).message


def test_requirements_of_the_lock_itself() -> None:
    """Scripts and workspaces without projects have requirements and groups of their own."""
    manifest = (
        '[manifest]\nrequirements = [{ name = "a", extras = ["x"] }, '
        '{ name = "z", marker = "os_name == \'nt\'" }]\n[manifest.dependency-groups]\n'
        'dev = [{ name = "c" }]\ndocs = [{ name = "d" }]\n'
    )
    fork = "resolution-markers = [\"python_full_version %s '3.12'\"]"
    text = (
        manifest
        + package("a", more='[package.optional-dependencies]\nx = [{ name = "b" }]')
        + package("b")
        + package("c", more=fork % "<")
        + package("c", "2.0", more=fork % ">=")
        + package("d")
    )
    assert names(text) == "a b c==2.0"
    assert names(text, groups=frozenset({"docs"}), default_groups=False) == "a b d"
    refused("invalid-lock", manifest)
    refused("invalid-lock", package("a"))


CONFLICTS = HEAD + (
    'conflicts = [[{ package = "demo", extra = "cpu" }, { package = "demo", extra = "gpu" }, '
    '{ package = "demo", group = "old" }]]\n'
)
CPU, GPU, OLD = "extra == 'extra-4-demo-cpu'", "extra == 'extra-4-demo-gpu'", "'group-4-demo-old' == extra"
TORCH = (
    project(
        '[package.optional-dependencies]\ncpu = [{ name = "lib" }]\ngpu = [{ name = "lib" }]\n'
        'all = [{ name = "demo", extra = ["cpu"] }]\n'
        '[package.dev-dependencies]\nold = [{ name = "lib" }]\nboth = [{ name = "demo", extra = ["gpu"] }]',
        deps="lib",
    )
    + package(
        "lib",
        deps=(
            f'{{ name = "torch", version = "1.0", marker = "{CPU} or {OLD}" }}, '
            f'{{ name = "torch", version = "2.0", marker = "{GPU}" }}, '
            '{ name = "plain", marker = "'
            f"{CPU.replace('==', '!=')} and {GPU.replace('==', '!=')} and os_name == 'posix'\" }}"
        ),
    )
    + package("torch")
    + package("torch", "2.0")
    + package("plain")
)


def test_conflict_markers() -> None:
    """What `extra == 'extra-4-demo-cpu'` means is known before a transitive dependency is followed."""
    assert names(TORCH, head=CONFLICTS) == "lib plain"
    assert names(TORCH, head=CONFLICTS, extras=frozenset({"cpu"})) == "lib torch"
    assert names(TORCH, head=CONFLICTS, extras=frozenset({"gpu"})) == "lib torch==2.0"
    assert names(TORCH, head=CONFLICTS, groups=frozenset({"old"})) == "lib torch plain"
    assert names(TORCH, head=CONFLICTS, extras=frozenset({"all"})) == "lib torch"
    assert names(TORCH, head=CONFLICTS, groups=frozenset({"both"})) == "lib torch==2.0"


@pytest.mark.parametrize(
    ("extras", "groups"),
    [("cpu gpu", ""), ("cpu", "old"), ("all gpu", ""), ("cpu", "both"), ("cpu gpu all", "")],
)
def test_conflicts_exclude_each_other(extras: str, groups: str) -> None:
    """Asking for both, directly or by way of another extra, is an error that names them."""
    error = refused(
        "conflicting-extras",
        TORCH,
        head=CONFLICTS,
        extras=frozenset(extras.split()),
        groups=frozenset(groups.split()),
    )
    assert "of demo" in error.message


def test_conflicting_projects() -> None:
    """Members that exclude each other are not installed together."""
    head = HEAD + 'conflicts = [[{ package = "lib" }, { package = "tool" }]]\n'
    refused("conflicting-extras", workspace(""), head=head)
    text = workspace(project(deps='{ name = "a", marker = "extra == \'project-4-demo\'" }'))
    only_root = HEAD + 'conflicts = [[{ package = "demo" }, { package = "tool" }]]\n'
    assert names(text, head=only_root) == "a"


def test_files_of_a_registry() -> None:
    """Wheels and sdist with what the lock says of them; the index without credentials; the line."""
    body = (
        'source = { registry = "https://u:p@i/simple" }\n'
        f'sdist = {{ url = "https://f/p-1.0.tar.gz#x", hash = "sha512:{"c" * 128}", size = 5 }}\n'
        f'wheels = [{{ url = "https://f/p-1.0%2Bx-py3-none-any.whl", hash = "sha256:{A}", upload-time = "t", '
        'zstd = { hash = "sha256:0" } }]'
    )
    wanted = source(body)
    sha256, sha512 = Digest("sha256", A), Digest("sha512", "c" * 128)
    assert wanted == Wanted(
        "p",
        "1.0",
        frozenset({sha256, sha512}),
        place=Place("uv.lock", 13),
        text="p==1.0",
        source=FilesSource(
            (
                LockedFile(
                    "p-1.0+x-py3-none-any.whl", "https://f/p-1.0%2Bx-py3-none-any.whl", frozenset({sha256})
                ),
                LockedFile("p-1.0.tar.gz", "https://f/p-1.0.tar.gz", frozenset({sha512}), 5),
            ),
            "https://i/simple",
        ),
    )


def test_a_folder_of_files() -> None:
    """Paths of files are relative to their index, and that to the lock."""
    body = 'source = { registry = "../links" }\nwheels = [{ path = "s/p-1.0-py3-none-any.whl" }]'
    wanted = source(body)
    assert isinstance(wanted.source, FilesSource)
    assert wanted.source.files[0].url == "file:///w/sub/../links/s/p-1.0-py3-none-any.whl"
    assert wanted.hashes == frozenset()
    remote = 'source = { registry = "https://i" }\nwheels = [{ path = "p-1.0-py3-none-any.whl" }]'
    with pytest.raises(InputError, match="index is a URL"):
        source(remote)


def test_files_without_strong_hashes() -> None:
    """With the hashes of some files only, the others stay installable, and --require-hashes names it."""
    wheel = 'wheels = [{ url = "https://f/p-1.0-py3-none-any.whl" }]'
    sdist = f'sdist = {{ url = "https://f/p-1.0.tar.gz", hash = "sha256:{A}" }}'
    weak = wheel.replace('.whl"', f'.whl", hash = "md5:{"c" * 32}"')
    for body in (f"source = {INDEX}\n{sdist}\n{wheel}", f"source = {INDEX}\n{weak}"):
        wanted = source(body)
        assert wanted.hashes == frozenset()
        text = project(deps="p") + f'\n[[package]]\nname = "p"\nversion = "1.0"\n{body}\n'
        found = lock(text, require_hashes=True)
        assert found.hash_mode
        assert [one.name for one in found.missing] == ["p"]
        assert found.wanted == ()


def test_archives() -> None:
    """Direct URLs and paths keep the one hash that the lock has of them."""
    digests = frozenset({Digest("sha256", A)})
    body = f'source = {{ url = "https://h/p.zip", subdirectory = "s" }}\nsdist = {{ hash = "sha256:{A}" }}'
    wanted = source(body)
    assert wanted.source == ArchiveSource("https://h/p.zip", None, "s", digests)
    assert wanted.hashes == digests
    wheel = f'[{{ filename = "p-1.0-py3-none-any.whl", hash = "sha256:{A}" }}]'
    wanted = source(f'source = {{ path = "w/p-1.0-py3-none-any.whl" }}\nwheels = {wheel}')
    path = "/w/sub/w/p-1.0-py3-none-any.whl"
    assert wanted.source == ArchiveSource(f"file://{path}", path, None, digests)


@pytest.mark.parametrize(("query", "requested"), [("?rev=v1", "v1"), ("?branch=a%2Fb", "a/b"), ("", None)])
def test_repositories(query: str, requested: str | None) -> None:
    """The locked commit is checked out; what was asked for is told from it."""
    more = f"{'&' if query else '?'}subdirectory=s"
    wanted = source(f'source = {{ git = "https://h/r.git{query}{more}#{COMMIT}" }}')
    assert wanted.source == VcsSource("https://h/r.git", requested, COMMIT, "s")
    assert wanted.hashes == frozenset()


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("invalid-lock", ""),
        ("invalid-lock", "source = {}"),
        ("invalid-lock", 'source = { novelty = "x" }'),
        ("invalid-lock", "source = { registry = 1 }"),
        ("invalid-lock", f'source = {INDEX}\nwheels = [{{ url = "https://f/other-1.0-py3-none-any.whl" }}]'),
        ("invalid-lock", f'source = {INDEX}\nwheels = [{{ url = "https://f/p-1.0%2F.whl" }}]'),
        ("invalid-lock", f"source = {INDEX}\nwheels = [{{}}]"),
        (
            "invalid-lock",
            f'source = {INDEX}\nwheels = [{{ url = "https://f/p-1.0.whl", hash = "sha256:0" }}]',
        ),
        ("invalid-lock", f'source = {INDEX}\nwheels = [{{ url = "https://f/p-1.0.whl", size = -1 }}]'),
        ("bad-artifact-url", f'source = {INDEX}\nwheels = [{{ url = "data:,p-1.0.whl" }}]'),
        ("bad-artifact-url", 'source = { url = "ftp://u:hunter2@h/p.zip" }'),
        ("bad-artifact-url", f'source = {{ git = "ext::x#{COMMIT}" }}'),
        ("invalid-lock", 'source = { git = "https://h/r#main" }'),
        ("invalid-lock", 'source = { git = "https://h/r" }'),
        ("unsupported-vcs", f'source = {{ git = "https://h/r?path=x.whl#{COMMIT}" }}'),
        ("unsupported-vcs", f'source = {{ git = "https://h/r?lfs=true#{COMMIT}" }}'),
    ],
)
def test_bad_sources(code: str, body: str) -> None:
    """What cannot be fetched as locked is refused before anything is, with package and line."""
    text = project(deps="p") + f'\n[[package]]\nname = "p"\nversion = "1.0"\n{body}\n'
    error = refused(code, text)
    assert "uv.lock:13: package 2 (p)" in error.message
    assert "hunter2" not in str(error.to_wire())


def test_directories_take_the_version_of_their_files() -> None:
    """A bumped version in pyproject.toml is installed, not reported as a mismatch with the lock."""
    wanted = source('source = { directory = "../p" }')
    assert wanted.source == DirectorySource("/w/sub/../p")
    assert wanted.version == ""
    error = refused(
        "hash-unsupported",
        project(deps="p") + project(name="p", source='{ editable = "p" }'),
        require_hashes=True,
    )
    assert "package 2 (p)" in error.message


def test_a_remote_lock_names_nothing_local() -> None:
    """A lock from the network must not build or install what lies on the reader's disk."""
    text = project(deps="p") + project(name="p", source='{ directory = "p" }')
    refused("remote-names-local", text, location="https://h/uv.lock")


def test_a_lock_is_read_for_several_targets() -> None:
    """One parsed lock serves any order of targets and choices, as the daemon uses it."""
    edge = '{ name = "a", marker = "sys_platform == \'win32\'" }, { name = "b" }'
    text = project('[package.optional-dependencies]\nx = [{ name = "c" }]', deps=edge)
    parsed = parse_uvlock(
        (HEAD + text + package("a") + package("b") + package("c")).encode(), "/w/uv.lock", "uv.lock", None
    )
    choices = [(target(), LockChoice()), (target(platform="win32"), LockChoice(all_extras=True))]
    expected = {0: ["b"], 1: ["a", "b", "c"]}
    for order in itertools.product((0, 1), repeat=3):
        for which in order:
            assert [one.name for one in select_uvlock(parsed, *choices[which]).wanted] == expected[which]


@pytest.mark.parametrize(
    ("text", "line"), [("[[package]]\nname = ", ":5"), ("[[package]]\nversion = '1'", ":4"), ("\xff", ":4")]
)
def test_what_is_no_lock(text: str, line: str) -> None:
    """A lock that was cut off, by a merge or a full disk, is told as that and where."""
    with pytest.raises(InputError) as caught:
        parse_uvlock(HEAD.encode() + text.encode("latin-1"), "/w/uv.lock", "uv.lock", None)
    assert caught.value.code == "invalid-lock"
    assert f"uv.lock{line}" in caught.value.message


def test_a_lock_of_nothing_empties_no_environment() -> None:
    """A lock that was cut off after its header is valid TOML: it must not count as a wish for nothing."""
    with pytest.raises(InputError) as caught:
        parse_uvlock(HEAD.encode(), "/w/uv.lock", "uv.lock", None)
    assert caught.value.code == "invalid-lock"


MUTATED = (CONFLICTS + TORCH).encode()


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_lock_is_an_input_error(data: st.DataObject) -> None:
    """Whatever happened to a lock, a person reads what is wrong; the daemon does not fail."""
    start = data.draw(st.integers(0, len(MUTATED)))
    end = data.draw(st.integers(start, min(len(MUTATED), start + 12)))
    piece = data.draw(
        st.sampled_from(
            [b"", b'"', b"]", b"}", b"1", b"[", b"{}", b"true", b"\n", b"\xff", b"-", b"'", b"extra"]
        )
    )
    try:
        parsed = parse_uvlock(MUTATED[:start] + piece + MUTATED[end:], "/w/uv.lock", "uv.lock", None)
        found = select_uvlock(parsed, target(), LockChoice(all_extras=data.draw(st.booleans())))
        message = " ".join((*(one.place.file for one in found.wanted), *found.warnings))
    except InputError as exc:
        message = exc.message
    assert "uv.lock" in message


@settings(max_examples=300)
@given(
    replaced=st.sampled_from(
        [
            '"1.0"',
            INDEX,
            '"https://i/simple"',
            '"lib"',
            "[]",
            '["cpu"]',
            f'"sha256:{A}"',
            "[[{",
            '{ name = "lib" }',
        ]
    ),
    value=st.sampled_from(
        ["1", "-1", "true", '""', '"x"', "[]", "[1]", "[[]]", "{}", "{ a = 1 }", "1979-05-27"]
    ),
    which=st.integers(0, 3),
)
def test_values_of_any_type_are_input_errors(replaced: str, value: str, which: int) -> None:
    """A value of another type is told as that, whichever it is."""
    pieces = (CONFLICTS + TORCH).split(replaced)
    cut = which % max(1, len(pieces) - 1) + 1
    text = replaced.join(pieces[:cut]) + value + replaced.join(pieces[cut:])
    try:
        parsed = parse_uvlock(text.encode(), "/w/uv.lock", "uv.lock", None)
        found = select_uvlock(parsed, target(), LockChoice(extras=frozenset({"cpu"})))
        message = " ".join((*(one.place.file for one in found.wanted), *found.warnings))
    except InputError as exc:
        message = exc.message
    assert "uv.lock" in message
