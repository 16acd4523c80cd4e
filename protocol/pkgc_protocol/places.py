"""Places: where the socket and the cache are. Functions of the environment; no I/O but for a missing HOME.

Client and daemon must agree on them, and the client's start-up must stay small; hence here.
"""

import os

#: Beside the cache's lock: line 1 the socket's path, line 2 the daemon's pid.
POINTER = "daemon.socket"
LOCK = "lock"
LOG = "daemon.log"

#: Variables that a client forwards with a command (besides those that begin with a prefix below).
FORWARDED = frozenset(
    {
        "ALL_PROXY", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "HOME", "HTTPS_PROXY", "HTTP_PROXY",
        "LANG", "LC_ALL", "LC_CTYPE", "NETRC", "NO_COLOR", "NO_PROXY", "PATH", "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR", "SSL_CERT_FILE", "TERM", "VIRTUAL_ENV", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME",
        "all_proxy", "http_proxy", "https_proxy", "no_proxy", "CI",
    }
)  # fmt: skip
FORWARDED_PREFIXES = ("PKGC_", "PIP_")


def home(env: dict[str, str]) -> str:
    """The user's home directory: of the environment, else of the user database, else the root directory."""
    given = env.get("HOME")
    if given:
        return given
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir or "/"
    except KeyError:
        return "/"


def cache_dir(env: dict[str, str]) -> str:
    """`PKGC_CACHE_DIR`, else `$XDG_CACHE_HOME/pkgc`, else `~/.cache/pkgc`."""
    explicit = env.get("PKGC_CACHE_DIR")
    if explicit:
        return explicit
    base = env.get("XDG_CACHE_HOME") or ""
    if not base.startswith("/"):  # the XDG specification: relative values are ignored
        base = home(env) + "/.cache"
    return base + "/pkgc"


def default_socket(env: dict[str, str], uid: int) -> str:
    """`PKGC_SOCKET`, else `$XDG_RUNTIME_DIR/pkgc/pkgc.sock`, else `/tmp/pkgc-UID/pkgc.sock`."""
    explicit = env.get("PKGC_SOCKET")
    if explicit:
        return explicit
    runtime = env.get("XDG_RUNTIME_DIR") or ""
    if runtime.startswith("/"):
        return runtime + "/pkgc/pkgc.sock"
    return f"/tmp/pkgc-{uid}/pkgc.sock"  # noqa: S108  (0700, owner checked before use)


def folder_is_private(mode: int, owner: int, uid: int) -> bool:
    """Whether nobody but `uid` (and root) can put or replace a socket of `uid` in a folder.

    Args:
        mode: st_mode of the folder; a sticky one (as /tmp) may be writable by all: there, others cannot
            replace what is there, so the owner of the socket itself must be looked at too.
        owner: st_uid of the folder.
        uid: the user.
    """
    return owner in (uid, 0) and (not mode & 0o022 or bool(mode & 0o1000))


def config_file(env: dict[str, str]) -> str:
    """`PKGC_CONFIG`, else `$XDG_CONFIG_HOME/pkgc/config.toml`, else `~/.config/pkgc/config.toml`."""
    explicit = env.get("PKGC_CONFIG")
    if explicit:
        return explicit
    base = env.get("XDG_CONFIG_HOME") or ""
    if not base.startswith("/"):
        base = home(env) + "/.config"
    return base + "/pkgc/config.toml"


def forwarded(env: dict[str, str]) -> dict[str, str]:
    """The part of an environment that a client sends with a command."""
    return {k: v for k, v in env.items() if k in FORWARDED or k.startswith(FORWARDED_PREFIXES)}
