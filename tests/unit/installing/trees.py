"""Support for the tests of installing: environments, trees and plans on disk; it tests nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

from pkgc_daemon.archives.manifest import manifest_to_bytes
from pkgc_daemon.archives.wheel import unpack_wheel
from pkgc_daemon.installing.apply import apply_plan
from tests.support.wheels import BuiltWheel

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"lib/python{MINOR}/site-packages"


class Env:
    """A minimal virtual environment and a store of trees beside it."""

    def __init__(self, root: Path, name: str = "venv") -> None:
        self.prefix = root / name
        self.store = root / "store"
        self.site = self.prefix / SITE
        self.site.mkdir(parents=True)
        (self.prefix / "bin").mkdir()
        (self.prefix / "lib64").symlink_to("lib")
        (self.prefix / "bin" / "python").symlink_to(sys.executable)
        (self.prefix / "pyvenv.cfg").write_text(f"home = {os.path.dirname(sys.executable)}\npkgc = 0\n")
        self.store.mkdir(exist_ok=True)
        prefix = str(self.prefix)
        self.interpreter: dict[str, Any] = {
            "executable": f"{prefix}/bin/python",
            "version": ".".join(map(str, sys.version_info[:3])),
            "cache_tag": sys.implementation.cache_tag,
            "pycache_magic": MAGIC_NUMBER.hex(),
            "prefix": prefix,
            "base_prefix": sys.base_prefix,
            "paths": {
                "purelib": str(self.site),
                "platlib": f"{prefix}/lib64/python{MINOR}/site-packages",
                "scripts": f"{prefix}/bin",
                "data": prefix,
                "include": f"{prefix}/include/python{MINOR}",
            },
        }

    def item(self, wheel: BuiltWheel | Path, **more: Any) -> dict[str, Any]:
        """The wire map of an addition; its tree is unpacked into the store."""
        if isinstance(wheel, Path):
            filename, sha256, path = wheel.name, f"{abs(hash(wheel.name)):064x}", wheel
        else:
            filename, sha256, path = wheel.filename, wheel.sha256, self.store / wheel.filename
            path.write_bytes(wheel.data)
        root = self.store / "trees" / sha256
        manifest_path = self.store / f"{sha256}.manifest"
        if not manifest_path.exists():
            root.parent.mkdir(exist_ok=True)
            manifest = unpack_wheel(str(path), filename, sha256, str(root))
            manifest_path.write_bytes(manifest_to_bytes(manifest))
        name, version = filename.split("-")[:2]
        return {
            "name": name.lower().replace("_", "-").replace(".", "-"),
            "version": version,
            "tree": str(root),
            "manifest": str(manifest_path),
            "sha256": sha256,
            "provenance": {
                "url": f"https://index.example/{filename}",
                "archive_info": {"hashes": {"sha256": sha256}},
                "pkgc": {"index": "https://index.example/simple/"},
            },
            "requested": True,
            **more,
        }

    def gone(self, *folders: str) -> list[dict[str, Any]]:
        """Wire maps of removals, by .dist-info name."""
        found = []
        for folder in folders:
            name, version = folder.removesuffix(".dist-info").removesuffix(".egg-info").split("-")[:2]
            found.append({"name": name, "version": version, "dist_info": str(self.site / folder)})
        return found

    def args(
        self, add: Sequence[BuiltWheel | Path | dict[str, Any]] = (), remove: Sequence[str] = (), **more: Any
    ) -> dict[str, Any]:
        """Arguments of `apply_plan`."""
        return {
            "venv": str(self.prefix),
            "interpreter": self.interpreter,
            "fingerprint": None,
            "add": [one if isinstance(one, dict) else self.item(one) for one in add],
            "remove": self.gone(*remove),
            "link_mode": "auto",
            "compile": False,
            "strict": False,
            "lock_timeout": 5,
            **more,
        }

    def apply(
        self, add: Sequence[BuiltWheel | Path | dict[str, Any]] = (), remove: Sequence[str] = (), **more: Any
    ) -> dict[str, Any]:
        """Run `apply_plan`."""
        return apply_plan(self.args(add, remove, **more))

    def state(self) -> dict[str, tuple[str, bytes]]:
        """Everything in the environment but its lock: path -> (kind and executable bit, content)."""
        return {path: value for path, value in snapshot(self.prefix) if path != ".lock"}


def snapshot(root: Path) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Every path below `root`: what it is, whether it is executable, what it holds."""
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            shown = str(path.relative_to(root))
            if path.is_symlink():
                yield shown, ("link", os.readlink(path).encode())
            elif path.is_dir():
                yield shown, ("folder", b"")
            else:
                kind = "program" if path.stat().st_mode & 0o100 else "file"
                yield shown, (kind, path.read_bytes())
