"""Remembering: which line of which lock asked for what an environment holds, for `pkgc why`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from pkgc_daemon.store.facts import Request
from pkgc_daemon.vocabulary import Plan

from .asking import Obtained
from .context import Context
from .locking import Asked
from .targets import Target


async def remember_requests(
    context: Context, target: Target, asked: Asked, plan: Plan, obtained: Mapping[str, Obtained]
) -> None:
    """Note what asked for each package of an environment that is right now.

    A sync that changed nothing, of the lock that was noted last, costs nothing.
    """
    noted = context.services.noted
    if plan.is_noop and noted.get(target.venv) is asked.lock:
        return
    before = await context.services.store.requests(target.venv)
    installed = {keep.installed.name: keep.installed for keep in plan.keep}
    now = time.time()
    requests: dict[str, Request] = {}
    for wanted in asked.wanted:
        place = str(wanted.place) if wanted.place.file else ""
        new, old, kept = obtained.get(wanted.name), before.get(wanted.name), installed.get(wanted.name)
        if new is not None:
            requests[wanted.name] = Request(new.version, new.tree.sha256, place, wanted.text, new.origin, now)
        elif old is not None and kept is not None and old.version == kept.version:
            requests[wanted.name] = replace(old, place=place, text=wanted.text)
        elif kept is not None:
            sha256 = next((one.hex for one in kept.hashes if one.algorithm == "sha256"), "")
            requests[wanted.name] = Request(kept.version, sha256, place, wanted.text, kept.origin, now)
    await context.services.store.remember_requests(target.venv, requests)
    noted[target.venv] = asked.lock
    while len(noted) > 256:
        noted.pop(next(iter(noted)))
