"""Hooks of build backends, run for real: what they get, what they may answer, how they are stopped."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.building import hooks
from pkgc_daemon.building.hooks import config_settings, run_build
from pkgc_daemon.building.work import LOG, begin_build
from pkgc_daemon.errors import PkgcError

GOOD = """
    def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
        import os
        with open(os.path.join(wheel_directory, "demo-1.0-py3-none-any.whl"), "wb") as file:
            file.write(b"wheel")
        print("made it")
        return "demo-1.0-py3-none-any.whl"
"""


class Bench:
    """A project with an in-tree backend, and a work folder to build it in."""

    def __init__(self, root: Path) -> None:
        self.source = root / "source"
        self.work = Path(begin_build({})["work"])
        self.reports: list[int] = []
        self.project: dict[str, Any] = {
            "name": "demo",
            "version": "1.0",
            "requires": [],
            "backend": "backend",
            "backend_path": ["."],
            "legacy": False,
        }
        self.source.mkdir()
        self.stop = threading.Event()

    def backend(self, code: str) -> None:
        (self.source / "backend.py").write_text(textwrap.dedent(code))

    def run(self, hook: str = "build_wheel", **more: Any) -> dict[str, Any]:
        args: dict[str, Any] = {
            "work": str(self.work),
            "source": str(self.source),
            "python": sys.executable,
            "path": os.path.dirname(sys.executable),
            "project": self.project,
            "hook": hook,
            "settings": [],
            "timeout": 60,
            "label": "demo 1.0",
        }
        return run_build(args | more, lambda done, _total: self.reports.append(done), self.stop.is_set)

    def fails(self, hook: str = "build_wheel", **more: Any) -> PkgcError:
        with pytest.raises(PkgcError) as failure:
            self.run(hook, **more)
        return failure.value

    @property
    def log(self) -> str:
        return (self.work / LOG).read_text()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """See `Bench`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Bench(tmp_path)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `condition` becomes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    """Whether a process is there, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_wheel_is_built_and_its_output_logged(bench: Bench) -> None:
    """Else nothing can be built at all, or nobody can see what a build did."""
    bench.backend(GOOD)
    wheel = Path(bench.run()["wheel"])
    assert wheel == bench.work / "dist" / "demo-1.0-py3-none-any.whl"
    assert wheel.read_bytes() == b"wheel"
    assert "made it" in bench.log


def test_both_kinds_of_requirements_are_asked_for(bench: Bench) -> None:
    """Else backends that need more than pyproject.toml says (setuptools' wheel, cmake) fail."""
    bench.backend(
        """
        def get_requires_for_build_wheel(config_settings=None):
            return ["one>=1", str(config_settings)]
        def get_requires_for_build_editable(config_settings=None):
            return ["two"]
        """
    )
    found = bench.run("get_requires_for_build_wheel", settings=[["a", "1"], ["a", "2"], ["b", "3"]])
    assert found["requires"] == ["one>=1", "{'a': ['1', '2'], 'b': '3'}"]
    assert bench.run("get_requires_for_build_editable")["requires"] == ["two"]


def test_a_backend_without_that_hook_requires_nothing_more(bench: Bench) -> None:
    """The hook is optional (PEP 517): most small backends would be refused."""
    bench.backend(GOOD)
    assert bench.run("get_requires_for_build_wheel")["requires"] == []


def test_repeated_settings_become_lists() -> None:
    """Else of `-C x=1 -C x=2` one value is lost."""
    assert config_settings([]) is None
    pairs = [["x", "1"], ["y", ""], ["x", "2"], ["x", "3"]]
    assert config_settings(pairs) == {"x": ["1", "2", "3"], "y": ""}


def test_the_environment_of_a_hook(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a build picks up the caller's modules, another Python, or waits for a terminal."""
    prefix = tmp_path / "env"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text("")
    (tmp_path / "leak").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "leak"))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/of/the/caller")
    monkeypatch.setenv("_PYPROJECT_HOOKS_BACKEND_PATH_JSON", '["/nowhere"]')
    monkeypatch.setenv("CFLAGS", "-O1")
    bench.backend(
        """
        import os, resource, sys
        def get_requires_for_build_wheel(config_settings=None):
            names = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONNOUSERSITE", "CFLAGS")
            return [
                *(str(os.environ.get(name)) for name in names),
                os.environ["PATH"].split(":")[0],
                sys.stdin.read(),
                str(os.getsid(0) == os.getpid()),
                os.getcwd(),
                str(resource.getrlimit(resource.RLIMIT_CORE)[0]),
            ]
        """
    )
    found = bench.run("get_requires_for_build_wheel", path=str(prefix / "bin"))["requires"]
    assert found[:5] == ["None", "None", str(prefix), "1", "-O1"]
    assert found[5] == str(prefix / "bin")
    assert found[6:9] == ["", "True", str(bench.source)]
    if sys.platform == "linux":
        assert found[9] == "0"


def test_a_failing_build_shows_the_end_of_its_output(bench: Bench) -> None:
    """Else a person learns that it failed, and not why; and credentials in it would be shown."""
    bench.backend(
        """
        import sys
        def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
            for number in range(200):
                print("line", number)
            print("fetching https://me:hunter2@example.test/x", file=sys.stderr)
            sys.exit("no compiler")
        """
    )
    error = bench.fails()
    assert error.code == "build-failed"
    assert error.message == "demo 1.0: building a wheel failed (exit status 1)"
    lines = (error.context or "").splitlines()
    assert lines[-1] == "no compiler"
    assert "line 199" in lines
    assert "line 100" not in lines
    assert len(lines) <= hooks.TAIL_LINES
    assert "hunter2" not in f"{error.message}{error.context}{error.hint}"
    assert str(bench.work / LOG) in (error.hint or "")
    assert "line 100" in bench.log


def test_a_killed_build_says_so(bench: Bench) -> None:
    """Else a build that ran out of memory looks like one that failed for no reason."""
    bench.backend(
        """
        import os, signal
        def build_wheel(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    error = bench.fails()
    assert "killed by SIGKILL" in error.message
    assert "memory" in (error.hint or "")


def test_a_backend_that_cannot_be_imported(bench: Bench) -> None:
    """Else a missing build requirement shows as a traceback of somebody else's script."""
    bench.project |= {"backend": "not_there_at_all", "backend_path": []}
    error = bench.fails()
    assert error.code == "build-failed"
    assert "not_there_at_all cannot be imported" in error.message
    assert "ModuleNotFoundError" in (error.context or "")
    assert "build-system.requires" in (error.hint or "")


def test_a_backend_path_outside_of_the_source_is_refused(bench: Bench) -> None:
    """PEP 517 forbids it: else a project imports code from wherever it likes before anything is checked."""
    bench.project |= {"backend_path": ["../elsewhere"]}
    error = bench.fails()
    assert error.code == "build-failed"
    assert "inside source tree" in error.message


def test_editable_without_support(bench: Bench) -> None:
    """Else `-e` with an old backend fails with a traceback instead of advice."""
    bench.backend(GOOD)
    assert bench.fails("build_editable").code == "editable-unsupported"


def test_an_editable_wheel(bench: Bench) -> None:
    """Else `-e` does not work (PEP 660)."""
    bench.backend(GOOD.replace("build_wheel", "build_editable"))
    assert bench.run("build_editable")["wheel"].endswith("/dist/demo-1.0-py3-none-any.whl")


@pytest.mark.parametrize(
    "answer",
    [
        "'../evil.whl'",
        "'/etc/passwd'",
        "''",
        "'..'",
        "None",
        "3",
        "['demo.whl']",
        "'missing-1.0-py3-none-any.whl'",
        "link(wheel_directory)",
        "text(wheel_directory)",
    ],
)
def test_a_wrong_answer_is_an_error(bench: Bench, answer: str) -> None:
    """Else a backend's mistake makes the daemon take in a file that is no build result."""
    bench.backend(
        f"""
        import os
        def link(folder):
            os.symlink("/etc/passwd", os.path.join(folder, "demo-1.0-py3-none-any.whl"))
            return "demo-1.0-py3-none-any.whl"
        def text(folder):
            open(os.path.join(folder, "demo.txt"), "w").close()
            return "demo.txt"
        def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
            return {answer}
        """
    )
    assert bench.fails().code == "build-failed"


@pytest.mark.parametrize("answer", ["'setuptools'", "None", "[1]"])
def test_wrong_requirements_are_an_error(bench: Bench, answer: str) -> None:
    """Else the letters of a text are taken for requirements."""
    bench.backend(f"def get_requires_for_build_wheel(config_settings=None): return {answer}")
    assert bench.fails("get_requires_for_build_wheel").code == "build-failed"


def test_a_hook_that_leaves_without_an_answer(bench: Bench) -> None:
    """Else os._exit(0) in a backend crashes the client."""
    bench.backend("import os\ndef build_wheel(*args, **kwargs): os._exit(0)")
    assert bench.fails().code == "build-failed"


SLEEPER = """
    import subprocess, sys, time
    def build_wheel(*args, **kwargs):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        print("child", child.pid, flush=True)
        time.sleep(300)
"""


def _child(bench: Bench) -> int:
    assert eventually(lambda: (bench.work / LOG).exists() and "child" in bench.log)
    return int(bench.log.split("child ")[1].split()[0])


def test_a_timeout_kills_the_build_and_its_children(bench: Bench) -> None:
    """Else a build that hangs blocks a sync for ever, and its compilers go on."""
    bench.backend(SLEEPER)
    began = time.monotonic()
    error = bench.fails(timeout=1.5)
    assert error.code == "build-timeout"
    assert time.monotonic() - began < 20
    assert "1.5 s" in error.message
    child = _child(bench)
    assert eventually(lambda: not is_running(child))


def test_cancelling_kills_the_build_and_its_children(bench: Bench) -> None:
    """Else Ctrl-C leaves compilers running."""
    bench.backend(SLEEPER)
    errors: list[PkgcError] = []
    thread = threading.Thread(target=lambda: errors.append(bench.fails()))
    thread.start()
    child = _child(bench)
    assert is_running(child)
    bench.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert errors[0].code == "interrupted"
    assert errors[0].exit_status == 130
    assert eventually(lambda: not is_running(child))


def test_what_a_build_leaves_running_ends_with_it(bench: Bench) -> None:
    """Else a forgotten child that holds the output makes the build wait for ever, and outlives its folder."""
    bench.backend(
        """
        import os, subprocess, sys
        def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
            print("child", child.pid, flush=True)
            open(os.path.join(wheel_directory, "demo-1.0-py3-none-any.whl"), "w").close()
            return "demo-1.0-py3-none-any.whl"
        """
    )
    began = time.monotonic()
    assert bench.run()["wheel"]
    assert time.monotonic() - began < 20
    child = _child(bench)
    assert eventually(lambda: not is_running(child))


def test_the_log_is_bounded_and_the_build_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a build that prints without end fills the disk, or blocks because nobody reads."""
    monkeypatch.setattr(hooks, "MAX_LOG", 10_000)
    bench.backend(
        """
        def build_wheel(*args, **kwargs):
            for number in range(20_000):
                print("noise", number)
            raise SystemExit("the end")
        """
    )
    error = bench.fails()
    assert (bench.work / LOG).stat().st_size < 11_000
    assert "the rest is left out" in bench.log
    assert (error.context or "").endswith("the end"), "the end is shown although it is not in the log"


def test_progress_is_reported_while_it_works(bench: Bench) -> None:
    """Else a person cannot tell a long build from a hanging one."""
    bench.backend(
        """
        import time
        def get_requires_for_build_wheel(config_settings=None):
            for number in range(15):
                print("step", number, flush=True)
                time.sleep(0.1)
            return []
        """
    )
    bench.run("get_requires_for_build_wheel")
    assert bench.reports
    assert bench.reports == sorted(bench.reports)
    assert bench.reports[-1] > 1


def test_warnings_of_a_backend_go_into_the_log(bench: Bench) -> None:
    """Else they come up as Python warnings of the client, in the middle of its output."""
    bench.backend(
        """
        import warnings
        def get_requires_for_build_wheel(config_settings=None):
            warnings.warn("old metadata", UserWarning)
            return []
        """
    )
    assert bench.run("get_requires_for_build_wheel")["requires"] == []
    assert "old metadata" in bench.log


def test_a_hook_that_closes_its_output_is_waited_for(bench: Bench) -> None:
    """Else a build that redirects its output is taken for ended, and killed."""
    bench.backend(
        """
        import os, time
        def get_requires_for_build_wheel(config_settings=None):
            os.close(1)
            os.close(2)
            time.sleep(0.5)
            return ["late"]
        """
    )
    assert bench.run("get_requires_for_build_wheel")["requires"] == ["late"]


def test_only_folders_of_ours_are_built_in(bench: Bench, tmp_path: Path) -> None:
    """Else a daemon could have a client write anywhere."""
    bench.backend(GOOD)
    assert bench.fails(work=str(tmp_path)).code == "not-a-work-folder"


def test_a_missing_python_is_an_error(bench: Bench) -> None:
    """Else an environment that was removed meanwhile shows as a traceback."""
    bench.backend(GOOD)
    error = bench.fails(python="/nowhere/python")
    assert error.code == "build-failed"
    assert "/nowhere/python cannot be run" in error.message
