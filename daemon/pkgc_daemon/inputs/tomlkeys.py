"""Keys of TOML files, counted before a parser sees them: time of parsers is quadratic in their dotted parts.

It looks at text only and may take a dotted word of a string or comment for a key; nobody writes such words.
"""

from __future__ import annotations

import re

#: Parts that a key or a header may have.
MOST_PARTS = 64
#: Characters that are cut into lines at a time.
_PIECE = 1 << 20
# A dot with the part that follows it; the empty group is where the next dot of the same key would be.
_PART = re.compile(r"""\.(?=[ \t]*+(?:"(?:[^"\\\n]|\\[^\n])*+"|'[^'\n]*+'|[^\s"'.,=\[\]{}#]++)[ \t]*+())""")


def deep_key(text: str) -> int:
    """The number of the first line with a key or header of more than `MOST_PARTS` parts; 0 without any.

    Linear in the text. Keys end with their line, so that only lines with as many dots are looked at.
    """
    number = at = 0
    while at < len(text):
        end = text.find("\n", at + _PIECE)
        end = len(text) if end < 0 else end
        for number, line in enumerate(text[at:end].split("\n"), number + 1):  # noqa: B020
            if len(line) > 2 * MOST_PARTS and line.count(".") >= MOST_PARTS and _is_deep(line):
                return number
        at = end + 1
    return 0


def _is_deep(line: str) -> bool:
    chains: dict[int, int] = {}
    for match in _PART.finditer(line):
        parts = chains.pop(match.start(), 1) + 1
        if parts > MOST_PARTS:
            return True
        # Several chains may end here: a dot inside of quotes begins one, too.
        chains[match.start(1)] = max(parts, chains.get(match.start(1), 0))
    return False
