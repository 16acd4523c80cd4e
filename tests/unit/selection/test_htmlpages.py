"""The HTML scanner: it reads real pages as the standard library does, and hostile ones in linear time."""

from __future__ import annotations

import time
from html import escape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.selection import htmlpages
from pkgc_daemon.selection.htmlpages import Anchor, parse_html
from pkgc_daemon.selection.pages import parse_page


class Reference(HTMLParser):
    """The same three elements, found by the standard library."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: list[Anchor] = []
        self.base: str | None = None
        self.meta: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and found.get("href"):
            yanked = (found["data-yanked"] or "") if "data-yanked" in found else None
            self.anchors.append(
                Anchor((found["href"] or "").strip(), found.get("data-requires-python"), yanked)
            )
        elif tag == "meta" and found.get("name"):
            self.meta.setdefault((found["name"] or "").lower(), (found.get("content") or "").strip())
        elif tag == "base" and self.base is None:
            self.base = found.get("href")


_SPACE = st.sampled_from([" ", "\n", "\t", "  \r\n ", "\f"])
_CASE = st.sampled_from([str.lower, str.upper, str.title])
# Words as attribute values have them, with every character that matters to a scanner.
_VALUE = st.text(st.sampled_from("ab1/.-_~#=+<>&\"' é\u00a0\u4e00!?"), min_size=1, max_size=12).map(
    lambda text: f"x{text}x"
)
_NAMES = (
    "href",
    "data-yanked",
    "data-requires-python",
    "name",
    "content",
    "class",
    "data-dist-info-metadata",
)


@st.composite
def _attribute(draw: st.DrawFn, name: str) -> str:
    written = draw(_CASE)(name)
    style = draw(st.sampled_from(["double", "single", "bare", "none"]))
    around = draw(st.sampled_from(["", " ", "\n"]))
    value = draw(_VALUE)
    if style == "double":
        return f'{written}{around}={around}"{escape(value).replace("&#x27;", chr(39))}"'
    if style == "single":
        return f"{written}{around}={around}'{escape(value).replace('&quot;', chr(34))}'"
    if style == "bare":
        return f"{written}={''.join(one for one in value if one.isalnum() or one in '/.-_~#+')}"
    return str(written)


@st.composite
def _element(draw: st.DrawFn) -> str:
    name = draw(_CASE)(draw(st.sampled_from(["a", "meta", "base", "b", "abbr", "link", "p"])))
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=4))
    pieces = [str(name)]
    for one in names:
        pieces += [draw(_SPACE), draw(_attribute(one))]
    ending = draw(st.sampled_from([">", " >", "\n>", " />"]))
    return f"<{''.join(pieces)}{ending}"


_OTHER = st.sampled_from(
    [
        "</a>",
        "</A >",
        "<br/>",
        "<!DOCTYPE html>",
        "<!-- <a href=hidden> -->",
        "<!---->",
        "<?xml version='1.0'?>",
        "<script>if (a<b) { '<a href=hidden>' }</script>",
        "<style>a > b {}</SCRIPT><a href=hidden></style>",
        "a < b",
        "1 <2",
        "&lt;a href=hidden&gt;",
        "text",
        "\n",
    ]
)


@given(st.lists(_element() | _OTHER, max_size=12).map("".join))
def test_pages_are_read_as_by_the_standard_library(text: str) -> None:
    """Else an index whose HTML another tool reads would not work here, or work differently."""
    expected, found = Reference(text), parse_html(text)
    assert found.anchors == expected.anchors
    assert found.meta == expected.meta
    assert found.base == expected.base


@given(st.text(st.sampled_from("<>!-/?aA='\" \n&;x#[]")))
def test_any_text_is_read(text: str) -> None:
    """Whatever a page holds, the scan ends."""
    parse_html(text)


@pytest.mark.parametrize(
    ("text", "hrefs"),
    [
        ('<img alt="<a href=no>"><a href=yes>', ["yes"]),
        ("<a title='>' href=yes>", ["yes"]),
        ("<!--> <a href=yes> -->", ["yes"]),
        ("<!-- <a href=no>", []),
        ("<title><a href=no></title><a href=yes>", ["yes"]),
        ("<script/><a href=yes>", ["yes"]),
        ("<a href=one href=two>", ["one"]),
        ('<a href="no', []),
        ("<a href='no><a href=no>", []),
        ("<<a href=yes>", ["yes"]),
        ("</a title='<a href=no>'><a href=yes>", ["yes"]),
        ("<a href=><a href><a href=''><a =href=no>", []),
        (f"<a href={'x' * 9000}><a href=yes>", ["yes"]),
        (f"<a href='&#{'9' * 5000};'><a href=yes>", ["yes"]),
    ],
)
def test_odd_markup_is_read_as_browsers_do(text: str, hrefs: list[str]) -> None:
    """A link in a comment, a script or an attribute is none: it might be somebody else's text."""
    assert [anchor.href for anchor in parse_html(text).anchors] == hrefs


HOSTILE = {
    "comments": "<!--",
    "closed comments": "<!-- -->",
    "instructions": "<?",
    "declarations": "<![",
    "less-than": "<",
    "end tags": "</a ",
    "quotes": '<a x="',
    "attributes": "<a b=1 ",
    "equals": "<a = = ",
    "scripts": "<script>",
    "script ends": "<script></script",
    "spaces": "<a        ",
    "references": "<a b='&ampampampampampampampampampam'>",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_time_grows_with_the_page_not_with_its_square(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two megabytes of `<!--` once froze the daemon for minutes. Sixteenfold time would be quadratic."""
    monkeypatch.setattr(htmlpages, "MAX_STEPS", 10**9)

    def duration(length: int) -> float:
        text = unit * (length // len(unit))
        times = []
        for _ in range(3):
            began = time.process_time()
            parse_html(text)
            times.append(time.process_time() - began)
        return min(times)

    assert duration(400_000) < 10 * duration(100_000) + 0.05


@pytest.mark.parametrize(
    "unit", ["<b>", "<a b=1 ", "<a href=x>", "<a href='&lt&lt&lt&lt'>", "<a b='&a&a&a&a'>"]
)
def test_a_page_of_markup_is_refused_instead_of_read_for_minutes(unit: str) -> None:
    """What costs more than any list of files is not read to its end, and the error says why."""
    with pytest.raises(PkgcError) as caught:
        parse_page((unit * (16_000_000 // len(unit))).encode(), "text/html", "http://index.example/simple/x/")
    assert caught.value.code == "index-garbage"
    assert "more than" in (caught.value.context or "")


def test_the_largest_real_pages_are_read() -> None:
    """The bound must not be felt: 50,000 files with every attribute that indexes give."""
    line = (
        '<a href="../../files/demo-1.0-py3-none-any.whl#sha256={0}" data-requires-python="&gt;=3.8,&lt;4" '
        'data-dist-info-metadata="sha256={0}" data-core-metadata="sha256={0}" data-gpg-sig="false">'
        "demo-1.0-py3-none-any.whl</a><br />\n"
    ).format("a" * 64)
    page = parse_page((line * 50_000).encode(), "text/html", "http://index.example/simple/demo/")
    assert page.entry_count == 50_000
    assert page.files_of("demo", "1.0".__eq__)[0].requires_python == ">=3.8,<4"
