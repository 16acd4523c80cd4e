"""What is set beside the options: variables, and keys of config.toml, that no command line has.

For the reference only; who obeys each of them reads it by itself (`inputs.config` checks the keys).
"""

from __future__ import annotations

from collections.abc import Mapping

#: Variables that are no options.
VARIABLES: Mapping[str, str] = {
    "PKGC_SOCKET": "Socket of the daemon.",
    "PKGC_CACHE_DIR": "Directory of the cache.",
    "PKGC_BYTECODE": "`off`: no bytecode is kept in the cache. Default: `auto`.",
    "PKGC_CACHE_MAX_SIZE": "Size to which an idle daemon shrinks the cache. Default: it does not.",
    "PKGC_CONFIG": "The configuration file, instead of config.toml in its usual place.",
    "PKGC_IDLE_EXIT": "Seconds without a client after which a daemon that was started by need goes away.",
    "PKGC_READY_COPIES": "0: nothing is copied ahead for the next environment. Default: 1.",
    "PKGC_UNPACK_PROCESSES": "Processes that unpack wheels; 0: threads. Default: the processors, at most 4.",
    "PKGC_TRUSTED_HOST": "Hosts whose certificate is not checked, separated by blanks.",
    "PKGC_CERT": "PEM bundle to trust instead of the system's; else SSL_CERT_FILE.",
    "PKGC_CLIENT_CERT": "PEM file with certificate and key to show to servers.",
    "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY": "Proxies, also in lower case.",
    "NETRC": "File with credentials by host, instead of ~/.netrc.",
    "VIRTUAL_ENV": "The environment, where neither --venv nor its variable or key names one.",
    "NO_COLOR": "Not empty: no colors, unless --color or PKGC_COLOR says so.",
    "FORCE_COLOR": "Neither empty nor 0: colors even without a terminal.",
}

#: Keys of config.toml that are no options of the command line.
CONFIG_ONLY: Mapping[str, str] = {
    "trusted-host": "List: hosts whose certificate is not checked (`PKGC_TRUSTED_HOST`).",
    "cert": "PEM bundle to trust instead of the system's (`PKGC_CERT`, `SSL_CERT_FILE`).",
    "client-cert": "PEM file with certificate and key to show to servers (`PKGC_CLIENT_CERT`).",
    "cache.max-size": 'Size to which an idle daemon shrinks the cache, as "20GB" (`PKGC_CACHE_MAX_SIZE`).',
    "cache.bytecode": (
        '"auto": what is installed again is compiled once for all environments; "off": not (`PKGC_BYTECODE`).'
    ),
    "cache.ready-copies": (
        "`false`: nothing is copied ahead for the next environment (`PKGC_READY_COPIES`)."
    ),
    "network.concurrent-downloads": "How many files are downloaded at once.",
    "network.concurrent-per-host": "How many of them from one host.",
    "network.connect-timeout": "Seconds until a connection must stand.",
    "network.stall-timeout": "Seconds without a byte until a transfer counts as stalled.",
    "network.retries": "Attempts without progress until a transfer is given up.",
    "build.concurrent": "How many builds run at once. Default: the processors.",
    "build.timeout": "Seconds after which a build that still runs is ended. Default: none.",
    "index.name": "Name of the index, to pin projects to it.",
    "index.url": "Its root (Simple API): URL, or directory relative to config.toml. Required.",
    "index.default": "`true`: it takes the place of PyPI, as the key `index-url` would.",
    "index.explicit": "`true`: it serves only the projects that are pinned to it.",
    "index.packages": "List of projects that are pinned to it: they come from no other index.",
    "index.cache-control.pages": (
        'Cache-Control for its pages, as "max-age=600", in place of what the index sends.'
    ),
}
