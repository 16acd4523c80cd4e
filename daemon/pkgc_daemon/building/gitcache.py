"""Cached repository: what was fetched of one remote, kept bare, shared by all checkouts of it.

It holds as little as it can: one commit without history, unless more is asked for or the server gives only
more.  Every commit that it has completely is named by a ref, ``refs/pkgc/COMMIT``: git makes that only when
all objects have arrived.  One process at a time changes it (flock beside it); checkouts borrow its objects.
It is evidence, never the truth: what is damaged is thrown away and fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator

from pkgc_daemon.environments.running import explain
from pkgc_daemon.errors import PkgcError

from .directories import interrupted
from .gitcommands import Cancelled, Git, Ran
from .gitrefs import list_refs, names_of, unknown_revision

#: How often a lock that another process holds is tried.
_LOOK = 0.05
_BRANCHES_AND_TAGS = ("+refs/heads/*:refs/pkgc/heads/*", "+refs/tags/*:refs/tags/*")
_EVERYTHING = ("+refs/*:refs/pkgc/all/*",)
#: Causes for which asking for something else is of no use.
_FINAL = frozenset({"git-authentication", "git-unreachable", "disk-full"})
# "cannot lock ref": a branch `a` has given way to `a/b`, for instance; a new repository has no such trouble.
_DAMAGE = re.compile(
    r"not a git repository: |corrupt|inflate: |bad object|unable to read|object file .* is empty"
    r"|missing (?:blob|tree)|hash mismatch|bad config|packfile .* (?:does not match|cannot be)"
    r"|does not point to a valid object|unable to (?:parse|find) [0-9a-f]{40}|Could not read [0-9a-f]{40}"
    r"|bad signature|reference is not a tree|non-monotonic index|index file .* is too small|bad tree object"
    r"|invalid object|shallow file has changed|bad shallow|invalid sha1 pointer|cannot lock ref",
    re.IGNORECASE,
)
_LEFTOVER = re.compile(r".*\.lock\Z|tmp_(?:pack|idx|obj|rev)_.*\Z|incoming-.*\Z")


class DamagedError(Exception):
    """The cached repository cannot be relied on; its text says how that showed."""


@contextlib.contextmanager
def locked(repository: str, cancelled: Cancelled | None) -> Iterator[None]:
    """Hold the lock of the cached repository at `repository`; its folder is made when missing (0700).

    Raises:
        PkgcError: ``interrupted`` while waiting; a file system's error.
    """
    try:
        os.makedirs(os.path.dirname(repository), 0o700, exist_ok=True)
        fd = os.open(f"{repository}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise explain(error, "cannot keep the git repository in", repository) from error
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled is not None and cancelled():
                    raise interrupted() from None
                time.sleep(_LOOK)
        yield
    finally:
        os.close(fd)


def looks_damaged(ran: Ran) -> bool:
    """Whether git's messages speak of a broken repository rather than of the network or the disk."""
    return ran.cause not in _FINAL and _DAMAGE.search(ran.messages) is not None


class CachedRepository:
    """The bare repository at `path`; use it under `locked`.

    Args:
        git: for its remote.
        path: absolute; need not exist.
    """

    def __init__(self, git: Git, path: str) -> None:
        self._git = git
        self.path = path

    def prepare(self, commit: str | None) -> int:
        """Have a usable repository: made when missing, replaced when unusable or of another hash.

        Args:
            commit: one that it shall hold; its length tells the hash. None: any.

        Returns:
            Its inode: another one is another repository.
        """
        if os.path.lexists(self.path):
            self._remove_leftovers()
            ran = self._run("rev-parse", "--is-bare-repository", "--show-object-format")
            match ran.output.decode().split():
                case ["true", found] if ran.status == 0 and (commit is None or found == _hash_of(commit)):
                    return os.lstat(self.path).st_ino
            self.discard()
        options = ("--object-format=sha256",) if commit is not None and len(commit) == 64 else ()
        # An empty template: no hooks, no samples.
        self._git.check("cannot keep", "init", "--quiet", "--bare", "--template=", *options, "--", self.path)
        return os.lstat(self.path).st_ino

    def discard(self, inode: int | None = None) -> None:
        """Put the repository out of the way, so that the next one is made anew.

        Args:
            inode: of the repository that is meant; another one has taken its place meanwhile: it stays.
        """
        try:
            if inode is not None and os.lstat(self.path).st_ino != inode:
                return
            aside = f"{self.path}.damaged-{os.getpid()}-{time.time_ns()}"
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, "cannot replace the damaged repository", self.path) from error
        if os.path.isdir(aside) and not os.path.islink(aside):
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.unlink(aside)

    def has(self, commit: str) -> bool:
        """Whether everything of this commit is here.

        Raises:
            DamagedError: the answer cannot be had.
        """
        ran = self._run("rev-parse", "--verify", "--quiet", f"refs/pkgc/{commit}^{{commit}}")
        if ran.status and looks_damaged(ran):
            raise DamagedError(ran.complaint)
        return ran.output.decode().strip() == commit

    def fetch(self, commit: str, requested: str | None, *, history: bool = False) -> None:
        """Get `commit`: alone if the server gives it, else with what it was asked for by, else with all.

        Args:
            requested: the branch or tag that led to it, if any.
            history: all that led to the commit, too, and its tags.

        Raises:
            PkgcError: ``unknown-revision``, and what `Git.check` raises.
            DamagedError: the repository here is in the way.
        """
        if self._fetch(f"+{commit}:refs/pkgc/{commit}", depth=not history).status == 0 and self.has(commit):
            return
        if requested is not None and (found := self._advertised(requested)) is not None:
            name, tip = found
            shallow = tip == commit and not history
            ran = self._fetch(f"+{name}:refs/pkgc/asked", depth=shallow)
            if ran.status == 0 and self._keep(commit):
                return
        for names in (_BRANCHES_AND_TAGS, _EVERYTHING):
            ran = self._fetch(*names, depth=False)
            if ran.status:
                raise self._git.failure("git cannot fetch from", ran)
            if self._keep(commit):
                return
        raise unknown_revision(self._git, requested, commit)

    def complete(self, short: str, *, offline: bool) -> str | None:
        """The commit whose name begins with `short`; None: it is not here, and `offline` forbids to fetch.

        Raises:
            PkgcError: ``unknown-revision``: none, or more than one; and what `Git.check` raises.
        """
        # Seven digits are what git shows: fewer could name something else in the whole repository.
        found = self._beginning_with(short) if offline or len(short) >= 7 else []
        if not found and not offline:
            for names in (_BRANCHES_AND_TAGS, _EVERYTHING):
                ran = self._fetch(*names, depth=False)
                if ran.status:
                    raise self._git.failure("git cannot fetch from", ran)
                if found := self._beginning_with(short):
                    break
        if len(found) > 1:
            raise PkgcError(
                "unknown-revision",
                f"{self._git.remote.shown} has several commits that begin with {short}",
                context="\n".join(found[:10]),
                hint="name the whole commit",
            )
        if not found:
            if offline:
                return None
            raise unknown_revision(self._git, short)
        self._keep(found[0])
        return found[0]

    def knows_history(self, commit: str) -> bool:
        """Whether a version can be told from what is here: `commit` has a version's tag, or its history."""
        tags = ("--tags", "--match=[0-9]*", "--match=[vV][0-9]*")
        if self._run("describe", "--exact-match", *tags, commit).status == 0:
            return True
        edge = set(self._shallow().split())
        return not edge or edge.isdisjoint(self._run("rev-list", commit).output.split())

    def lend(self, folder: str, commit: str) -> None:
        """Make the repository in `folder`/.git know all that is here; its objects stay here.

        Raises:
            PkgcError: what `Git.check` raises; a file system's error.
        """
        options = ("--object-format=sha256",) if len(commit) == 64 else ()
        git = self._git
        git.check("cannot check out", "init", "--quiet", "--template=", *options, "--", folder)
        own = os.path.join(folder, ".git")
        refs = self._run("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags").output
        try:
            os.makedirs(f"{own}/objects/info", exist_ok=True)
            _write(f"{own}/objects/info/alternates", os.fsencode(f"{self.path}/objects\n"))
            _write(f"{own}/packed-refs", refs)
            if edge := self._shallow():
                _write(f"{own}/shallow", edge)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{own}/shallow")
        except OSError as error:
            raise explain(error, "cannot check out into", folder) from error
        # What looks for submodules beside the repository, or for its large files, asks where it came from.
        git.check("cannot check out", "config", "remote.origin.url", git.remote.url, folder=folder)

    def _run(self, *arguments: str) -> Ran:
        return self._git.run(f"--git-dir={self.path}", *arguments)

    def _fetch(self, *refspecs: str, depth: bool) -> Ran:
        """One fetch; a failure that asking otherwise cannot mend is raised."""
        if depth:
            options = ["--depth=1"]
        else:
            options = ["--unshallow"] if self._shallow() else []
        ran = self._run(
            "fetch",
            "--progress",
            "--force",
            "--update-shallow",
            *options,
            "--",
            self._git.remote.url,
            *refspecs,
        )
        if ran.status and ran.cause in _FINAL:
            raise self._git.failure("git cannot fetch from", ran)
        if ran.status and looks_damaged(ran):
            raise DamagedError(ran.complaint)
        return ran

    def _advertised(self, requested: str) -> tuple[str, str] | None:
        """The full name that `requested` has at the remote, and its commit there."""
        names = names_of(requested)
        refs = list_refs(self._git, *names)
        for name in names:
            if name in refs:
                return name, refs.get(f"{name}^{{}}", refs[name])
        return None

    def _keep(self, commit: str) -> bool:
        """Name `commit`, if it came with what was fetched."""
        if self._run("cat-file", "-e", f"{commit}^{{commit}}").status:
            return False
        self._git.check(
            "cannot keep a commit of", f"--git-dir={self.path}", "update-ref", f"refs/pkgc/{commit}", commit
        )
        return True

    def _beginning_with(self, short: str) -> list[str]:
        names = self._run("rev-parse", f"--disambiguate={short.lower()}").output.decode().split()
        return [name for name in names if self._run("cat-file", "-t", name).output.strip() == b"commit"]

    def _shallow(self) -> bytes:
        """The commits whose parents are missing here, one on each line."""
        try:
            with open(f"{self.path}/shallow", "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise explain(error, "cannot read the repository", self.path) from error

    def _remove_leftovers(self) -> None:
        """What a git that was killed left behind; nobody else writes here while the lock is held."""
        for folder, folders, names in os.walk(self.path):
            if os.path.basename(folder) == "objects":
                folders[:] = [name for name in folders if name == "pack" or name.startswith("incoming-")]
            for name in (*names, *folders):
                if _LEFTOVER.match(name):
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):
                        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _hash_of(commit: str) -> str:
    return "sha256" if len(commit) == 64 else "sha1"


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
