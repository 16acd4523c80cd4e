"""Asking and Obtained: what a call asks with, and what it gets for a Wanted; plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.installing.additions import records_of
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import Digest, IndexOptions, Interpreter, Origin, Tree, Wanted, settings_key

if TYPE_CHECKING:
    from .context import Context
    from .targets import Target

Mode = Literal["normal", "refresh", "offline"]
CameFrom = Literal["store", "network", "build"]
Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Obtained:
    """A Wanted that is ready to be installed."""

    wanted: Wanted
    tree: Tree
    origin: Origin | None
    came_from: CameFrom
    digests: frozenset[Digest] = frozenset()
    """Of the bytes that `origin` names: of the wheel, or of the source archive that it was built from."""
    built: bool = False
    """The wheel was built here (perhaps long ago) from what `origin` names."""
    direct_url: dict[str, Any] | None = None
    """The map of direct_url.json, for a direct reference (PEP 610)."""
    settings: Settings = ()
    """Those that it was built with."""
    right_until: float = 0.0
    """The same is right again until then (Unix seconds), while neither store nor index pages change."""
    decided_at: int | None = None
    """`IndexClient.generation` before the page was asked that decided; None: no page did."""
    _rendered: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def version(self) -> str:
        """The version that the content says."""
        return self.tree.manifest.version

    def provenance(self) -> dict[str, Any] | None:
        """What `_provenance` makes, once."""
        if "provenance" not in self._rendered:
            self._rendered["provenance"] = self._provenance()
        rendered: dict[str, Any] | None = self._rendered["provenance"]
        return rendered

    def records(self) -> dict[str, bytes]:
        """The files of .dist-info that say where it came from, made once."""
        if "records" not in self._rendered:
            made = records_of(self.provenance(), self.direct_url, requested=True)
            self._rendered["records"] = made
        rendered: dict[str, bytes] = self._rendered["records"]
        return rendered

    def _provenance(self) -> dict[str, Any] | None:
        """The map of provenance_url.json (PEP 710), with the index in an object of our own.

        None for a direct reference, and when nobody knows where the bytes came from (then no record is
        better than a wrong one). For a wheel that was built, URL and hashes are those of its source (H10).
        """
        if self.origin is None or self.direct_url is not None:
            return None
        return provenance_of(
            self.origin, self.digests, self.tree.sha256, built=self.built, settings=self.settings
        )


def provenance_of(
    origin: Origin,
    digests: frozenset[Digest],
    sha256: str,
    *,
    built: bool = False,
    settings: Settings = (),
) -> dict[str, Any]:
    """See `Obtained.provenance`; `digests` are of what `origin` names, `sha256` is of the wheel."""
    hashes = {digest.algorithm: digest.hex for digest in sorted(digests)}
    if not built:
        hashes["sha256"] = sha256
    record: dict[str, Any] = {"url": redact(origin.url), "archive_info": {"hashes": hashes}}
    own: dict[str, Any] = {}
    if origin.index is not None:
        own = {"index": redact(origin.index), "kind": origin.kind}
    elif origin.kind in ("url", "path"):  # the right bytes, which came by a direct reference once
        own = {"kind": origin.kind}
    if built:
        own["built"] = True
        if settings:
            own["settings"] = settings_key(settings)
    return record | {"pkgc": own} if own else record


@dataclass(frozen=True, slots=True)
class Asking:
    """What is the same for every Wanted of one call."""

    interpreter: Interpreter
    options: IndexOptions
    given: RequirementsInput
    mode: Mode
    refresh_packages: frozenset[str] = frozenset()
    asked_at: float = 0.0
    """When the call began (Unix seconds): index pages that were asked for since then are recent enough."""
    context: Context | None = None
    """The call, whose world builds; None where nothing may be built."""
    no_build: bool = False
    isolated: bool = True
    """Builds get an environment of their own (``--no-build-isolation``: the target's)."""
    settings: Settings = ()
    """Build settings of the command line; those of a requirement come after them."""
    reinstall: bool | frozenset[str] = False
    """Everything, or these projects, is installed anew whatever there is."""
    target: Target | None = None
    """The environment, whose packages serve builds that are not isolated."""

    def mode_for(self, name: str) -> Mode:
        """`refresh` for a project named by --refresh-package."""
        return "refresh" if self.mode == "normal" and name in self.refresh_packages else self.mode

    @property
    def world_identity(self) -> str:
        """Whose builds may be shared (`World.identity`)."""
        return self.context.world.identity if self.context is not None else ""

    def rebuilds(self, name: str) -> bool:
        """Whether a wheel that was built before is not good enough: ``--refresh``, ``--reinstall``."""
        return self.mode_for(name) == "refresh" or self.reinstall is True or name in (self.reinstall or ())

    def mode_for_url(self, name: str) -> Mode:
        """How a URL without a hash is asked what it holds: what shall be anew is not taken from a cache."""
        return "refresh" if self.mode != "offline" and self.rebuilds(name) else self.mode

    def settings_for(self, wanted: Wanted) -> Settings:
        """The build settings for `wanted`."""
        return (*self.settings, *wanted.settings)
