"""Preparing: which ready copies a sync takes, and what is to be copied for the next one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pkgc_daemon.modes import own_umask
from pkgc_daemon.store.ready import Taken, Used
from pkgc_daemon.vocabulary import Plan

from .asking import Obtained
from .calls import SyncCall
from .context import Context
from .targets import Target


def _umask(context: Context) -> int:
    return context.umask if context.umask is not None else own_umask() or 0o022


def _fits(context: Context, call: SyncCall, target: Target) -> bool:
    """Whether copies in the cache can be moved into this environment at all."""
    if call.link_mode != "auto" or call.strict or not context.world.is_own:
        return False
    folder = target.venv if target.exists else os.path.dirname(target.venv)
    try:
        return os.stat(folder).st_dev == os.stat(context.services.store.layout.root).st_dev
    except OSError:
        return False


def take_copies(
    context: Context, call: SyncCall, target: Target, plan: Plan, obtained: Mapping[str, Obtained]
) -> dict[str, Taken]:
    """Ready copies for what is added, by project. They belong to this call."""
    if plan.remove or not obtained or not _fits(context, call, target):
        return {}
    names = {one.tree.sha256: name for name, one in obtained.items()}
    taken = context.services.store.ready.take(names, _umask(context))
    return {names[sha256]: copy for sha256, copy in taken.items()}


def want_copies(
    context: Context,
    call: SyncCall,
    target: Target,
    obtained: Mapping[str, Obtained],
    taken: Mapping[str, Taken],
) -> None:
    """Note what this sync installed: the next environment will want the same."""
    if not _fits(context, call, target):
        return
    used = [
        Used(one.tree.sha256, name in taken, one.records())
        for name, one in obtained.items()
        if not (one.direct_url or {}).get("dir_info", {}).get("editable")
    ]
    context.services.store.ready.want(used, _umask(context))
