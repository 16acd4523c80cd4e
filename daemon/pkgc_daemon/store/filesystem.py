"""What the store needs from the filesystem: atomic files, syncing, the boot's identity, the kind of mount."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path

#: Filesystems without the shared memory that SQLite's WAL needs, or whose locks are remote.
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre"})

_FICLONE = 0x40049409


def boot_id() -> str:
    """An identity of the running kernel's boot: equal means that the page cache survived until now."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # No such file outside Linux: the boot's wall-clock minute. A wrong difference costs a re-hash only.
        return f"minute-{int(time.time() - time.monotonic()) // 60}"


def filesystem_kind(path: Path) -> str:
    """The type of the filesystem that holds `path` (``ext4``, ``tmpfs``, ``nfs4``, …), or ``unknown``."""
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                if before.split(" ", 3)[2] == wanted:
                    return after.split(" ", 1)[0]
    except (OSError, IndexError):
        return "unknown"
    return "unknown"


def can_reflink(folder: Path) -> bool:
    """Whether two files in `folder` can share their blocks (FICLONE): tried with two small files."""
    one, other = folder / secrets.token_hex(8), folder / secrets.token_hex(8)
    try:
        with one.open("xb+", buffering=0) as source, other.open("xb") as target:
            source.write(b"x" * 4096)
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        return True
    except OSError:
        return False
    finally:
        one.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def sync_filesystem(path: Path) -> None:
    """Write everything of the filesystem that holds `path` to its device (syncfs, else sync)."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def make_folder(path: Path, mode: int) -> None:
    """Create `path` (with parents) if need be and give it exactly `mode`, whatever the umask."""
    path.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def make_private(path: Path, beside: Iterable[str] = ()) -> None:
    """See that the file at `path` is there and nobody else may read it, nor those with a suffix of `beside`.

    What cannot be done is left: whoever opens the file says why.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for suffix in ("", *beside):
        with contextlib.suppress(OSError):
            os.chmod(f"{path}{suffix}", 0o600)


def write_atomically(path: Path, data: bytes, temporary: Path, mode: int = 0o444) -> None:
    """Put `data` at `path` in one step, through a file in `temporary` (same filesystem)."""
    draft = temporary / secrets.token_hex(8)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)
        os.rename(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a file or folder completely; what is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    path.unlink(missing_ok=True)
