"""Commands that do not start are the first thing a user notices of a bad installer (W4, W5, E2, E3, E5)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_daemon.environments.recordfile import parse_record
from pkgc_daemon.installing.records import quoted, record_hash, render_entries
from pkgc_daemon.installing.scripts import commands_of, is_stale_wrapper, rewritten, shebang, wrapper
from pkgc_daemon.vocabulary import FileEntry
from tests.support import interpreters


@pytest.mark.parametrize(
    "folder",
    [
        "plain",
        "with space",
        "quo\"te's $HOME",
        "long" * 40,
        "a ''' b",
        "''' '",
        "back \\N \\u \\",
        "tick `id` $x \\$y",
        "new\nline",
        "coding:nonsense",
        "ünï cödé",
    ],
)
def test_scripts_start_wherever_the_environment_lies(tmp_path: Path, folder: str) -> None:
    """E3: a shebang with a space, or of more than 127 bytes, is not understood by the kernel."""
    python = tmp_path / folder / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (tmp_path / "module.py").write_text("import sys\nclass c:\n    run = lambda: print(sys.argv[1]) or 3\n")
    script = tmp_path / "tool"
    script.write_bytes(wrapper(shebang(str(python)), "module:c.run [extra]"))
    script.chmod(0o755)
    ran = subprocess.run(
        [str(script), "a b"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "error"},
        check=False,
    )
    assert (ran.stdout, ran.returncode, ran.stderr) == ("a b\n", 3, "")
    known = (interpreters.find(f"3.{minor}") for minor in range(8, 15))
    for other in (one for one in known if one is not None):
        code = f"import sys; compile(open({str(script)!r}, 'rb').read(), 'tool', 'exec')"
        subprocess.run([other.path, "-I", "-W", "error", "-c", code], check=True)


def test_a_shebang_is_direct_only_up_to_127_bytes() -> None:
    """E3: newer kernels read more of the line, and would hide on this machine what fails on another."""
    longest = "/" + "x" * 123
    assert shebang(longest) == f"#!{longest}\n".encode()
    assert len(shebang(longest)) == 127
    assert shebang(longest + "x").startswith(b"#!/bin/sh\n")
    assert shebang("/with blank").startswith(b"#!/bin/sh\n")


def test_only_python_shebangs_are_rewritten_and_arguments_dropped() -> None:
    first = shebang("/env/bin/python")
    assert rewritten(b"#!python\nx\n", first) == b"#!/env/bin/python\nx\n"
    assert rewritten(b"#!pythonw -u\r\nx\n", first) == b"#!/env/bin/python\nx\n"
    assert rewritten(b"#!python", first) == b"#!/env/bin/python\n"
    assert rewritten(b"#!/usr/bin/python\n", first) is None
    assert rewritten(b"# !python\n", first) is None


def test_pip_gets_the_names_of_the_target_python() -> None:
    console = [("pip", "p:m"), ("pip3", "p:m"), ("pip3.7", "p:m"), ("other", "o:m")]
    assert set(commands_of("pip", console, [], "3.12.1")) == {"pip", "pip3", "pip3.12", "other"}
    assert set(commands_of("tool", console, [("gui", "g:m")], "3.12.1")) == {
        "pip", "pip3", "pip3.7", "other", "gui",
    }  # fmt: skip
    old = [("easy_install", "e:m"), ("easy_install-3.6", "e:m")]
    assert set(commands_of("setuptools", old, [], "3.12.1")) == {"easy_install", "easy_install-3.12"}


def test_wrappers_made_by_setuptools_are_told_from_scripts() -> None:
    for name in ("tool", "tool.exe", "tool-script.py", "tool.pya"):
        assert is_stale_wrapper(name, {"tool"})
    assert not is_stale_wrapper("tool.sh", {"tool"})


def test_record_lines_have_the_hashes_of_the_manifest() -> None:
    """A RECORD with wrong hashes makes every later verification cry damage."""
    import hashlib

    contents = [bytes([number]) * number for number in range(70)]
    entries = [
        FileEntry(f"pkg/{number}", len(data), False, hashlib.sha256(data).hexdigest(), 0, 0)
        for number, data in enumerate(contents)
    ]
    assert render_entries(entries, "x/") == [
        f"x/pkg/{number},{record_hash(data)},{len(data)}\n" for number, data in enumerate(contents)
    ]
    assert render_entries([]) == []


@pytest.mark.parametrize("path", ["a,b", 'a"b', "plain", "ünï", "a\nb"])
def test_record_round_trip(path: str) -> None:
    assert [line.path for line in parse_record(f"{quoted(path)},sha256=x,1\n")] == [path]
