"""Redaction: takes credentials out of URLs and texts before a person, a log or a record sees them.

It is purely lexical and never fails: what does not parse as a URL is still stripped of what looks like a
secret (invariant 8).
"""

from __future__ import annotations

import re

#: What a secret value is replaced by.
MASK = "***"

# What separates a scheme from an authority; backslashes too, because browsers and some libraries read them
# as slashes, and people mistype them.
_SLASHES = re.compile(r"[/\\]{2}")
# An authority that can hardly be the beginning of an unescaped password: a name with dots, and no port. The
# '@' behind it belongs to the path (some servers have paths such as `…/_packaging/feed@view/…`).
_PLAIN_HOST = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.){1,10}[A-Za-z]{2,63}(?=[/?#\\])")
# Of a userinfo as RFC 3986 has it, nothing is shown; of others, a mask says that something was there.
_UNESCAPED = re.compile(r"[/?#\\ \t\r\n]")
# Without an '@': a userinfo whose end was cut off (at a '#', say), because this is no port.
_CUT_USERINFO = re.compile(r"([/\\]{2})[^\s/?#\\@:\[\"'<>]{1,200}:(?!\d{0,5}(?:\W|\Z))[^\s/?#\\@\"'<>]*")
_NO_SLASHES = re.compile(r"\s*(?:(?:https?|ftp):[/\\]?)?(?![\s./~]|file:)", re.IGNORECASE)

# Parameters that grant access by themselves: signatures of the large object stores and CDNs, and tokens.
_SECRET_PARAMETER = re.compile(
    r"""(?ix)
    ([?&;\#] (?:
        [a-z0-9_.-]* (?: signature | token | secret | passw(?:or)?d | api[-_]?key | credential s? )
      | access[-_]?key (?:[-_]?id)? | (?:aws|goog(?:le)?)accesskeyid | googleaccessid
      | key | sig | auth | authorization | code | policy | key-pair-id | jwt | hdnts | hdnea | __gda__
    ) = )
    # What was masked before may stand in FILE:LINE.
    (?: \*\*\* (?= :\d{1,9} (?!\w) ) | [^&;\#\s"'<>]+ )
    """
)

_WORD = re.compile(r"[^ \t\r\n\f\v]+")
# What follows the colon cannot be a port, so it is a password, perhaps one with blanks in it.
_PASSWORD_BEGINS = re.compile(r"[/\\]{2}(?=[^\s/?#\\@:]{0,200}:(?!\d{0,5}(?:[/?#\\\s\"'<>),;\]]|\Z)))")
#: How far the '@' may be behind blanks.
_LONGEST_BLANK_USERINFO = 400
_HEADER_IN_TEXT = re.compile(
    r"(?i)\b((?:proxy-)?authorization|cookie|set-cookie)(['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+"
)
_SCHEME_IN_TEXT = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=_.~\-]{8,}")


def redact(url: str) -> str:
    """`url` without userinfo and with the values of secret query parameters masked.

    Whatever precedes the last '@' is taken for userinfo, even where RFC 3986 (3.2) would end the authority
    before it, because people do not escape passwords; only behind a plain host name without a port an '@' is
    left alone.  Fragments such as ``#sha256=…`` stay.  The result is for reading, comparing and recording; a
    signed URL does not work any more.
    """
    shown = _mask_userinfo(url)
    if shown is None:
        # A URL without slashes, or with one: as pasted in haste.
        shown, end = url, url.rfind("@")
        start = _NO_SLASHES.match(url, 0, end) if end >= 0 else None
        if start is not None and (start.group().strip() or ":" in url[:end]):
            shown = url[: start.end()] + MASK + url[end:]
        else:
            shown = _CUT_USERINFO.sub(rf"\1{MASK}", url)
    return mask_parameters(shown)


def mask_parameters(url: str) -> str:
    """`url` with the values of secret query parameters masked; whoever has removed its userinfo may keep the
    result as the base of relative URLs."""
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", url)


def redact_text(text: str) -> str:
    """`text` with every URL in it redacted, and with values of authorization and cookie headers masked."""
    text = _mask_blank_userinfo(text)
    text = _WORD.sub(lambda match: _redact_word(match.group()), text)
    text = _HEADER_IN_TEXT.sub(rf"\1\2{MASK}", text)
    return _SCHEME_IN_TEXT.sub(rf"\1 {MASK}", text)


def _redact_word(word: str) -> str:
    """`word` holds a URL, perhaps, with anything around it."""
    if _SLASHES.search(word) is None:
        return word
    shown = _mask_userinfo(word)
    return mask_parameters(_CUT_USERINFO.sub(rf"\1{MASK}", word) if shown is None else shown)


def _mask_blank_userinfo(text: str) -> str:
    """`text` without userinfos that have blanks in them; the others are left to `_redact_word`."""
    pieces: list[str] = []
    done = 0
    for begin in _PASSWORD_BEGINS.finditer(text):
        start = begin.end()
        end = text.find("@", start, start + _LONGEST_BLANK_USERINFO)
        if start < done or end < 0:
            continue
        userinfo = text[start:end]
        if (" " in userinfo or "\t" in userinfo) and "\n" not in userinfo:
            pieces += (text[done:start], MASK, "@")
            done = end + 1
    return "".join((*pieces, text[done:]))


def _mask_userinfo(text: str) -> str | None:
    """`text` without what precedes its last '@' in the first authority that may hold it; linear in time.

    None: there are no two slashes before an '@', or no '@'.
    """
    end = text.rfind("@")
    if end < 0:
        return None
    seen = False
    for slashes in _SLASHES.finditer(text, 0, end):
        seen = True
        start = slashes.end()
        if text[max(0, slashes.start() - 5) : start].lower() == "file://" and text[start] == "/":
            continue
        if _PLAIN_HOST.match(text, start):
            continue
        userinfo = text[start:end]
        if userinfo == MASK:
            return text
        return text[:start] + (MASK + "@" if _UNESCAPED.search(userinfo) else "") + text[end + 1 :]
    return text if seen else None
