"""The plan: what to keep, remove and add, as a pure function of the lock and what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pkgc_daemon.installing.uninstall import Stuck, cannot_uninstall
from pkgc_daemon.vocabulary import (
    STRONG_ALGORITHMS,
    Add,
    Digest,
    Installed,
    Keep,
    Origin,
    Plan,
    Remove,
    Wanted,
)

#: What a person puts into an environment to work on it; kept where the environment was made with them.
SEEDS = frozenset({"pip", "setuptools", "wheel", "uv"})


@dataclass(frozen=True, slots=True)
class Served:
    """What the index that serves an unhashed pin has for it now."""

    digests: frozenset[Digest] = frozenset()
    """Advertised for files of the pinned version; none: the index gives no hashes."""
    origins: frozenset[Origin] = frozenset()
    """Of its files that fit."""


def make_plan(
    wanted: Sequence[Wanted],
    installed: Sequence[Installed],
    *,
    seeded: bool,
    reinstall: bool | frozenset[str] = False,
    exact: bool = True,
    served: Mapping[str, Served] | None = None,
) -> Plan:
    """Compare the lock with an environment (invariant 4; design.md 8, 'Origin of unhashed pins').

    Args:
        wanted: the lock's lines, one per project.
        installed: everything found in the environment.
        seeded: the environment was made with pip and the like, which then stay.
        reinstall: True for everything, or normalized names.
        exact: remove what the lock does not name.
        served: name -> what the serving index has now for the pinned version; a name is absent when that
            is unknown (nobody could be asked), and then what is installed satisfies.

    Returns:
        The plan. `Plan.remove` holds everything that is taken out, including what an `Add` replaces.

    Raises:
        PkgcError: ``cannot-uninstall``, naming every distribution that would have to go and has no RECORD
            (``no-permission``: it may not be read).
    """
    present: dict[str, list[Installed]] = {}
    for one in installed:
        present.setdefault(one.name, []).append(one)
    keep: list[Keep] = []
    remove: list[Remove] = []
    add: list[Add] = []
    for want in sorted(wanted, key=lambda want: want.name):
        found = present.pop(want.name, [])
        if not found:
            add.append(Add(want, "not installed"))
            continue
        forced = reinstall if isinstance(reinstall, bool) else want.name in reinstall
        reason = _why_replace(want, found, forced, (served or {}).get(want.name))
        if reason is None:
            keep.append(Keep(found[0], want))
            continue
        remove += [Remove(one, reason) for one in found]
        add.append(Add(want, reason, replaces=found[0]))
    for name in sorted(present):
        for one in present[name]:
            if not exact or (seeded and name in SEEDS):
                keep.append(Keep(one))
            else:
                remove.append(Remove(one, f"{one.name} {one.version}: not in the lock"))
    stuck = [one.installed for one in remove if not one.installed.removable]
    if stuck:
        raise cannot_uninstall(
            Stuck(f"{one.name} {one.version}", one.dist_info, one.obstacle or "RECORD is missing")
            for one in stuck
        )
    return Plan(tuple(keep), tuple(remove), tuple(add))


def _why_replace(want: Wanted, found: Sequence[Installed], forced: bool, served: Served | None) -> str | None:
    """Why what is installed does not satisfy `want`, or None when it does."""
    one = found[0]
    named = f"{one.name} {one.version}"
    if len(found) > 1:
        versions = ", ".join(each.version for each in found)
        return f"{one.name}: installed {len(found)} times ({versions})"
    if one.damaged is not None:
        return f"{named}: damaged: {one.damaged}"
    if not same_version(want, one.version):
        return f"{named}: the lock wants {want.version}"
    if one.direct:
        where = f" {one.origin.url}" if one.origin is not None else " a direct URL"
        return f"{named}: installed from{where}, the lock wants it from an index"
    if forced:
        return f"{named}: reinstall was asked for"
    if want.hashes:
        return _why_not_hash(want, one, named)
    if served is not None and one.hashes:
        return _why_not_served(one, served, named)
    return None


def _why_not_served(one: Installed, served: Served, named: str) -> str | None:
    """design.md 8, 'Origin of unhashed pins': the index must serve these bytes now.

    Only a strong digest says so. An index that advertises none says nothing of the bytes: then the file must
    be the one that was installed, at the same place of the same index.
    """
    strong = {digest for digest in served.digests if digest.algorithm in STRONG_ALGORITHMS}
    decisive = strong if comparable(one.hashes, strong) else served.digests
    if comparable(one.hashes, decisive) and one.hashes.isdisjoint(decisive):
        return f"{named}: installed from {_origin(one)}, the index now serves {_digests(decisive)}"
    if decisive is strong:
        return None
    if one.origin is not None and _spot(one.origin) in map(_spot, served.origins):
        return None
    where = sorted({origin.index or origin.url for origin in served.origins})
    return f"{named}: installed from {_origin(one)}, now served by {', '.join(where) or 'no file that fits'}"


def _spot(origin: Origin) -> tuple[str, str]:
    """An origin without what may differ from one answer to the next: the query of a signed URL."""
    url = origin.url.partition("#")[0].partition("?")[0]
    return (origin.index or "").rstrip("/"), url


def _why_not_hash(want: Wanted, one: Installed, named: str) -> str | None:
    if not one.hashes:
        by = f"installed by {one.installer}, " if one.installer and one.installer != "pkgc" else ""
        return f"{named}: {by}origin unknown, the lock wants {_digests(want.hashes)}"
    if not one.hashes.isdisjoint(want.hashes):
        return None
    if not comparable(one.hashes, want.hashes):
        recorded = ", ".join(sorted({digest.algorithm for digest in one.hashes}))
        return f"{named}: its {recorded} is known, the lock wants {_digests(want.hashes)}"
    return f"{named}: installed from {_origin(one)}, the lock wants {_digests(want.hashes)}"


def same_version(want: Wanted, version: str) -> bool:
    """Whether an installed version satisfies the pin (PEP 440: ``==`` without a local version ignores it)."""
    if version == want.version:
        return True
    if want.arbitrary:
        return version.lower() == want.version.lower()
    from packaging.version import InvalidVersion, Version

    try:
        pinned, found = Version(want.version), Version(version)
    except InvalidVersion:
        return False
    return pinned == found or (pinned.local is None and pinned == Version(found.public))


def comparable(one: Iterable[Digest], other: Iterable[Digest]) -> bool:
    """Whether two sets of digests have an algorithm in common."""
    return not {digest.algorithm for digest in one}.isdisjoint(digest.algorithm for digest in other)


def _origin(one: Installed) -> str:
    if one.origin is None:
        return "an unknown origin"
    return one.origin.index or one.origin.url


def _digests(digests: Iterable[Digest]) -> str:
    listed = sorted(map(str, digests))
    return listed[0] if len(listed) == 1 else f"one of {', '.join(listed)}"
