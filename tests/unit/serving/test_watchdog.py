"""The watchdog's end: what it does when the cache that it looks at is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from pkgc_daemon.serving.run import watchdog


async def test_removed_cache_ends_the_daemon_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in its task would take down the calls of everybody at that moment."""
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    cache = tmp_path / "cache"
    cache.mkdir()
    sent: list[str] = []
    reasons: list[str] = []
    notifier = SimpleNamespace(active=True, send=sent.append)
    server = SimpleNamespace(stop=reasons.append)
    task = asyncio.create_task(watchdog(notifier, cache, server))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while not sent:
            await asyncio.sleep(0.01)
        assert not reasons
        cache.rmdir()
        await task
    assert len(reasons) == 1
    assert "cache" in reasons[0]
