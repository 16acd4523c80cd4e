"""Results of `list`, `cache …` and `status` as text, from plain data; the same data is the JSON output.

Every function takes the data and a `Style`, and returns whole lines.  Nothing is wrapped or shortened.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pkgc_daemon.serving.text import (
    Style,
    columns,
    format_bytes,
    format_duration,
    harmless,
    plural,
)

Data = Mapping[str, Any]


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""


def _text(value: Any) -> str:
    return "" if value is None else harmless(str(value))


def render_list(data: Data, style: Style) -> str:
    """``pkgc list``: a line per package.

    `data`: ``{"venv": str, "python": str | None, "packages": [{"name", "version", "installer": str | None,
    "sha256": hex | None, "origin": {"kind", "url", "index"?} | None, "damaged": str | None}]}``.
    """
    rows = []
    for package in data["packages"]:
        origin = package.get("origin")
        told = origin.get("index") or origin["url"] if origin else None
        if not told and package.get("installer"):
            told = f"by {package['installer']}"
        damage = package.get("damaged")
        rows.append(
            (
                style("bold", _text(package["name"])),
                _text(package["version"]),
                style("red", f"damaged: {_text(damage)}") if damage else style("dim", _text(told)),
            )
        )
    return _lines(columns(rows))


def render_cache_dir(data: Data, _style: Style) -> str:
    """``pkgc cache dir``. `data`: ``{"cache": str}``."""
    return _lines([_text(data["cache"])])


def render_cache_size(data: Data, style: Style) -> str:
    """``pkgc cache size``: a line per kind, and the sum.

    `data`: ``{"cache": str, kind: {"files": int, "bytes": int}, …, "total": {"files", "bytes"}}`` with the
    kinds of `Store.size`, and perhaps ``"limit": bytes, "free": bytes``.
    """
    rows = [
        (_text(kind), format_bytes(part["bytes"]), plural(part["files"], "file"))
        for kind, part in data.items()
        if isinstance(part, Mapping) and kind != "total"
    ]
    total = data["total"]
    rows.append(("total", format_bytes(total["bytes"]), plural(total["files"], "file")))
    lines = columns(rows)
    lines[-1] = style("bold", lines[-1])
    for key, words in (("limit", "limit"), ("free", "free on this filesystem")):
        if data.get(key) is not None:
            lines.append(f"{words}: {format_bytes(data[key])}")
    return _lines(lines)


def render_cache_list(data: Data, _style: Style) -> str:
    """``pkgc cache list``: a line per distribution file.

    `data`: ``{"cache": str, "artifacts": [row]}``, rows as `store.upkeep.listing` makes them:
    ``{"filename", "sha256": hex, "artifact_bytes": int, "tree_bytes": int, "used": unix seconds | None,
    "in_use": bool}`` and more; 0 bytes: that part is not there.
    """
    rows = [
        (
            _text(one["filename"]),
            format_bytes(one["artifact_bytes"]) if one["artifact_bytes"] else "-",
            f"{format_bytes(one['tree_bytes'])} unpacked" if one["tree_bytes"] else "-",
            _day(one.get("used")),
            f"sha256:{_text(one['sha256'])}",
            "in use" if one.get("in_use") else "",
        )
        for one in data["artifacts"]
    ]
    return _lines(columns(rows))


def _day(moment: float | None) -> str:
    return "-" if moment is None else time.strftime("%Y-%m-%d", time.gmtime(moment))


def render_cache_verify(data: Data, style: Style) -> str:
    """``pkgc cache verify``: what was checked, and a line per damaged thing.

    `data`: as `store.upkeep.verify` makes it: ``{"artifacts": int, "trees": int, "bytes": int, "fixed": int,
    "damaged": [{"kind": "artifact" | "tree" | "bytecode", "sha256": hex, "filename": str, "problem": str}]}``
    and perhaps ``"seconds": float``.
    """
    what = f"{plural(data['artifacts'], 'file')} and {plural(data['trees'], 'unpacked wheel')}"
    took = f" in {format_duration(data['seconds'])}" if "seconds" in data else ""
    lines = [f"Verified {what} ({format_bytes(data['bytes'])}){took}"]
    for one in data["damaged"]:
        name = _text(one.get("filename")) or f"sha256:{_text(one['sha256'])}"
        kind = {"tree": "unpacked ", "bytecode": "bytecode of "}.get(one["kind"], "")
        lines.append(f" {style('red', '!')} {kind}{name}: {_text(one['problem'])}")
    if not data["damaged"]:
        lines.append("No damage found")
    elif data.get("fixed"):
        lines.append("What is damaged was put away; it is fetched or unpacked again when it is wanted")
    return _lines(lines)


def render_cache_clean(data: Data, style: Style) -> str:
    """``pkgc cache clean``: what went, and what stayed because it is in use.

    `data`: as `store.upkeep.clean` makes it: ``{"removed": [file name], "bytes": int,
    "skipped": [file name]}``.
    """
    removed, size = plural(len(data["removed"]), "file"), format_bytes(data["bytes"])
    lines = [f"Removed {removed} ({size})"]
    lines += [f" {style('red', '-')} {_text(name)}" for name in data["removed"]]
    lines += [f" {style('yellow', '=')} {_text(name)} (kept: in use)" for name in data["skipped"]]
    return _lines(lines)


def render_status(data: Data, style: Style) -> str:
    """``pkgc status`` and ``pkgc daemon status``: a line per fact.

    `data`: ``{"running": bool, "version": str, "pid": int, "socket": str, "cache_dir": str,
    "uptime_s": float, "rss_bytes": int, "clients": int, group: {name: value}, "active": [{"command": str,
    "pid": int, "seconds": float}]}``; everything but `running` may be absent, and what else there is, is
    printed as it is.  Keys that end in ``_s`` are seconds, in ``_bytes`` bytes.
    """
    running = style("green", "running") if data.get("running") else style("red", "not running")
    version = f" (pkgc {_text(data['version'])})" if data.get("version") else ""
    rows: list[tuple[str, str]] = [("daemon", running + version)]
    for key, value in data.items():
        if value is None or key in ("running", "version", "active"):
            continue
        if isinstance(value, Mapping):
            rows += [
                (f"{_text(key)} {_text(inner)}".replace("_", " "), _fact(inner, fact))
                for inner, fact in value.items()
                if fact is not None
            ]
        else:
            rows.append((_text(key).removesuffix("_s").replace("_", " "), _fact(key, value)))
    lines = columns((f"{name}:", value) for name, value in rows)
    for one in data.get("active", ()):
        took = format_duration(one["seconds"])
        lines.append(f"  pkgc {_text(one['command'])}, process {_text(one['pid'])}, for {took}")
    return _lines(lines)


def _fact(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if key in ("bytes", "limit", "memory", "free", "size") or key.endswith("_bytes"):
            return format_bytes(value)
        if key in ("uptime", "seconds") or key.endswith("_s"):
            return format_duration(value)
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value)
    return _text(value)
