"""HTML index pages (PEP 503): anchors, the base and the meta elements; nothing is interpreted here.

A scanner of its own, because `html.parser` needs quadratic time for some pages (a megabyte of ``<!--`` takes
minutes). It reads as HTML's tokenizer does (WHATWG HTML, 13.2.5), never looks at a character again that it
has passed, and gives up on a page with more markup than any list of files has.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

#: Elements, attributes and character references of one page, together. A file of a real page has some eight,
#: and 350 bytes: the largest page that is read (`pages.MAX_HTML_BYTES`) has less than a million.
MAX_STEPS = 2_000_000
#: Files that one page may list. A cap of its own, because a file costs more than a step.
MAX_ANCHORS = 150_000
#: The longest attribute value that is used, in characters; longer ones count as absent.
_LONGEST_VALUE = 8192
#: A character reference may cost as much as this many elements.
_REFERENCE_STEPS = 4

_NAME = re.compile(r"[^ \t\n\r\f/>]*+")
# One attribute, or the end of the tag. A value that is not closed goes on to the end of the page, where the
# next match fails: an unfinished tag is no tag (13.2.5, 'eof-in-tag').
_ATTRIBUTE = re.compile(
    r"""[ \t\n\r\f/]*+
    (?: (?P<end>>)
      | (?P<name>[^ \t\n\r\f/>][^ \t\n\r\f/>=]*+)
        (?: [ \t\n\r\f]*+ = [ \t\n\r\f]*+
            (?: "(?P<double>[^"]*+)"?+ | '(?P<single>[^']*+)'?+ | (?P<bare>[^ \t\n\r\f>"'][^ \t\n\r\f>]*+)
              | (?=>) ) )?+
    )""",
    re.VERBOSE,
)
#: Elements whose content is text whatever it looks like, with what ends it (13.2.5.2-4).
_RAW = {
    name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
_WANTED = frozenset({"a", "base", "meta"})


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


def parse_html(text: str) -> HtmlPage:
    """Read a page. Malformed HTML is read as browsers do: as far as it makes sense.

    Raises:
        ValueError: more markup than a list of files has.
    """
    scanner = _Scanner(text)
    scanner.run()
    return HtmlPage(scanner.anchors, scanner.base, scanner.meta)


class _Scanner:
    """One pass over `text`."""

    __slots__ = ("anchors", "base", "meta", "steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0
        self.anchors: list[Anchor] = []
        self.base: str | None = None
        self.meta: dict[str, str] = {}

    def run(self) -> None:
        """Find the tags; everything else is passed over. Each branch advances, or ends the scan."""
        text = self.text
        position = text.find("<")
        while position >= 0:
            self._count(1)
            following = text[position + 1 : position + 2]
            if following == "!" or following == "?":
                position = self._after_declaration(position)
            elif following == "/":
                letter = text[position + 2 : position + 3]
                if letter.isascii() and letter.isalpha():
                    position = self._tag(position + 2, opening=False)
                else:
                    position = _after(text, ">", position + 2)  # 'bogus comment'
            elif following.isascii() and following.isalpha():
                position = self._tag(position + 1, opening=True)
            else:
                position += 1
            if position >= 0:
                position = text.find("<", position)

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ValueError(f"more than {MAX_STEPS} elements and attributes")

    def _after_declaration(self, position: int) -> int:
        text = self.text
        if not text.startswith("<!--", position):
            return _after(text, ">", position + 2)  # doctype, processing instruction, CDATA of HTML
        if text.startswith(("<!-->", "<!--->"), position):
            return text.index(">", position) + 1  # 'abrupt-closing-of-empty-comment'
        return _after(text, "-->", position + 4)

    def _tag(self, position: int, *, opening: bool) -> int:
        """Read the tag whose name is at `position`; where to go on, or -1 at an unfinished tag."""
        text = self.text
        match = _NAME.match(text, position)
        assert match is not None  # matches anything
        name = match.group().lower() if match.end() - position < 16 else ""
        wanted = opening and name in _WANTED
        attributes: dict[str, str | None] = {}
        position = match.end()
        while True:
            match = _ATTRIBUTE.match(text, position)
            if match is None:
                return -1
            position = match.end()
            if match["end"]:
                break
            self._count(1)
            if wanted:
                self._add(attributes, match)
        if wanted:
            self._take(name, attributes)
        elif opening and name in _RAW and text[position - 2] != "/":
            end = _RAW[name].search(text, position)
            return -1 if end is None else end.start()
        return position

    def _add(self, attributes: dict[str, str | None], match: re.Match[str]) -> None:
        kind = match.lastgroup
        assert kind is not None
        if kind == "name":
            attributes.setdefault(match["name"].lower(), None)
            return
        if match.end(kind) - match.start(kind) > _LONGEST_VALUE:
            return
        value = match[kind]
        references = value.count("&")
        if references:
            self._count(references * _REFERENCE_STEPS)
            try:
                value = html.unescape(value)
            except ValueError:
                return  # a number of thousands of digits
        attributes.setdefault(match["name"].lower(), value)

    def _take(self, name: str, found: dict[str, str | None]) -> None:
        if name == "a":
            href = found.get("href")
            if href:
                if len(self.anchors) >= MAX_ANCHORS:
                    raise ValueError(f"more than {MAX_ANCHORS} links")
                yanked = (found["data-yanked"] or "") if "data-yanked" in found else None
                self.anchors.append(Anchor(href.strip(), found.get("data-requires-python"), yanked))
        elif name == "meta":
            key = found.get("name")
            if key:
                self.meta.setdefault(key.strip().lower(), (found.get("content") or "").strip())
        elif self.base is None:
            href = found.get("href")
            if href:
                self.base = href.strip()


def _after(text: str, ending: str, position: int) -> int:
    """Where `text` goes on after the next `ending`; -1 when there is none: the rest belongs to it."""
    found = text.find(ending, position)
    return -1 if found < 0 else found + len(ending)
