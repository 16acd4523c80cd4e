"""`pkgc why`: where did this come from? A wrong answer sends people after the wrong index or file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pkgc_daemon.environments.records import _wire
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.inputs.config import Config
from pkgc_daemon.inputs.namedindexes import NamedIndex
from pkgc_daemon.serving.calls import OutputFormat, Terminal, WhyCall
from pkgc_daemon.serving.context import Context
from pkgc_daemon.serving.output import Output
from pkgc_daemon.serving.text import Style
from pkgc_daemon.serving.why import render_why, why
from pkgc_daemon.store.facts import BuildRow, Request

VENV = "/w/.venv"
SDIST, WHEEL, TOOL = "a" * 64, "b" * 64, "c" * 64
INDEX = "https://i.example/simple/"


def distribution(name: str, **more: Any) -> dict[str, Any]:
    return _wire(name, "1.0", f"{VENV}/{name}-1.0.dist-info", installer="pkgc", **more)


def origin(kind: str, url: str, index: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "url": url, "index": index}


def files(**more: Any) -> dict[str, Any]:
    sound: dict[str, Any] = {
        "checked": 12,
        "bad": 0,
        "problem": None,
        "missing": [],
        "changed": [],
        "unreadable": [],
    }
    return {**sound, **more}


def request(**more: Any) -> Request:
    given = {
        "version": "1.0",
        "sha256": WHEEL,
        "place": "requirements.txt:3",
        "text": "demo==1.0",
        "origin": None,
        "at": 86400.0,
    }
    return Request(**{**given, **more})


@dataclass
class Fake:
    """An environment, a store and a sink."""

    distributions: list[dict[str, Any]]
    compared: dict[str, dict[str, Any]] = field(default_factory=dict)
    requested: dict[str, Request] = field(default_factory=dict)
    fetched: dict[str, float] = field(default_factory=dict)
    builds: dict[str, BuildRow] = field(default_factory=dict)
    exists: bool = True
    interrupted: bool = False
    said: dict[int, str] = field(default_factory=lambda: {1: "", 2: ""})
    output: Output | None = None

    # World

    async def do(self, verb: str, args: dict[str, Any], report: Any = None) -> dict[str, Any]:
        if verb == "scan_environment":
            return {"distributions": self.distributions, "interrupted": self.interrupted}
        assert verb == "verify_distributions"
        assert args["prefix"] == VENV
        report(len(args["dist_infos"]), len(args["dist_infos"]))
        names = [path.rpartition("/")[2].partition("-")[0] for path in args["dist_infos"]]
        return {"distributions": [self.compared.get(name, files()) for name in names]}

    # Targets

    async def target(self, *_: Any) -> Any:
        paths = {"purelib": f"{VENV}/lib", "platlib": f"{VENV}/lib"}
        interpreter = SimpleNamespace(prefix=VENV, paths=paths, version="3.12.1")
        return SimpleNamespace(exists=self.exists, venv=VENV, real=VENV, interpreter=interpreter)

    # Store

    async def requests(self, venv: str) -> Mapping[str, Request]:
        assert venv == VENV
        return self.requested

    def when_fetched(self, sha256: str) -> float | None:
        return self.fetched.get(sha256)

    async def build_of(self, sha256: str) -> BuildRow | None:
        return self.builds.get(sha256)

    # Sink

    def write(self, stream: int, data: str) -> None:
        self.said[stream] += data

    def live(self, text: str) -> None:
        """Not shown here."""

    def run(self, *names: str, output_format: OutputFormat = "text") -> int:
        """`pkgc why NAMES`, as `commands` runs it."""
        self.output = Output(self, Terminal(), output_format=output_format)
        config = Config(indexes=(NamedIndex("corp", "https://u:hunter2@i.example/simple"),))
        context = SimpleNamespace(
            services=SimpleNamespace(targets=self, store=self),
            world=self,
            output=self.output,
            env={},
            config=config,
        )
        call = WhyCall(cwd="/w", names=names, venv=VENV)
        try:
            return asyncio.run(why(cast("Context", context), call))
        except PkgcError as error:
            self.output.error(error)
            raise
        finally:
            self.output.close()

    def packages(self, *names: str) -> list[dict[str, Any]]:
        """The packages of the JSON output."""
        assert self.run(*names, output_format="json") == 0
        document = json.loads(self.said[1])
        assert (document["schema"], document["ok"], document["venv"]) == (1, True, VENV)
        found: list[dict[str, Any]] = document["packages"]
        return found


def pinned(**more: Any) -> dict[str, Any]:
    url = "https://f.example/demo-1.0-py3-none-any.whl"
    return distribution("demo", hashes=[["sha256", WHEEL]], origin=origin("index", url, INDEX), **more)


def test_a_package_from_an_index() -> None:
    """Version, installer, origin with the index's name, hash, when, which line, and the files."""
    fake = Fake([pinned(), distribution("other")], requested={"demo": request()}, fetched={WHEEL: 0.0})
    assert fake.run("demo") == 0
    assert fake.said[1].splitlines() == [
        "demo 1.0",
        "  installed by  pkgc",
        "  from          https://f.example/demo-1.0-py3-none-any.whl (from an index)",
        f"  index         corp ({INDEX})",
        f"  sha256        {WHEEL}",
        "  fetched       1970-01-01 00:00:00 UTC",
        "  asked for by  requirements.txt:3: demo==1.0",
        "  files         all 12 files match",
    ]


def test_the_json_of_it_has_everything() -> None:
    """Scripts read this one: fields stay, whatever is known."""
    fake = Fake([pinned()], requested={"demo": request()}, fetched={WHEEL: 7.0})
    assert fake.packages("demo") == [
        {
            "name": "demo",
            "version": "1.0",
            "installer": "pkgc",
            "origin": {
                "kind": "index",
                "url": "https://f.example/demo-1.0-py3-none-any.whl",
                "index": INDEX,
                "index_name": "corp",
            },
            "hashes": {"sha256": WHEEL},
            "commit": None,
            "requested": None,
            "subdirectory": None,
            "editable": False,
            "fetched_at": 7.0,
            "built": None,
            "asked_by": {"place": "requirements.txt:3", "text": "demo==1.0", "at": 86400.0},
            "damaged": None,
            "files": files(),
        }
    ]


def test_a_package_of_another_tool_is_honestly_unknown() -> None:
    """No guess where nothing was recorded."""
    plain = {**distribution("demo"), "installer": "uv"}
    (package,) = Fake([plain]).packages("demo")
    assert (package["origin"], package["hashes"], package["built"], package["asked_by"]) == (
        None,
        {},
        None,
        None,
    )
    fake = Fake([plain])
    fake.run("demo")
    assert "installed by  uv\n  from          unknown" in fake.said[1]
    assert "asked for by  no lock that pkgc knows of" in fake.said[1]


def test_a_built_package_says_from_what_and_with_what() -> None:
    """H10: the hash is the sdist's; the wheel's own and its build requirements come from the build's note."""
    sdist = distribution(
        "demo",
        hashes=[["sha256", SDIST]],
        origin=origin("index", "https://f.example/demo-1.0.tar.gz", "https://else.example/simple/"),
    )
    note = {"requires": [["setuptools", "80.9.0", TOOL], ["broken"]]}
    fake = Fake(
        [sdist],
        requested={"demo": request()},
        fetched={SDIST: 1.0, WHEEL: 2.0},
        builds={WHEEL: BuildRow(WHEEL, "demo-1.0-py3-none-any.whl", note)},
    )
    (package,) = fake.packages("demo")
    assert package["fetched_at"] == 1.0
    assert package["origin"]["index_name"] is None
    assert package["built"] == {
        "sha256": WHEEL,
        "at": 2.0,
        "filename": "demo-1.0-py3-none-any.whl",
        "requires": [{"name": "setuptools", "version": "80.9.0", "sha256": TOOL}],
    }
    text = render_why({"packages": [package]}, Style(False))
    assert f"wheel         demo-1.0-py3-none-any.whl sha256:{WHEEL}" in text
    assert f"built with    setuptools 80.9.0 sha256:{TOOL}" in text


@pytest.mark.parametrize(
    ("recorded", "line"),
    [
        (
            {"origin": origin("directory", "file:///w/src"), "editable": True, "direct": True},
            "  from          file:///w/src (a directory, editable)",
        ),
        (
            {"origin": origin("vcs", "https://h/r"), "commit": "12ab", "requested": "main", "direct": True},
            "  commit        12ab (of main)",
        ),
        (
            {"origin": origin("url", "https://h/m.zip"), "subdirectory": "py", "direct": True},
            "  subdirectory  py",
        ),
        (
            {"origin": origin("path", "file:///w/d.whl"), "direct": True},
            "  from          file:///w/d.whl (a local file)",
        ),
        ({"damaged": "METADATA is missing"}, "  damaged       METADATA is missing"),
    ],
)
def test_direct_references_and_damage(recorded: dict[str, Any], line: str) -> None:
    """Complaint 4: a checkout, a branch, a local file are different things."""
    fake = Fake([distribution("demo", **recorded)])
    fake.run("demo")
    assert line in fake.said[1].splitlines()


def test_files_that_differ_are_all_named() -> None:
    """T23; and the exit status stays 0: it is a report."""
    compared = files(bad=5, missing=["demo/a.py"], changed=["../../../bin/demo", "demo/\x1b[2J.py"])
    fake = Fake([pinned()], compared={"demo": compared})
    assert fake.run("demo") == 0
    assert fake.said[1].splitlines()[-5:] == [
        "  files         5 of 12 files are not what was installed",
        "    missing demo/a.py",
        "    changed ../../../bin/demo",
        "    changed demo/\\x1b[2J.py",
        "    and 2 more",
    ]


def test_what_cannot_be_compared_is_not_said_to_match() -> None:
    fake = Fake([pinned()], compared={"demo": files(checked=0, problem="it has no RECORD of its files")})
    fake.run("demo")
    assert "files         cannot be compared: it has no RECORD" in fake.said[1]


def test_a_note_about_another_version_is_not_told() -> None:
    """Another tool has put something else there since pkgc was asked for it."""
    stale = {"demo": request(version="0.9")}
    (package,) = Fake([pinned()], requested=stale).packages("demo")
    assert package["asked_by"] is None
    foreign = {**distribution("demo"), "installer": "pip", "origin": origin("url", "https://h/demo.tar.gz")}
    (package,) = Fake([foreign], requested={"demo": request()}, fetched={WHEEL: 1.0}).packages("demo")
    assert package["asked_by"]["place"] == "requirements.txt:3"
    assert package["built"] == {"sha256": None, "at": None, "filename": None, "requires": []}
    assert package["fetched_at"] is None


def test_several_names_come_in_the_order_asked() -> None:
    fake = Fake([distribution("a"), distribution("b"), distribution("c")])
    assert [package["name"] for package in fake.packages("c", "a")] == ["c", "a"]


def test_two_records_of_one_project_are_both_shown() -> None:
    """Which of them is imported cannot be told."""
    assert len(Fake([distribution("demo"), distribution("demo")]).packages("demo")) == 2


def test_a_name_that_is_not_installed_is_an_error_with_near_names() -> None:
    """A typo must not look like an answer; what is installed of the names is shown all the same."""
    fake = Fake([distribution("requests"), distribution("demo")])
    with pytest.raises(PkgcError) as caught:
        fake.run("demo", "request", output_format="json")
    assert (caught.value.code, caught.value.exit_status) == ("not-installed", 1)
    assert caught.value.message == f"request is not installed in {VENV}"
    assert "requests" in (caught.value.context or "")
    document = json.loads(fake.said[1])
    assert document["ok"] is False
    assert [package["name"] for package in document["packages"]] == ["demo"]
    with pytest.raises(PkgcError) as caught:
        Fake([]).run("one", "two")
    assert caught.value.message == f"one, two are not installed in {VENV}"


def test_no_environment_is_an_error_and_an_interrupted_one_a_warning() -> None:
    with pytest.raises(PkgcError) as caught:
        Fake([], exists=False).run("demo")
    assert caught.value.code == "no-environment"
    fake = Fake([pinned()], interrupted=True)
    fake.run("demo")
    assert "warning[interrupted-change]" in fake.said[2]


def test_no_secret_is_told() -> None:
    """Invariant 8: the answer is pasted into bug reports."""
    asked = request(place="https://u:hunter2@h/r.txt:1", text="demo @ https://u:hunter2@h/demo.zip")
    hostile = pinned()
    hostile["origin"] = origin("index", "https://u:hunter2@h/demo.whl", "https://u:hunter2@h/simple/")
    for output_format in ("text", "json"):
        fake = Fake([hostile], requested={"demo": asked})
        fake.run("demo", output_format=output_format)
        assert "hunter2" not in fake.said[1] + fake.said[2]
        assert "https://h/r.txt:1" in fake.said[1]


@pytest.mark.parametrize("answer", [[], [{}], [3], None, [files(bad="x")], [files(missing=None)]])
def test_an_incomplete_answer_of_the_client_is_an_error(answer: Any) -> None:
    """It may be another user's."""
    fake = Fake([pinned()])
    real = fake.do

    async def short(verb: str, args: dict[str, Any], report: Any = None) -> dict[str, Any]:
        return {"distributions": answer} if verb == "verify_distributions" else await real(verb, args, report)

    fake.do = short  # type: ignore[method-assign]
    with pytest.raises(PkgcError) as caught:
        fake.run("demo")
    assert caught.value.code == "verify-failed"
