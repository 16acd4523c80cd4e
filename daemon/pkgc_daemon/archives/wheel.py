"""Unpacking a wheel into a folder, validating everything on the way; it installs nothing.

One pass: every entry is inflated, checked (CRC-32, size, RECORD hash), hashed with sha256 and written
once.  What comes out is a folder that may be linked into environments without another look, and its
Manifest.  Rules: binary-distribution-format 1.0 and standards.md W1-W11, 1.14; design.md 8 "Archives".
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pkgc_daemon.archives.arriving import Arriving, Disagreement
from pkgc_daemon.archives.entrypoints import parse_entry_points, script_name_problem
from pkgc_daemon.archives.headers import KNOWN_FORMATS, format_version, header_fields
from pkgc_daemon.archives.record import RecordLine, parse_record
from pkgc_daemon.archives.treewriter import TreeWriter
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS, ArchiveLimits, Entry
from pkgc_daemon.archives.zipreader import ZipReader
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import FileEntry, Manifest

#: Bounds for the files that are read whole, in bytes.
_TEXT_LIMIT = 64 << 20
_DATA_KEYS = frozenset({"purelib", "platlib", "headers", "scripts", "data"})
#: Folders of an environment whose replacement by a file, or whose content, is the environment itself.
_SCRIPT_DIRS = frozenset({"bin", "scripts"})
_FOLDERS = frozenset({"bin", "lib", "lib64", "include", "scripts"})
_OURS = frozenset({"pyvenv.cfg", ".pkgc", ".lock"})
_SIGNATURES = (".jws", ".p7s")
_LIBRARIES = frozenset({"purelib", "platlib"})
#: What tools take for an installed distribution when it lies in a library folder.
_METADATA_FOLDERS = (".dist-info", ".egg-info", ".egg-link")
_OTHERS_METADATA = "it would pose as the records of an installed distribution"
#: Records that say what was installed, by whom and from where: a wheel must not write them past RECORD.
_INSTALLERS = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "provenance_url.json"})


def unpack_wheel(
    path: str,
    filename: str,
    sha256: str,
    destination: str,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    arriving: Arriving | None = None,
) -> Manifest:
    """Validate the wheel at `path` and write its files into `destination`.

    Args:
        path: the wheel's bytes (the name on disk does not matter).
        filename: the wheel's own file name, which says its project and version (W1).
        sha256: hex digest of the bytes; recorded in the manifest, not computed here.
        destination: a folder that does not exist yet. On failure the caller throws it away.
        limits: bounds on what the archive may cost.
        arriving: what was unpacked into `destination` (which exists then) while the same file arrived. All
            is checked that is checked without it; only what was inflated and written is not done again.

    Returns:
        The manifest. Files are 0444 or 0555 (executables), folders 0755, whatever the umask; modification
        times are those of the unpacking. ``__pycache__`` is verified but not written (W11).

    Raises:
        PkgcError: ``bad-archive`` (not one unambiguous zip), ``bad-wheel`` (what and where), ``disk-full``
            or ``store-io`` when writing fails.
        Disagreement: what `arriving` unpacked is not what the archive's directory tells.
    """
    try:
        with ZipReader(path, filename, limits) as archive:
            return _Wheel(archive, filename, sha256, arriving).unpack(destination)
    except OSError as error:
        raise translate_os_error(error, f"unpacking {filename}") from error


def translate_os_error(error: OSError, doing: str) -> PkgcError:
    """The PkgcError for a failure of the filesystem under the store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PkgcError(
            "disk-full",
            f"No space left while {doing}",
            context=f"expected free space\nfound {error.strerror}: {error.filename or 'the cache'}",
            hint="Free some space, or run `pkgc cache clean`, or set PKGC_CACHE_DIR to a larger disk.",
        )
    return PkgcError(
        "store-io",
        f"The filesystem failed while {doing}",
        context=f"expected success\nfound {error.strerror or error}: {error.filename or 'the cache'}",
        hint="Check the disk and the permissions of the cache folder (`pkgc cache dir`).",
    )


def wheel_identity(filename: str) -> tuple[str, str]:
    """(normalized name, version as written) of a wheel's file name.

    Raises:
        PkgcError: ``bad-wheel`` when it is not ``name-version(-build)?-python-abi-platform.whl`` (W1).
    """
    parts = filename.removesuffix(".whl").split("-")
    if not filename.endswith(".whl") or len(parts) not in (5, 6) or not all(parts):
        _refuse(
            filename, "its file name is not that of a wheel", filename, "name-version-python-abi-platform.whl"
        )
    if "/" in filename or "\\" in filename or not filename.isprintable():
        _refuse(filename, "its file name is not a plain name", repr(filename), "a file name")
    if len(parts) == 6 and not parts[2][0].isdigit():
        _refuse(filename, "its build tag does not begin with a digit", parts[2], "a digit")
    return canonicalize_name(parts[0]), parts[1]


def same_version(one: str, other: str) -> bool:
    """Whether two spellings mean one version; a local version that one lacks is no difference (W7)."""
    try:
        first, second = Version(one.replace("_", "-")), Version(other.replace("_", "-"))
    except InvalidVersion:
        return one.replace("_", "-") == other.replace("_", "-")
    if first == second:
        return True
    return (first.local is None or second.local is None) and first.public == second.public


class _Wheel:
    def __init__(self, archive: ZipReader, filename: str, sha256: str, arriving: Arriving | None) -> None:
        self.archive = archive
        self.arriving = arriving
        self.filename = filename
        self.sha256 = sha256
        self.name, self.version = wheel_identity(filename)
        self.by_name: Mapping[str, Entry] = {entry.name: entry for entry in archive.entries}
        self.files: Sequence[Entry] = [entry for entry in archive.entries if not entry.is_directory]
        self.newer: list[str] = []

    def unpack(self, destination: str) -> Manifest:
        dist_info = self._find_dist_info()
        purelib = self._check_wheel_file(dist_info)
        version, requires_python = self._check_metadata(dist_info)
        data_dir = self._check_data_dir(dist_info)
        self._check_collisions()
        console, gui = self._entry_points(dist_info)
        claims = self._claims(dist_info)
        entries = self._write(destination, claims, f"{dist_info}/RECORD")
        entries.sort()
        return Manifest(
            sha256=self.sha256,
            filename=self.filename,
            name=self.name,
            version=version,
            dist_info=dist_info,
            data_dir=data_dir,
            root_is_purelib=purelib,
            files=tuple(entries),
            console_scripts=console,
            gui_scripts=gui,
            requires_python=requires_python,
            newer=tuple(self.newer),
        )

    # -- what the wheel says of itself -----------------------------------------------------------------

    def _find_dist_info(self) -> str:
        tops = {name.split("/", 1)[0] for name in self.by_name if ".dist-info" in name.lower()}
        found = sorted(top for top in tops if top.lower().endswith(".dist-info"))
        if len(found) != 1 or not found[0].endswith(".dist-info"):
            self._refuse("it must have one .dist-info folder", ", ".join(found) or "none", "exactly one")
        for entry in self.archive.entries:
            if is_metadata(entry.name.split("/", 1)[0], found[0]):
                self._refuse(f"{entry.name} is refused", _OTHERS_METADATA, found[0])
        name, _, version = found[0].removesuffix(".dist-info").rpartition("-")
        if canonicalize_name(name) != self.name or not same_version(version, self.version):
            self._refuse(
                "its .dist-info folder is of another distribution", found[0], f"{self.name} {self.version}"
            )
        return found[0]

    def _check_wheel_file(self, dist_info: str) -> bool:
        fields = self._fields(f"{dist_info}/WHEEL")
        if not self._check_format("Wheel-Version", fields.get("wheel-version", "")):
            self._refuse("its WHEEL file has no Wheel-Version", repr(fields.get("wheel-version")), "1.0")
        purelib = fields.get("root-is-purelib", "").lower()
        if purelib not in ("true", "false"):
            self._refuse("its WHEEL file has no Root-Is-Purelib", repr(purelib), "true or false")
        return purelib == "true"

    def _check_metadata(self, dist_info: str) -> tuple[str, str | None]:
        """METADATA's version and Requires-Python."""
        fields = self._fields(f"{dist_info}/METADATA")
        name, version = fields.get("name", ""), fields.get("version", "")
        if canonicalize_name(name) != self.name:
            self._refuse("METADATA names another project", repr(name), self.name)
        if not version or not same_version(version, self.version):
            self._refuse("METADATA names another version", repr(version), self.version)
        # Wheels without one are installed by all tools: only what is certainly of the future matters.
        self._check_format("Metadata-Version", fields.get("metadata-version", ""))
        return version, fields.get("requires-python") or None

    def _check_format(self, field: str, written: str) -> bool:
        """Refuse a newer major version of a format, note a newer minor one; False if none is written (W2)."""
        found, known = format_version(written), KNOWN_FORMATS[field]
        if found is None:
            return False
        if found[0] > known[0]:
            self._refuse("it is of a newer format", f"{field} {written}", f"{known[0]}.x")
        if found > known:
            self.newer.append(f"{field} {written} is newer than {known[0]}.{known[1]}, which pkgc knows")
        return True

    def _fields(self, path: str) -> dict[str, str]:
        return header_fields(self._text(path, "replace"))

    def _entry_points(
        self, dist_info: str
    ) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
        path = f"{dist_info}/entry_points.txt"
        if path not in self.by_name:
            return (), ()
        try:
            return parse_entry_points(self._text(path))
        except ValueError as error:
            self._refuse(f"{path}: {error}", "the above", "'name = module:attr' with a plain name", error)

    def _claims(self, dist_info: str) -> dict[str, RecordLine | None]:
        path = f"{dist_info}/RECORD"
        unhashed = frozenset({path, *(path + suffix for suffix in _SIGNATURES)})
        try:
            claims = parse_record(self._text(path), unhashed)
        except ValueError as error:
            self._refuse(f"{path}: {error}", "the above", "path,sha256=…,size", error)
        names = {entry.name for entry in self.files}
        unlisted = sorted(names - claims.keys() - unhashed)
        if unlisted:
            self._refuse(f"files are not in {path}", _some(unlisted), "every file listed")
        missing = sorted(claims.keys() - names - unhashed)
        if missing:
            self._refuse(f"{path} lists files that are not there", _some(missing), "only files of the wheel")
        for signature in unhashed:
            claims.setdefault(signature, None)
        return claims

    def _text(self, path: str, errors: str = "strict") -> str:
        entry = self.by_name.get(path)
        if entry is None or entry.is_directory:
            self._refuse("a mandatory file is missing", "no such file", path)
        try:
            return self.archive.read(entry, _TEXT_LIMIT).decode("utf-8", errors)
        except UnicodeDecodeError as error:
            self._refuse(f"{path} is not UTF-8", f"byte {error.start}", "UTF-8", error)

    # -- where its files may go ------------------------------------------------------------------------

    def _check_data_dir(self, dist_info: str) -> str | None:
        found = {entry.name.split("/", 1)[0] for entry in self.archive.entries if ".data/" in entry.name}
        tops = sorted(top for top in found if top.endswith(".data"))
        if not tops:
            return None
        name, _, version = tops[0].removesuffix(".data").rpartition("-")
        if len(tops) > 1 or canonicalize_name(name) != self.name or not same_version(version, self.version):
            self._refuse("its .data folder is of another distribution", ", ".join(tops), self.name)
        start = len(tops[0]) + 1
        for entry in self.files:
            if entry.name.startswith(tops[0] + "/"):
                problem = data_path_problem(entry.name[start:], dist_info)
                key, _, rest = entry.name[start:].partition("/")
                if key in _LIBRARIES and rest.startswith(dist_info + "/") and rest in self.by_name:
                    problem = f"it would replace {rest}"
                if problem is not None:
                    self._refuse(f"{entry.name} is refused", problem, "a file for one of the install paths")
        return tops[0]

    def _check_collisions(self) -> None:
        """Refuse paths that are one path, or file and folder, on a filesystem that folds case."""
        folded: dict[str, str] = {}
        folders: dict[str, str] = {}
        for entry in self.archive.entries:
            parent = entry.name if entry.is_directory else entry.name.rpartition("/")[0]
            while parent and folders.get(parent.casefold()) != parent:
                other = folders.setdefault(parent.casefold(), parent)
                if other != parent:
                    self._refuse("two folders differ in case only", f"{other}, {parent}", "one spelling")
                parent = parent.rpartition("/")[0]
            if not entry.is_directory:
                other = folded.setdefault(entry.name.casefold(), entry.name)
                if other != entry.name:
                    self._refuse("two files differ in case only", f"{other}, {entry.name}", "one spelling")
        for name in folded.keys() & folders.keys():
            self._refuse("a path is both a file and a folder", folded[name], "one of them")

    # -- writing ---------------------------------------------------------------------------------------

    def _write(
        self, destination: str, claims: Mapping[str, RecordLine | None], record: str
    ) -> list[FileEntry]:
        arriving = self.arriving
        tree = TreeWriter(destination) if arriving is None else arriving.tree
        written: list[FileEntry] = []
        reused = 0
        for entry in self.archive.entries:
            name = entry.name
            folder = name if entry.is_directory else name.rpartition("/")[0]
            compiled = "__pycache__" in name and "__pycache__" in name.split("/")
            if not compiled:
                tree.folder(folder)
            if not entry.is_directory:
                claim = claims[name]
                if compiled:
                    self._verify_only(entry, claim)
                elif arriving is not None and entry.offset in arriving.files:
                    written.append(self._reuse(arriving, tree, entry, claim))
                    reused += 1
                else:
                    small = self.archive.small(entry)
                    if small is None or (claim is not None and claim.algorithm != "sha256"):
                        written.append(self._write_file(tree, entry, claim))
                    else:
                        written.append(self._write_small(tree, entry, claim, small))
        if arriving is not None and reused != len(arriving.files):
            raise Disagreement("files were unpacked that are not in the directory")
        if not any(entry.path == record for entry in written):
            self._refuse("its RECORD was not written", "none", record)
        return written

    def _reuse(
        self, arriving: Arriving, tree: TreeWriter, entry: Entry, claim: RecordLine | None
    ) -> FileEntry:
        """A file that was written while the archive arrived: everything else about it is checked now."""
        member, there = arriving.files[entry.offset]
        if not self.archive.agrees(entry, member):
            raise Disagreement(f"{entry.name} is not what its local header said")
        if claim is not None and claim.algorithm != "sha256":
            self._verify_only(entry, claim)
        else:
            self._check_claim(entry, claim, bytes.fromhex(member.sha256))
        if entry.executable:
            tree.make_executable(entry.name)
        return FileEntry(entry.name, entry.size, entry.executable, member.sha256, there.mtime_ns, there.inode)

    def _write_file(self, tree: TreeWriter, entry: Entry, claim: RecordLine | None) -> FileEntry:
        fd = tree.create(entry.name, executable=entry.executable)
        try:
            hasher = hashlib.sha256()
            other = None if claim is None or claim.algorithm == "sha256" else hashlib.new(claim.algorithm)
            for chunk in self.archive.chunks(entry):
                hasher.update(chunk)
                if other is not None:
                    other.update(chunk)
                tree.put(fd, chunk)
            self._check_claim(entry, claim, (other or hasher).digest())
            there = tree.done(fd, executable=entry.executable)
        finally:
            os.close(fd)
        return FileEntry(
            entry.name, entry.size, entry.executable, hasher.hexdigest(), there.mtime_ns, there.inode
        )

    def _write_small(
        self, tree: TreeWriter, entry: Entry, claim: RecordLine | None, data: bytes
    ) -> FileEntry:
        """`_write_file` for the many files that are one piece: half the calls."""
        size = len(data)
        digest = hashlib.sha256(data)
        if claim is not None and (claim.digest != digest.digest() or claim.size != size):
            self._check_claim(entry, claim, digest.digest())
        there = tree.write(entry.name, data, executable=entry.executable)
        return FileEntry(entry.name, size, entry.executable, digest.hexdigest(), there.mtime_ns, there.inode)

    def _verify_only(self, entry: Entry, claim: RecordLine | None) -> None:
        hasher = hashlib.new("sha256" if claim is None else claim.algorithm)
        for chunk in self.archive.chunks(entry):
            hasher.update(chunk)
        self._check_claim(entry, claim, hasher.digest())

    def _check_claim(self, entry: Entry, claim: RecordLine | None, digest: bytes) -> None:
        if claim is None:
            return
        if claim.digest != digest:
            self._refuse(
                f"{entry.name} is not what RECORD says",
                f"{claim.algorithm}:{digest.hex()}",
                f"{claim.algorithm}:{claim.digest.hex()}",
            )
        if claim.size is not None and claim.size != entry.size:
            self._refuse(f"{entry.name} has another size than RECORD says", str(entry.size), str(claim.size))

    def _refuse(self, what: str, found: str, expected: str, cause: BaseException | None = None) -> NoReturn:
        _refuse(self.filename, what, found, expected, cause)


def is_metadata(component: str, own: str = "") -> bool:
    """Whether a component of a path names a distribution's records: anybody's but `own`."""
    return component != own and component.lower().endswith(_METADATA_FOLDERS)


def data_path_problem(path: str, dist_info: str = "") -> str | None:
    """Why `path` (below ``.data/``) may not be installed, or None when it may (W3, design.md 8).

    Args:
        path: below the .data folder.
        dist_info: name of the wheel's own .dist-info folder.
    """
    key, _, rest = path.partition("/")
    if not rest:
        return "a file directly in .data has no place to go"
    if key not in _DATA_KEYS:
        return f"{key!r} is not one of {', '.join(sorted(_DATA_KEYS))}"
    if key == "scripts":
        if "/" in rest:
            return "scripts may only hold regular files"
        return script_name_problem(rest)
    if key in _LIBRARIES:
        first, _, record = rest.partition("/")
        if is_metadata(first, dist_info):
            return _OTHERS_METADATA
        if first == dist_info and record in _INSTALLERS:
            return "only an installer writes this record"
    if key == "data":
        parts = rest.split("/")
        # Whichever site-packages it is, and however it is reached: no installed file of data is called so.
        if any(is_metadata(part) for part in parts):
            return _OTHERS_METADATA
        first = parts[0].lower()
        if first in _OURS:
            return "it would replace a file of the environment itself"
        if len(parts) == 1 and first in _FOLDERS:
            return "it would replace a folder of the environment"
        if len(parts) == 2 and first in _SCRIPT_DIRS:
            return script_name_problem(parts[1])
    return None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _refuse(
    filename: str, what: str, found: str, expected: str, cause: BaseException | None = None
) -> NoReturn:
    raise PkgcError(
        "bad-wheel",
        f"{filename}: {what}",
        context=f"expected {expected}\nfound {found}",
        hint="The wheel was built or changed wrongly; ask its publisher for a correct one.",
    ) from cause
