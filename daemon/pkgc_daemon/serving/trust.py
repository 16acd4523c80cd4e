"""Trust: which class of peer may have the daemon act itself. One table, verb by class, default deny.

A peer of the same uid, mount namespace and root lives in the daemon's own world: the daemon may open its
paths and change its environments with its own rights, because they are the same.  For any other peer
those would be the rights of a confused deputy, so the client acts (design.md, section 3).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Literal

PeerClass = Literal["own", "own-elsewhere", "other"]
Actor = Literal["daemon", "client", "deny"]

_SO_PEERPIDFD = 77

#: verb -> class of peer -> who acts. `invoke` and `stop` are requests; the rest are hands.
TABLE: dict[str, dict[PeerClass, Actor]] = {
    "invoke": {"own": "daemon", "own-elsewhere": "daemon", "other": "deny"},
    "stop": {"own": "daemon", "own-elsewhere": "deny", "other": "deny"},
    "read_file": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "paths_exist": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "read_stdin": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "read_variables": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "locate_target": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "find_python": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "probe_interpreter": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "scan_environment": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "apply_plan": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "inspect_directory": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    "verify_distributions": {"own": "daemon", "own-elsewhere": "client", "other": "client"},
    # Code of others runs, or the person's own credentials are used: with the client's rights, variables
    # and limits, whoever it is.
    "begin_build": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "end_build": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "prepare_source": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "run_build": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "resolve_git": {"own": "client", "own-elsewhere": "client", "other": "client"},
    "checkout_git": {"own": "client", "own-elsewhere": "client", "other": "client"},
}


def actor(verb: str, peer: PeerClass) -> Actor:
    """Who performs `verb` for a peer of that class; a verb that is not in the table is denied."""
    return TABLE.get(verb, {}).get(peer, "deny")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end; integers of the kernel, never parsed from text (dirty_sock)."""

    uid: int
    pid: int
    kind: PeerClass


def identify(connection: socket.socket) -> Peer:
    """The peer of a connected Unix socket, as the kernel tells it (credentials of connect())."""
    if sys.platform == "linux":
        pid, uid, _gid = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        )
    else:  # LOCAL_PEERCRED: struct xucred {u_int version; uid_t uid; ...}
        uid, pid = struct.unpack("Ii", connection.getsockopt(0, 1, 76)[:8])[1], 0
    if uid != os.getuid():
        return Peer(uid, pid, "other")
    if sys.platform != "linux":
        return Peer(uid, pid, "own")
    return Peer(uid, pid, "own" if _same_world(connection, pid) else "own-elsewhere")


def _same_world(connection: socket.socket, pid: int) -> bool:
    """Whether process `pid` has this process's mount namespace and root directory.

    The pidfd, where the kernel gives one, is held meanwhile, and the process must still be there
    afterwards: so the number cannot have been reused for another process between the two looks.
    """
    try:
        pidfd = struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))[0]
    except OSError:
        pidfd = -1
    try:
        same = all(
            os.path.samestat(os.stat(f"/proc/{pid}/{name}"), os.stat(f"/proc/self/{name}"))
            for name in ("ns/mnt", "root")
        )
        if same and pidfd >= 0:
            import signal

            signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return False
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return same
