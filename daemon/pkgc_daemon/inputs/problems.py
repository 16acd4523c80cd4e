"""Problems: what is wrong with an input, gathered line by line; not the errors of any other stage."""

from __future__ import annotations

from typing import NamedTuple

from pkgc_daemon.errors import InputError
from pkgc_daemon.redaction import redact_text
from pkgc_daemon.vocabulary import Place

#: More than this many lines in one error help nobody.
_MOST_LINES = 50


def shown(text: str, limit: int = 300) -> str:
    """`text` as it may be shown: without credentials, at most `limit` characters."""
    # Cut first: redaction of megabytes of hostile text would take long.
    clean = redact_text(text[: 2 * limit])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


class Problem(NamedTuple):
    """One thing that is wrong at one place."""

    code: str
    place: Place
    message: str
    """What is wrong, without the place, with expected and found values."""
    hint: str | None


class Problems:
    """A collector, so that a person sees every problem of one kind at once instead of one per run."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, code: str, place: Place, message: str, hint: str | None = None) -> None:
        """Remember a problem; nothing is raised yet."""
        self._found.append(Problem(code, place, message, hint))

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InputError: with the code of the first problem; its context lists every problem of that code.
        """
        if self._found:
            raise self.error()

    def error(self) -> InputError:
        """What was found, at least one problem, as one error (see `check`)."""
        first = self._found[0]
        same = [problem for problem in self._found if problem.code == first.code]
        others = len(self._found) - len(same)
        message = f"{first.place}: {first.message}"
        context: list[str] = []
        if len(same) > 1:
            message += f" (and {len(same) - 1} more)"
            context = [f"{problem.place}: {problem.message}" for problem in same[:_MOST_LINES]]
            if len(same) > _MOST_LINES:
                context.append(f"… and {len(same) - _MOST_LINES} more")
        if others:
            context.append(f"problems of other kinds: {others}")
        hint = next((problem.hint for problem in same if problem.hint), None)
        return InputError(first.code, message, context="\n".join(context) or None, hint=hint)
