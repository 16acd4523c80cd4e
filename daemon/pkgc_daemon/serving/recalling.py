"""Recalling: what the store alone gave for the lines of a lock is given again while nothing changes there.

A pin that is in the store costs dozens of look-ups and, with its records, a tenth of a millisecond; a warm
sync asks for a hundred. The evidence that an answer is right again is that the lock is the same object
(`reading` compares the bytes), that the call asks in the same way and with the same credentials, that neither
the catalog nor any index page has changed, and, for an answer that a page decided, that the page is still
fresh. That each tree is in its place is looked at every time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pkgc_daemon.inputs.given import Lock
from pkgc_daemon.selection.indexes import IndexClient
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import IndexOptions, Tree, Wanted

from .asking import Asking, Obtained

#: Locks whose answers are kept.
MAX_LOCKS = 32


@dataclass(slots=True)
class _Known:
    lock: Lock
    """Held, so that no other object gets the identities of its lines."""
    asking: Asking
    identity: str
    generation: tuple[int, int]
    obtained: dict[int, Obtained] = field(default_factory=dict)
    """By identity of the Wanted."""


class Recall:
    """The answers of one store.

    Args:
        store: which gave them.
        indexes: whose pages took part.
        identity: credentials and the like with which a call asks the indexes (`Transport.identity`).
    """

    def __init__(
        self, store: Store, indexes: IndexClient, identity: Callable[[str, IndexOptions], str]
    ) -> None:
        self._store = store
        self._indexes = indexes
        self._identity = identity
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def recall(self, lock: Lock, asking: Asking, wanted: Sequence[Wanted]) -> dict[int, Obtained]:
        """What is known of `wanted`, lines of `lock`, by identity; nothing when the call asks for more."""
        known = self._find(lock, asking)
        if known is None:
            return {}
        has_tree, now = self._store.has_tree, self._indexes.now()
        found = {}
        for one in wanted:
            obtained = known.obtained.get(id(one))
            if obtained is not None and obtained.right_until > now and has_tree(obtained.tree.sha256):
                found[id(one)] = obtained
        return found

    def keep(self, lock: Lock, asking: Asking, obtained: Sequence[Obtained]) -> None:
        """Remember what was obtained just now."""
        if not _is_plain(asking):
            return
        lines = {id(one) for one in lock.wanted}
        now = self._indexes.now()
        # What a page decided counts if no page has come since: another call may have had it asked anew.
        pages = self._indexes.generation
        settled = [
            one
            for one in obtained
            if one.right_until > now and id(one.wanted) in lines and one.decided_at in (None, pages)
        ]
        if not settled:
            return
        known = self._find(lock, asking)
        if known is None:
            # Without the call: it has the client's world and its output.
            plain = replace(asking, context=None, target=None)
            known = _Known(lock, plain, self._who(asking), self._generation())
            self._known[id(lock)] = known
        for one in settled:
            # The files of a tree are read from its manifest by whoever places them.
            manifest = replace(one.tree.manifest, files=())
            tree = Tree(one.tree.sha256, one.tree.root, manifest)
            known.obtained[id(one.wanted)] = replace(one, tree=tree)
        self._known.move_to_end(id(lock))
        while len(self._known) > MAX_LOCKS:
            self._known.popitem(last=False)

    def _find(self, lock: Lock, asking: Asking) -> _Known | None:
        known = self._known.get(id(lock))
        if known is None or not _is_plain(asking):
            return None
        same = known.generation == self._generation() and known.identity == self._who(asking)
        if same and _alike(known.asking, asking):
            return known
        del self._known[id(lock)]
        return None

    def _generation(self) -> tuple[int, int]:
        return self._store.catalog.generation, self._indexes.generation

    def _who(self, asking: Asking) -> str:
        options = asking.options
        return "\0".join(self._identity(url, options) for url in (*options.indexes, *options.find_links))


def _is_plain(asking: Asking) -> bool:
    """Whether nothing is asked to be anew, nor to be what it was."""
    return asking.mode == "normal" and not asking.refresh_packages and not asking.reinstall


def _alike(one: Asking, other: Asking) -> bool:
    """Whether two calls get the same from the same store for the same line."""
    return (
        one.given is other.given
        and one.no_build == other.no_build
        and one.isolated == other.isolated
        and one.settings == other.settings
        and one.interpreter.version == other.interpreter.version
        and one.interpreter.tags == other.interpreter.tags
        and one.interpreter.markers == other.interpreter.markers
        and one.options == other.options
    )
