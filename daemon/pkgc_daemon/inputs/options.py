"""Options inside a requirements line, parsed as pip's optparse does; not pkgc's own command line.

The rules are R7 and H5: a line is split on single spaces, everything from the first word that starts with
``-`` goes through shlex, unambiguous abbreviations of long options are accepted.  optparse itself costs
0.3 ms a line, too much for locks of thousands of hashes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from pkgc_daemon.vocabulary import DIGEST_LENGTHS, STRONG_ALGORITHMS, Digest

#: Long option -> what it sets. These take one argument.
_ARGUMENT = {
    "--index-url": "index-url",
    "--pypi-url": "index-url",
    "--extra-index-url": "extra-index-url",
    "--constraint": "constraint",
    "--requirement": "requirement",
    "--editable": "editable",
    "--find-links": "find-links",
    "--no-binary": "no-binary",
    "--only-binary": "only-binary",
    "--all-releases": "all-releases",
    "--only-final": "only-final",
    "--trusted-host": "trusted-host",
    "--use-feature": "use-feature",
    "--hash": "hash",
    "--config-settings": "config-settings",
}
_FLAGS = {
    "--no-index": "no-index",
    "--prefer-binary": "prefer-binary",
    "--require-hashes": "require-hashes",
    "--no-require-hashes": "no-require-hashes",
    "--pre": "pre",
}
_LONG = {**_ARGUMENT, **_FLAGS}
_SHORT = {
    "-i": "index-url",
    "-c": "constraint",
    "-r": "requirement",
    "-e": "editable",
    "-f": "find-links",
    "-C": "config-settings",
}
#: What counts on the line of a requirement; everything else is ignored there.
REQUIREMENT_OPTIONS = frozenset({"hash", "config-settings"})

# Printable ASCII without quotes and backslashes: there, shlex.split does what str.split does.
_PLAIN = re.compile(r"[ !#-&(-\[\]-~]*\Z")
# What follows -e, as written, up to the next option.
_EDITABLE = re.compile(r"(?:\A| )(?:-e|--e[a-z]*)[ =]*(.*?)(?= -|\Z)", re.DOTALL)
_HASH = re.compile(r"--hash=(?:sha256:([0-9A-Fa-f]{64})|(sha384|sha512):([0-9A-Fa-f]{96}|[0-9A-Fa-f]{128}))")


#: Hashes of one line, and words of its options. Characters of options in which something is quoted.
_MOST_HASHES = _MOST_WORDS = 10_000
_LONGEST_QUOTED = 128 * 1024


class OptionError(ValueError):
    """An option that pip would refuse; the message says why, without the place."""


@dataclass(frozen=True, slots=True)
class LineOptions:
    """The options of one line."""

    values: tuple[tuple[str, str], ...] = ()
    """(option without dashes, argument or ''), in order, hashes left out."""
    hashes: frozenset[Digest] = frozenset()
    ignored: tuple[str, ...] = ()
    """Words between options that belong to none; pip drops them without a word."""

    def all(self, name: str) -> list[str]:
        """Every argument given to the option `name`."""
        return [value for option, value in self.values if option == name]


def split_line(line: str) -> tuple[str, str]:
    """Cut a line into the requirement and the text of its options (R7: at single spaces only)."""
    if line.startswith("-"):
        return "", line
    position = line.find(" -")
    return (line, "") if position < 0 else (line[:position], line[position + 1 :])


def parse_options(text: str) -> LineOptions:
    """Parse the options of one line.

    Raises:
        OptionError: unknown or ambiguous option, missing or forbidden argument, bad hash, open quote.
    """
    if not text:
        return LineOptions()
    hashes: list[Digest] = []
    words: list[str] = []
    for word in _split(text):
        # The common case by far, and only as long as nothing before it could swallow it as an argument.
        match = None if words else _HASH.fullmatch(word)
        if match is None:
            words.append(word)
        elif match[1]:
            hashes.append(Digest("sha256", match[1].lower()))
        else:
            hashes.append(_digest(match[2], match[3]))
    if len(hashes) > _MOST_HASHES or len(words) > _MOST_WORDS:
        raise OptionError(f"more than {_MOST_HASHES} hashes or other words on one line")
    if not words:
        return LineOptions(hashes=frozenset(hashes))
    values, ignored = _parse_words(words)
    hashes.extend(_hash_argument(value) for name, value in values if name == "hash")
    return LineOptions(tuple(pair for pair in values if pair[0] != "hash"), frozenset(hashes), tuple(ignored))


def editable_text(text: str, options: LineOptions) -> tuple[str, bool]:
    """What is editable, and whether words that optparse calls stray belong to it.

    pip drops the rest of ``-e ./path ; marker``, of ``-e ./path [extra]`` and of ``-e name @ url`` without a
    word.  uv obeys them, and so does pkgc: whoever writes a marker means it.

    Args:
        text: the text of the line's options.
        options: the same, parsed; it has an ``-e``.
    """
    value = options.all("editable")[0]
    match = _EDITABLE.search(text) if options.ignored else None
    if match is not None:
        written = match[1].strip()
        if ";" in written or " @ " in written or written.endswith("]"):
            return written, True
    return value, False


def build_settings(options: LineOptions) -> tuple[tuple[str, str], ...]:
    """The build settings of a line (``--config-settings KEY=VALUE``), in their order."""
    pairs = (value.partition("=") for value in options.all("config-settings"))
    return tuple((key, value) for key, _, value in pairs)


def _split(text: str) -> list[str]:
    if _PLAIN.match(text):
        return text.split()
    if len(text) > _LONGEST_QUOTED:
        raise OptionError(
            f"options with quotes may have {_LONGEST_QUOTED} characters, these have {len(text)}"
        )
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise OptionError(f"quotes are not balanced: {exc}") from exc


def _parse_words(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    values: list[tuple[str, str]] = []
    ignored: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            ignored.extend(rest)
        elif word.startswith("--"):
            written, has_value, value = word.partition("=")
            option = _match_long(written)
            if option in _FLAGS:
                if has_value:
                    raise OptionError(f"option {option} does not take a value")
                value = ""
            elif not has_value:
                value = _next_word(rest, option)
            values.append((_LONG[option], _checked(option, value)))
        elif word.startswith("-") and len(word) > 1:
            option = word[:2]
            if option not in _SHORT:
                raise OptionError(f"no such option: {option}")
            values.append((_SHORT[option], _checked(option, word[2:] or _next_word(rest, option))))
        else:
            ignored.append(word)
    return values, ignored


def _next_word(rest: Iterator[str], option: str) -> str:
    value = next(rest, None)
    if value is None:
        raise OptionError(f"option {option} requires 1 argument")
    return value


def _match_long(written: str) -> str:
    if written in _LONG:
        return written
    possible = [option for option in _LONG if option.startswith(written)]
    if len(possible) == 1:
        return possible[0]
    if possible:
        raise OptionError(f"ambiguous option: {written} ({', '.join(sorted(possible))}?)")
    raise OptionError(f"no such option: {written}")


def _checked(option: str, value: str) -> str:
    name = _LONG.get(option) or _SHORT[option]
    if name in {"no-binary", "only-binary", "all-releases", "only-final"} and value.startswith("-"):
        raise OptionError(f"option {option} requires 1 argument")
    if name == "config-settings" and "=" not in value:
        raise OptionError(f"the argument of {option} must have the form KEY=VALUE")
    return value


def _hash_argument(value: str) -> Digest:
    algorithm, colon, digest = value.partition(":")
    if not colon:
        raise OptionError(f"the argument of --hash must look like sha256:abcd…, not {value!r}")
    return _digest(algorithm, digest)


def _digest(algorithm: str, digest: str) -> Digest:
    if algorithm not in STRONG_ALGORITHMS:
        allowed = ", ".join(sorted(STRONG_ALGORITHMS))
        raise OptionError(f"--hash takes {allowed}, not {algorithm!r}")
    if len(digest) != DIGEST_LENGTHS[algorithm]:
        expected = DIGEST_LENGTHS[algorithm]
        raise OptionError(f"a {algorithm} digest has {expected} hex digits, not {len(digest)}: {digest!r}")
    try:
        return Digest.parse(f"{algorithm}:{digest}")
    except ValueError as exc:
        raise OptionError(str(exc)) from exc


def apply_format(value: str, chosen: set[str], other: set[str]) -> None:
    """Add the argument of ``--no-binary`` or ``--only-binary`` to what was said before, as pip does.

    Args:
        value: names separated by commas, or ``:all:`` or ``:none:``.
        chosen: the set of the option itself, changed in place.
        other: the set of its opposite: a name is in one of them at most.
    """
    names = value.split(",")
    if ":all:" in names:
        other.clear()
        chosen.clear()
        chosen.add(":all:")
        # What follows an :all: counts only if a :none: follows, too.
        names.reverse()
        last = names.index(":all:")
        if ":none:" not in names[:last]:
            return
        names = names[:last][::-1]
    for name in names:
        if name == ":none:":
            chosen.clear()
            continue
        name = canonicalize_name(name)
        other.discard(name)
        chosen.add(name)
