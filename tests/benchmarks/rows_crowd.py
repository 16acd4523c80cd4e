"""The rows of many clients at once: cold with every byte fetched once, and warm."""

from __future__ import annotations

from collections import Counter

from tests.benchmarks.bench import QUIET, Bench, Lock, assert_complete, in_turns
from tests.benchmarks.contestants import Cache
from tests.benchmarks.report import Row, Sample
from tests.support.realindex import RealIndex

COLD_CLIENTS, WARM_CLIENTS = 8, 50
COLD, WARM, WARM_CPU = 0.7, 0.5, 1.0


def crowd(bench: Bench, cache: Cache, lock: Lock, clients: int) -> Sample:
    """So many clients at once, each with a fresh environment: until the last one has ended."""
    with bench.venvs(bench.fast, clients) as venvs:
        sample = cache.run(*(cache.call(lock.path, venv, lock.index) for venv in venvs))
        for venv in venvs:
            assert_complete(venv, lock)
        return Sample(sample.value, sample.cpu, cache.settle(QUIET))


def cold_crowd(bench: Bench) -> list[Row]:
    """Several clients at once, all cold: each wheel and each page may be fetched once."""
    requests: dict[str, int] = {}
    problems: list[str] = []

    def run(name: str, cache: Cache) -> Sample:
        try:
            bench.index.clear_log()
            sample = crowd(bench, cache, bench.large, COLD_CLIENTS)
        finally:
            cache.discard()
        requests[name] = len(bench.index.requests())
        if name == "pkgc":
            problems.extend(fetched_more_than_once(bench.index, bench.large.expected))
        return sample

    mine, peer = in_turns(
        bench.times(10, 1),
        lambda: run("pkgc", bench.pkgc(bench.fast)),
        lambda: run("uv", bench.uv(bench.fast)),
    )
    note = f"requests: pkgc {requests['pkgc']}, uv {requests['uv']}, least {2 * bench.large.expected}"
    return [
        Row(
            f"{COLD_CLIENTS} clients at once, cold",
            mine,
            peer,
            bench.fast.name,
            most=COLD,
            environments=COLD_CLIENTS,
            condition="each byte once",
            note=note,
            broken="; ".join(problems[:3]),
        )
    ]


def fetched_more_than_once(index: RealIndex, expected: int) -> list[str]:
    """What the log says against 'each page once, each wheel's bytes once'.

    Args:
        expected: wheels that must have been fetched.
    """
    requests = index.requests()
    problems = []
    pages = Counter(request.path for request in requests if request.path.startswith("/simple/"))
    problems += [f"{path} asked {count} times" for path, count in pages.items() if count > 1]
    sent: Counter[str] = Counter()
    for request in requests:
        if request.path.startswith("/files/") and request.method == "GET":
            sent[request.path] += request.sent
    problems += [
        f"{path}: {count} bytes sent of {index.sizes[path.rpartition('/')[2]]}"
        for path, count in sent.items()
        if count != index.sizes.get(path.rpartition("/")[2])
    ]
    if len(sent) != expected:
        problems.append(f"{len(sent)} wheels fetched where the lock has {expected}")
    return problems


def warm_crowd(bench: Bench) -> list[Row]:
    """Many clients at once, each with a fresh environment, from one full cache."""
    clients = bench.times(WARM_CLIENTS, 20)
    with bench.both(bench.fast) as (ours, theirs):
        for cache in (ours, theirs):
            bench.fresh(bench.fast, cache, bench.large)
        mine, peer = in_turns(
            bench.times(10, 1),
            lambda: crowd(bench, ours, bench.large, clients),
            lambda: crowd(bench, theirs, bench.large, clients),
        )
    return [
        Row(
            f"{clients} clients at once, warm",
            mine,
            peer,
            bench.fast.name,
            most=WARM,
            most_cpu=WARM_CPU,
            environments=clients,
        )
    ]
