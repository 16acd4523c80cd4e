"""docs/rules.md maps each rule of the standards to tests that prove it, or says why it does not apply."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[2]
DOCUMENT = TESTS.parent / "docs" / "rules.md"

#: Rules with numbers -> how many there are.
NUMBERED = {
    "R": 10, "H": 11, "P": 2, "MUST-": 8, "U": 10, "S": 9, "W": 15, "E": 5, "D": 7, "T": 2, "M": 4, "B": 4,
    "V": 4, "A": 12, "K": 7,
}  # fmt: skip
#: And with names only.
NAMED = [
    "R-options", "R-line", "R-forms", "H-identity", "H-resume", "P-name", "P-top", "P-package", "P-sources",
    "P-remote-path", "P-remote-directory", "P-scheme", "P-size", "P-index-size", "C-pages", "C-files",
    "T-order", "T-probe", "B-user", "F-variants", "F-zstd",
]  # fmt: skip

NOT_APPLIED = "Not applied: "
_NAME = re.compile(r"`([a-z]+/[\w/]+\.py)::(\w+)(?:\[([^\]]+)\])?`")
#: Marks that keep a test from running, or from running in every `./check`.
_NEVER = frozenset({"skip", "xfail", "full", "network"})
#: What keeps it from running on some machines; so do marks that are called `needs_…`.
_SOMEWHERE = frozenset({"skipif", "importorskip"})


class Named(NamedTuple):
    """A test as the document names it."""

    path: str
    function: str
    case: str


class Row(NamedTuple):
    """One rule of the document."""

    rule: str
    short: str
    proof: str

    @property
    def tests(self) -> list[Named]:
        """The tests that it names."""
        return [Named(*found.groups("")) for found in _NAME.finditer(self.proof)]


def rows() -> list[Row]:
    """Every row of every table, without their heads."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == 3 for row in cells), "a cell must not hold '|'"
    return [Row(*row) for row in cells if row[0] != "Rule" and not row[0].startswith("--")]


class Module(NamedTuple):
    """A test module, as its source tells."""

    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]
    texts: frozenset[str]
    """Every string in it: the names of cases are among them."""
    skipping: frozenset[str]
    """`skipping` of its `pytestmark`."""


@cache
def module(path: str) -> Module | None:
    """The test module at `path` below tests/; None when there is none."""
    file = TESTS / path
    if not file.is_file():
        return None
    tree = ast.parse(file.read_text())
    marks = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
    ]
    return Module(
        {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))},
        frozenset(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ),
        frozenset[str]().union(*map(skipping, marks)),
    )


def skipping(node: ast.AST) -> frozenset[str]:
    """The names in `node` by which pytest skips."""
    names = {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}
    names |= {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return frozenset(name for name in names if name in _NEVER | _SOMEWHERE or name.startswith("needs_"))


def problem(test: Named) -> str | None:
    """Why the document may not name this test, or None when it may."""
    found = module(test.path)
    function = found.functions.get(test.function) if found is not None else None
    if found is None or function is None:
        return "does not exist"
    parametrised = any("parametrize" in ast.dump(decorator) for decorator in function.decorator_list)
    if test.case and not (parametrised and test.case in found.texts):
        return "has no such case"
    marked = found.skipping.union(*map(skipping, function.decorator_list)) & _NEVER
    return f"is skipped ({', '.join(sorted(marked))})" if marked else None


def test_every_rule_is_there_once() -> None:
    """A rule that nobody lists is a rule that nobody checks."""
    expected = [f"{letter}{number}" for letter, most in NUMBERED.items() for number in range(1, most + 1)]
    assert Counter(row.rule for row in rows()) == Counter([*expected, *NAMED])


def test_every_rule_has_a_test_or_a_reason() -> None:
    """A row without either looks like a proof and is none."""
    for row in rows():
        assert row.short, row.rule
        if row.proof.startswith(NOT_APPLIED):
            assert not row.tests, row.rule
            assert len(row.proof) > len(NOT_APPLIED), row.rule
        else:
            assert row.tests, row.rule
            assert _NAME.sub("", row.proof).strip(", ") == "", f"{row.rule}: more than names of tests"


def test_every_test_that_is_named_exists_and_runs() -> None:
    """A test that was renamed, or is skipped, proves nothing; the table would go on saying that it does."""
    problems = {
        f"{row.rule}: {'::'.join(test[:2])}[{test.case}]": said
        for row in rows()
        for test in row.tests
        if (said := problem(test)) is not None
    }
    assert problems == {}


def test_every_rule_has_a_test_that_runs_everywhere() -> None:
    """Some tests need git, root or another Python; of the tests of a rule one at least must need nothing."""
    for row in rows():
        ways = [
            found.skipping | skipping(found.functions[test.function])
            for test in row.tests
            if (found := module(test.path)) is not None and test.function in found.functions
        ]
        assert not ways or any(not way for way in ways), row.rule


def test_bad_names_are_found() -> None:
    """The checks above must be able to fail."""
    here = "unit/support/test_rules_document.py"
    assert problem(Named(here, "test_bad_names_are_found", "")) is None
    assert problem(Named(here, "test_nothing", "")) == "does not exist"
    assert problem(Named("unit/support/test_nothing.py", "test_x", "")) == "does not exist"
    assert problem(Named(here, "test_bad_names_are_found", "some case")) == "has no such case"
    assert problem(Named("integration/test_differential.py", _FIRST, "")) == "is skipped (full, network)"
    assert skipping(ast.parse("@pytest.mark.skipif(True)\ndef f(): pytest.skip()")) == {"skip", "skipif"}


_FIRST = "test_installed_tree_equals_uv_and_pip"
