"""Entries: one requirement or constraint of a file with its options becomes a RequirementLine; no choosing.

Rules: the per-requirement options of R7, what a constraint may be (R9), what ``-e`` ignores. What is wrong is
noted, so that a person sees every bad line at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from pkgc_daemon.inputs.forms import Form, FormError, classify, classify_editable
from pkgc_daemon.inputs.given import RequirementLine, UnsupportedLine
from pkgc_daemon.inputs.lines import Line
from pkgc_daemon.inputs.locations import REMOTE_NAMES_LOCAL
from pkgc_daemon.inputs.options import (
    REQUIREMENT_OPTIONS,
    LineOptions,
    build_settings,
    editable_text,
    split_line,
)
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.vocabulary import Place, VcsSource


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a line stands."""

    cwd: str
    """The client's working directory."""
    remote: bool
    """In a file from the network."""
    is_constraint: bool


def read_entry(
    line: Line,
    options: LineOptions,
    place: Place,
    setting: Setting,
    problems: Problems,
    warnings: list[str],
) -> RequirementLine | UnsupportedLine | None:
    """Read the line of a requirement.

    Args:
        line: the whole line.
        options: its options, parsed.
        place: where it stands.
        setting: in what kind of file.
        problems: where to note why it cannot be (``invalid-requirement``, ``invalid-constraint``,
            ``conflicting-requirements``, ``remote-names-local``).
        warnings: where to note what is ignored.

    Returns:
        What it says; None if there is a problem.

    Raises:
        InputError: ``no-working-directory``.
    """
    text, option_text = split_line(line.text)
    written = split_line(line.raw)[0].rstrip() or line.raw
    editable = not text
    stray = list(options.ignored)
    if editable:
        if setting.is_constraint:
            problems.add("invalid-constraint", place, f"a constraint may not be editable: {shown(written)!r}")
            return None
        text, taken = editable_text(option_text, options)
        stray = [] if taken else stray
    _warn_of_ignored(line, options, stray, place, editable, warnings)
    try:
        form = (classify_editable if editable else classify)(text, setting.cwd, remote=setting.remote)
    except FormError as exc:
        # Variables may be secrets: what was put in is not shown. This one quotes nothing.
        safe = line.raw == line.text or exc.code == REMOTE_NAMES_LOCAL
        detail = f": {shown(str(exc))}" if safe else ""
        problems.add(exc.code, place, f"invalid requirement {shown(written)!r}{detail}", exc.hint)
        return None
    if setting.is_constraint and (why := _no_constraint(form)) is not None:
        problems.add("invalid-constraint", place, f"{why}: {shown(written)!r}")
        return None
    settings = build_settings(options)
    if setting.is_constraint and settings:
        warnings.append(f"{place}: --config-settings of a constraint is ignored")
    hashes = frozenset() if editable else options.hashes
    reference = form.reference
    if reference is not None and reference.source is None:
        return UnsupportedLine(reference.kind, form.marker, place, shown(written), bool(hashes))
    source = reference.source if reference is not None else None
    if editable and isinstance(source, VcsSource):
        warnings.append(
            f"{place}: {shown(written)!r} is installed as a copy: pkgc keeps no checkout that could be edited"
        )
    return RequirementLine(
        name=form.name,
        specifier=form.specifier,
        # pip: hashes of a URL and of --hash are one set, any of which is enough (H6).
        hashes=hashes | reference.hashes if reference is not None else hashes,
        place=place,
        text=written,
        extras=form.extras,
        marker=form.marker,
        source=source,
        settings=() if setting.is_constraint else settings,
        hashed=bool(hashes),
        file_version=reference.version if reference is not None else "",
    )


def _no_constraint(form: Form) -> str | None:
    """Why a requirement cannot be a constraint (R9), or None."""
    if not form.name:
        return "a constraint must have a name"
    return "a constraint may not have extras" if form.extras else None


def _warn_of_ignored(
    line: Line,
    options: LineOptions,
    stray: list[str],
    place: Place,
    editable: bool,
    warnings: list[str],
) -> None:
    if stray:
        warnings.append(stray_words(line, stray, place))
    names = [name for name, _ in options.values]
    ignored = set(names) - REQUIREMENT_OPTIONS - ({"editable"} if editable else set())
    if ignored:
        said = ", ".join(f"--{name}" for name in sorted(ignored))
        warnings.append(f"{place}: {said} on the line of a requirement is ignored; give it a line of its own")
    if editable and names.count("editable") > 1:
        warnings.append(f"{place}: only the first --editable of this line is used")
    if editable and options.hashes:
        warnings.append(f"{place}: --hash of an editable requirement is ignored: a directory has no hash")


def stray_words(line: Line, words: list[str], place: Place) -> str:
    """The warning about words between options that belong to none."""
    what = " ".join(words) if line.raw == line.text else "words after an option"
    return f"{place}: {shown(what)!r} is no option and is ignored"
