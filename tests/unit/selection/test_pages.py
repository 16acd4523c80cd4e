"""Index pages: what an index says must be understood in any dialect, and its lies must be harmless."""

from __future__ import annotations

import contextlib
import gc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.selection.pages import MAX_FILES, PageFile, ProjectPage, parse_page
from pkgc_daemon.vocabulary import JSON, Digest

URL = "http://index.example/simple/demo/"
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
SHA = "a" * 64


def json_page(*files: object, **more: object) -> ProjectPage:
    body: JSON = {"meta": {"api-version": "1.1"}, "name": "demo", "files": list(files), **more}
    return parse_page(orjson.dumps(body), JSON_TYPE, URL)


def html_page(text: str, content_type: str = "text/html; charset=utf-8") -> ProjectPage:
    return parse_page(text.encode(), content_type, URL)


def test_a_json_file_keeps_everything_that_matters() -> None:
    """S4: URL made absolute, hashes, size, requires-python and the reason of yanking."""
    page = json_page(
        {
            "filename": "demo-1.0-py3-none-any.whl",
            "url": "../../files/demo-1.0-py3-none-any.whl#sha256=" + "b" * 64,
            "hashes": {"sha256": SHA.upper(), "futurehash": "00", "md5": "short"},
            "requires-python": ">=3.8",
            "size": 12,
            "yanked": "broken",
            "_private": 1,
        }
    )
    assert page.files == (
        PageFile(
            "demo-1.0-py3-none-any.whl",
            "http://index.example/files/demo-1.0-py3-none-any.whl",
            frozenset({Digest("sha256", SHA)}),
            12,
            ">=3.8",
            "broken",
        ),
    )


def test_a_json_page_says_what_an_html_page_says_and_keys_of_the_future_do_not_matter() -> None:
    """S3, S4: status and reason arrive, and an index may add whatever it likes."""
    file = {"filename": "demo-1.0.zip", "url": "demo-1.0.zip", "hashes": {}, "novelty": {"x": [1]}}
    page = json_page(
        {**file, "upload-time": "2026-01-01T00:00:00Z", "provenance": None, "core-metadata": {"sha256": SHA}},
        versions=["1.0", "3.0"],
        meta={"api-version": "1.4", "tracks": ["https://h/"], "_last-serial": 7},
        **{"project-status": {"status": "deprecated", "reason": "use demo2"}, "alternate-locations": []},
    )
    assert (page.status, page.status_reason, page.api_version) == ("deprecated", "use demo2", (1, 4))
    assert page.files == (PageFile("demo-1.0.zip", "http://index.example/simple/demo/demo-1.0.zip"),)


@pytest.mark.parametrize(
    ("yanked", "expected"), [(False, None), (True, ""), ("", None), ("why", "why"), (None, None)]
)
def test_yanked_in_json(yanked: object, expected: str | None) -> None:
    """PEP 592 by PEP 691: a false value means not yanked."""
    page = json_page({"filename": "d-1.tar.gz", "url": "d-1.tar.gz", "hashes": {}, "yanked": yanked})
    assert page.files[0].yanked == expected


def test_an_html_page_says_the_same() -> None:
    """PEP 503: an index without JSON loses nothing: base, fragments, escapes, attributes."""
    page = html_page(
        f"""<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.3">
        <meta name="pypi:project-status" content="archived"><base href="http://files.example/a/"></head><body>
        <a href="demo-1.0%2Bcpu-py3-none-any.whl#sha256={SHA}" data-requires-python="&gt;=3.8">x</a><br>
        <A HREF="/b/demo-2.0.tar.gz" data-yanked>y</A> <a href="demo-3.0.zip" data-yanked="bad &amp; old"></a>
        <a name="nothing">z</a></body></html>"""
    )
    assert page.api_version == (1, 3)
    assert page.status == "archived"
    assert page.files == (
        PageFile(
            "demo-1.0+cpu-py3-none-any.whl",
            "http://files.example/a/demo-1.0%2Bcpu-py3-none-any.whl",
            frozenset({Digest("sha256", SHA)}),
            None,
            ">=3.8",
        ),
        PageFile("demo-2.0.tar.gz", "http://files.example/b/demo-2.0.tar.gz", yanked=""),
        PageFile("demo-3.0.zip", "http://files.example/a/demo-3.0.zip", yanked="bad & old"),
    )


def test_names_of_links_are_decoded_once() -> None:
    """CVE-2026-13346: what a second decoding would show is another file, or another folder."""
    page = html_page(
        """<a href="demo-1.0%252Bcpu.zip"></a> <a href="x%252F..%252Fdemo-2.0.zip"></a>
        <a href="..%2F..%2Fdemo-3.0.zip"></a> <a href="..%2F..%2F..%2Fdemo-4.0.zip#sha256=0"></a>"""
    )
    assert [file.filename for file in page.files] == ["demo-1.0%2Bcpu.zip", "x%2F..%2Fdemo-2.0.zip"]


def test_only_the_wanted_version_is_built() -> None:
    """Else a page of thousands of files costs a cold sync its speed."""
    names = ["demo-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl", "demo-1.0.tar.gz", "other-1.0.zip"]
    page = json_page(*({"filename": name, "url": name, "hashes": {}} for name in names))
    found = page.files_of("demo", lambda text: text == "1.0")
    assert [file.filename for file in found] == ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"]
    assert page.version_texts("demo") == {"1.0", "2.0"}
    assert set(page.by_project()) == {"demo", "other"}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        "demo-1.0-py3-none-any.whl",
        {},
        {"filename": 1, "url": "x"},
        {"filename": "demo-1.0.zip"},
        {"filename": "../demo-1.0.zip", "url": "x"},
        {"filename": "demo-1.0.zip", "url": "file:///etc/passwd"},
        {"filename": "demo-1.0.zip", "url": "ftp://host/demo-1.0.zip"},
        {"filename": "demo-1.0.zip", "url": "http://[broken/"},
        {"filename": "demo-1.0.zip", "url": "//[broken/"},
    ],
)
def test_unusable_entries_are_left_out(entry: object) -> None:
    """One bad entry must not hide the good ones, and a page must not make the daemon read local files."""
    good = {"filename": "demo-2.0.zip", "url": "demo-2.0.zip", "hashes": 5, "size": -1, "requires-python": 3}
    files = json_page(entry, good).files
    if entry == {"filename": "demo-1.0.zip", "url": "http://[broken/"}:
        files = files[-1:]  # an absolute URL is judged when it is fetched
    assert [file.filename for file in files] == ["demo-2.0.zip"]
    json_page(entry, good).files_of("demo", lambda text: True)
    json_page(entry, good).by_project()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", JSON_TYPE),
        (b"[]", JSON_TYPE),
        (b"{}", JSON_TYPE),
        (b'{"files": {}}', JSON_TYPE),
        (b'{"files": [], "meta": {"api-version": "new"}}', JSON_TYPE),
        (b'{"files": ' + b"[" * 5000 + b"]" * 5000 + b"}", JSON_TYPE),
        (b'{"files": ["\xff"]}', JSON_TYPE),
        (b"PK\x03\x04", "application/zip"),
        (b'{"files": []}', "application/octet-stream"),
        (b"hello", ""),
    ],
)
def test_garbage_is_named(body: bytes, content_type: str) -> None:
    """A login page or a broken proxy must be told apart from an index that has no such project."""
    with pytest.raises(PkgcError, match=r"index\.example/simple/demo/") as caught:
        parse_page(body, content_type, URL)
    assert caught.value.code == "index-garbage"
    assert caught.value.context is not None
    assert "expected" in caught.value.context


def test_an_unknown_major_version_fails() -> None:
    """PEP 629: clients must fail."""
    with pytest.raises(PkgcError) as caught:
        json_page(meta={"api-version": "2.0"})
    assert caught.value.code == "index-api-version"


def test_missing_and_newer_versions_are_read() -> None:
    """PEP 629: missing means 1.0, a newer minor version is no obstacle."""
    assert parse_page(b'{"files": []}', JSON_TYPE, URL).api_version == (1, 0)
    assert json_page(meta={"api-version": "1.99"}).api_version == (1, 99)


@given(st.binary(max_size=300))
def test_html_never_breaks(body: bytes) -> None:
    """Whatever an HTML page holds, it is read or refused."""
    with contextlib.suppress(PkgcError):
        assert isinstance(parse_page(body, "text/html; charset=nonsense", URL).files, tuple)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["filename", "url", "hashes", "size", "yanked", "requires-python", "sha256"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=4), _JSON, _JSON)
def test_json_of_any_shape_never_breaks(files: list[object], meta: object, status: object) -> None:
    """Whatever a JSON page holds, it is read or refused."""
    body = orjson.dumps({"files": files, "meta": meta, "project-status": status})
    page = parse_page(body, JSON_TYPE, URL)
    assert len(page.files) <= len(files)
    page.files_of("demo", lambda text: True)


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "rot13", "utf-16", "nonsense", "'utf-8'", "\udcff", ""]
)
def test_only_ordinary_charsets_are_obeyed(charset: str) -> None:
    """Some codecs take quadratic time or fail in ways of their own: a header must not choose them."""
    page = html_page('<a href="demo-1.0.zip">é</a>', f"text/html; charset={charset}")
    assert [file.filename for file in page.files] == ["demo-1.0.zip"]


def test_a_page_of_one_version_with_endless_files_is_cut() -> None:
    """400,000 files of one release once kept the daemon busy for 11 s."""
    page = json_page(
        *({"filename": f"demo-1.0-{n}-py3-none-any.whl", "url": "x"} for n in range(MAX_FILES + 5))
    )
    assert len(page.files_of("demo", "1.0".__eq__)) == MAX_FILES


def test_endless_names_and_digests_are_left_out() -> None:
    """Names that no filesystem takes would come back in error messages, megabytes long."""
    long = "demo-" + "1" * 300 + ".zip"
    hashes = {f"x{number}": "0" for number in range(100)} | {"sha256": SHA}
    page = json_page({"filename": long, "url": "x"}, {"filename": "demo-1.zip", "url": "x", "hashes": hashes})
    assert [(file.filename, file.hashes) for file in page.files] == [("demo-1.zip", frozenset())]
    assert page.version_texts("demo") == {"1"}


def test_the_collector_rests_while_a_page_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It made a large page take four times as long, with every other client waiting; and it must go on."""
    states = []

    def loads(body: bytes) -> object:
        states.append(gc.isenabled())
        raise orjson.JSONDecodeError("broken", "", 0)

    monkeypatch.setattr("pkgc_daemon.selection.pages.orjson.loads", loads)
    with pytest.raises(PkgcError):
        parse_page(b"{", JSON_TYPE, URL)
    assert states == [False]
    assert gc.isenabled()
