"""Elsewhere: what the daemon may not open for a client whose paths mean something else (design.md 3).

A client of another mount namespace names its own files; the daemon would open those of the host in their
place. Until such files come over the wire, they are refused: packages by path, find-links, certificates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.locations import is_url
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import IndexOptions

from .hostcalls import World

_HINT = "use a URL, or a daemon that runs inside of the container"


def options_for(world: World, options: IndexOptions, env: Mapping[str, str]) -> IndexOptions:
    """The options that the daemon may act on for this client.

    Args:
        env: the client's; SSL_CERT_FILE, which speaks to every program, is left out rather than refused.

    Raises:
        InputError: ``local-files-elsewhere``.
    """
    if world.is_own:
        return options
    for place in (*options.indexes, *options.find_links, *options.pins.values()):
        check_url(world, place)
    cert = options.cert if options.cert != env.get("SSL_CERT_FILE") else None
    for path in (cert, options.client_cert):
        if path:
            raise _refusal(path)
    return dataclasses.replace(options, netrc=None, cert=None)


def check_url(world: World, url: str) -> None:
    """Refuse a path or ``file:`` URL of such a client.

    Raises:
        InputError: ``local-files-elsewhere``.
    """
    if not world.is_own and (not is_url(url) or url.lower().startswith("file:")):
        raise _refusal(redact(url))


def _refusal(shown: str) -> InputError:
    return InputError(
        "local-files-elsewhere",
        f"{shown} is a local file or folder, and this client sees other files than the daemon does",
        context="the client runs in another mount namespace (a container, a sandbox)",
        hint=_HINT,
    )
