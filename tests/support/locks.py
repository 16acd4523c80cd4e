"""Short words for integration tests: lock lines, what an environment holds, and an instance per module."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.instance import Instance, clean_environment, running
from tests.support.wheels import BuiltWheel

#: For indexes that fail: one attempt is enough to see the error.
IMPATIENT = "[network]\nretries = 1\n"


def pin(wheel: BuiltWheel, *, extras: str = "", hashed: bool = True) -> str:
    """The requirement line of a wheel, named by its file name."""
    name, version = wheel.filename.split("-")[:2]
    line = f"{name}{extras}=={version}"
    return f"{line} --hash=sha256:{wheel.sha256}" if hashed else line


def site(venv: Path) -> Path:
    """The site-packages folder of an environment."""
    return next(venv.glob("lib/python*/site-packages"))


def holds(venv: Path) -> dict[str, str]:
    """What the records of an environment say: project as its folder spells it -> version."""
    infos = sorted(path.name.removesuffix(".dist-info") for path in site(venv).glob("*.dist-info"))
    return {name: version for name, _, version in (info.partition("-") for info in infos)}


def make_venv(path: Path, python: Path | str, *options: str) -> Path:
    """An environment by the interpreter's own venv module (``--without-pip`` unless options are given)."""
    subprocess.run(
        [python, "-m", "venv", *(options or ("--without-pip",)), path], check=True, env=clean_environment()
    )
    return path


def output_of(*command: Path | str) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def importing(venv: Path, code: str) -> str:
    """What `code` prints in the environment's Python, run without the user's site."""
    return output_of(venv / "bin/python", "-I", "-c", code)


def versions(answer: dict[str, Any], what: str = "installed") -> dict[str, str]:
    """name -> version of a list in a JSON answer."""
    return {one["name"]: one["version"] for one in answer[what]}


@contextmanager
def impatient(root: Path, **options: Any) -> Iterator[Instance]:
    """An instance whose daemon tries everything once."""
    root.mkdir(parents=True)
    (root / "config.toml").write_text(IMPATIENT)
    with running(root, **options) as instance:
        yield instance


def failure(pkgc: Instance, *args: str | Path, **options: Any) -> dict[str, Any]:
    """The one error of a call that must fail, as JSON has it, with the exit status as `exit`.

    The call is made as JSON; the text on stderr must be one readable error without a traceback.
    """
    result = pkgc.run(*args, "--output-format", "json", **options)
    assert result.status in (1, 2), str(result)
    assert result.out.count("\n") == 1, str(result)
    answer = json.loads(result.out)
    assert answer["ok"] is False, str(result)
    assert len(answer["errors"]) == 1, str(result)
    assert "Traceback" not in result.out + result.err, str(result)
    error: dict[str, Any] = answer["errors"][0]
    assert error["code"] != "internal-error", str(result)
    return error | {"exit": result.status, "everything": told(error)}


def told(error: dict[str, Any]) -> str:
    """Message, context and hint in one text."""
    return "\n".join(filter(None, (error["message"], error["context"], error["hint"])))


def assert_untouched_cache(pkgc: Instance, artifacts: Sequence[str] = ()) -> None:
    """The store holds exactly these files, and nothing half-done lies about."""
    listed = pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"]
    assert sorted(one["filename"] for one in listed) == sorted(artifacts)
    assert pkgc.leftovers() == []
