"""The staging area: everything that a change adds, laid out under VENV/.pkgc/staging as in the prefix."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.additions import Addition, TreeDamagedError, record_files
from pkgc_daemon.installing.compiled import drop_stale, source_of
from pkgc_daemon.installing.conflicts import conflict, overlap_error, reserved
from pkgc_daemon.installing.layout import Layout
from pkgc_daemon.installing.links import DamagedFileError, Linker, check_source, copy_file
from pkgc_daemon.installing.ready import ReadyCopy, inherits, is_unchanged, leads_away
from pkgc_daemon.installing.records import WRITTEN, render_entries, render_line
from pkgc_daemon.installing.scripts import commands_of, is_stale_wrapper, rewritten, shebang, wrapper
from pkgc_daemon.store.compiled import Compiled
from pkgc_daemon.store.copying import BACK, DATA, SITE
from pkgc_daemon.vocabulary import FileEntry, Manifest

#: What of .dist-info says which distribution it is, where it came from and what belongs to it.
_TELLING = frozenset({*WRITTEN, "METADATA", "WHEEL", "entry_points.txt"})
#: What rename(2) says when a folder cannot be replaced by another one.
_IN_THE_WAY = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


class Staging:
    """Builds the staging area, one addition after the other, in normalized-name order.

    Args:
        root: the staging folder, mirroring `layout.prefix`.
        executable: the interpreter that scripts name in their first line.
        version: that interpreter's version.
        strict: overlapping files with different bytes are an error.
    """

    def __init__(
        self, root: str, layout: Layout, linker: Linker, *, executable: str, version: str, strict: bool
    ) -> None:
        self.root = root
        self.layout = layout
        self.linker = linker
        self.strict = strict
        self.warnings: list[str] = []
        self.files = 0
        self._version = version
        self._first_lines = shebang(executable)
        self._folders: dict[str, str] = {}
        self._done: list[tuple[Addition, dict[str, list[FileEntry]]]] = []
        self._expanded = 0
        self._whole: set[str] = set()
        """Projects whose ready copies are in `_done` file by file, up to number `_expanded`."""
        self._heirs: bool | None = None
        self._lost: set[str] = set()
        """Sources that an addition has, but another one's stand in the staging area."""
        self._written: dict[str, tuple[str, bytes]] = {}
        """Path -> (project, content) of scripts that were not placed unchanged."""

    def add(self, item: Addition) -> None:
        """Stage one distribution: its files, scripts and records.

        Raises:
            TreeDamagedError: nothing of this tree may be used.
            PkgcError: ``reserved-path``, ``overlapping-files`` (strict), ``path-conflict``.
            OSError: not translated.
        """
        layout = self.layout
        site = layout.purelib if item.manifest.root_is_purelib else layout.platlib
        self._lost.clear()
        self._add(item, site)
        if item.bytecode is not None:
            self._place_bytecode(item, item.bytecode, site)

    def _add(self, item: Addition, site: str) -> None:
        if item.ready is not None and not self._place_ready(item, item.ready, site):
            item.without_ready()
        manifest = item.manifest
        groups, scripts = self._spread(item, site)
        self._done.append((item, groups))
        self.warnings += (f"{manifest.filename}: {text}" for text in manifest.newer)
        back = "../" * (site.count("/") + 1) if site else ""
        records = record_files(item)
        info = f"{site}/{manifest.dist_info}" if site else manifest.dist_info
        lines: list[str] = []
        if item.ready is not None:
            same = item.ready.records == records
            if same and item.ready.complete:
                return
            if same:
                records = {}
            else:
                for name in item.ready.written:
                    os.unlink(f"{self.root}/{info}/{name}")
            lines = item.lines_of_ready(records=same)
        # A list: when somebody asks whose a path is, what the ready copy has is added to `groups`.
        for key, entries in list(groups.items()):
            target, _, source = key.partition("\0")
            start = f"{target}/" if target else ""
            self._place(item, source, start, entries)
            lines += render_entries(entries, "" if target == site else back + start)
        lines += self._scripts(item, scripts, site, back)
        lines += self._records(item, site, records)
        lines.sort()
        lines.append(f"{manifest.dist_info}/RECORD,,\n")
        self._write(f"{info}/RECORD", "".join(lines).encode("utf-8", "surrogateescape"))

    def claims(self, item: Addition) -> Iterator[tuple[str, str]]:
        """(path below the prefix, sha256) of what `add` would stage, .dist-info records excepted.

        Raises:
            TreeDamagedError: a script cannot be read.
            PkgcError: as `add`.
        """
        manifest, layout = item.manifest, self.layout
        groups, scripts = self._spread(item, layout.purelib if manifest.root_is_purelib else layout.platlib)
        for key, entries in groups.items():
            target = key.partition("\0")[0]
            start = f"{target}/" if target else ""
            for entry in entries:
                yield start + entry.path, entry.sha256
        start = f"{layout.scripts}/" if layout.scripts else ""
        commands = commands_of(item.name, manifest.console_scripts, manifest.gui_scripts, self._version)
        for entry in scripts:
            name = entry.path.rpartition("/")[2]
            if not is_stale_wrapper(name, commands):
                changed = self._rewritten(item, entry)
                yield start + name, entry.sha256 if changed is None else sha256_of(changed)
        for name, value in commands.items():
            yield start + name, sha256_of(wrapper(self._first_lines, value))

    def owner_of(self, path: str) -> str:
        """The last added project that has a file at `path` (relative to the prefix), '' if none has."""
        found = self._find(path, None)
        return found[0] if found else ""

    def _spread(
        self, item: Addition, site: str, files: Sequence[FileEntry] | None = None
    ) -> tuple[dict[str, list[FileEntry]], list[FileEntry]]:
        """Files by where they go: {"target folder NUL source folder": entries relative to both} (W3).

        Args:
            files: instead of those of the manifest.
        """
        manifest, layout = item.manifest, self.layout
        if files is None:
            files = manifest.files
        written = {f"{manifest.dist_info}/{name}" for name in WRITTEN}
        main = f"{site}\0"
        if manifest.data_dir is None:
            return {main: [entry for entry in files if entry[0] not in written]}, []
        data = manifest.data_dir + "/"
        groups: dict[str, list[FileEntry]] = {main: []}
        scripts: list[FileEntry] = []
        targets = {
            "purelib": layout.purelib,
            "platlib": layout.platlib,
            "headers": f"{layout.headers}/{item.name}",
            "data": layout.data,
        }
        for entry in files:
            if not entry[0].startswith(data):
                if entry[0] not in written:
                    groups[main].append(entry)
                continue
            kind, _, rest = entry[0][len(data) :].partition("/")
            if kind == "scripts" and rest and "/" not in rest:
                scripts.append(entry)
                continue
            if kind not in targets or not rest:
                raise PkgcError(
                    "bad-wheel",
                    f"{manifest.filename}: {entry[0]} is not in a folder that a wheel may have",
                    context="expected one of: " + ", ".join([*targets, "scripts"]),
                )
            folder, _, name = rest.rpartition("/")
            target = "/".join(filter(None, (targets[kind], folder)))
            if kind in ("data", "headers"):
                # As written too: bin/python is a symlink that leads elsewhere.
                self._check_reserved(f"{target}/{name}" if target else name, entry[0], manifest.filename)
                target = self._resolved(target, entry[0], manifest.filename)
                self._check_reserved(f"{target}/{name}" if target else name, entry[0], manifest.filename)
            self._check_metadata(manifest, site, f"{target}/{name}" if target else name, entry[0])
            # One group per folder, because each may resolve elsewhere.
            source = f"{data}{kind}/{folder}/" if folder else f"{data}{kind}/"
            groups.setdefault(f"{target}\0{source}", []).append(entry._replace(path=name))
        return groups, scripts

    def _resolved(self, folder: str, path: str, filename: str) -> str:
        """`folder` with the environment's own symlinks (lib64 -> lib) resolved; it may not lead outside."""
        known = self._folders.get(folder)
        if known is not None:
            return known
        above, _, name = folder.rpartition("/")
        if above:
            above = self._resolved(above, path, filename)
        straight = f"{above}/{name}" if above else name
        inside: str | None = straight
        real = f"{self.layout.prefix}/{straight}"
        # Below a folder without symlinks only the last step can be one: that is one look instead of many.
        if name in ("", ".", "..") or os.path.islink(real):
            real = os.path.realpath(os.path.join(self.layout.prefix, folder))
            inside = self.layout.inside(real)
        if inside is None:
            raise PkgcError(
                "outside-environment",
                f"{filename}: {path} would be written to {real}, outside of the environment",
            )
        self._folders[folder] = inside
        return inside

    def _check_metadata(self, manifest: Manifest, site: str, path: str, source: str) -> None:
        """A .data folder may not add a distribution: that would claim an origin that nobody verified.

        Of the wheel's own .dist-info it may add what says nothing about the distribution (licences).
        """
        for folder in self.layout.sites:
            start = f"{folder}/" if folder else ""
            if not path.startswith(start):
                continue
            top, _, rest = path[len(start) :].partition("/")
            if not top.lower().endswith((".dist-info", ".egg-info", ".egg-link")):
                continue
            own = top == manifest.dist_info and folder == site
            if not own or not rest or rest.partition("/")[0] in _TELLING:
                raise PkgcError(
                    "bad-wheel",
                    f"{manifest.filename}: {source} would be metadata of an installed package: {top}/{rest}",
                    hint="such a wheel is broken or hostile; report it to its authors",
                )

    def _check_reserved(self, path: str, source: str, filename: str) -> None:
        if self.layout.is_reserved(path):
            raise reserved(filename, source, path)

    def _place(self, item: Addition, source: str, start: str, entries: list[FileEntry]) -> None:
        origin = f"{item.tree}/{source}"

        def clash(entry: FileEntry) -> bool:
            return self._overlap(item, start + entry[0], entry.sha256)

        try:
            self.linker.place(origin, f"{self.root}/{start}", entries, clash)
        except DamagedFileError as error:
            raise TreeDamagedError(item.manifest.sha256, source + error.path, error.detail) from error
        except (NotADirectoryError, IsADirectoryError) as error:
            path = str(error.filename2 or error.filename).removeprefix(f"{self.root}/").rstrip("/")
            raise conflict(item.name, path) from error
        self.files += len(entries)

    def _place_bytecode(self, item: Addition, bytecode: Compiled, site: str) -> None:
        """Place what the store has compiled of a tree, beside its sources; RECORD does not list it."""
        groups, _ = self._spread(item, site, bytecode.files)
        for key, entries in groups.items():
            target, _, source = key.partition("\0")
            start = f"{target}/" if target else ""
            if self._lost:
                entries = [entry for entry in entries if source_of(start + entry.path) not in self._lost]
            origin = f"{item.bytecode_path}/root/{source}"
            try:
                self.linker.place(origin, f"{self.root}/{start}", entries, lambda _: True)
            except DamagedFileError as error:
                path = source + error.path
                raise TreeDamagedError(item.manifest.sha256, path, error.detail, bytecode=True) from error
            except (NotADirectoryError, IsADirectoryError) as error:
                raise conflict(item.name, f"{start}__pycache__") from error
            self.files += len(entries)

    def _overlap(self, item: Addition, path: str, sha256: str) -> bool:
        """Two added distributions own `path`: whether `item`, the later one, takes it (design.md 8)."""
        taken = self._takes(item, path, sha256)
        if path.endswith(".py"):
            if taken:
                drop_stale(f"{self.root}/{path}")
            else:
                self._lost.add(path)
        return taken

    def _takes(self, item: Addition, path: str, sha256: str) -> bool:
        found = self._find(path, item)
        if found is None:
            if os.path.isdir(f"{self.root}/{path}"):
                raise conflict(item.name, path)
            return True
        other, digest = found
        if digest == sha256:
            return False
        text = f"{other} and {item.name} both have {path}, with different contents"
        if self.strict:
            raise overlap_error(text)
        self.warnings.append(f"{text}; the one of {item.name} is installed")
        return True

    def _place_ready(self, item: Addition, ready: ReadyCopy, site: str) -> bool:
        """Move a ready copy into the staging area, merging folders; False when that cannot be done here.

        Raises:
            TreeDamagedError: a file that it shares with the tree was changed.
        """
        if not self._fits(ready, site):
            return False
        self._check_links(item, ready)
        moved = False
        for folder, names in ready.tops.items():
            start = f"{site}/" if folder == SITE else ""
            self.linker.make_folder(f"{self.root}/{start}")
            for name, is_folder in names:
                try:
                    self._move(item, f"{ready.path}/{folder}/{name}", start + name, is_folder)
                except OSError as error:
                    if moved or error.errno not in (errno.EXDEV, errno.ENOENT):
                        raise
                    return False  # another mount, if not another file system; or it is gone
                moved = True
        self.files += ready.files
        return True

    def _check_links(self, item: Addition, ready: ReadyCopy) -> None:
        """As `check_source`, without its calls: there are hundreds of these in a common sync."""
        stat, start = os.stat, f"{item.tree}/"
        for path, size, executable, _, mtime_ns, inode in ready.links:
            try:
                found = stat(start + path)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise TreeDamagedError(item.manifest.sha256, path, "is gone") from error
            if (
                found.st_ino != inode
                or found.st_size != size
                or found.st_mtime_ns != mtime_ns
                or bool(found.st_mode & 0o111) is not executable
            ):
                raise TreeDamagedError(item.manifest.sha256, path, "was changed")

    def _fits(self, ready: ReadyCopy, site: str) -> bool:
        """Whether a copy, which was laid out for the usual environment, is right for this one."""
        if self._heirs is None:
            self._heirs = inherits(self.root)
        if self._heirs or not is_unchanged(ready):
            return False
        if DATA not in ready.tops:
            return True
        away = (leads_away(self.layout.prefix, f"{ready.path}/{DATA}", name) for name, _ in ready.tops[DATA])
        return not any(away) and not self.layout.data and "../" * (site.count("/") + 1) == BACK

    def _move(self, item: Addition, source: str, path: str, is_folder: bool) -> None:
        destination = f"{self.root}/{path}"
        if is_folder:
            try:
                # Of two folders of one name the kernel says so; a file's rename would replace the other.
                os.rename(source, destination)
            except OSError as error:
                if error.errno not in _IN_THE_WAY:
                    raise
            else:
                return
        elif not os.path.lexists(destination):
            os.rename(source, destination)
            return
        if os.path.isdir(destination) is not is_folder:
            raise conflict(item.name, path)
        if is_folder:
            with os.scandir(source) as entries:
                below = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            # Bytecode comes last: a source that is not taken takes its bytecode with it.
            below.sort(key=lambda one: one[0] == "__pycache__")
            for name, folder in below:
                if self._lost and folder and name == "__pycache__":
                    self._leave_lost(f"{source}/{name}", f"{path}/{name}")
                self._move(item, f"{source}/{name}", f"{path}/{name}", folder)
            self.linker.known_folder(f"{destination}/")
        elif path.endswith(".pyc") or self._overlap(item, path, sha256_of_file(source)):
            os.rename(source, destination)

    def _leave_lost(self, source: str, path: str) -> None:
        """Remove bytecode of sources that are not taken from a copy's ``__pycache__``."""
        for name in os.listdir(source):
            if source_of(f"{path}/{name}") in self._lost:
                os.unlink(f"{source}/{name}")

    def _expand(self) -> None:
        """Learn what ready copies hold, file by file: somebody asks whose a path is."""
        from pkgc_daemon.store.copying import parts_of

        todo, self._expanded = self._done[self._expanded :], len(self._done)
        for item, groups in todo:
            if item.ready is None or item.name in self._whole:
                continue
            self._whole.add(item.name)
            manifest = item.whole_manifest()
            site = self.layout.purelib if manifest.root_is_purelib else self.layout.platlib
            for part in parts_of(manifest, manifest.files):
                folder = site if part.folder == SITE else ""
                groups[f"{folder}\0{part.start}"] = [
                    one._replace(path=one.path[len(part.start) :]) for one in part.entries
                ]

    def _find(self, path: str, before: Addition | None) -> tuple[str, str] | None:
        """(project, sha256) of the last addition ahead of `before` that has `path`. Slow, and rare."""
        self._expand()
        for item, groups in reversed(self._done):
            if item is before:
                continue
            for key, entries in groups.items():
                target = key.partition("\0")[0]
                start = f"{target}/" if target else ""
                for entry in entries:
                    if start + entry.path == path:
                        return item.name, entry.sha256
        if path in self._written:
            name, content = self._written[path]
            return name, sha256_of(content)
        return None

    def _scripts(self, item: Addition, files: list[FileEntry], site: str, back: str) -> list[str]:
        """Stage wrappers of entry points and the wheel's own scripts; their RECORD lines."""
        manifest, layout = item.manifest, self.layout
        commands = commands_of(item.name, manifest.console_scripts, manifest.gui_scripts, self._version)
        lines: list[str] = []
        start = f"{layout.scripts}/" if layout.scripts else ""
        shown = "" if layout.scripts == site else back + start
        for entry in files:
            name = entry.path.rpartition("/")[2]
            if is_stale_wrapper(name, commands):
                continue
            self._check_reserved(start + name, entry.path, manifest.filename)
            changed = self._rewritten(item, entry)
            if changed is not None:
                lines.append(self._script(item, start + name, shown + name, changed))
                continue
            # A script is executable whether or not its archive said so; a link's mode is the tree's.
            placed = entry._replace(path=name)
            if entry.executable:
                source = entry.path[: -len(name)]
                self._place(item, source, start, [placed])
            else:
                self._copy_script(item, f"{item.tree}/{entry.path}", start + name, placed)
            self._done.append((item, {f"{layout.scripts}\0": [placed]}))
            lines += render_entries([placed], shown)
        for name, value in commands.items():
            self._check_reserved(start + name, f"the entry point {name}", manifest.filename)
            lines.append(self._script(item, start + name, shown + name, wrapper(self._first_lines, value)))
        return lines

    def _rewritten(self, item: Addition, entry: FileEntry) -> bytes | None:
        """A script of the wheel for this environment; None when it is placed as it is."""
        origin = f"{item.tree}/{entry.path}"
        try:
            check_source(origin, entry)
        except DamagedFileError as error:
            raise TreeDamagedError(item.manifest.sha256, entry.path, error.detail) from error
        with open(origin, "rb") as file:
            content = file.read() if file.peek(8).startswith(b"#!python") else b""
        return rewritten(content, self._first_lines)

    def _copy_script(self, item: Addition, origin: str, path: str, entry: FileEntry) -> None:
        destination = f"{self.root}/{path}"
        self._ensure_parent(path)
        try:
            if os.path.lexists(destination):
                if not self._overlap(item, path, entry.sha256):
                    return
                os.unlink(destination)
            copy_file(origin, destination, entry, self.linker.modes, executable=True)
        except DamagedFileError as error:
            raise TreeDamagedError(item.manifest.sha256, error.path, error.detail) from error
        self.files += 1

    def _script(self, item: Addition, path: str, shown: str, content: bytes) -> str:
        line = render_line(shown, content)
        other = self._written.get(path)
        destination = f"{self.root}/{path}"
        try:
            self._write(path, content, 0o777)
        except FileExistsError:
            if other is not None and other[1] == content:
                return line
            if self._overlap(item, path, sha256_of(content)):
                os.unlink(destination)
                self._write(path, content, 0o777)
        except (NotADirectoryError, IsADirectoryError) as error:
            raise conflict(item.name, path) from error
        self._written[path] = (item.name, content)
        return line

    def _records(self, item: Addition, site: str, records: Mapping[str, bytes]) -> list[str]:
        """Write what an installer adds to .dist-info, except RECORD."""
        dist_info = item.manifest.dist_info
        start = f"{site}/" if site else ""
        lines = []
        for name, content in records.items():
            shown = f"{dist_info}/{name}"
            self._write(start + shown, content)
            lines.append(render_line(shown, content))
        return lines

    def _write(self, path: str, content: bytes, mode: int = 0o666) -> None:
        self._ensure_parent(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(f"{self.root}/{path}", flags, mode)
        try:
            self.linker.modes.file(descriptor, mode)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        self.files += 1

    def _ensure_parent(self, path: str) -> None:
        self.linker.make_folder(f"{self.root}/{path[: path.rfind('/') + 1]}")


def sha256_of_file(path: str) -> str:
    """As a manifest has it."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(content: bytes) -> str:
    """As a manifest has it."""
    import hashlib

    return hashlib.sha256(content).hexdigest()
