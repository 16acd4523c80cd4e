"""Remembering: which line of which lock asked for what an environment holds, for `pkgc why`.

Lines are kept without the credentials in them (invariant 8); origins have none (`vocabulary.Origin`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from pkgc_daemon.redaction import redact_text
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
    if plan.is_noop and noted.get(target.real) is asked.lock:
        return
    before = await context.services.store.requests(target.real)
    installed = {keep.installed.name: keep.installed for keep in plan.keep}
    now = time.time()
    requests: dict[str, Request] = {}
    for wanted in asked.wanted:
        file, line = wanted.place
        place = f"{redact_text(file)}:{line}" if file else ""
        text = redact_text(wanted.text)
        new, old, kept = obtained.get(wanted.name), before.get(wanted.name), installed.get(wanted.name)
        if new is not None:
            requests[wanted.name] = Request(new.version, new.tree.sha256, place, text, new.origin, now)
        elif old is not None and kept is not None and old.version == kept.version:
            requests[wanted.name] = replace(old, place=place, text=text)
        elif kept is not None:
            sha256 = next((one.hex for one in kept.hashes if one.algorithm == "sha256"), "")
            requests[wanted.name] = Request(kept.version, sha256, place, text, kept.origin, now)
    await context.services.store.remember_requests(target.real, requests)
    noted[target.real] = asked.lock
    while len(noted) > 256:
        noted.pop(next(iter(noted)))
