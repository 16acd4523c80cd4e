"""Checkouts: a commit of a remote repository as files to build from (the hand checkout_git).

It runs in the client's world, with its variables, keys and helpers.  What it gives is a repository of its
own, because backends ask git for the version; where that needs tags and history, they are fetched too.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Any

from pkgc_daemon.environments.files import NotRegularError, read_start
from pkgc_daemon.environments.running import explain
from pkgc_daemon.errors import PkgcError

from .directories import inside
from .gitcache import CachedRepository, DamagedError, locked, looks_damaged
from .gitcommands import Cancelled, Git, Progress
from .gitrefs import chosen, list_refs, names_of, resolve_git, unknown_revision
from .giturls import check_revision, is_full_commit, is_short_commit, read_remote

__all__ = ["checkout_git", "resolve_git"]

#: Tools that read the version from tags (and count commits since the last one), in a project's files.
_ASKS_GIT = re.compile(
    rb"""(?ix) setuptools[-_]scm | hatch[-_]vcs | vcs[-_]versioning | versioneer | versioningit | dunamai
    | setuptools[-_]git | poetry[-_](?:dynamic[-_]versioning|git[-_]version) | flit[-_]scm | git[-_]versioner
    | \bpbr\b | \bsetupmeta\b | \bminiver\b | use_scm_version | source\s*=\s*['"](?:scm|vcs|git)
    | \bgit\W+(?:describe|rev-list|log|tag)\b | uv-dynamic-versioning | versionah | incremental-git """
)
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_MOST_READ = 1024 * 1024


def checkout_git(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """Check a commit out, with its submodules (a hand).

    Args:
        args: ``url``; ``commit``: whole, or None: ``requested`` (branch, tag, beginning of a commit; None:
            the default branch) is looked up; ``repository``: absolute path of the bare repository that keeps
            what was fetched, made when missing; ``work``: folder for the checkout; ``offline``: use only
            what is kept; ``subdirectory``: of the project, must be inside.

    Returns:
        ``path``: of the checkout, in ``work``; ``commit``.

    Raises:
        InputError: ``invalid-git-url``, ``invalid-revision``, ``subdirectory-outside``.
        PkgcError: ``not-in-cache`` (offline), ``unknown-revision``, ``git-unreachable``,
            ``git-authentication``, ``git-missing``, ``git-stalled``, ``git-failed``, ``disk-full``,
            ``interrupted``.
    """
    remote = read_remote(args["url"])
    requested: str | None = args.get("requested")
    commit: str | None = args.get("commit")
    if requested is not None:
        check_revision(requested, remote.shown)
        if commit is None and is_full_commit(requested):
            commit = requested
    if commit is not None:
        check_revision(commit, remote.shown)
        commit = commit.lower()
        if not is_full_commit(commit):
            commit, requested = None, commit
    checkout = _Checkout(
        Git(remote, progress, cancelled),
        os.path.join(args["work"], "checkout"),
        args["repository"],
        requested,
        offline=bool(args.get("offline")),
    )
    try:
        commit = checkout.make(commit, args.get("subdirectory"))
    except DamagedError as first:
        if checkout.offline:
            raise _not_kept(checkout, commit, f"what is kept of it is damaged: {first}") from first
        checkout.start_over()
        try:
            commit = checkout.make(commit, args.get("subdirectory"))
        except DamagedError as error:
            raise PkgcError(
                "git-failed", f"git cannot check out {remote.shown}", context=str(error)
            ) from error
    inside(checkout.folder, args.get("subdirectory"))
    return {"path": checkout.folder, "commit": commit}


class _Checkout:
    """One checkout in the making."""

    def __init__(
        self, git: Git, folder: str, repository: str, requested: str | None, *, offline: bool
    ) -> None:
        self.git = git
        self.folder = folder
        self.requested = requested
        self.offline = offline
        self._cache = CachedRepository(git, repository)
        self._inode: int | None = None

    def make(self, commit: str | None, subdirectory: str | None) -> str:
        """Fetch what is missing and check it out; its commit.

        Raises:
            DamagedError: the cached repository has to be made anew.
        """
        with locked(self._cache.path, self.git.cancelled):
            commit = self._obtain(commit)
            self._cache.lend(self.folder, commit)
        self._work("checkout", "--progress", "--detach", "--force", commit, "--")
        if _asks_git(self.folder, subdirectory):
            with locked(self._cache.path, self.git.cancelled):
                if not self._cache.knows_history(commit):
                    if self.offline:
                        raise _not_kept(
                            self, commit, "its history, which its version comes from, is not kept"
                        )
                    self._cache.fetch(commit, self.requested, history=True)
                    self._cache.lend(self.folder, commit)
        self._submodules(commit)
        head = self._work("rev-parse", "--verify", "HEAD^{commit}")
        if head != commit:
            raise PkgcError(
                "git-failed",
                f"{self.git.remote.shown}: another commit was checked out",
                context=f"expected {commit}\nfound {head}",
            )
        return commit

    def start_over(self) -> None:
        """Throw away what turned out to be damaged, and the checkout that was made from it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with locked(self._cache.path, self.git.cancelled):
            self._cache.discard(self._inode)

    def _obtain(self, commit: str | None) -> str:
        """Have the commit in the cached repository."""
        cache = self._cache
        if commit is None and not self.offline:
            commit = self._look_up()
        if commit is not None:
            self._inode = cache.prepare(commit)
            if not cache.has(commit):
                if self.offline:
                    raise _not_kept(self, commit)
                cache.fetch(commit, self.requested)
            return commit
        short = self.requested
        if short is None or not is_short_commit(short):
            raise _not_kept(self, None, "what it names now can only be asked over the network")
        self._inode = cache.prepare(
            None if self.offline else next(iter(list_refs(self.git, "HEAD").values()), None)
        )
        commit = cache.complete(short, offline=self.offline)
        if commit is None:
            raise _not_kept(self, None)
        return commit

    def _look_up(self) -> str | None:
        """What was asked for, as a commit; None: the beginning of one."""
        commit = chosen(list_refs(self.git, *names_of(self.requested)), self.requested)
        if commit is None and not (self.requested is not None and is_short_commit(self.requested)):
            raise unknown_revision(self.git, self.requested)
        return commit

    def _submodules(self, commit: str) -> None:
        if not self._submodules_of(self.folder):
            return
        if self.offline:
            raise _not_kept(self, commit, "it has submodules, and those are not kept")
        self._update(self.folder, local=self.git.remote.transport == "file")

    def _submodules_of(self, folder: str) -> list[str]:
        """Paths of the submodules of the repository in `folder`."""
        if not os.path.lexists(os.path.join(folder, ".gitmodules")):
            return []
        listed = self.git.run("ls-files", "--stage", "-z", folder=folder).output.split(b"\0")
        return [os.fsdecode(line.partition(b"\t")[2]) for line in listed if line.startswith(b"160000 ")]

    def _update(self, folder: str, *, local: bool) -> None:
        """Fetch submodules, and theirs.

        Args:
            local: the repository in `folder` is on this machine, so that it may name others here; one that
                came over the network may not, whatever named it (CVE-2022-39253).
        """
        update = ["submodule", "update", "--init", "--force", "--progress"]
        if not local:
            update.append("--recursive")
            if self.git.remote.transport == "file":
                update[:0] = ["-c", "protocol.file.allow=never"]
        if self.git.run(*update, "--depth=1", folder=folder).status:
            # not every server gives a commit that is not the tip of a branch
            self.git.check("git cannot fetch a submodule of", *update, folder=folder)
        for path in self._submodules_of(folder) if local else ():
            inner = os.path.join(folder, path)
            if self._submodules_of(inner):
                url = self.git.run("ls-remote", "--get-url", "origin", folder=inner).output
                here = url.startswith((b"/", b"file://"))
                self._update(inner, local=here)

    def _work(self, *arguments: str) -> str:
        """Run git in the checkout; what it says.

        Raises:
            DamagedError: objects that it needs are broken.
        """
        ran = self.git.run(*arguments, folder=self.folder)
        if ran.status and looks_damaged(ran):
            raise DamagedError(ran.complaint)
        if ran.status:
            raise self.git.failure("git cannot check out", ran)
        return ran.output.decode("utf-8", "replace").strip()


def _asks_git(folder: str, subdirectory: str | None) -> bool:
    """Whether the project's version seems to come from git's tags."""
    for place in dict.fromkeys((folder, inside(folder, subdirectory))):
        for name in _PROJECT_FILES:
            path = os.path.join(place, name)
            try:
                if os.path.isfile(path) and _ASKS_GIT.search(read_start(path, _MOST_READ)):
                    return True
            except NotRegularError:
                continue
            except OSError as error:
                raise explain(error, "cannot read", path) from error
    return False


def _not_kept(checkout: _Checkout, commit: str | None, why: str | None = None) -> PkgcError:
    wanted = commit or checkout.requested or "the default branch"
    return PkgcError(
        "not-in-cache",
        f"{checkout.git.remote.shown}: {wanted} is not in the cache, and --offline forbids to fetch it",
        context=why,
        hint="run the command once without --offline",
    )
