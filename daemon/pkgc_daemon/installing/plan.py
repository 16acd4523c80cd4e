"""The plan: what to keep, remove and add, as a pure function of the lock and what is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pkgc_daemon.installing.reasons import Served, same_version, why_replace
from pkgc_daemon.installing.uninstall import Stuck, cannot_uninstall
from pkgc_daemon.vocabulary import Add, IndexOptions, Installed, Keep, Plan, Remove, SourceState, Wanted

__all__ = ["SEEDS", "Served", "make_plan", "same_version"]

#: What a person puts into an environment to work on it; kept where the environment was made with them.
SEEDS = frozenset({"pip", "setuptools", "wheel", "uv"})


def make_plan(
    wanted: Sequence[Wanted],
    installed: Sequence[Installed],
    *,
    seeded: bool,
    reinstall: bool | frozenset[str] = False,
    exact: bool = True,
    served: Mapping[str, Served] | None = None,
    states: Mapping[str, SourceState] | None = None,
    settings: tuple[tuple[str, str], ...] = (),
    options: IndexOptions | None = None,
) -> Plan:
    """Compare the lock with an environment (invariant 4; design.md 8, 'Origin of unhashed pins').

    Args:
        wanted: the lock's lines, one per project, each with a name.
        installed: everything found in the environment.
        seeded: the environment was made with pip and the like, which then stay.
        reinstall: True for everything, or normalized names.
        exact: remove what the lock does not name.
        served: name -> what the serving index has now for the pinned version; a name is absent when that
            is unknown (nobody could be asked), and then what is installed satisfies.
        states: name -> what a direct reference holds now; a name is absent when it was not looked up, and
            then only the lock's own digests or commit can say that what is installed satisfies.
        settings: build settings of the command line; those of a `Wanted` come after them.
        options: the indexes that may serve a pin: reasons name them, nothing depends on them.

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
        reason = why_replace(
            want,
            found,
            forced=forced,
            served=(served or {}).get(want.name),
            state=(states or {}).get(want.name),
            settings=settings,
            options=options,
        )
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
