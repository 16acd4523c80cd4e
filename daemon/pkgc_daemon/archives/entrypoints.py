"""Entry points and script names of a wheel: what may become a command, and what may not.

Rules: specs "entry-points" (standards.md E1, E2, E4); uv GHSA-4gg8-gxpx-9rph and pip #14000 (names that
leave the scripts directory); uv #20748 (names that replace the interpreter).
"""

from __future__ import annotations

import keyword
import re
import unicodedata

#: Commands of an environment itself, in any case, with or without a suffix that Windows runs.
_RESERVED = re.compile(
    r"(?:(?:python|pypy|graalpy|graalpython)w?(?:\d+(?:\.\d+)*[dt]*)?w?"
    r"|activate(?:_this)?|deactivate)"
    r"(?:\.(?:py|pyw|exe|bat|cmd|com|sh|csh|fish|ps1|nu|xsh))?\Z",
    re.IGNORECASE,
)
_VALUE = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(?:\[[^\[\]]*\])?\Z")
_GROUPS = ("console_scripts", "gui_scripts")


def script_name_problem(name: str) -> str | None:
    """Why `name` may not be the name of a file in the scripts directory, or None when it may."""
    if not name or name in (".", ".."):
        return "it is not a name"
    if "/" in name or "\\" in name or (len(name) > 1 and name[1] == ":"):
        return "it leaves the scripts directory"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return "it holds control characters"
    if len(name.encode("utf-8", "replace")) > 255:
        return "it is too long"
    if _RESERVED.match(name):
        return "it would replace the interpreter or the activation of the environment"
    return None


def parse_entry_points(text: str) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Read entry_points.txt.

    Args:
        text: the file's content. INI with ``=`` as the only delimiter and case-sensitive names.

    Returns:
        (console scripts, gui scripts), each as sorted (name, ``module:attr``); extras are dropped.

    Raises:
        ValueError: a script with a forbidden name, without an attribute, or given twice differently.
    """
    scripts: dict[str, dict[str, str]] = {group: {} for group in _GROUPS}
    everything: dict[str, str] = {}
    current: dict[str, str] | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            current = scripts.get(line[1:-1].strip())
            continue
        if current is None:
            continue
        name, separator, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not separator:
            raise ValueError(f"line {number} is not 'name = module:attr': {line!r}")
        problem = script_name_problem(name)
        if problem is not None:
            raise ValueError(f"line {number}: the script name {name!r} is refused: {problem}")
        target = _target(value, number)
        if everything.setdefault(name, target) != target:
            raise ValueError(f"line {number}: the script {name!r} is there twice with two meanings")
        current[name] = target
    console, gui = (tuple(sorted(scripts[group].items())) for group in _GROUPS)
    return console, gui


def _target(value: str, number: int) -> str:
    # Both halves end up in a line of Python, so only dotted identifiers may pass.
    match = _VALUE.match(value)
    if match is None:
        raise ValueError(f"line {number}: {value!r} is not 'module:attr'")
    for part in (*match[1].split("."), *match[2].split(".")):
        if not part.isidentifier() or keyword.iskeyword(part):
            raise ValueError(f"line {number}: {value!r} is not 'module:attr': {part!r} is no identifier")
    return f"{match[1]}:{match[2]}"
