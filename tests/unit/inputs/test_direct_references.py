"""Direct references: URLs, paths and repositories as requirements, read as pip reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pip._internal.exceptions import InstallationError, InvalidEggFragment
from pip._internal.req.constructors import install_req_from_editable, install_req_from_line
from pip._internal.req.req_install import InstallRequirement
from pip._internal.utils.urls import path_to_url

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.forms import Form, FormError, classify, classify_editable
from pkgc_daemon.inputs.given import UnsupportedLine
from pkgc_daemon.inputs.references import Reference, parse_reference
from pkgc_daemon.vocabulary import ArchiveSource, Digest, DirectorySource, DirectSource, VcsSource
from tests.unit.inputs.reading import DA, one, refused

SHA, MD5, COMMIT = "a" * 64, "0" * 32, "0123456789abcdef0123456789abcdef01234567"


def archive(
    url: str, path: str | None = None, subdirectory: str | None = None, *digests: Digest
) -> ArchiveSource:
    return ArchiveSource(url, path, subdirectory, frozenset(digests))


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("Foo.Bar @ https://h.example/x", "foo-bar", archive("https://h.example/x")),
        ("https://u:pw@h.example/a%20b.zip?q=1", "", archive("https://u:pw@h.example/a%20b.zip?q=1")),
        ("https://h.example/Foo_Bar-1.0-py3-none-any.whl", "foo-bar", None),
        ("https://h.example/foo%5Fbar-1.0-py3-none-any.whl", "foo-bar", None),
        ("https://h.example/foo_bar-1.0.tar.gz", "foo-bar", None),
        # Names that only look like PEP 625, as code hosts make them.
        ("https://h.example/archive/v1.0.tar.gz", "", None),
        ("https://h.example/python-foo-1.0.tar.gz", "", None),
        ("https://h.example/Foo-1.0.tar.gz", "", None),
        ("https://h.example/foo-v1.0.tar.gz", "", None),
        ("https://h.example/foo-main.tar.gz", "", None),
        ("https://h.example/foo-1.0.zip", "", None),
        (
            f"https://h.example/x.zip#egg=Foo_b&subdirectory=s/./t/&sha256={SHA.upper()}&md5={MD5}&x=1",
            "foo-b",
            archive("https://h.example/x.zip", None, "s/t", Digest("sha256", SHA), Digest("md5", MD5)),
        ),
        ("./a-1-py3-none-any.whl", "a", archive("file:///w/a-1-py3-none-any.whl", "/w/a-1-py3-none-any.whl")),
        ("x.zip", "", archive("file:///w/x.zip", "/w/x.zip")),
        ("sub/../d é/x.tar.bz2", "", archive("file:///w/d%20%C3%A9/x.tar.bz2", "/w/d é/x.tar.bz2")),
        (f"./x.zip#sha256={SHA}", "", archive("file:///w/x.zip", "/w/x.zip", None, DA)),
        ("file:///d%20e/x.zip", "", archive("file:///d%20e/x.zip", "/d e/x.zip")),
        ("file://localhost/x.zip#egg=y", "y", archive("file:///x.zip", "/x.zip")),
        ("./c#x/proj", "", DirectorySource("/w/c#x/proj")),
        (".", "", DirectorySource("/w")),
        ("..", "", DirectorySource("/")),
        ("sub/", "", DirectorySource("/w/sub")),
        ("/abs/./x", "", DirectorySource("/abs/x")),
        ("file:sub", "", DirectorySource("/w/sub")),
        ("file:///a%252Fb", "", DirectorySource("/a%2Fb")),
        ("mono @ ./mono#subdirectory=pkg", "mono", DirectorySource("/w/mono", False, "pkg")),
        ("git+https://u:t@h.example/r.git", "", VcsSource("https://u:t@h.example/r.git")),
        ("GIT+https://h.example/r", "", VcsSource("https://h.example/r")),
        (
            "git+ssh://git@h.example/r.git@feature/x#egg=Foo&subdirectory=s",
            "foo",
            VcsSource("ssh://git@h.example/r.git", "feature/x", None, "s"),
        ),
        (f"r @ git+git://h.example/r@{COMMIT}", "r", VcsSource("git://h.example/r", COMMIT, COMMIT)),
        ("git+http://h.example/r@v1%2B2", "", VcsSource("http://h.example/r", "v1+2")),
        ("git+file:///repos/r.git@v1", "", VcsSource("file:///repos/r.git", "v1")),
    ],
)  # fmt: skip
def test_forms(text: str, name: str, source: DirectSource | None) -> None:
    """Each form that pip's format has names one source, and its project where the text tells it."""
    form = classify(text, "/w")
    assert form.reference is not None
    assert form.name == name
    if source is not None:
        assert form.reference.source == source
    assert not form.specifier


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        (".", "", DirectorySource("/w", True)),
        ("demo", "", DirectorySource("/w/demo", True)),
        ("./demo#egg=x", "x", DirectorySource("/w/demo", True)),
        ("file:///demo#egg=x&subdirectory=s", "x", DirectorySource("/demo", True, "s")),
        ("demo @ file:///demo", "demo", DirectorySource("/demo", True)),
        ("demo @ ./demo", "demo", DirectorySource("/w/demo", True)),
        ("git+https://h.example/r@main#egg=r", "r", VcsSource("https://h.example/r", "main")),
        ("git://h.example/r#egg=r", "r", VcsSource("git://h.example/r")),
    ],
)
def test_editables(text: str, name: str, source: DirectSource) -> None:
    """After -e stands a directory, whatever it is called, or a repository."""
    form = classify_editable(text, "/w")
    assert form.reference is not None
    assert (form.name, form.reference.source) == (name, source)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a @ b", "neither a URL nor a path"),
        ("https://h.example/a b.zip", "no blanks"),
        ("https://h.example/a.zip os_name == 'nt'", "no blanks"),
        ("https:///a.zip", "names no host"),
        ("https://h.example:x/a.zip", "not a valid URL"),
        ("https://[h/a.zip", "not a valid URL"),
        ("https://h.example/a.whl", "invalid file name of a wheel"),
        ("a @ https://h.example/b-1-py3-none-any.whl", "is a, but the wheel's file name says b"),
        (f"https://h.example/a.zip#sha256={SHA[:-1]}", "must be 64 hex digits"),
        ("https://h.example/a.zip#egg=a==1", "#egg="),
        ("https://h.example/a.zip#egg=", "#egg="),
        ("https://h.example/a.zip#subdirectory=../b", "#subdirectory="),
        ("https://h.example/a.zip#subdirectory=%2Fb", "#subdirectory="),
        ("https://h.example/a.zip ; os_name =", "marker"),
        ("./a ; os_name =", "marker"),
        ("file://elsewhere/a", "not the URL of a local file"),
        ("file:", "not the URL of a local file"),
        ("ftp://h.example/a.zip", "ftp:"),
        ("ssh://h.example/a", "ssh:"),
        ("git+ftp://h.example/a", "git"),
        ("git+git@h.example:u/r.git", "git is reached by"),
        ("git+ssh://git@h.example:u/r.git", "not a valid URL"),
        ("git+ssh://-oProxyCommand=x/r.git", "names no host"),
        ("git+https://h.example/r@", "no revision"),
        ("git+https://h.example/r@--upload-pack=x", "no revision"),
        ("git+file:r", "absolute path"),
    ],
)  # fmt: skip
def test_mistakes_say_what_is_wrong(text: str, why: str) -> None:
    """Found when the file is read, not after half of it was downloaded."""
    with pytest.raises(FormError, match=why):
        classify(text, "/w")


@pytest.mark.parametrize("text", ["https://h.example/a.zip", "./a.zip", "a @ https://h.example/a.zip"])
def test_archives_are_not_editable(text: str) -> None:
    """As in pip; nothing is installed in another way than asked for."""
    with pytest.raises(FormError, match="editable"):
        classify_editable(text, "/w")


@pytest.mark.parametrize(
    "text", ["./a", "./a.zip", "https://h.example/a.zip", "git+https://h.example/a", "a @ file:///a"]
)
@pytest.mark.parametrize("separator", [" ; ", "; "])
def test_markers_and_extras(text: str, separator: str) -> None:
    """Behind every form; before the semicolon of a URL a blank may be missing, as in pip."""
    form = classify(f"{text}{separator}os_name == 'nt'", "/w")
    assert str(form.marker) == 'os_name == "nt"'
    assert form.reference == classify(text, "/w").reference
    if "@" not in text:
        assert classify(f"{text}[X_y,z]{separator}os_name == 'nt'", "/w").extras == {"x-y", "z"}


def test_relative_paths_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's rule (and uv's), which surprises: not at the requirements file. pip is asked here."""
    (tmp_path / "cwd" / "demo").mkdir(parents=True)
    (tmp_path / "cwd" / "demo" / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "cwd")
    cwd = str(tmp_path / "cwd")
    for theirs, ours in (
        (install_req_from_line("./demo", comes_from="-r sub/r.txt (line 1)"), classify("./demo", cwd)),
        (
            install_req_from_editable("./demo", comes_from="-r sub/r.txt (line 1)"),
            classify_editable("./demo", cwd),
        ),
    ):
        assert theirs.link is not None
        assert ours.reference is not None
        assert isinstance(ours.reference.source, DirectorySource)
        assert theirs.link.url == path_to_url(ours.reference.source.path)


def pips(text: str) -> InstallRequirement | None:
    """What pip makes of a line; None: it refuses it."""
    try:
        return install_req_from_line(text, user_supplied=True)
    except (InstallationError, InvalidEggFragment):
        return None


def pkgcs(text: str) -> Form | None:
    """What pkgc makes of it."""
    try:
        return classify(text, os.getcwd())
    except FormError:
        return None


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a[x]==1 ; os_name == 'nt'",
        "./a-1-py3-none-any.whl",
        "./a-1-py3-none-any.whl[x,Y] ; os_name == 'nt'",
        "./nope.whl",
        "a.zip",
        "a.zip[b];os_name=='nt'",
        "dist/a-1.tar.bz2 ; os_name == 'nt'",
        "a==1.zip",
        "file:a.zip",
        "file:///a/b",
        "file:///a%20b.zip",
        "https://h.example/a_b-1-py3-none-any.whl",
        f"https://h.example/a.zip#egg=A_b&subdirectory=s&sha256={SHA}",
        f"https://h.example/a.zip#md5={MD5}",
        "https://h.example/x;os_name=='nt'",
        "https://h.example/x; os_name=='nt'",
        "https://h.example/x ; os_name=='nt'",
        "a @ https://h.example/x; os_name=='nt'",
        "a @ https://h.example/x;os_name=='nt'",
        "a[b] @ https://h.example/x ; os_name=='nt'",
        "a @ git+https://h.example/r@v1#subdirectory=s",
        "git+https://h.example/r@v1#egg=a",
        "GIT+https://h.example/r",
        "git+git@h.example:u/r.git",
        "ssh://git@h.example/x",
        "lp:x",
        "hg+https://h.example/r#egg=a",
        "a = 1",
        "a @",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_lines_are_pips(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that pip reads means the same here; the exceptions are in the next test."""
    monkeypatch.chdir(tmp_path)
    theirs, ours = pips(text), pkgcs(text)
    assert (ours is None) == (theirs is None)
    if ours is None or theirs is None:
        return
    told = ours.name if ours.reference is None or ours.reference.told_by != "sdist" else ""
    assert told == (theirs.name or "").lower().replace("_", "-")
    assert ours.extras == {extra.lower() for extra in theirs.extras}
    assert str(ours.marker or "") == str(theirs.markers or "")
    link, reference = theirs.link, ours.reference
    assert (link is None) == (reference is None)
    if link is None or reference is None or reference.source is None:
        return
    source = reference.source
    assert source.subdirectory == link.subdirectory_fragment
    if isinstance(source, ArchiveSource):
        assert source.url == (path_to_url(link.file_path) if link.is_file else link.url_without_fragment)
        assert {str(digest) for digest in source.integrity} == {
            f"{name}:{value}" for name, value in link._hashes.items()
        }
    elif isinstance(source, DirectorySource):
        assert source.path == link.file_path
    else:
        assert link.is_vcs


@pytest.mark.parametrize(
    ("text", "only"),
    [
        # pip takes the bracket for a part of the URL, and refuses extras in #egg= since 25.
        ("https://h.example/a.zip#egg=a[b]", "pkgc"),
        # pip reads a marker that is none.
        ("a @ https://h.example/x;y", "pkgc"),
        # pip looks at the disk, where there is no ./nope; pkgc says so when it gets there.
        ("./nope", "pkgc"),
        # pip fails at these only when it fetches them.
        ("a @ b", "pip"),
        ("a @ https://h.example/b-1-py3-none-any.whl", "pip"),
        ("ftp://h.example/a.zip", "pip"),
        ("git+ssh://git@h.example:u/r.git", "pip"),
        ("git+https://h.example/r@", "pip"),
        ("https:///a.zip", "pip"),
        ("https://h.example/a b.zip", "pip"),
        ("https://h.example/a.zip#sha256=00", "pip"),
    ],
)
def test_where_pip_differs(text: str, only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on purpose: what pip cannot use is refused when it is read, with the line that says it."""
    monkeypatch.chdir(tmp_path)
    assert (pips(text) is not None, pkgcs(text) is not None) == (only == "pip", only == "pkgc")


PIECES = [
    *(
        "git+",
        "https://",
        "file:",
        "h.example",
        "a",
        "a-1-py3-none-any.whl",
        ".whl",
        ".zip",
        "[x]",
        " ; ",
        "..",
    ),
    *("egg=", "sha256=", "subdirectory=", "%2F", *"/@#;&\0é:[]?"),
]


@given(
    st.text(max_size=60)
    | st.builds(
        "".join,
        st.lists(
            st.sampled_from(PIECES),
            max_size=12,
        ),
    ),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_any_text_is_a_reference_or_a_form_error(text: str, editable: bool, remote: bool) -> None:
    """No text of a stranger ends the daemon; a remote file never names anything local."""
    for read in (classify_editable, classify):
        try:
            form = read(text, "/w", remote=remote)
        except FormError:
            continue
        source = form.reference.source if form.reference is not None else None
        if remote and source is not None:
            assert not isinstance(source, DirectorySource)
            assert source.url.split(":")[0].lower() in {"http", "https", "ssh", "git"}
    try:
        found: Reference = parse_reference(text, "/w", editable=editable)
    except FormError:
        return
    if isinstance(found.source, ArchiveSource | VcsSource):
        assert "#" not in found.source.url


NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,5}(-[a-z0-9]{1,3})?)?", fullmatch=True)
PATHS = st.lists(st.sampled_from(["a", "b c", "é", "x#y", "q%41", "d@e", "u;v"]), min_size=1, max_size=3)


@given(
    NAMES,
    PATHS,
    st.sampled_from([None, "s", "s/t"]),
    st.frozensets(st.sampled_from([DA, Digest("md5", MD5)])),
)
def test_round_trip_of_file_urls(
    name: str, parts: list[str], subdirectory: str | None, digests: frozenset[Digest]
) -> None:
    """What pkgc writes as a URL (in records, in messages) reads back as the same source."""
    path = "/" + "/".join(parts) + "/x.zip"
    fragment = "&".join(
        [f"subdirectory={subdirectory}"] * (subdirectory is not None)
        + [f"{digest.algorithm}={digest.hex}" for digest in digests]
    )
    url = Path(path).as_uri()
    form = classify(f"{name} @ {url}#{fragment}", "/w")
    assert form.reference is not None
    source = form.reference.source
    assert isinstance(source, ArchiveSource)
    assert (source.path, source.subdirectory, source.integrity) == (path, subdirectory, digests)
    again = parse_reference(source.url, "/elsewhere").source
    assert isinstance(again, ArchiveSource)
    assert (again.path, again.url) == (source.path, source.url)


async def test_lines_keep_options_and_what_they_say() -> None:
    """Settings, hashes, extras and source of one line stay together."""
    found = await one(
        f"./d[x] ; os_name == 'posix' --hash=sha256:{SHA} -C a=1 --config-settings=b=2=3\n"
        "-e ./e ; os_name == 'nt' -C k=v\n-e ./f [x]\n-e 'g @ file:///g'\n-e h @ file:///h"
    )
    first, *editables = found.lines
    assert (first.source, first.hashed) == (DirectorySource("/w/d"), True)
    assert first.extras == {"x"}
    assert first.hashes == {DA}
    assert first.settings == (("a", "1"), ("b", "2=3"))
    assert [(line.name, line.source) for line in editables] == [
        ("", DirectorySource("/w/e", True)),
        ("", DirectorySource("/w/f", True)),
        ("g", DirectorySource("/g", True)),
        ("h", DirectorySource("/h", True)),
    ]
    assert str(editables[0].marker) == 'os_name == "nt"'
    assert editables[0].settings == (("k", "v"),)
    assert editables[1].extras == {"x"}
    assert found.warnings == ()


async def test_what_is_dropped_beside_an_editable_is_said() -> None:
    """pip drops it without a word."""
    found = await one(
        f"-e ./a junk -e ./b --hash=sha256:{SHA} --pre\n-e git+https://h.example/r\nc==1 -e ./d"
    )
    assert [line.name for line in found.lines] == ["", "", "c"]
    text = "\n".join(found.warnings)
    for said in (
        "'junk'",
        "--pre",
        "only the first --editable",
        "--hash of an editable",
        "keeps no checkout",
    ):
        assert said in text
    assert "requirements.txt:3: --editable" in text


async def test_other_systems_are_known_but_not_installed() -> None:
    """Mercurial, Subversion and Bazaar lines are valid; whether they matter depends on their marker."""
    found = await one(
        "hg+https://h.example/r#egg=r\nsvn+svn://h.example/r ; os_name == 'nt'\nbzr+lp:x\n-e hg+ssh://h.example/r#egg=r"
    )
    assert [line.kind for line in found.unsupported] == [
        "a Mercurial repository",
        "a Subversion repository",
        "a Bazaar branch",
        "a Mercurial repository",
    ]
    assert isinstance(found.unsupported[1], UnsupportedLine)
    assert str(found.unsupported[1].marker) == 'os_name == "nt"'


async def test_names_that_disagree_with_the_wheel_are_an_error() -> None:
    """Installing another project than the one that is named is how typing errors become attacks."""
    error = await refused(
        "a==1\nb @ https://u:pw@h.example/evil-1-py3-none-any.whl", "conflicting-requirements"
    )
    assert error.message.startswith("requirements.txt:2: ")
    assert "evil" in error.message
    assert "pw" not in str(error.to_wire())


async def test_without_a_working_directory_only_absolute_paths_count() -> None:
    """The shell's folder may be gone; that is an error of its own, not a crash."""
    assert classify("/abs/x.zip", "").reference is not None
    with pytest.raises(InputError) as caught:
        classify("./x.zip", "")
    assert caught.value.code == "no-working-directory"
