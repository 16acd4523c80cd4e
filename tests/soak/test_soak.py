"""Hours in minutes: random kills, random locks, a bad index, for as long as PKGC_TEST_SOAK_SECONDS says.

Run by ``./check soak``. Halves: first daemon and clients are killed; then only clients, so that one daemon
lives long enough to show whether its memory and descriptors stay flat.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path

import pytest

from tests.support.faults import assert_sound, descriptors, pss
from tests.support.instance import Instance
from tests.support.server import IndexServer
from tests.support.storm import Storm

SECONDS = float(os.environ.get("PKGC_TEST_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("PKGC_TEST_SEED", str(random.randrange(1 << 30))))
#: One request in so many fails.
FAILING = 1 / 5


@pytest.mark.timeout(SECONDS + 300)
def test_soak(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """What users meet in a year: it ends with right files, no leftovers, and a daemon that did not grow."""
    print(f"\nsoak of {SECONDS:g} s in two ways, seed {SEED}")
    rng = random.Random(SEED)
    storm = Storm(pkgc, index, tmp_path, SEED, clients=3, venvs_each=3, packages=16)
    samples: list[tuple[int, int]] = []
    began = time.monotonic()
    half, end = began + SECONDS / 4, began + SECONDS / 2
    storm.start()
    try:
        while (now := time.monotonic()) < end:
            time.sleep(rng.uniform(0.05, 0.8))
            if rng.random() < 0.3:
                storm.spoil(FAILING)
            if rng.random() < 0.3:
                storm.forget_one()
            storm.kill_one(daemon=now < half and rng.random() < 0.5)
            pid = storm.daemon_pid()
            if now > half and pid:
                # the one that was killed last may be named until the next has started
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    samples.append((pss(pid), descriptors(pid)))
    finally:
        storm.stop()
    storm.settle()
    pid = pkgc.pid()
    final = (pss(pid), descriptors(pid))
    print(storm.report)
    tenth = max(1, len(samples) // 5)
    early = [max(column) for column in zip(*samples[:tenth], strict=True)] if samples else list(final)
    print(f"memory {early[0] / 1024:.1f} MB early, {final[0] / 1024:.1f} MB at the end")
    print(f"descriptors {early[1]} early, {final[1]} at the end")
    print(f"server: {len(index.log)} requests, {sum(hit.status >= 500 for hit in index.log)} answered 5xx")
    assert storm.report.wrong == []
    assert storm.report.syncs["ok"] > 0
    # Pools of threads and caches of pages fill up at first; what leaks goes on.
    assert final[0] < early[0] * 1.3 + 20_000
    assert final[1] < early[1] + 20
    assert_sound(pkgc)
