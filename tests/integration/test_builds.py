"""Builds: what they require, how often they happen, side by side, what people see of them, how they fail."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.builds import COUNTING, HELD, Bench, origins, shared_instance
from tests.support.instance import Instance, snapshot, wait_until
from tests.support.locks import holds, importing
from tests.support.sdists import BACKEND, make_sdist
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

#: As `COUNTING`; notes also what is installed where it builds.
WITNESS = (
    COUNTING
    + """

_counted = build_wheel

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import importlib.metadata
    found = sorted(f"{one.metadata['Name']}={one.version}" for one in importlib.metadata.distributions())
    with open(os.environ["BUILDS_LOG"], "a") as file:
        file.write(f"{_identity()[0]} with {','.join(found)}\\n")
    return _counted(wheel_directory, config_settings, metadata_directory)
"""
)

#: As `COUNTING`, but it ends only when two builds are at work.
TOGETHER = (
    COUNTING
    + """

_counted = build_wheel

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import time
    made = _counted(wheel_directory, config_settings, metadata_directory)
    for _ in range(3000):
        with open(os.environ["BUILDS_LOG"]) as file:
            if len({line.split()[0] for line in file if " wheel " in line}) == 2:
                return made
        time.sleep(0.02)
    raise SystemExit("the other build never began")
"""
)


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for all tests of this module, which runs two hooks at once on any machine."""
    root = tmp_path_factory.mktemp("builds") / "pkgc"
    with shared_instance(root, request.param, "[build]\nconcurrent = 2\n") as instance:
        yield instance


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """See `Bench`."""
    return Bench(pkgc, index, tmp_path)


def witnessed(bench: Bench, name: str) -> list[str]:
    """What was installed where `name` was built, the last time."""
    lines = [line.split() for line in bench.log.read_text().splitlines()]
    found = [line[2:] for line in lines if line[:2] == [name, "with"]]
    return found[-1][0].split(",") if found[-1] else []


# -- what builds require -------------------------------------------------------------------------------------


def test_build_requirements_come_from_the_index_and_are_recorded(bench: Bench) -> None:
    """A build environment with other versions than asked for makes broken wheels; and who cannot tell what
    a wheel was built with cannot tell whether a bad release of a build tool is in it."""
    old, tool = make_wheel("tool", "1.9"), make_wheel("tool", "1.5", requires_dist=["part>=1"])
    late, part = make_wheel("late-tool", "1.0"), make_wheel("part", "2.0")
    sdist = make_sdist(
        "needy",
        "1.0",
        backend=WITNESS.replace("import ast,", "import ast, tool,", 1),
        requires=["tool>=1,<1.9", "nothing-here; python_version < '3'"],
        hook_requires=["late_tool", "tool"],
    )
    bench.offer(old, tool, late, part, sdist)
    bench.sync("needy==1.0")
    assert witnessed(bench, "needy") == ["late-tool=1.0", "part=2.0", "tool=1.5"]
    assert holds(bench.venv()) == {"needy": "1.0"}, "what only the build requires is not installed"
    assert bench.index.requests_for(old.filename) == []
    shown = bench.pkgc.ok("why", "needy", "--venv", bench.venv())
    for wheel, what in ((late, "late-tool 1.0"), (part, "part 2.0"), (tool, "tool 1.5")):
        assert f"{what} sha256:{wheel.sha256}" in shown.out
    answer = bench.pkgc.ok("why", "needy", "--venv", bench.venv(), "--output-format", "json").json
    built = answer["packages"][0]["built"]
    assert {one["name"]: one["sha256"] for one in built["requires"]} == {
        "late-tool": late.sha256,
        "part": part.sha256,
        "tool": tool.sha256,
    }
    # They went through the store: a lock that names them needs no download.
    again = bench.sync(f"tool==1.5 --hash=sha256:{tool.sha256}", venv="second")
    assert (origins(again), again["index_requests"]) == ({"tool": "store"}, 0)


def test_build_requirement_that_is_a_source_archive_itself(bench: Bench) -> None:
    """A build tool without wheels has to be built before what needs it; once for all of them."""
    bench.offer(
        make_sdist("hammer", "1.0", backend=COUNTING),
        *(make_sdist(name, "1.0", backend=WITNESS, requires=["hammer"]) for name in ("table", "chair")),
    )
    assert origins(bench.sync("table==1.0", "chair==1.0")) == {"table": "build", "chair": "build"}
    assert witnessed(bench, "table") == witnessed(bench, "chair") == ["hammer=1.0"]
    assert bench.builds("hammer") == 1
    assert bench.leftovers() == []


def test_offline_builds_with_what_is_there(bench: Bench) -> None:
    """Without network a build that was possible once is possible again, for another setting say; what it
    lacks is named."""
    bench.offer(make_wheel("glue", "1.0"))
    sdist = make_sdist("model", "1.0", backend=COUNTING, requires=["glue"])
    line = f"model==1.0 --hash=sha256:{sdist.sha256}"
    bench.offer(sdist)
    bench.sync(line)
    bench.index.clear_log()
    bench.sync(line, options=("--offline", "-C", "again=1"))
    assert bench.builds("model") == 2
    other = make_sdist("other", "1.0", backend=COUNTING, requires=["glue", "varnish"]).write_to(bench.folder)
    error = bench.fails(f"./{other.name}", options=("--offline",))
    assert "varnish" in error["everything"]
    assert bench.index.log == []


def test_what_a_build_requires_and_nobody_has(bench: Bench) -> None:
    """A typo in build-system.requires, or versions that contradict each other: which requirement of which
    build, and what there is instead."""
    bench.offer(make_wheel("tool", "1.0"), make_wheel("tool", "1.1"))
    bench.sync()
    before = snapshot(bench.venv())
    for name, requires, said in (
        ("absent", ["no-such-tool>=3"], "no-such-tool"),
        ("newer", ["tool>=2"], "tool: there is 1.1, 1.0"),
        ("torn", ["tool>1.0", "tool<1.1"], "contradict"),
    ):
        bench.offer(make_sdist(name, "1.0", backend=COUNTING, requires=requires))
        error = bench.fails(f"{name}==1.0")
        assert error["exit"] == 1
        assert error["code"] in ("build-requirements", "unknown-package"), error
        assert f"{name} 1.0" in error["everything"], error
        assert said in error["everything"], error
        assert bench.builds(name) == 0
    assert snapshot(bench.venv()) == before
    assert bench.leftovers() == []


def test_builds_that_need_each_other(bench: Bench) -> None:
    """Two projects that are each other's build tools: an error that shows the circle, not a sync that waits
    for itself for ever."""
    bench.offer(
        make_sdist("egg", "1.0", backend=COUNTING, requires=["hen"]),
        make_sdist("hen", "1.0", backend=COUNTING, requires=["egg"]),
        make_sdist("ego", "1.0", backend=COUNTING, requires=["ego"]),
    )
    error = bench.fails("egg==1.0")
    assert (error["code"], error["exit"]) == ("build-cycle", 1)
    assert "egg 1.0 → hen 1.0 → egg 1.0" in error["context"]
    assert bench.fails("ego==1.0")["code"] == "build-cycle"
    # A wheel of one of them, even of another version, breaks the circle.
    bench.offer(make_wheel("hen", "0.9"))
    bench.index.remove("hen-1.0.tar.gz")
    assert origins(bench.sync("egg==1.0", options=("--refresh",))) == {"egg": "build"}


# -- how often -----------------------------------------------------------------------------------------------


def test_built_once_for_all_environments_of_an_interpreter(bench: Bench) -> None:
    """Twenty minutes of compiler for every new environment; or a wheel for 3.11 in a 3.12."""
    bench.offer(make_sdist("cached", "1.0", backend=COUNTING))
    bench.sync("cached==1.0")
    for path in sorted(bench.venv().rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    bench.venv().rmdir()
    bench.pkgc.ok("daemon", "restart")
    assert origins(bench.sync("cached==1.0")) == {"cached": "store"}
    assert bench.builds("cached") == 1
    others = (interpreters.find(version) for version in ("3.10", "3.12", "3.13", "3.9"))
    other = next((one for one in others if one and one.version != interpreters.running().version), None)
    if other is not None:
        options = ("--python", other.path)
        assert origins(bench.sync("cached==1.0", venv="other", options=options)) == {"cached": "build"}
        assert origins(bench.sync("cached==1.0", venv="more", options=options)) == {"cached": "store"}
        assert bench.builds("cached") == 2
    bench.pkgc.ok("cache", "clean", "cached")
    assert bench.sync("cached==1.0")["kept"] == 1
    assert origins(bench.sync("cached==1.0", venv="cleaned")) == {"cached": "build"}


def test_people_can_have_it_built_anew(bench: Bench) -> None:
    """A wheel that was built against a broken library stays broken: --reinstall and --refresh must not take
    it from the cache. What others want is not touched by that."""
    bench.offer(make_sdist("stale", "1.0", backend=COUNTING), make_sdist("other", "1.0", backend=COUNTING))
    lines = ("stale==1.0", "other==1.0")
    bench.sync(*lines)
    answer = bench.sync(*lines, options=("--reinstall-package", "stale"))
    assert (origins(answer), answer["kept"]) == ({"stale": "build"}, 1)
    assert origins(bench.sync(*lines, venv="second", options=("--refresh-package", "stale"))) == {
        "stale": "build",
        "other": "store",
    }
    assert (bench.builds("stale"), bench.builds("other")) == (3, 1)
    assert set(origins(bench.sync(*lines, venv="third")).values()) == {"store"}


def test_fetch_builds_ahead(bench: Bench) -> None:
    """A CI image is warmed with `pkgc fetch`: the sync in the job must find wheels, not sources."""
    bench.offer(make_sdist("ahead", "1.0", backend=COUNTING))
    lock = bench.lock("ahead==1.0")
    fetched = bench.pkgc.ok("fetch", lock, "-i", bench.index.url, "--output-format", "json").json
    assert [(one["name"], one["from"]) for one in fetched["fetched"]] == [("ahead", "build")]
    assert origins(bench.sync("ahead==1.0")) == {"ahead": "store"}
    assert bench.builds("ahead") == 1


def test_builds_of_one_lock_run_side_by_side(bench: Bench) -> None:
    """Ten source archives one after the other take ten times as long: each of these two ends only when the
    other one is at work."""
    bench.offer(make_sdist("left", "1.0", backend=TOGETHER), make_sdist("right", "1.0", backend=TOGETHER))
    assert origins(bench.sync("left==1.0", "right==1.0")) == {"left": "build", "right": "build"}


def test_two_clients_want_one_build(bench: Bench) -> None:
    """Two jobs of one pipeline start together: the second one waits for the first one's wheel."""
    bench.offer(make_sdist("shared", "1.0", backend=HELD))
    first = bench.pkgc.start(*bench.argv(("shared==1.0",), "one", ("--output-format", "json")))
    bench.wait_for("shared", "child")
    second = bench.pkgc.start(*bench.argv(("shared==1.0",), "two", ("--output-format", "json")))
    wait_until(lambda: (bench.pkgc.status() or {})["calls"]["running"] >= 3, "both are there", 60)
    bench.gate.touch()
    answers = [json.loads(client.communicate(timeout=60)[0]) for client in (first, second)]
    assert sorted(answer["installed"][0]["from"] for answer in answers) in (
        ["build", "build"],
        ["build", "store"],
    )
    assert bench.builds("shared", "child") == 1
    assert holds(bench.venv("one")) == holds(bench.venv("two")) == {"shared": "1.0"}


# -- what people see -----------------------------------------------------------------------------------------


def test_failing_build_shows_why_and_changes_nothing(bench: Bench) -> None:
    """`build failed` and nothing else: nobody can help. And the rest of the lock must not be half there."""
    noisy = BACKEND.replace(
        'print("building a wheel of", _identity()[0])',
        'print("\\n".join(f"step {n}" for n in range(200)), "\\n\\x1b[2Jfatal: missing.h: No such file");'
        " raise SystemExit(3)",
    )
    bench.offer(
        make_sdist("broken", "1.0", backend=noisy), make_wheel("fine", "1.0"), make_wheel("old", "1.0")
    )
    bench.sync("old==1.0")
    before = snapshot(bench.venv())
    result = bench.run("broken==1.0", "fine==1.0")
    assert result.status == 1, str(result)
    first, *rest = result.err.splitlines()
    assert first == "error[build-failed]: broken 1.0: building a wheel failed (exit status 3)"
    assert any("fatal: missing.h: No such file" in line for line in rest), str(result)
    assert "  step 199" in rest
    assert "  step 100" not in rest, "the end is what counts; the rest is in the log"
    assert "\x1b" not in result.err
    assert "requirements.txt:1" in result.err
    (log,) = bench.temporary.glob("pkgc-build-*/build.log")
    assert str(log) in rest[-1]
    assert "step 100" in log.read_text()
    assert bench.leftovers() == []
    assert snapshot(bench.venv()) == before
    error = bench.fails("broken==1.0", "fine==1.0")
    assert (error["code"], error["exit"]) == ("build-failed", 1)
    assert "missing.h" in error["context"]


def test_failing_build_of_a_requirement_says_for_whom(bench: Bench) -> None:
    """The project that fails is in nobody's lock: it must show why it was built at all."""
    bad = BACKEND.replace('print("building a wheel of", _identity()[0])', 'raise SystemExit("no compiler")')
    bench.offer(
        make_sdist("nail", "1.0", backend=bad),
        make_sdist("house", "1.0", backend=COUNTING, requires=["nail"]),
    )
    error = bench.fails("house==1.0")
    assert error["code"] == "build-failed"
    assert error["message"].startswith("nail 1.0:")
    assert "needed to build: house 1.0" in error["context"]
    assert "no compiler" in error["context"]
    assert bench.builds("house") == 0


def test_missing_backend_is_explained(bench: Bench) -> None:
    """pyproject.toml forgets what its backend is in: the hint must say so, not only ModuleNotFoundError."""
    pyproject = (
        "[project]\nname='bare'\nversion='1.0'\n[build-system]\nrequires=[]\nbuild-backend='gone_tool'\n"
    )
    bench.offer(make_sdist("bare", "1.0", pyproject=pyproject, backend=None))
    error = bench.fails("bare==1.0")
    assert error["code"] == "build-failed"
    assert "gone_tool cannot be imported" in error["message"]
    assert "build-system.requires" in error["hint"]


def test_terminal_shows_what_is_being_built(bench: Bench) -> None:
    """A build takes minutes: without a sign of life people press Ctrl-C. The end is plain text without it."""
    bench.offer(make_sdist("lengthy", "1.0", backend=HELD))
    bench.sync()
    shown = on_terminal(bench, "lengthy==1.0", until="Building lengthy 1.0")
    assert "Building lengthy 1.0" in shown
    assert "Built 1 package" in shown
    assert shown.rstrip().endswith("lengthy==1.0"), shown[-400:]
    assert importing(bench.venv(), "import lengthy; print(1)") == "1"
    # The same without a terminal: results, no control characters.
    bench.gate.touch()
    result = bench.run("lengthy==1.0", venv="second", options=("-C", "x=y", "-v"))
    assert "Built lengthy 1.0 in " in result.err
    assert "Built 1 package\n" in result.out
    assert "\x1b" not in result.out + result.err


def on_terminal(bench: Bench, line: str, until: str) -> str:
    """What a person sees of a sync on a terminal, without colours; the gate opens when `until` is there."""
    master, slave = os.openpty()
    env = bench.pkgc.env | {"TERM": "xterm", "NO_COLOR": "1"}
    argv = bench.pkgc.argv(*bench.argv((line,), "venv", ()))
    client = subprocess.Popen(argv, cwd=bench.folder, env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while select.select([master], [], [], 60)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: nobody has the other end any more
                break
            seen += data
            if until.encode() in seen:
                bench.gate.touch()
    finally:
        os.close(master)
        if until.encode() not in seen:
            client.kill()
    assert client.wait(60) == 0, seen.decode()
    return seen.decode().replace("\r\n", "\n")
