"""The modes of what is made for somebody whose umask is not this process's; it changes no umask.

A daemon works for clients with umasks of their own, in threads: the process-wide umask may not be touched.
So where the two differ, the mode of each new file and folder is set explicitly.
"""

from __future__ import annotations

import os
import stat


class Modes:
    """Gives new files and folders the modes that a process with `umask` would give them.

    Args:
        umask: whose files they will be; None for this process's, which then acts by itself.
    """

    __slots__ = ("_exact", "umask")

    def __init__(self, umask: int | None = None) -> None:
        self.umask = -1 if umask is None else umask & 0o777
        """As `subprocess` wants it: -1 for this process's."""
        self._exact = umask is not None and self.umask != own_umask()

    def folder(self, path: str, base: int = 0o777) -> None:
        """Mend the mode of a folder that was just made; its setgid bit, which is inherited, stays."""
        if self._exact:
            wanted = base & ~self.umask
            found = stat.S_IMODE(os.lstat(path).st_mode)
            if found & 0o777 != wanted:
                os.chmod(path, (found & ~0o777) | wanted)

    def file(self, descriptor: int, base: int = 0o666) -> None:
        """Mend the mode of a file that was just made and is open."""
        if self._exact:
            os.fchmod(descriptor, base & ~self.umask)


def own_umask() -> int | None:
    """This process's umask, without setting it (which is how POSIX has it read); None: not told here."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line[6:], 8)
    except (OSError, ValueError):
        pass
    return None
