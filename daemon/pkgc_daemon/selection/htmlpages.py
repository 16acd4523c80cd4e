"""HTML index pages (PEP 503): anchors, the base and the meta elements; nothing is interpreted here."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple


class Anchor(NamedTuple):
    """An `<a>` element with a href."""

    href: str
    requires_python: str | None
    """data-requires-python, unescaped."""
    yanked: str | None
    """data-yanked: '' when the attribute is there without a reason, None when it is not there."""


class HtmlPage(NamedTuple):
    """What a page holds, in its order."""

    anchors: list[Anchor]
    base: str | None
    """href of the first `<base>` element."""
    meta: dict[str, str]
    """name (lower case) -> content of the `<meta>` elements; the first of a name counts."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = HtmlPage([], None, {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the three elements that matter."""
        if tag == "a":
            found = dict(attrs)
            href = found.get("href")
            if href:
                yanked = (found["data-yanked"] or "") if "data-yanked" in found else None
                self.page.anchors.append(Anchor(href.strip(), found.get("data-requires-python"), yanked))
        elif tag == "meta":
            found = dict(attrs)
            name = found.get("name")
            if name:
                self.page.meta.setdefault(name.strip().lower(), (found.get("content") or "").strip())
        elif tag == "base" and self.page.base is None:
            href = dict(attrs).get("href")
            if href:
                self.page = self.page._replace(base=href.strip())


def parse_html(text: str) -> HtmlPage:
    """Read a page. Malformed HTML is read as browsers do: as far as it makes sense."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.page
