"""Requirements files: reading them and the files they include; what follows for a target is in wanted.py.

Rules: R1-R10 of pip's requirements file format (pip has no specification but its code).  All reading goes
through callables, because the files, and the variables they name, belong to the client's world.
"""

from __future__ import annotations

import asyncio
import os.path
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pkgc_daemon.errors import EXIT_USAGE, InputError, PkgcError
from pkgc_daemon.inputs.entries import Setting, read_entry, stray_words
from pkgc_daemon.inputs.given import (
    Exists,
    Lock,
    ReadFile,
    RequirementLine,
    RequirementsInput,
    UnsupportedLine,
    Variables,
)
from pkgc_daemon.inputs.lines import (
    LOCALE_VARIABLES,
    Line,
    decode,
    expand,
    locale_encoding,
    logical_lines,
    variable_names,
)
from pkgc_daemon.inputs.locations import (
    File,
    LocationError,
    is_remote,
    is_url,
    joined,
    locate,
    location_url,
    remote_names_local,
)
from pkgc_daemon.inputs.options import LineOptions, OptionError, apply_format, parse_options, split_line
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.inputs.sources import check_requirements_file
from pkgc_daemon.inputs.wanted import select_wanted
from pkgc_daemon.vocabulary import Place

__all__ = [
    "Exists",
    "Lock",
    "ReadFile",
    "RequirementLine",
    "RequirementsInput",
    "UnsupportedLine",
    "Variables",
    "location_url",
    "read_requirements",
    "select_wanted",
]

_T = TypeVar("_T")

#: Options that say where files are.
_LOCATIONS = frozenset({"index-url", "extra-index-url", "find-links"})
#: Bounds on includes: without them 30 files that include each other's successor twice are 2**30 reads.
_MOST_FILES = 1000
_DEEPEST = 100
#: Bytes of all files together.
_LARGEST = 64 * 2**20
#: Characters of one logical line.
_LONGEST = 2**20
#: Characters to parse before the event loop gets a turn (about 4 ms), and what any line costs, as characters.
_SLICE = 64 * 2**10
_LINE = 500


async def read_requirements(
    sources: Sequence[str],
    *,
    constraints: Sequence[str],
    cwd: str,
    read_file: ReadFile,
    variables: Variables,
    exists: Exists | None = None,
    no_binary: Sequence[str] = (),
    only_binary: Sequence[str] = (),
) -> RequirementsInput:
    """Read requirements and constraints files and everything that they include.

    Args:
        sources: requirements files: paths, URLs (`file:`, `http:`, `https:`) or ``-``.
        constraints: constraints files of the command line, named likewise.
        cwd: the client's working directory, absolute; relative sources start there.
        read_file: reads an absolute path, ``-`` or an http(s) URL.
        variables: looks up variables of the client's environment.
        exists: tells whether an absolute path exists, to resolve relative ``--find-links`` (first relative
            to the file, then to `cwd`); without it they are relative to the file.
        no_binary, only_binary: arguments of the command line; those of the files are applied on top.

    Raises:
        InputError: ``invalid-requirement``, ``invalid-option``, ``invalid-constraint``,
            ``invalid-encoding``, ``recursive-requirements``, ``too-many-files``,
            ``input-too-large``, ``unsupported-source``, ``mixed-sources``, ``remote-names-local``,
            ``conflicting-requirements``; all lines with one kind of problem are in one error.
        PkgcError: what `read_file` raises; for an included file the message names the including line.
    """
    for source in (*sources, *constraints):
        check_requirements_file(source)
    reader = _Reader(cwd, read_file, variables, exists)
    for value in no_binary:
        apply_format(value, reader.no_binary, reader.only_binary)
    for value in only_binary:
        apply_format(value, reader.only_binary, reader.no_binary)
    command_line = Place("command line", 0)
    for names, is_constraint in ((constraints, True), (sources, False)):
        for name in names:
            if (file := reader.locate(name, None, command_line)) is not None:
                await reader.read(file, is_constraint, {file.key: None}, None)
    reader.problems.check()
    return RequirementsInput(
        lines=tuple(reader.lines),
        constraints=tuple(reader.constraints),
        index_url=reader.index_url,
        extra_index_urls=tuple(reader.extra_index_urls),
        find_links=tuple(reader.find_links),
        no_index=reader.no_index,
        require_hashes=reader.require_hashes is not None,
        no_require_hashes=reader.no_require_hashes is not None,
        trusted_hosts=tuple(reader.trusted_hosts),
        only_binary=frozenset(reader.only_binary),
        no_binary=frozenset(reader.no_binary),
        warnings=tuple(reader.warnings),
        unsupported=tuple(reader.unsupported),
        require_hashes_place=reader.require_hashes,
        no_require_hashes_place=reader.no_require_hashes,
        sources=tuple(sources),
    )


async def _preprocess(
    data: bytes, file: str, fallback: str | None
) -> tuple[list[tuple[int, str]], str | None]:
    def work() -> tuple[list[tuple[int, str]], str | None]:
        text, warning = decode(data, file, fallback)
        lines = list(logical_lines(text))
        for number, line in lines:
            if len(line) > _LONGEST:
                raise InputError(
                    "input-too-large",
                    f"{file}:{number}: a line of {len(line)} characters, with what continues it",
                    context=f"expected at most {_LONGEST}\nfound {len(line)}",
                )
        return lines, warning

    return await _off_loop(work, len(data))


async def _off_loop(work: Callable[[], _T], size: int) -> _T:
    """What `work` returns; done in a thread if it has to look at many bytes."""
    return work() if size <= 4 * _SLICE else await asyncio.to_thread(work)


class _Reader:
    """Walks files and lines in pip's order and gathers what they say."""

    def __init__(self, cwd: str, read_file: ReadFile, variables: Variables, exists: Exists | None) -> None:
        self._cwd = cwd
        self._read_file = read_file
        self._variables = variables
        self._exists = exists
        self._texts: dict[str, list[Line]] = {}
        self._files = 0
        self._bytes = 0
        self.problems = Problems()
        self.warnings: list[str] = []
        self.lines: list[RequirementLine] = []
        self.constraints: list[RequirementLine] = []
        self.unsupported: list[UnsupportedLine] = []
        self.index_url: str | None = None
        self.extra_index_urls: list[str] = []
        self.find_links: list[str] = []
        self.no_index = False
        self.require_hashes: Place | None = None
        self.no_require_hashes: Place | None = None
        self.trusted_hosts: list[str] = []
        self.only_binary: set[str] = set()
        self.no_binary: set[str] = set()

    def locate(self, name: str, parent: File | None, place: Place) -> File | None:
        """Resolve the name of a file (R1), or note why that cannot be done."""
        try:
            return locate(name, parent, self._cwd)
        except LocationError as exc:
            self.problems.add(exc.code, place, str(exc), exc.hint)
            return None

    async def read(
        self, file: File, is_constraint: bool, ancestors: dict[str, str | None], place: Place | None
    ) -> None:
        """Read one file and what it includes.

        Args:
            file: what to read.
            is_constraint: its requirements are constraints.
            ancestors: key of each file that is being read -> the file that includes it (R8).
            place: the line that includes it, or None.
        """
        self._files += 1
        if self._files > _MOST_FILES or len(ancestors) > _DEEPEST:
            raise InputError(
                "too-many-files",
                f"{place or file.shown}: requirements files include more than {_MOST_FILES} files, "
                f"or deeper than {_DEEPEST} levels",
            )
        characters = 0
        for line in await self._lines_of(file, place):
            characters += len(line.text) + _LINE
            if characters > _SLICE:
                # Other clients of the daemon get their turn.
                characters = 0
                await asyncio.sleep(0)
            here = Place(file.shown, line.number)
            text, option_text = split_line(line.text)
            try:
                options = parse_options(option_text)
            except OptionError as exc:
                why = shown(str(exc)) if line.raw == line.text else "after expansion of variables"
                self.problems.add("invalid-option", here, f"{why} in {shown(line.raw)!r}")
                continue
            if text or options.all("editable"):
                self._requirement(file, options, here, line, is_constraint)
                continue
            if options.ignored:
                self.warnings.append(stray_words(line, list(options.ignored), here))
            if (names := options.all("requirement")) or options.all("constraint"):
                await self._include(file, options, bool(names), ancestors, here)
            else:
                await self._options(file, options, here, line)

    async def _include(
        self,
        file: File,
        options: LineOptions,
        requirement: bool,
        ancestors: dict[str, str | None],
        here: Place,
    ) -> None:
        wanted = "requirement" if requirement else "constraint"
        # R8: only the first one of a line is used, and of -r and -c on one line only -r.
        if len(options.values) > 1 or options.hashes:
            self._warn(here, f"only the first --{wanted} of this line is used, the rest is ignored")
        name = options.all(wanted)[0]
        try:
            check_requirements_file(name)
        except InputError as exc:
            self.problems.add(exc.code, here, exc.message, exc.hint)
            return
        nested = self.locate(name, file, here)
        if nested is None:
            return
        same = await self._same(nested, ancestors, here)
        if same is not None:
            first = ancestors[same]
            again = f" and again in {first}" if first is not None else ""
            self.problems.add(
                "recursive-requirements",
                here,
                f"{nested.shown} recursively references itself in {file.shown}{again}",
                "take this line out, or the one that leads here",
            )
            return
        await self.read(nested, not requirement, {**ancestors, nested.key: file.shown}, here)

    async def _same(self, nested: File, ancestors: dict[str, str | None], here: Place) -> str | None:
        """The key of the file among `ancestors` that `nested` is again.

        ``d/../x`` is ``x`` unless ``d`` is a symbolic link: then the contents tell.
        """
        plain = os.path.normpath(nested.key)
        for key in ancestors:
            if key == nested.key:
                return key
            same = not nested.remote and os.path.normpath(key) == plain
            if same and await self._lines_of(nested, here) == self._texts.get(key):
                return key
        return None

    async def _lines_of(self, file: File, place: Place | None) -> list[Line]:
        if file.key in self._texts:
            return self._texts[file.key]
        try:
            data = await self._read_file(file.key)
        except PkgcError as exc:
            # What was found before comes first, as the lines do.
            self.problems.check()
            if place is None:
                raise
            message = f"{place}: cannot read {file.shown}: {exc.message}"
            if exc.exit_status == EXIT_USAGE:
                raise InputError(exc.code, message, context=exc.context, hint=exc.hint) from exc
            raise PkgcError(exc.code, message, context=exc.context, hint=exc.hint) from exc
        self._bytes += len(data)
        if self._bytes > _LARGEST:
            where = f"{place}: " if place else ""
            raise InputError(
                "input-too-large",
                f"{where}with {file.shown} the requirements files have more than {_LARGEST} bytes",
            )
        try:
            numbered, warning = await _preprocess(data, file.shown, None)
        except InputError as exc:
            if exc.code != "invalid-encoding":
                raise
            fallback = locale_encoding(await self._variables(frozenset(LOCALE_VARIABLES)))
            numbered, warning = await _preprocess(data, file.shown, fallback)
        if warning:
            self.warnings.append(warning)
        names = await _off_loop(lambda: variable_names(numbered), len(data))
        if names and file.remote:
            # A stranger's file could send what it reads of the environment to any host.
            self.warnings.append(f"{file.shown}: is a remote file: variables are not put in")
            names = frozenset()
        values = await self._variables(names) if names else {}
        lines = await _off_loop(lambda: self._expanded(numbered, values, file), len(data))
        self._texts[file.key] = lines
        return lines

    def _expanded(self, numbered: list[tuple[int, str]], values: Mapping[str, str], file: File) -> list[Line]:
        lines: list[Line] = []
        for number, raw in numbered:
            try:
                lines.append(Line(number, raw, expand(raw, values) if values else raw))
            except OverflowError as exc:
                self.problems.add("invalid-requirement", Place(file.shown, number), str(exc))
        return lines

    def _requirement(
        self, file: File, options: LineOptions, here: Place, line: Line, is_constraint: bool
    ) -> None:
        setting = Setting(self._cwd, file.remote, is_constraint)
        entry = read_entry(line, options, here, setting, self.problems, self.warnings)
        if isinstance(entry, UnsupportedLine):
            self.unsupported.append(entry)
        elif entry is not None:
            (self.constraints if is_constraint else self.lines).append(entry)

    async def _options(self, file: File, options: LineOptions, here: Place, line: Line) -> None:
        """Take up a line of global options (their effect is on the whole run)."""
        if options.hashes:
            self._warn(here, "--hash without a requirement is ignored")
        find_links = options.all("find-links")
        if len(find_links) > 1:
            self._warn(here, "only the first --find-links of this line is used")
        if file.remote and any(name in _LOCATIONS and not is_remote(value) for name, value in options.values):
            refusal = remote_names_local("a local place", line.raw)
            self.problems.add(refusal.code, here, str(refusal), refusal.hint)
            return
        if find_links:
            self.find_links.append(await self._find_links(find_links[0], file))
        for name, value in options.values:
            if name == "no-index":
                self.no_index = True
            elif name == "index-url":
                self.index_url = location_url(value, self._cwd)
            elif name == "extra-index-url":
                self.extra_index_urls.append(location_url(value, self._cwd))
            elif name == "require-hashes":
                self.require_hashes = self.require_hashes or here
            elif name == "no-require-hashes":
                self.no_require_hashes = self.no_require_hashes or here
            elif name == "trusted-host":
                self.trusted_hosts.append(value)
            elif name == "no-binary":
                apply_format(value, self.no_binary, self.only_binary)
            elif name == "only-binary":
                apply_format(value, self.only_binary, self.no_binary)
            # --pre, --all-releases, --only-final, --prefer-binary and --use-feature cannot change what an
            # exact pin selects.

    async def _find_links(self, value: str, file: File) -> str:
        if is_url(value):
            return value
        beside = joined(file.directory, value)
        if os.path.isabs(value) or self._exists is None or await self._exists(beside):
            return beside
        return joined(self._cwd, value)

    def _warn(self, here: Place, message: str) -> None:
        self.warnings.append(f"{here}: {message}")
