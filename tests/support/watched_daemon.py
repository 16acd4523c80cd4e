"""The daemon under blockbuster: a blocking call on the event loop raises, and fails what it served.

Watched from READY to STOPPING: before and after, nobody is served.  Run as a program with the daemon's own
arguments: ``python -m tests.support.watched_daemon --socket …``.
"""

from __future__ import annotations

import sys

from blockbuster import BlockBuster

from pkgc_daemon.serving import run
from pkgc_daemon.serving.server import Server

#: What may block, and why it is short.
_MAY_BLOCK = (
    # a datagram of a few bytes to the service manager
    ("pkgc_daemon/serving/systemd.py", {"send"}),
    # procfs: no disk
    ("pkgc_daemon/serving/trust.py", {"_same_world"}),
    # one stat of what was just looked up: the cheap check of the store (invariant 6)
    ("pkgc_daemon/store/artifacts.py", {"is_intact"}),
    ("pkgc_daemon/store/trees.py", {"is_intact"}),
    # one stat of a copy and of its file system, and a read that never waits
    ("pkgc_daemon/store/ready.py", {"_is_there", "_disk_has_room"}),
    ("pkgc_daemon/store/watching.py", {"touched"}),
    # two stats: whether a sync's environment and the cache are on one file system
    ("pkgc_daemon/serving/preparing.py", {"_fits"}),
    # a few stats per call: whether the cache is still there
    ("pkgc_daemon/store/lock.py", {"is_attached"}),
    # the drain begins: the socket's name is taken back
    ("pkgc_daemon/serving/listening.py", {"withdraw"}),
)


def watch() -> None:
    """Activate blockbuster while the server runs."""
    guard = BlockBuster("pkgc_daemon")
    # pure functions of their arguments here: pkgc makes every path absolute before
    for name in ("os.path.abspath",):
        guard.functions.pop(name, None)
    for function in guard.functions.values():
        for file, names in _MAY_BLOCK:
            function.can_block_in(file, names)
    serve = Server.run

    async def watched(server: Server) -> None:
        guard.activate()
        try:
            await serve(server)
        finally:
            guard.deactivate()

    Server.run = watched  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    watch()
    sys.exit(run.main(sys.argv[1:]))
