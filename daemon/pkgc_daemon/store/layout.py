"""Where things lie in the cache folder: names only, no I/O except creating the folders."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from pkgc_daemon.redaction import redact
from pkgc_daemon.store.filesystem import make_folder
from pkgc_protocol.places import POINTER

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of pkgc: `pkgc cache clean` empties it.
"""


def is_sha256(text: str) -> bool:
    """Whether `text` is 64 lower-case hex digits: the only thing that may name a file of the store."""
    return _SHA256.match(text) is not None


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one cache folder. Nothing is ever named by a URL or by an index (only by digests)."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held (flock) by the one daemon that writes here."""
        return self.root / "lock"

    @property
    def daemon(self) -> Path:
        """Who holds the lock, and on which socket it listens: two lines, path and pid."""
        return self.root / POINTER

    @property
    def catalog(self) -> Path:
        """The SQLite catalog."""
        return self.root / "catalog.sqlite3"

    @property
    def incoming(self) -> Path:
        """Partial downloads; survive restarts."""
        return self.root / "incoming"

    @property
    def temporary(self) -> Path:
        """Drafts and rubbish; emptied at start."""
        return self.root / "tmp"

    @property
    def artifacts(self) -> Path:
        """``ab/<sha256>`` and its sidecar ``ab/<sha256>.json``."""
        return self.root / "artifacts"

    @property
    def trees(self) -> Path:
        """``ab/<sha256>/root`` and its sidecar ``ab/<sha256>/manifest``."""
        return self.root / "trees"

    @property
    def pages(self) -> Path:
        """``ab/<sha256 of the key>``."""
        return self.root / "pages"

    @property
    def ready(self) -> Path:
        """Ready copies, ``<sha256>.<token>`` each; swept at start."""
        return self.root / "ready"

    @property
    def bytecode(self) -> Path:
        """``ab/<sha256 of the tree>/<key>/root`` and its ``manifest`` (`compiled`)."""
        return self.root / "bytecode"

    @property
    def repositories(self) -> Path:
        """Bare git repositories, ``<sha256 of the URL>``, and beside each its lock, ``<…>.lock``."""
        return self.root / "git"

    def artifact(self, sha256: str) -> Path:
        """The bytes of an artifact."""
        assert is_sha256(sha256), sha256
        # One string, not four joins: lookups do this 97 times in a sync.
        return Path(f"{self.root}/artifacts/{sha256[:2]}/{sha256}")

    def sidecar(self, sha256: str) -> Path:
        """What an artifact is, for a catalog that has to be rebuilt."""
        return Path(f"{self.artifact(sha256)}.json")

    def tree(self, sha256: str) -> Path:
        """The folder that holds a tree and its manifest."""
        assert is_sha256(sha256), sha256
        return Path(f"{self.root}/trees/{sha256[:2]}/{sha256}")

    def tree_root(self, sha256: str) -> Path:
        """The unpacked files."""
        assert is_sha256(sha256), sha256
        return Path(f"{self.root}/trees/{sha256[:2]}/{sha256}/root")

    def manifest(self, sha256: str) -> Path:
        """The manifest's bytes (`archives.manifest`)."""
        assert is_sha256(sha256), sha256
        return Path(f"{self.root}/trees/{sha256[:2]}/{sha256}/manifest")

    def compiled(self, sha256: str, key: str) -> Path:
        """The bytecode of a tree for one kind of interpreter (`compiled.key_of`)."""
        assert is_sha256(sha256), sha256
        return Path(f"{self.root}/bytecode/{sha256[:2]}/{sha256}/{key}")

    def page(self, key: str) -> Path:
        """The file of a cached index page."""
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.pages / name[:2] / name

    def repository(self, url: str) -> Path:
        """The bare repository that keeps what was fetched from `url`; it need not be there.

        Args:
            url: as git takes it; credentials in it do not count.
        """
        name = hashlib.sha256(redact(url).encode("utf-8", "surrogatepass")).hexdigest()
        return self.repositories / name

    def draft(self) -> Path:
        """A fresh path in the temporary folder."""
        return self.temporary / secrets.token_hex(8)

    def create(self, *, shared: bool) -> None:
        """Create the folders: the root 0700, or 0755 for a `shared` cache; below it 0755 (drafts 0700)."""
        make_folder(self.root, 0o755 if shared else 0o700)
        for path in (self.artifacts, self.trees):
            make_folder(path, 0o755)
            for number in range(256):
                # All at once: publishing then needs no mkdir, and no race between two of them.
                bucket = path / f"{number:02x}"
                if not bucket.is_dir():
                    make_folder(bucket, 0o755)
        for path in (self.pages, self.incoming, self.temporary, self.ready, self.bytecode, self.repositories):
            make_folder(path, 0o700)
        tag = self.root / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_bytes(_TAG)
