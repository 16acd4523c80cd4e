"""Later: modules that are loaded when something of them is first used, so that the daemon listens sooner.

For packages that a call may do without, or that are loaded in the background before one needs them
(`serving.services`); names that type checkers should know are imported under TYPE_CHECKING beside it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module.

    Args:
        name: its absolute name.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
