"""Builds end to end, with real hooks in a real environment: what is built, reused, refused and cleaned up."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pkgc_daemon.environments.interpreter import interpreter_from_wire, probe_interpreter
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.hands import HANDS
from pkgc_daemon.inputs.config import Config
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.selection.choose import Selector
from pkgc_daemon.selection.indexes import IndexClient
from pkgc_daemon.selection.versions import VersionLists
from pkgc_daemon.serving.asking import Asking, Obtained
from pkgc_daemon.serving.builds import Buildable, Builder, Built
from pkgc_daemon.serving.calls import Terminal
from pkgc_daemon.serving.context import Context
from pkgc_daemon.serving.hostcalls import Report, World
from pkgc_daemon.serving.output import Output
from pkgc_daemon.serving.trust import Peer
from pkgc_daemon.store.store import Store
from pkgc_daemon.store.workers import ThreadWorkers
from pkgc_daemon.vocabulary import IndexOptions, Interpreter, Origin, VcsSource, Wanted
from tests.support.wheels import make_wheel

#: A backend in one file: makes a wheel whose module says what it was built with.
BACKEND = """
import os, zipfile
NAME, VERSION = {name!r}, {version!r}

def get_requires_for_build_wheel(config_settings=None):
    return {more!r}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {body}
    filename = f"{{NAME}}-{{VERSION}}-{tag}.whl"
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    files = {{
        f"{{NAME}}.py": f"settings = {{config_settings!r}}\\n",
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: {tag}\\n",
    }}
    import base64, hashlib
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{{path}},sha256={{digest}},{{len(text.encode())}}")
    files[f"{{info}}/RECORD"] = "\\n".join([*lines, f"{{info}}/RECORD,,", ""])
    with zipfile.ZipFile(os.path.join(wheel_directory, filename), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return filename

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return build_wheel(wheel_directory, config_settings, metadata_directory)
"""


@functools.cache
def interpreter() -> Interpreter:
    """The running one."""
    return interpreter_from_wire(probe_interpreter({"python": sys.executable}))


def project_files(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
    body: str = "pass",
    tag: str = "py3-none-any",
    built: tuple[str, str] | None = None,
) -> dict[str, str]:
    """A project that brings its own backend; `built`: what the wheel is, if it is not what the project is."""
    made, number = built or (name, version)
    backend = BACKEND.format(name=made, version=number, more=list(more), body=body, tag=tag)
    quoted = ", ".join(f'"{one}"' for one in requires)
    return {
        "pyproject.toml": textwrap.dedent(
            f"""
            [build-system]
            requires = [{quoted}]
            build-backend = "backend"
            backend-path = ["."]
            [project]
            name = "{name}"
            dynamic = ["version"]
            """
        ),
        "backend.py": backend,
    }


def write_sdist(folder: Path, name: str = "demo", version: str = "1.0", **more: Any) -> Path:
    """A source archive of `project_files`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        files = project_files(name, version, **more)
        info = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        for file, text in {**files, "PKG-INFO": info}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


class Client:
    """Does what a client does: hands in threads, with its own stop."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.running = self.most = 0

    async def call(self, verb: str, args: dict[str, Any], report: Report | None) -> Any:
        self.verbs.append(verb)
        stop = threading.Event()
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            if report is not None:
                loop.call_soon_threadsafe(report, done, total)

        if verb == "run_build":
            self.running += 1
            self.most = max(self.most, self.running)
        task = asyncio.ensure_future(asyncio.to_thread(HANDS[verb], args, progress, stop.is_set))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([task])
            task.exception()
            raise
        finally:
            if verb == "run_build":
                self.running -= 1


@dataclass
class Lines:
    """Where output goes."""

    text: str = ""

    def write(self, stream: int, data: str) -> None:
        self.text += data

    def live(self, text: str) -> None:
        """Not shown."""


@dataclass
class Bench:
    """A builder with everything around it; `links` is a find-links folder."""

    store: Store
    builder: Builder
    fetcher: Fetcher
    selector: Selector
    executor: ThreadPoolExecutor
    links: Path
    temporary: Path
    client: Client = field(default_factory=Client)
    lines: Lines = field(default_factory=Lines)
    kind: str = "own"

    def asking(self, **more: Any) -> Asking:
        world = World(Peer(os.getuid(), os.getpid(), cast("Any", self.kind)), self.client, self.executor, {})
        output = Output(self.lines, Terminal(), verbosity=1)
        context = Context(cast("Any", None), world, output, {}, Config())
        options = IndexOptions(find_links=(str(self.links),), no_index=True)
        return replace(Asking(interpreter(), options, RequirementsInput(), "normal", context=context), **more)

    async def obtain(self, wanted: Wanted, asking: Asking) -> Obtained:
        """As serving.obtaining, without what these tests do not need."""
        assert asking.context is not None
        output = asking.context.output
        if wanted.direct is not None:
            url = wanted.direct.url  # type: ignore[union-attr]
            filename, origin, is_sdist = url.rpartition("/")[2], Origin("url", url), url.endswith(".gz")
        else:
            choice = await self.selector.candidates(
                wanted, asking.interpreter, asking.options, reporter=output, no_binary=asking.given.no_binary
            )
            best = choice.candidates[0]
            url, filename, origin, is_sdist = best.url, best.filename, best.origin, best.is_sdist
        artifact = await self.fetcher.fetch(
            url,
            allowed=frozenset(),
            advertised=frozenset(),
            size=None,
            exact_size=False,
            filename=filename,
            options=asking.options,
            reporter=output,
        )
        if is_sdist:
            source = Buildable("archive", f"sha256:{artifact.sha256}", filename, str(artifact.path), filename)
            built = await self.builder.wheel(source, asking, asking.settings_for(wanted), wanted)
            artifact, filename = built.artifact, built.filename
        tree = await self.store.ensure_tree(artifact, filename)
        return Obtained(wanted, tree, origin, "store")

    async def build(self, path: Path, wanted: Wanted | None = None, **more: Any) -> Built:
        """Build the archive at `path`."""
        digest = await asyncio.to_thread(lambda: hashlib.sha256(path.read_bytes()).hexdigest())
        source = Buildable("archive", f"sha256:{digest}", path.name, str(path), path.name)
        asking = self.asking(**more)
        return await self.builder.wheel(source, asking, asking.settings, wanted or Wanted("demo", "1.0"))

    async def fails(self, path: Path, wanted: Wanted | None = None, **more: Any) -> PkgcError:
        """The error of building it."""
        with pytest.raises(PkgcError) as failure:
            await self.build(path, wanted, **more)
        return failure.value

    async def module(self, built: Built, name: str = "demo") -> str:
        """The text of the module in a built wheel."""
        tree = await self.store.ensure_tree(built.artifact, built.filename)
        return await asyncio.to_thread((tree.root / f"{name}.py").read_text)

    def builds(self) -> int:
        """How many wheels were made."""
        return self.client.verbs.count("begin_build")

    def leftovers(self) -> list[str]:
        """What is still in the temporary folder."""
        return sorted(os.listdir(self.temporary))


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """See `Bench`."""
    temporary, links = tmp_path / "temporary", tmp_path / "links"
    temporary.mkdir()
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    store = await Store.open(tmp_path / "cache", workers=ThreadWorkers(2))
    transport = Transport()
    indexes = IndexClient(cast("Any", transport), store)
    fetcher = Fetcher(transport, store.incoming, store.publish_artifact, find=store.find)
    builder = Builder(store, fetcher, VersionLists(indexes), concurrent=2, timeout=60)
    executor = ThreadPoolExecutor(4)
    made = Bench(store, builder, fetcher, Selector(indexes, store), executor, links, temporary)
    builder.connect(made.obtain)
    yield made
    await fetcher.close()
    await indexes.close()
    await transport.close()
    executor.shutdown()
    await store.close()


async def test_a_source_archive_becomes_a_wheel(bench: Bench, tmp_path: Path) -> None:
    """Else what has no wheel cannot be installed; and /tmp keeps its source and environment."""
    built = await bench.build(write_sdist(tmp_path))
    assert built.filename == "demo-1.0-py3-none-any.whl"
    assert not built.from_cache
    assert await bench.module(built) == "settings = None\n"
    assert bench.leftovers() == []
    assert "Built demo 1.0 in " in bench.lines.text


async def test_the_second_time_it_comes_from_the_cache(bench: Bench, tmp_path: Path) -> None:
    """Else every new environment compiles everything again; also with --no-build."""
    path = write_sdist(tmp_path)
    first = await bench.build(path)
    second = await bench.build(path, no_build=True)
    assert second.from_cache
    assert second.artifact.sha256 == first.artifact.sha256
    assert bench.builds() == 1


async def test_settings_make_another_wheel(bench: Bench, tmp_path: Path) -> None:
    """Else `--config-settings` has no effect on what is in the cache."""
    path = write_sdist(tmp_path)
    await bench.build(path)
    built = await bench.build(path, settings=(("key", "1"), ("key", "2")))
    assert not built.from_cache
    assert await bench.module(built) == "settings = {'key': ['1', '2']}\n"


async def test_no_build_runs_nothing(bench: Bench, tmp_path: Path) -> None:
    """Else `--no-build` runs code of strangers."""
    error = await bench.fails(write_sdist(tmp_path), no_build=True)
    assert error.code == "build-not-allowed"
    assert bench.client.verbs == []


async def test_two_at_once_build_once(bench: Bench, tmp_path: Path) -> None:
    """Else two syncs of one lock do the same compilation side by side."""
    path = write_sdist(tmp_path, body="__import__('time').sleep(0.3)")
    found = await asyncio.gather(*(bench.build(path) for _ in range(4)))
    assert len({one.artifact.sha256 for one in found}) == 1
    assert bench.builds() == 1


async def test_no_more_hooks_at_once_than_allowed(bench: Bench, tmp_path: Path) -> None:
    """Else a lock of fifty source archives brings the machine to its knees."""
    paths = [
        write_sdist(tmp_path, f"demo{number}", body="__import__('time').sleep(0.2)") for number in range(5)
    ]
    await asyncio.gather(
        *(bench.build(path, Wanted(f"demo{number}", "1.0")) for number, path in enumerate(paths))
    )
    assert bench.client.most == 2


async def test_what_it_requires_is_installed_for_it(bench: Bench, tmp_path: Path) -> None:
    """Else only projects without build requirements can be built; and nobody knows what was used."""
    for wheel in (
        make_wheel("helper", "2.0", {"helper.py": "x = 2\n"}, requires_dist=["below"]),
        make_wheel("helper", "3.0a1", {"helper.py": "x = 3\n"}),
        make_wheel("below", "1.5", {"below.py": ""}),
        make_wheel("later", "1.0", {"later.py": ""}, requires_dist=["below<2"]),
        make_wheel("below", "2.5", {"below.py": ""}),
    ):
        wheel.write_to(bench.links)
    path = write_sdist(
        tmp_path,
        requires=("helper>=1",),
        more=("later; python_version > '3'",),
        body="import helper, below, later, sys; assert helper.x == 2 and sys.prefix.endswith('/env')",
    )
    built = await bench.build(path)
    assert [one[:2] for one in built.requires] == [("below", "1.5"), ("helper", "2.0"), ("later", "1.0")]
    again = await bench.build(path)
    assert again.requires == built.requires
    assert all(len(sha256) == 64 for _, _, sha256 in again.requires)


async def test_a_requirement_without_a_wheel_is_built_first(bench: Bench, tmp_path: Path) -> None:
    """Else a build requirement that only exists as source makes everything that needs it unbuildable."""
    write_sdist(bench.links, "inner", "4.0")
    built = await bench.build(write_sdist(tmp_path, requires=("inner",), body="import inner"))
    assert [one[:2] for one in built.requires] == [("inner", "4.0")]
    assert bench.builds() == 2
    assert bench.leftovers() == []


async def test_a_direct_reference_as_build_requirement(bench: Bench, tmp_path: Path) -> None:
    """Else `name @ URL` in build-system.requires does not work."""
    wheel = make_wheel("inner", "5.0", {"inner.py": ""}).write_to(tmp_path / "elsewhere")
    path = write_sdist(tmp_path, requires=(f"inner @ {wheel.as_uri()}",), body="import inner")
    assert [one[:2] for one in (await bench.build(path)).requires] == [("inner", "5.0")]
    error = await bench.fails(write_sdist(tmp_path / "git", requires=("inner @ git+ssh://me:pw@host/x",)))
    assert error.code == "build-requirements"
    assert "pw" not in f"{error.message}{error.context}"


async def test_a_circle_of_requirements_is_an_error(bench: Bench, tmp_path: Path) -> None:
    """Else two source archives that need one another hang the sync for ever."""
    write_sdist(bench.links, "one", requires=("two",))
    write_sdist(bench.links, "two", requires=("one",))
    async with asyncio.timeout(60):
        error = await bench.fails(write_sdist(tmp_path, requires=("one",)))
    assert error.code == "build-cycle"
    assert "one 1.0 → two 1.0 → one 1.0" in (error.context or "")
    assert bench.leftovers() == []


async def test_requirements_that_nobody_offers(bench: Bench, tmp_path: Path) -> None:
    """Else a person does not learn which build lacks what."""
    error = await bench.fails(write_sdist(tmp_path, requires=("missing>=3",)))
    assert error.code == "build-requirements"
    assert error.message.startswith("demo 1.0: ")
    assert "missing>=3" in (error.context or "")


async def test_a_failed_build_keeps_its_log_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    """Else nobody can read why it failed; or /tmp fills with sources of failed builds."""
    error = await bench.fails(write_sdist(tmp_path, body="raise SystemExit('no compiler')"))
    assert error.code == "build-failed"
    assert error.message == "demo 1.0: building a wheel failed (exit status 1)"
    assert "no compiler" in (error.context or "")
    (folder,) = bench.leftovers()
    log = bench.temporary / folder / "build.log"
    assert str(log) in (error.hint or "")
    assert "no compiler" in log.read_text()
    assert sorted(os.listdir(log.parent)) == [".pkgc-build", "build.log"]


async def test_a_failing_requirement_says_for_whom(bench: Bench, tmp_path: Path) -> None:
    """Else the error names a project that the person never heard of."""
    write_sdist(bench.links, "inner", body="raise SystemExit('broken')")
    error = await bench.fails(write_sdist(tmp_path, requires=("inner",)))
    assert error.message.startswith("inner 1.0: building a wheel failed")
    assert (error.context or "").endswith("needed to build: demo 1.0")


@pytest.mark.parametrize(
    ("built", "tag", "code"),
    [
        (("other", "1.0"), "py3-none-any", "metadata-mismatch"),
        (("demo", "1.1"), "py3-none-any", "metadata-mismatch"),
        (("demo", "1.0"), "py2-none-any", "no-matching-wheel"),
    ],
)
async def test_a_wheel_of_something_else_is_refused(
    bench: Bench, tmp_path: Path, built: tuple[str, str], tag: str, code: str
) -> None:
    """Else an environment holds something else than the lock says."""
    path = write_sdist(tmp_path, built=built, tag=tag)
    assert (await bench.fails(path)).code == code
    assert (await bench.fails(path)).code == code, "and is not remembered either"
    assert bench.leftovers() == []


async def test_a_local_version_satisfies_the_pin(bench: Bench, tmp_path: Path) -> None:
    """PEP 440: else builds that append +cu121 to their version are refused."""
    built = await bench.build(write_sdist(tmp_path, built=("demo", "1.0+cu121")))
    assert built.filename == "demo-1.0+cu121-py3-none-any.whl"


async def test_cancelling_cleans_up(bench: Bench, tmp_path: Path) -> None:
    """Else Ctrl-C leaves the source, the environment and a running compiler behind."""
    path = write_sdist(tmp_path, body="__import__('time').sleep(60)")
    task = asyncio.create_task(bench.build(path))
    async with asyncio.timeout(30):
        while not bench.client.running or bench.client.verbs.count("run_build") < 2:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert bench.leftovers() == []


async def test_a_directory_and_its_editable_wheel_are_two_things(bench: Bench, tmp_path: Path) -> None:
    """Else `-e` gets the copy that was built before, and edits have no effect."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in project_files().items():
        (folder / name).write_text(text)
    asking = bench.asking()
    for editable in (False, True):
        source = Buildable("directory", "directory:1", str(folder), str(folder), editable=editable)
        built = await bench.builder.wheel(source, asking, (), Wanted("", ""))
        assert not built.from_cache
        assert (await bench.builder.wheel(source, asking, (), Wanted("", ""))).from_cache
    assert bench.store.sources(built.artifact.sha256) == (Origin("directory", folder.as_uri()),)
    assert bench.store.origins(built.artifact.sha256) == (), "no place where anybody offers it"


async def test_without_isolation_the_environment_builds(bench: Bench, tmp_path: Path) -> None:
    """Else `--no-build-isolation` downloads what the environment has, or builds in one that is not there."""
    path = write_sdist(
        tmp_path, requires=("missing",), body=f"import sys; assert sys.prefix == {sys.prefix!r}"
    )
    error = await bench.fails(path, isolated=False)
    assert error.code == "no-build-environment"
    there = cast("Any", type("There", (), {"exists": True}))
    built = await bench.build(path, isolated=False, target=there)
    assert built.requires == ()
    again = await bench.build(path, isolated=False, target=there)
    assert not again.from_cache  # what the environment held then says nothing about now


@pytest.mark.parametrize(
    "more", [{"mode": "refresh"}, {"reinstall": True}, {"reinstall": frozenset({"demo"})}]
)
async def test_refresh_and_reinstall_build_again(bench: Bench, tmp_path: Path, more: dict[str, Any]) -> None:
    """Else there is no way to a wheel that is built with today's build requirements."""
    path = write_sdist(tmp_path)
    await bench.build(path)
    assert not (await bench.build(path, **more)).from_cache
    assert (await bench.build(path, reinstall=frozenset({"other"}))).from_cache


async def test_what_was_built_with_a_requirement_of_another_index_is_built_again(
    bench: Bench, tmp_path: Path
) -> None:
    """Else pinning a build requirement to a private index changes nothing while an older wheel is kept."""
    make_wheel("helper", "1.0", {"helper.py": ""}).write_to(bench.links)
    path = write_sdist(tmp_path, requires=("helper",))
    built = await bench.build(path)
    (_, _, sha256) = built.requires[0]
    options = replace(bench.asking().options, pins={"helper": "https://private.invalid/simple/"})
    error = await bench.fails(path, options=options)
    assert error.code == "build-requirements"
    await bench.store.record_origin(
        sha256, Origin("index", "https://private.invalid/h.whl", "https://private.invalid/simple"), "h.whl"
    )
    assert (await bench.build(path, options=options)).from_cache


async def test_offline_builds_with_what_is_there(bench: Bench, tmp_path: Path) -> None:
    """Else --offline downloads build requirements, or refuses although everything is at hand."""
    make_wheel("helper", "2.0", {"helper.py": ""}).write_to(bench.links)
    path = write_sdist(tmp_path, requires=("helper",), body="import helper")
    assert not (await bench.build(path, mode="offline")).from_cache
    options: Mapping[str, Any] = {"options": IndexOptions(indexes=("https://index.test/simple",))}
    error = await bench.fails(write_sdist(tmp_path / "b", requires=("other",)), mode="offline", **options)
    assert error.code == "not-in-cache"
    assert "needed to build: demo 1.0" in (error.context or "")


async def test_a_wheel_of_another_world_comes_over_the_wire(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the daemon opens a path that means another file in the container that named it (design.md 3)."""
    bench.kind = "own-elsewhere"
    built = await bench.build(write_sdist(tmp_path))
    assert "read_file" in bench.client.verbs
    assert await bench.module(built) == "settings = None\n"
    assert not list(bench.store.layout.temporary.iterdir())


async def test_requirements_are_resolved_once_for_many_builds(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ten source archives in one lock look for setuptools ten times."""
    make_wheel("helper", "2.0", {"helper.py": ""}).write_to(bench.links)
    asked = 0
    releases = VersionLists.releases

    async def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return await releases(*args, **kwargs)

    monkeypatch.setattr(VersionLists, "releases", counting)
    for number in range(3):
        path = write_sdist(tmp_path, f"demo{number}", requires=("helper",), body="import helper")
        await bench.build(path, Wanted(f"demo{number}", "1.0"))
    assert asked == 1


async def test_a_wheel_that_was_evicted_is_built_again(bench: Bench, tmp_path: Path) -> None:
    """Else a cleaned cache answers with a wheel that is not there."""
    path = write_sdist(tmp_path)
    first = await bench.build(path)
    await bench.store.damaged_artifact(first.artifact.sha256)
    assert (await bench.build(path)).from_cache, "the tree is enough"
    await bench.store.damaged_tree(first.artifact.sha256)
    assert not (await bench.build(path)).from_cache


async def test_a_commit_of_a_repository(bench: Bench, tmp_path: Path) -> None:
    """Else `git+` requirements, and short commits of them, do not work."""
    repository = tmp_path / "repository"
    repository.mkdir()
    for name, text in project_files().items():
        (repository / name).write_text(text)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.test"]

    def run(*more: str) -> str:
        return subprocess.run([*git, *more], check=True, capture_output=True, text=True).stdout.strip()

    await asyncio.to_thread(run, "init", "-q", "-b", "main")
    await asyncio.to_thread(run, "add", ".")
    await asyncio.to_thread(run, "commit", "-q", "-m", "first")
    commit = await asyncio.to_thread(run, "rev-parse", "HEAD")
    url, asking = repository.as_uri(), bench.asking()
    assert await bench.builder.resolve_commit(VcsSource(url, commit[:9]), asking) == commit
    source = Buildable("git", f"git:{url}@{commit}", f"{url}@{commit[:9]}", url=url, commit=commit)
    built = await bench.builder.wheel(source, asking, (), Wanted("demo", ""))
    assert await bench.module(built) == "settings = None\n"
    assert bench.store.sources(built.artifact.sha256) == (Origin("vcs", f"git+{url}@{commit}"),)
    assert bench.leftovers() == []
