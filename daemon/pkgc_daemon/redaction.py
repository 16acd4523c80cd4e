"""Redaction: takes credentials out of URLs and texts before a person, a log or a record sees them.

It is purely lexical and never fails: what does not parse as a URL is still stripped of what looks like a
secret (invariant 8).
"""

from __future__ import annotations

import re

#: What a secret value is replaced by.
MASK = "***"

# RFC 3986, 3.2: the authority ends at the first '/', '?' or '#'; userinfo ends at its last '@'. Backslashes
# end it too, because browsers and some libraries read them as '/'.
_USERINFO = re.compile(r"^(\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)[^/?#\\]*@")

# Parameters that grant access by themselves: signatures of the large object stores and CDNs, and tokens.
_SECRET_PARAMETER = re.compile(
    r"""(?ix)
    ([?&;\#] (?:
        [a-z0-9_.-]* (?: signature | token | secret | passw(?:or)?d | api[-_]?key | credential s? )
      | access[-_]?key (?:[-_]?id)? | (?:aws|goog(?:le)?)accesskeyid | googleaccessid
      | key | sig | auth | authorization | code | policy | key-pair-id | jwt | hdnts | hdnea | __gda__
    ) = )
    [^&;\#\s"'<>]+
    """
)

_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"'<>]+")
_HEADER_IN_TEXT = re.compile(
    r"(?i)\b((?:proxy-)?authorization|cookie|set-cookie)(['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+"
)
_SCHEME_IN_TEXT = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=_.~\-]{8,}")


def redact(url: str) -> str:
    """`url` without userinfo and with the values of secret query parameters masked.

    Fragments such as ``#sha256=…`` stay.  The result is for reading, comparing and recording; a signed URL
    does not work any more.
    """
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", _USERINFO.sub(r"\1", url, count=1))


def redact_text(text: str) -> str:
    """`text` with every URL in it redacted, and with values of authorization and cookie headers masked."""
    text = _URL_IN_TEXT.sub(lambda match: redact(match.group()), text)
    text = _HEADER_IN_TEXT.sub(rf"\1\2{MASK}", text)
    return _SCHEME_IN_TEXT.sub(rf"\1 {MASK}", text)
