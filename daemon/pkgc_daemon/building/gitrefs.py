"""Revisions: what a branch, a tag or no name at all means in a remote repository now (the hand resolve_git).

Nothing is fetched: git lists the names that fit, and the choice is a pure function of that list.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pkgc_daemon.errors import PkgcError

from .gitcommands import Cancelled, Git, Progress
from .giturls import Remote, check_revision, is_full_commit, is_short_commit, read_remote

#: Names that an error lists.
_MOST_NAMES = 8


def resolve_git(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """The commit that a revision names in a remote repository now (a hand).

    Args:
        args: ``url``: of the repository; ``requested``: branch, tag, ``refs/…``, commit, or None for the
            default branch.

    Returns:
        ``commit``: in lower case; None for the beginning of a commit's name, which only `checkout_git` can
        complete.  A whole commit is its own answer, without the network.

    Raises:
        InputError: ``invalid-git-url``, ``invalid-revision``.
        PkgcError: ``unknown-revision``, ``git-unreachable``, ``git-authentication``, ``git-missing``,
            ``git-stalled``, ``interrupted``.
    """
    remote = read_remote(args["url"])
    requested: str | None = args.get("requested")
    if requested is not None:
        check_revision(requested, remote.shown)
        if is_full_commit(requested):
            return {"commit": requested.lower()}
    git = Git(remote, progress, cancelled)
    commit = chosen(list_refs(git, *names_of(requested)), requested)
    if commit is None and not (requested is not None and is_short_commit(requested)):
        raise unknown_revision(git, requested)
    return {"commit": commit}


def names_of(requested: str | None) -> tuple[str, ...]:
    """Every full name that `requested` may stand for, the one that wins first.

    pip and uv take a branch before a tag of the same name; names below ``refs/`` are taken last.
    """
    if requested is None or requested == "HEAD":
        return ("HEAD",)
    if requested.startswith("refs/"):
        return (requested,)
    return (f"refs/heads/{requested}", f"refs/tags/{requested}", f"refs/{requested}")


def chosen(refs: Mapping[str, str], requested: str | None) -> str | None:
    """The commit of `requested` among the names of a repository, a tag's object peeled (``^{}``)."""
    for name in names_of(requested):
        if (commit := refs.get(f"{name}^{{}}") or refs.get(name)) is not None:
            return commit
    return None


def list_refs(git: Git, *names: str, kinds: tuple[str, ...] = ()) -> dict[str, str]:
    """Names and objects of the remote repository.

    Args:
        names: full names; each also peeled.
        kinds: options of ls-remote, e.g. ``--heads``.
    """
    patterns = [pattern for name in names for pattern in (name, f"{name}^{{}}")]
    ran = git.check("git cannot read", "ls-remote", "--quiet", *kinds, "--", git.remote.url, *patterns)
    refs: dict[str, str] = {}
    for line in ran.output.decode("utf-8", "surrogateescape").split("\n"):
        commit, tab, name = line.partition("\t")
        if tab and is_full_commit(commit):
            refs[name] = commit
    return refs


def unknown_revision(git: Git, requested: str | None, commit: str | None = None) -> PkgcError:
    """The error for a revision that the repository does not have; looks for names that are near."""
    remote: Remote = git.remote
    wanted = commit or requested
    if wanted is None:
        return PkgcError(
            "unknown-revision",
            f"{remote.shown} has no default branch with a commit",
            hint="name a branch, tag or commit behind an '@'",
        )
    try:
        refs = list_refs(git, kinds=("--heads", "--tags"))
    except PkgcError as error:
        if error.code == "interrupted":
            raise
        refs = {}
    names = [name.split("/", 2)[2] for name in refs if not name.endswith("^{}") and name.count("/") > 1]
    near = difflib.get_close_matches(wanted, names, _MOST_NAMES, 0.5) if len(names) < 20_000 else []
    there = near or names[:_MOST_NAMES]
    shown = ", ".join(name.encode("utf-8", "replace").decode() for name in there) or "nothing"
    context = f"expected a branch, tag or commit {wanted}\nfound {shown}"
    if not near and len(names) > len(there):
        context += f" and {len(names) - len(there)} more"
    return PkgcError(
        "unknown-revision",
        f"{remote.shown} has no revision {wanted}"
        + (f" (for {requested})" if commit is not None and requested not in (None, commit) else ""),
        context=context,
        hint="was it deleted, or replaced by a forced push?" if commit else "check the name behind the '@'",
    )
