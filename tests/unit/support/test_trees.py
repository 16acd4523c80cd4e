"""The comparison of environments sees what it must see; a blind one would let every difference through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.trees import differences, direct_url, other_modes, read_installed

SITE = "lib/python3.11/site-packages"


def make(venv: Path) -> Path:
    info = venv / SITE / "demo-1.0.dist-info"
    info.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / SITE / "demo.py").write_text("x = 1\n")
    (info / "METADATA").write_text("Name: demo\n")
    (info / "INSTALLER").write_text(venv.name)
    (info / "entry_points.txt").write_text("[console_scripts]\nDemo = demo:main\n")
    (info / "RECORD").write_text(
        f"demo.py,sha256=a,6\ndemo-1.0.dist-info/INSTALLER,sha256={venv.name},1\n../../../bin/Demo,sha256={venv.name},9\n"
    )
    for name, rest in (("Demo", venv.name), ("tool", "same")):
        script = venv / "bin" / name
        script.write_text(f"#!{venv}/bin/python3\n{rest}\n")
        script.chmod(0o755)
    return venv


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make(tmp_path / "one"), make(tmp_path / "other")


def compare(pair: tuple[Path, Path]) -> list[str]:
    one, other = (read_installed(venv, frozenset()) for venv in pair)
    return differences(one, other, ("one", "other"))


def test_equal_but_for_provenance_and_paths(pair: tuple[Path, Path]) -> None:
    assert compare(pair) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda venv: (venv / SITE / "demo.py").write_text("x = 2\n"), "demo.py"),
        (lambda venv: (venv / SITE / "demo.py").chmod(0o755), "demo.py"),
        (lambda venv: (venv / SITE / "demo.py").unlink(), "only one has it"),
        (lambda venv: (venv / SITE / "more.py").touch(), "only other has it"),
        (lambda venv: (venv / "bin/Demo").chmod(0o644), "bin/Demo"),
        (lambda venv: (venv / "bin/Demo").unlink(), "bin/Demo"),
        (lambda venv: (venv / "bin/tool").write_text("#!/usr/bin/python3\nsame\n"), "bin/tool"),
        (
            lambda venv: (venv / SITE / "demo-1.0.dist-info/RECORD").write_text("demo.py,sha256=b,6\n"),
            "RECORD",
        ),
    ],
)
def test_every_kind_of_difference_is_seen(
    pair: tuple[Path, Path], change: Callable[[Path], object], said: str
) -> None:
    change(pair[1])
    assert said in "\n".join(compare(pair))


def test_where_it_came_from_is_compared_in_what_all_tools_record(pair: tuple[Path, Path]) -> None:
    texts = (
        '{"url": "u", "dir_info": {}, "pkgc": {"source": "x"}}',
        '{"dir_info":{"editable":false},"url":"u"}',
    )
    for venv, text in zip(pair, texts, strict=True):
        (venv / SITE / "demo-1.0.dist-info/direct_url.json").write_text(text)
    assert compare(pair) == []
    assert direct_url(b'{"url": "u", "dir_info": {"editable": true}}') != direct_url(texts[1].encode())
    assert direct_url(b'{"url": "u", "vcs_info": {"commit_id": "1"}}') != direct_url(
        b'{"url": "u", "vcs_info": {"commit_id": "2"}}'
    )


def test_only_modes_may_be_left_undecided(pair: tuple[Path, Path]) -> None:
    (pair[1] / SITE / "demo.py").chmod(0o755)
    one, other = (read_installed(venv, frozenset()) for venv in pair)
    assert other_modes(one, other) == {f"{SITE}/demo.py"}
    assert differences(one, other, ("one", "other"), other_modes(one, other)) == []
    (pair[1] / SITE / "demo.py").write_text("x = 2\n")
    changed = read_installed(pair[1], frozenset())
    assert len(differences(one, changed, ("one", "other"), other_modes(one, other))) == 1
