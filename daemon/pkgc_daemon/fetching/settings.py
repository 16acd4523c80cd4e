"""Settings of connections: TLS contexts and the choice of a proxy; opens no connection."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.later import Later
from pkgc_daemon.redaction import redact

if TYPE_CHECKING:
    import truststore
else:
    truststore = Later("truststore")


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy for `url`, or None.

    Args:
        proxies: 'http', 'https', 'all' and 'no' as the environment of the caller has them.

    Raises:
        PkgcError: ``unsupported-proxy``: only http and https proxies can be used.
    """
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme.lower()) or proxies.get("all")
    if not proxy or _bypassed(parts.hostname or "", parts.port, proxies.get("no", "")):
        return None
    if "://" not in proxy:
        proxy = "http://" + proxy
    if urlsplit(proxy).scheme.lower() not in {"http", "https"}:
        raise PkgcError(
            "unsupported-proxy",
            f"the proxy {redact(proxy)} cannot be used for {redact(url)}",
            context=f"expected: http or https\nfound: {urlsplit(proxy).scheme}",
            hint="Name an HTTP proxy, or exempt the host with NO_PROXY.",
        )
    return proxy


def _bypassed(host: str, port: int | None, rules: str) -> bool:
    host = host.lower().rstrip(".")
    address = _address(host)
    for rule in rules.lower().split(","):
        rule = rule.strip()
        if rule == "*":
            return True
        if not rule:
            continue
        if address is not None and "/" in rule:
            try:
                if address in ipaddress.ip_network(rule, strict=False):
                    return True
            except ValueError:
                continue
        name, colon, its_port = rule.rpartition(":")
        if colon and its_port.isdigit() and ("]" in name or ":" not in name):
            if port != int(its_port):
                continue
            rule = name
        rule = rule.strip("[]").lstrip("*").lstrip(".")
        if rule and (host == rule or (address is None and host.endswith("." + rule))):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_trusted(url: str, trusted_hosts: Iterable[str]) -> bool:
    """Whether `url` is on a host (or host:port) whose certificate need not verify."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    with_port = f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    return any(entry.lower() in {host, with_port, f"[{host}]"} for entry in trusted_hosts)


def make_tls(cert: bytes | None, cert_path: str | None, client_cert: str | None) -> ssl.SSLContext:
    """A TLS context that verifies; reads files, so call it in a thread.

    Args:
        cert: PEM bundle that replaces the system's trust store.
        client_cert: path of a PEM file with certificate and key.

    Raises:
        PkgcError: ``bad-certificate``: one of the files cannot be used.
    """
    context: ssl.SSLContext
    if cert is None:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        try:
            context = ssl.create_default_context(cadata=cert.decode("ascii", "ignore"))
        except ssl.SSLError as exc:
            raise _bad_certificate(cert_path, exc) from exc
    _load_client_cert(context, client_cert)
    return context


def make_lax_tls(client_cert: str | None) -> ssl.SSLContext:
    """A TLS context that verifies nothing, for hosts that the user named as trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _load_client_cert(context, client_cert)
    return context


def _load_client_cert(context: ssl.SSLContext, path: str | None) -> None:
    if path is not None:
        try:
            context.load_cert_chain(path)
        except (OSError, ssl.SSLError) as exc:
            raise _bad_certificate(path, exc) from exc


def _bad_certificate(path: str | None, exc: Exception) -> PkgcError:
    return PkgcError(
        "bad-certificate", f"the certificate file {path} cannot be used", context=f"cause: {exc}"
    )
