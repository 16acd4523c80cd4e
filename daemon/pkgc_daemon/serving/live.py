"""The live block: the few lines below the output that show what is under way; it writes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pkgc_daemon.serving.text import Style, cells, format_bytes, harmless, padded, plural, shortened

MAX_LINES = 8
FRAME_SECONDS = 0.1
_RATE_WINDOW = 3.0
_NARROW = 36
"""Below so many columns there is no bar."""


@dataclass(slots=True)
class Rate:
    """Bytes a second over the last few seconds, from samples of a growing count."""

    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    def sample(self, now: float, done: int) -> None:
        """Note that `done` bytes were there at `now`."""
        if self.samples and done < self.samples[-1][1]:
            self.samples.clear()  # started over
        if not self.samples or now - self.samples[-1][0] >= FRAME_SECONDS / 2:
            self.samples.append((now, done))
        while len(self.samples) > 2 and now - self.samples[0][0] > _RATE_WINDOW:
            self.samples.popleft()

    def per_second(self, now: float, done: int) -> float | None:
        """The rate, or None before there is anything to tell it from."""
        if not self.samples:
            return None
        start, base = self.samples[0]
        return (done - base) / (now - start) if now - start >= FRAME_SECONDS else None


@dataclass(slots=True)
class Transfer:
    """One piece of work under way."""

    label: str
    total: int | None
    started_at: float
    done: int = 0
    rate: Rate = field(default_factory=Rate)
    verb: str = "Downloading"
    past: str = "Downloaded"
    unit: str = "byte"
    """What `done` and `total` count."""

    @property
    def shown(self) -> str:
        """What the block calls it: downloads go without saying."""
        return self.label if self.unit == "byte" else f"{self.verb} {self.label}"


class Live:
    """What is under way, as a block of at most `MAX_LINES` lines that fits the terminal.

    Args:
        clock: monotonic seconds.
        columns, rows: size of the terminal.
        style: colours or none.
    """

    def __init__(self, clock: Callable[[], float], columns: int, rows: int, style: Style) -> None:
        self._clock = clock
        # The last column stays free: many terminals wrap when it is filled.
        self._width = max(10, columns - 1)
        self._lines = max(1, min(MAX_LINES, rows - 2))
        self._style = style
        self._transfers: dict[str, Transfer] = {}
        self._rate = Rate()
        self._count = 0
        self._ended = 0
        self._ended_bytes = 0
        self._shown = ""
        self._shown_at = float("-inf")

    def started(self, key: str, label: str, total: int | None, unit: str = "byte") -> Transfer:
        """Show `label` from now on; a key that is under way already keeps its count."""
        known = self._transfers.get(key)
        if known is not None:
            known.total = total if total is not None else known.total
            return known
        if not self._transfers:
            self._rate.samples.clear()  # the pause before it is no part of the rate
        transfer = Transfer(harmless(label), total, self._clock(), unit=unit)
        self._count += transfer.unit == "byte"
        transfer.rate.sample(transfer.started_at, 0)
        self._transfers[key] = transfer
        self._rate.sample(self._clock(), self._done())
        return transfer

    def advanced(self, key: str, amount: int) -> Transfer | None:
        """`amount` more bytes; None when nothing of that name is under way."""
        transfer = self._transfers.get(key)
        if transfer is not None:
            transfer.done = max(0, transfer.done + amount)
        return transfer

    def finished(self, key: str) -> Transfer | None:
        """Stop showing it; None when nothing of that name is under way."""
        transfer = self._transfers.pop(key, None)
        if transfer is not None and transfer.unit == "byte":
            self._ended += 1
            self._ended_bytes += transfer.done
        return transfer

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """What is under way, oldest first."""
        return tuple(self._transfers.values())

    def frame(self) -> str | None:
        """The block to show now, or None: nothing has changed, or the last frame is too young.

        '' takes the block away, and is never held back.
        """
        now = self._clock()
        if not self._transfers:
            if not self._shown:
                return None
            self._shown, self._shown_at = "", now
            return ""
        if now - self._shown_at < FRAME_SECONDS:
            return None
        text = "\n".join(self._render(now))
        self._shown_at = now
        if text == self._shown:
            return None
        self._shown = text
        return text

    def _done(self) -> int:
        return self._ended_bytes + sum(one.done for one in self._transfers.values() if one.unit == "byte")

    def _render(self, now: float) -> list[str]:
        for transfer in self._transfers.values():
            transfer.rate.sample(now, transfer.done)
        self._rate.sample(now, self._done())
        # Big ones first; those of unknown size count with what has arrived.
        ordered = sorted(self._transfers.values(), key=lambda one: (-(one.total or one.done), one.label))
        room = self._lines - 1 if self._lines > 1 else 0
        shown = ordered if len(ordered) <= room else ordered[: max(room - 1, 0)]
        label_width = min(max((cells(one.shown) for one in shown), default=0), max(8, self._width // 2 - 4))
        lines = [self._line(one, label_width, now) for one in shown]
        hidden = len(ordered) - len(shown)
        if hidden and room:
            lines.append(self._style("dim", self._fitted(f"+ {hidden} more")))
        if any(one.unit == "byte" for one in ordered):
            lines.append(self._total_line(now))
        return lines

    def _line(self, transfer: Transfer, label_width: int, now: float) -> str:
        if transfer.unit == "byte":
            numbers = _numbers(transfer.done, transfer.total, transfer.rate.per_second(now, transfer.done))
        else:
            numbers = (counted(transfer),)
        if self._width < _NARROW:
            numbers = numbers[:1]
        facts = "  ".join(numbers)
        free = self._width - cells(facts) - 4
        label = shortened(transfer.shown, max(1, min(label_width, free)))
        bar_room = free - max(label_width, cells(label)) - 2
        label = padded(label, min(label_width, max(1, free)))
        if transfer.total and bar_room >= 8:
            return f"{label}  {self._bar(transfer.done / transfer.total, min(bar_room, 24))}  {facts}"
        return self._fitted(f"{label}  {facts}")

    def _bar(self, share: float, width: int) -> str:
        filled = min(width, max(0, int(share * width)))
        return self._style("green", "━" * filled) + self._style("dim", "─" * (width - filled))

    def _total_line(self, now: float) -> str:
        totals = [transfer.total for transfer in self._transfers.values() if transfer.unit == "byte"]
        known = sum(total for total in totals if total is not None)
        done = self._done()
        total = None if None in totals else known + self._ended_bytes
        numbers = _numbers(done, total, self._rate.per_second(now, done))
        head = f"{self._ended}/{plural(self._count, 'file')}"
        return self._style("bold", self._fitted("  ".join((head, *numbers))))

    def _fitted(self, text: str) -> str:
        return shortened(text, self._width)


def counted(transfer: Transfer) -> str:
    """How far it is, in its unit: ``12 MB``, ``3 / 97 files``; '' when nothing was counted."""
    if transfer.unit == "byte":
        return format_bytes(transfer.done)
    if transfer.total is not None:
        return f"{transfer.done} / {plural(transfer.total, transfer.unit)}"
    return plural(transfer.done, transfer.unit) if transfer.done else ""


def _numbers(done: int, total: int | None, rate: float | None) -> tuple[str, ...]:
    """``12 MB / 54 MB``, ``8.1 MB/s``, ``ETA 0:12``: as many of them as are known."""
    amount = format_bytes(done) if total is None else f"{format_bytes(done)} / {format_bytes(total)}"
    if rate is None or rate < 0:
        return (amount,)
    speed = f"{format_bytes(rate)}/s"
    if total is None or total <= done or rate < 1:
        return (amount, speed)
    seconds = round((total - done) / rate)
    if seconds >= 360_000:
        return (amount, speed)
    hours, minutes, seconds = seconds // 3600, seconds % 3600 // 60, seconds % 60
    eta = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return (amount, speed, f"ETA {eta}")
