"""Pages of documentation whose ``console`` blocks are transcripts: their commands are run, and what they
print is compared with the page.

A block has commands after ``$ `` (with further lines after ``> ``, as a shell shows them), and below each
command its output. All commands of a page run in one shell, in their order. What differs from run to run is
made equal on both sides: durations, dates, pids and the version of Python are blanked; ports, digests and
sizes become numbers in the order in which they appear, so that two which are equal on the page must be equal
in truth.

    python -m tests.support.pages PAGE...

writes into pages what their commands print now (to be read before it is believed).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.instance import PKGC, running

EXAMPLES = Path(__file__).parents[2] / "examples"
#: What pages call the folder in which their commands are run.
FOLDER = "/home/me/try"

_FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "\x1e"
_BLANKED = (
    (re.compile(r"\bin \d+(\.\d+)?(ms|s)\b"), "in TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b( \d\d:\d\d:\d\d UTC)?"), "DATE"),
    (re.compile(r"\(pid \d+\)"), "(pid PID)"),
    (re.compile(r"\b([Pp]ython) ?3\.\d+(\.\d+\S*)?"), r"\1 VERSION"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
)
_NUMBERED = {
    "PORT": re.compile(r"(?<=127\.0\.0\.1:)\d+"),
    "DIGEST": re.compile(r"\b(?:[0-9a-f]{32,128}\b|[0-9a-f]{12}(?=…))"),
    "SIZE": re.compile(r"\b\d+(?:\.\d+)? [kM]?B\b"),
}


@dataclass(frozen=True)
class Step:
    """One command of a page, and what it prints."""

    command: str
    """Without prompts; several lines are one command."""
    output: str

    @property
    def fails(self) -> bool:
        """Whether the page shows that it fails; of a pipe only the last command could."""
        return "error[" in self.output and "|" not in self.command

    def __str__(self) -> str:
        first, *more = self.command.split("\n")
        return "\n".join([f"$ {first}", *(f"> {line}".rstrip() for line in more), self.output])


def steps_of(text: str) -> list[Step]:
    """The commands of a page, in their order, with the outputs that it shows."""
    found: list[Step] = []
    for block in _FENCE.findall(text):
        command: list[str] = []
        output: list[str] = []
        for line in [*block.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command:
                    found.append(Step("\n".join(command), "".join(output)))
                assert command or not output, f"output before a command: {output}"
                command, output = [line[2:]], []
            elif (line + " ").startswith("> ") and not output:
                command.append(line[2:])
            else:
                output.append(f"{line}\n")
    return found


def carry_out(steps: list[Step], folder: Path, env: Mapping[str, str]) -> list[tuple[Step, int]]:
    """Run the commands in one shell in `folder`: what each of them printed (both streams), and its status.

    Servers that they leave running are ended.
    """
    shutil.copy(EXAMPLES / "demo-index.py", folder)
    script = "".join(f"{step.command}\nprintf '{_MARK}%s{_MARK}' $?\n" for step in steps)
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env={**env, "PWD": str(folder), "PATH": f"{PKGC.parent}{os.pathsep}{env['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        for note in folder.glob("*.pid"):
            os.kill(int(note.read_text()), signal.SIGTERM)
    shown = done.stdout.replace(str(folder), FOLDER)
    for variable, name in (("PKGC_SOCKET", "socket"), ("PKGC_CACHE_DIR", "cache")):
        if variable in env:  # the test's own, where a reader has those of the setup
            shown = shown.replace(env[variable], f"{FOLDER}/{name}")
    pieces = shown.split(_MARK)
    assert len(pieces) == 2 * len(steps) + 1, done.stdout
    return [
        (Step(step.command, output), int(status))
        for step, output, status in zip(steps, pieces[::2], pieces[1::2], strict=False)
    ]


def comparable(steps: list[Step]) -> str:
    """A transcript without what differs from run to run."""
    text = "".join(map(str, steps))
    for pattern, blank in _BLANKED:
        text = pattern.sub(blank, text)
    for name, pattern in _NUMBERED.items():
        text = _numbered(pattern, name, 1, text)
    return text


def _numbered(pattern: re.Pattern[str], name: str, first: int, text: str) -> str:
    """Each value that matches becomes `name` and a number, which is its own from `first` up."""
    numbers: dict[str, int] = {}
    return pattern.sub(
        lambda match: f"{name}{numbers.setdefault(match.group()[:12], first + len(numbers))}", text
    )


def rewrite(page: Path) -> None:
    """Write what the commands print now into the page; ports become ones that do not change each time."""
    text = page.read_text()
    with tempfile.TemporaryDirectory(prefix="pkgc-t-") as name, running(Path(name, "pkgc")) as instance:
        folder = Path(name, "try")
        folder.mkdir()
        # What the daemon does while nobody waits would make the sizes on a page a matter of luck.
        quiet = {"PKGC_READY_COPIES": "0", "PKGC_BYTECODE": "off"}
        env = {**instance.env, **quiet, "PKGC_CONFIG": str(folder / "config.toml")}
        told = iter([step for step, _ in carry_out(steps_of(text), folder, env)])

    def filled(match: re.Match[str]) -> str:
        count = len(steps_of(match.group()))
        return "```console\n" + "".join(str(next(told)) for _ in range(count)) + "```"

    written = _FENCE.sub(filled, text)
    page.write_text(_numbered(_NUMBERED["PORT"], "", 40001, written))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rewrite(Path(argument))
