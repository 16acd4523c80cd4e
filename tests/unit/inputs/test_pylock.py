"""pylock.toml: names of files and hashes (P1, P2), the installation steps (MUST 1-7), and safety."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, LockChoice
from pkgc_daemon.inputs.pylock import parse_pylock, select_pylock
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
SHA = f'hashes = {{sha256 = "{A}"}}'
HEAD = 'lock-version = "1.0"\ncreated-by = "tests"\n'
WHEEL = f'wheels = [{{url = "https://h/x/demo-1.0-py3-none-any.whl", {SHA}}}]\n'


def package(body: str = WHEEL, name: str = "demo", version: str | None = "1.0") -> str:
    written = "" if version is None else f'version = "{version}"\n'
    return f'[[packages]]\nname = "{name}"\n{written}{body}\n'


def lock(
    text: str,
    *,
    location: str = "/w/sub/pylock.toml",
    python: str = "3.12.1",
    platform: str = "linux",
    head: str = HEAD,
    **choice: Any,
) -> Lock:
    """What a lock means: `text` behind the head."""
    parsed = parse_pylock((head + text).encode(), location, "pylock.toml")
    return select_pylock(parsed, target(python, platform), LockChoice(**choice))


def only(text: str, **options: Any) -> Wanted:
    (wanted,) = lock(text, **options).wanted
    return wanted


def files(text: str, **options: Any) -> tuple[LockedFile, ...]:
    source = only(text, **options).source
    assert isinstance(source, FilesSource)
    return source.files


def refused(code: str, text: str, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        lock(text, **options)
    assert caught.value.code == code, caught.value.message
    assert "pylock.toml" in caught.value.message
    return caught.value


def test_a_lock_of_files() -> None:
    """Wheels and sdist reach selection with name, URL, hashes and exact size, and with the line to blame."""
    body = (
        'index = "https://user:secret@h/simple"\n'
        f'sdist = {{url = "https://h/demo-1.0.tar.gz", size = 7, hashes = {{sha256 = "{B}"}}}}\n'
        f'wheels = [{{name = "demo-1.0-py3-none-any.whl", url = "https://h/w", {SHA}}}]\n'
    )
    wanted = only(package(body))
    assert wanted == Wanted(
        "demo",
        "1.0",
        frozenset({Digest("sha256", A), Digest("sha256", B)}),
        place=Place("pylock.toml", 4),
        text="demo==1.0",
        source=FilesSource(
            (
                LockedFile("demo-1.0-py3-none-any.whl", "https://h/w", frozenset({Digest("sha256", A)})),
                LockedFile(
                    "demo-1.0.tar.gz", "https://h/demo-1.0.tar.gz", frozenset({Digest("sha256", B)}), 7
                ),
            ),
            "https://h/simple",
        ),
    )
    assert lock(package(body)).hash_mode


def test_p1_name_goes_before_path_before_url() -> None:
    """The file name decides which wheel fits: it must be taken from where the lock's author meant it."""
    url = 'url = "https://h/demo-1.0-py2-none-any.whl"'
    path = 'path = "w/demo-1.0-cp312-none-any.whl"'
    name = 'name = "demo-1.0-py3-none-any.whl"'
    (file,) = files(package(f"wheels = [{{{name}, {path}, {url}, {SHA}}}]"))
    assert file.filename == "demo-1.0-py3-none-any.whl"
    (file,) = files(package(f"wheels = [{{{path}, {url}, {SHA}}}]"))
    assert file.filename == "demo-1.0-cp312-none-any.whl"
    (file,) = files(package(f"wheels = [{{{url}, {SHA}}}]"))
    assert file.filename == "demo-1.0-py2-none-any.whl"


def test_p1_path_goes_before_url_and_is_seen_from_the_lock() -> None:
    """A vendored file is installed although the network is named too."""
    url = 'url = "https://h/demo-1.0-py3-none-any.whl"'
    (file,) = files(package(f'wheels = [{{path = "../a b/demo-1.0-py3-none-any.whl", {url}, {SHA}}}]'))
    assert file.url == "file:///w/sub/../a%20b/demo-1.0-py3-none-any.whl"
    (file,) = files(package(f'wheels = [{{path = "/v/demo-1.0-py3-none-any.whl", {SHA}}}]'))
    assert file.url == "file:///v/demo-1.0-py3-none-any.whl"


def test_p1_names_from_urls_are_decoded_once() -> None:
    """Local versions (`+cu130`) are found, and nothing hides behind a second encoding."""
    url = "https://h/demo-1.0%2Bcu-py3-none-any.whl?x=1#frag"
    (file,) = files(package(f'wheels = [{{url = "{url}", {SHA}}}]', version="1.0+cu"))
    assert file.filename == "demo-1.0+cu-py3-none-any.whl"
    assert file.url == "https://h/demo-1.0%2Bcu-py3-none-any.whl?x=1"
    twice = "https://h/demo-1.0%252Bcu-py3-none-any.whl"
    refused("invalid-lock", package(f'wheels = [{{url = "{twice}", {SHA}}}]', version="1.0+cu"))


@pytest.mark.parametrize(
    "name",
    [
        "x/demo-1.0-py3-none-any.whl",
        "..%2Fdemo-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-a%2Fb.whl",
        "demo.whl",
    ],
)
def test_file_names_are_names(name: str) -> None:
    """A file name must not lead out of the folder that it is stored in."""
    listed = f'name = "{name}", url = "https://h/y"' if "%" not in name else f'url = "https://h/{name}"'
    assert "package 1 (demo)" in refused("invalid-lock", package(f"wheels = [{{{listed}, {SHA}}}]")).message


def test_p2_every_known_digest_is_kept() -> None:
    """A file must match all that the lock says of it, also the weak; upper case is the same digest."""
    md5, blake = "c" * 32, "d" * 128
    hashes = f'hashes = {{MD5 = "{md5.upper()}", sha256 = "{A}", blake2b = "{blake}", shake = "00"}}'
    found = lock(package(f'wheels = [{{url = "https://h/demo-1.0-py3-none-any.whl", {hashes}}}]'))
    (wanted,) = found.wanted
    assert isinstance(wanted.source, FilesSource)
    assert wanted.source.files[0].hashes == {
        Digest("md5", md5),
        Digest("sha256", A),
        Digest("blake2b", blake),
    }
    assert wanted.hashes == {Digest("sha256", A), Digest("blake2b", blake)}
    (warning,) = found.warnings
    assert "package 1 (demo)" in warning
    assert "'shake'" in warning


@pytest.mark.parametrize("hashes", [f'md5 = "{"c" * 32}"', 'sha3_256 = "00"', f'sha1 = "{"c" * 40}"'])
def test_p2_a_weak_hash_alone_is_refused(hashes: str) -> None:
    """md5 proves nothing: whoever can swap the file can make one with the same digest."""
    body = f'wheels = [{{url = "https://h/demo-1.0-py3-none-any.whl", hashes = {{{hashes}}}}}]'
    error = refused("weak-hash", package(body))
    assert "pylock.toml:4: package 1 (demo): demo-1.0-py3-none-any.whl" in error.message


@pytest.mark.parametrize("hashes", ["", 'sha256 = "00"', f'sha256 = "{"z" * 64}"', "sha256 = 1"])
def test_p2_hashes_must_be_digests(hashes: str) -> None:
    """A digest that cannot match is found when the lock is read, not after a download."""
    body = f'wheels = [{{url = "https://h/demo-1.0-py3-none-any.whl", hashes = {{{hashes}}}}}]'
    refused("invalid-lock", package(body))


def test_must_1_extras_and_groups() -> None:
    """What a marker says of extras and groups is decided by the command, and by default-groups."""
    head = HEAD + 'extras = ["gui"]\ndependency-groups = ["Dev_x", "docs"]\ndefault-groups = ["Dev_x"]\n'
    text = "".join(
        package(WHEEL.replace("demo", name) + f'marker = "{marker}"', name)
        for name, marker in [
            ("a", "'gui' in extras"),
            ("b", "'dev-x' in dependency_groups"),
            ("c", "'docs' in dependency_groups"),
        ]
    )

    def names(**choice: Any) -> str:
        return "".join(one.name for one in lock(text, head=head, **choice).wanted)

    assert names() == "b"
    assert names(default_groups=False) == ""
    assert names(extras=frozenset({"gui"})) == "ab"
    assert names(all_extras=True) == "ab"
    assert names(groups=frozenset({"docs"})) == "bc"
    assert names(groups=frozenset({"docs"}), default_groups=False) == "c"
    assert names(groups=frozenset({"dev-x"}), default_groups=False) == "b"
    error = refused("unknown-extra", text, head=head, extras=frozenset({"cli"}))
    assert "'cli'" in error.message
    assert error.context is not None
    assert "gui" in error.context
    error = refused("unknown-group", text, head=head, groups=frozenset({"test"}))
    assert error.context is not None
    assert "dev-x, docs" in error.context


def test_must_2_lock_version() -> None:
    """A format that pkgc does not know is not guessed at; a minor one is, with a word about it."""
    for version in ("2.0", "0.9", "1!1.0"):
        refused("unsupported-lock-version", "packages = []", head=HEAD.replace("1.0", version))
    found = lock(package() + "novelty = 1", head=HEAD.replace("1.0", "1.1"))
    assert "1.1" in found.warnings[0]
    for head in ('created-by = "x"\n', HEAD.replace('"1.0"', "1.0"), HEAD.replace("1.0", "one")):
        refused("invalid-lock", "packages = []", head=head)


def test_must_3_requires_python() -> None:
    """A lock for another Python installs nothing at all."""
    head = HEAD + 'requires-python = ">=3.13"\n'
    assert "3.12.1" in refused("python-mismatch", package(), head=head).message
    assert lock(package(), head=head, python="3.13.0").wanted
    assert lock(package(), head=head, python="3.15.0a1+").wanted


def test_must_4_environments() -> None:
    """A lock made for other platforms installs nothing at all."""
    head = HEAD + "environments = [\"sys_platform == 'win32'\", \"sys_platform == 'darwin'\"]\n"
    error = refused("unsupported-environment", package(), head=head)
    assert error.context is not None
    assert "win32" in error.context
    assert lock(package(), head=head, platform="darwin").wanted


def test_must_5_markers_choose_packages() -> None:
    """Packages of other environments are left out, and the result says when none is left."""
    text = package(WHEEL + "marker = \"sys_platform == 'win32'\"")
    found = lock(text)
    assert found.wanted == ()
    assert "nothing is wanted" in found.warnings[0]
    assert lock(text, platform="win32").wanted


def test_must_5_requires_python_of_a_package_is_an_error() -> None:
    """A package for another Python is not skipped silently: the environment would lack it."""
    error = refused("python-mismatch", package(WHEEL + 'requires-python = "<3.12"'))
    assert "pylock.toml:4: package 1 (demo)" in error.message
    skipped = WHEEL + 'requires-python = "<3.12"\nmarker = "python_version < \'3.12\'"'
    assert lock(package(skipped)).wanted == ()


def test_must_5_two_packages_of_one_name() -> None:
    """Which of two versions is installed is never a matter of chance; the error names both places."""
    second = package(WHEEL.replace("1.0", "2.0"), version="2.0")
    error = refused("ambiguous-lock", package() + second)
    assert "package 2 (demo)" in error.message
    assert "package 1 (demo) at pylock.toml:4" in error.message
    text = package(WHEEL + "marker = \"python_version < '3.12'\"") + second
    assert only(text).version == "2.0"


@pytest.mark.parametrize(
    "body",
    [
        "",
        WHEEL + 'directory = {path = "."}',
        'directory = {path = "."}\nvcs = {type = "git", url = "https://h/r", commit-id = "0"}',
        "wheels = []",
        'wheels = [{hashes = {sha256 = "0"}}]',
        WHEEL.replace("demo-1.0", "other-1.0"),
        WHEEL.replace("demo-1.0", "demo-2.0"),
        WHEEL + 'marker = "nonsense"',
        WHEEL + "marker = \"extra == 'x'\"",
        WHEEL + "marker = \"extras == 'x'\"",
    ],
)
def test_must_5_bad_packages(body: str) -> None:
    """A package that says two things, or nothing that can be understood, is named with its number."""
    error = refused("invalid-lock", package(WHEEL.replace("demo", "first"), "first") + package(body))
    assert "package 2 (demo)" in error.message


def test_all_bad_packages_are_told_at_once() -> None:
    """Whoever repairs a lock sees every bad package in one run."""
    error = refused("invalid-lock", package("", "a") + package("", "b"))
    assert error.context is not None
    assert "package 1 (a)" in error.context
    assert "package 2 (b)" in error.context


@pytest.mark.parametrize(
    "text", ["lock-version = ", "\xff", "packages = 1", "packages = [1]", "x = " + "[" * 3000]
)
def test_what_is_no_lock(text: str) -> None:
    """Files that are cut off or wrong in structure are errors of input, with the line where there is one."""
    with pytest.raises(InputError) as caught:
        parse_pylock(HEAD.encode() + text.encode("latin-1"), "/w/pylock.toml", "pylock.toml")
    assert caught.value.code == "invalid-lock"


def test_created_by_and_packages_are_required() -> None:
    """Half a lock is not taken for an empty one: that would empty the environment."""
    assert "created-by" in refused("invalid-lock", "packages = []", head='lock-version = "1.0"\n').message
    assert "packages" in refused("invalid-lock", "").message


def test_an_archive() -> None:
    """A direct archive keeps hashes, size and subdirectory (PEP 610)."""
    body = f'archive = {{url = "https://h/x.zip#a", size = 3, subdirectory = "./p", {SHA}}}'
    wanted = only(package(body, version=None))
    digests = frozenset({Digest("sha256", A)})
    assert wanted.source == ArchiveSource("https://h/x.zip", None, "p", digests, 3)
    assert wanted.hashes == digests
    assert wanted.version == ""
    wanted = only(package(f'archive = {{path = "x.zip", {SHA}}}'))
    assert wanted.source == ArchiveSource("file:///w/sub/x.zip", "/w/sub/x.zip", None, digests)
    wanted = only(package(f'archive = {{url = "file:///v/a%20b.zip", {SHA}}}'))
    assert wanted.source == ArchiveSource("file:///v/a%20b.zip", "/v/a b.zip", None, digests)


def test_a_directory() -> None:
    """Source trees are found from the lock's folder, not from the working directory."""
    wanted = only(package('directory = {path = "../p", editable = true, subdirectory = "s"}', version=None))
    assert wanted.source == DirectorySource("/w/sub/../p", True, "s")
    assert not lock(package('directory = {path = "."}')).hash_mode


def test_a_repository() -> None:
    """The commit is what is checked out; the requested revision is kept for direct_url.json only."""
    commit = "0123456789abcdef" * 2 + "01234567"
    body = f'vcs = {{type = "git", url = "%s", requested-revision = "main", commit-id = "{commit.upper()}"}}'
    wanted = only(package(body % "git+https://u:p@h/r.git"))
    assert wanted.source == VcsSource("https://u:p@h/r.git", "main", commit)
    path = body.replace('url = "%s"', 'path = "r", subdirectory = "s"')
    assert only(package(path)).source == VcsSource("file:///w/sub/r", "main", commit, "s")
    refused("unsupported-vcs", package((body % "https://h/r").replace('"git"', '"hg"')))
    refused("invalid-lock", package((body % "https://h/r").replace(commit.upper(), "main")))
    for url in ("ext::sh -c x", "-u", "https://-x/r", "ssh://-oProxy@h/r", "git@h:r"):
        refused("bad-artifact-url", package(body % url))


def test_hash_mode_refuses_what_has_no_hash() -> None:
    """Whoever demands hashes gets no repository and no directory (H4), with each place named."""
    error = refused("hash-unsupported", package('directory = {path = "."}'), require_hashes=True)
    assert "package 1 (demo)" in error.message
    assert lock(package(), require_hashes=True).hash_mode


@pytest.mark.parametrize(
    "body",
    [
        f'wheels = [{{path = "demo-1.0-py3-none-any.whl", url = "https://h/w", {SHA}}}]',
        f'sdist = {{path = "/etc/demo-1.0.tar.gz", {SHA}}}',
        f'archive = {{path = "x.zip", {SHA}}}',
        f'archive = {{url = "file:///etc/x.zip", {SHA}}}',
        'directory = {path = "."}',
        f'vcs = {{type = "git", path = ".", commit-id = "{"0" * 40}"}}',
        f'vcs = {{type = "git", url = "file:///r", commit-id = "{"0" * 40}"}}',
    ],
)
def test_a_remote_lock_names_nothing_local(body: str) -> None:
    """A lock from the network must not install, or build, files of the machine that reads it."""
    refused("remote-names-local", package(body), location="https://h/pylock.toml")
    assert lock(package(body)).wanted


@pytest.mark.parametrize(
    "url",
    [
        "data:x/demo-1.0-py3-none-any.whl",
        "ftp://h/w",
        "../w",
        "https:///w",
        "https://[/w",
        "https://h:x/w",
        "file://h/w",
        "https://h/\\u0000",
    ],
)
def test_artifact_urls_are_http(url: str) -> None:
    """Other schemes would go around what fetching checks; credentials in them are never shown."""
    name = 'name = "demo-1.0-py3-none-any.whl"'
    refused("bad-artifact-url", package(f'wheels = [{{{name}, url = "{url}", {SHA}}}]'))
    secret = f'wheels = [{{{name}, url = "ftp://me:hunter2@h/w", {SHA}}}]'
    assert "hunter2" not in str(refused("bad-artifact-url", package(secret)).to_wire())


@pytest.mark.parametrize("folder", ["..", "a/../../b", "/etc", "a\\u0000"])
def test_a_subdirectory_stays_inside(folder: str) -> None:
    """A source archive builds from its own files only."""
    refused(
        "invalid-lock", package(f'archive = {{url = "https://h/x.zip", subdirectory = "{folder}", {SHA}}}')
    )


def test_wheel_variants_are_ignored() -> None:
    """A lock that lists variant wheels (PEP 825) installs its plain ones."""
    variant = f'{{url = "https://h/demo-1.0-py3-none-any-x86_64_v3.whl", {SHA}}}'
    built = f'{{url = "https://h/demo-1.0-1-py3-none-any.whl", {SHA}}}'
    found = lock(package(f"wheels = [{variant}, {built}]"))
    assert isinstance(found.wanted[0].source, FilesSource)
    assert [file.filename for file in found.wanted[0].source.files] == ["demo-1.0-1-py3-none-any.whl"]
    assert "variant" in found.warnings[0]


def test_dependencies_tool_and_attestations_do_not_matter() -> None:
    """What the specification keeps from installers changes nothing."""
    more = (
        'dependencies = [{name = "ghost"}]\nattestation-identities = [{kind = "k"}]\n[packages.tool.x]\ny = 1'
    )
    assert only(package(WHEEL + more)) == only(package())


def test_places_are_lines_of_names() -> None:
    """Errors point at the package, also when its tables come in another order or inline."""
    text = "[[packages]]\n# c\n'name' = 'a'\n" + WHEEL.replace("demo", "a") + "\n" + package()
    assert [one.place.line for one in lock(text).wanted] == [5, 9]
    spaced = package().replace("[[packages]]", " [[ packages ]]")
    assert [one.place.line for one in lock(spaced).wanted] == [4]
    inline = f'packages = [{{name = "demo", {WHEEL.strip()}}}]'
    assert [one.place.line for one in lock(inline).wanted] == [1]


def verdict(data: bytes) -> str:
    """The message of the InputError that a lock gives, or what it names as the file of its packages."""
    try:
        found = select_pylock(parse_pylock(data, "/w/p", "pylock.toml"), target(), LockChoice())
    except InputError as exc:
        return exc.message
    return " ".join((*(one.place.file for one in found.wanted), *found.warnings))


def test_a_byte_order_mark_is_no_error() -> None:
    """Editors of some systems write one."""
    parsed = parse_pylock(b"\xef\xbb\xbf" + (HEAD + package()).encode(), "/w/pylock.toml", "pylock.toml")
    assert len(parsed.entries) == 1


MUTATED = (
    HEAD + package(WHEEL + "marker = \"'x' in extras or os_name == 'posix'\"") + package(name="demo")
).encode()


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_lock_is_an_input_error(data: st.DataObject) -> None:
    """Whatever happened to a lock, a person reads what is wrong; the daemon does not fail."""
    start = data.draw(st.integers(0, len(MUTATED)))
    end = data.draw(st.integers(start, min(len(MUTATED), start + 12)))
    piece = data.draw(
        st.sampled_from([b"", b'"', b"]", b"}", b"1", b"[", b"{}", b"true", b"\n", b"\xff", b"-", b"'"])
    )
    assert "pylock.toml" in verdict(MUTATED[:start] + piece + MUTATED[end:])


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "..", "a\0", "https://h/x"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["path", "url", "name"]), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=200)
@given(
    key=st.sampled_from(
        [
            "name",
            "version",
            "marker",
            "requires-python",
            "index",
            "vcs",
            "directory",
            "archive",
            "sdist",
            "wheels",
        ]
    ),
    value=_VALUES.filter(lambda value: value is not None),
)
def test_values_of_any_type_are_input_errors(key: str, value: object) -> None:
    """A key with a value of another type is told as that, whichever key it is."""
    tables: dict[str, object] = {"name": '"demo"', "wheels": WHEEL.partition("=")[2].strip()}
    try:
        tables[key] = _toml(value)
    except ValueError:
        return
    text = HEAD + "[[packages]]\n" + "".join(f"{name} = {written}\n" for name, written in tables.items())
    assert "pylock.toml" in verdict(text.encode())


def _toml(value: object) -> str:
    match value:
        case None:
            raise ValueError
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return '"' + value.replace("\0", "\\u0000") + '"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    raise ValueError
