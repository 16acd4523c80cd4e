"""Messages: the table of types and fields, and that docs/protocol.md says the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.hands import HANDS
from pkgc_daemon.serving.session import GREETING_TIMEOUT
from pkgc_protocol import FEATURES, PROTOCOL, RemoteProtocolError, validate
from pkgc_protocol.frames import MAX_DEPTH, MAX_ITEMS
from pkgc_protocol.messages import FIELDS
from pkgc_protocol.states import CLIENT, DAEMON, TRANSITIONS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
SAMPLES: dict[type, Any] = {str: "x", int: 1, list: [], dict: {}, bytes: b"", tuple: (), type(None): None}


def sample(kind: str, *, optional: bool = True) -> dict[str, Any]:
    """A right message of that type."""
    message: dict[str, Any] = {"t": kind}
    for name, (types, required) in FIELDS[kind].items():
        if required or optional:
            message[name] = SAMPLES[types[0]]
    return message


@pytest.mark.parametrize("kind", FIELDS)
def test_right_messages_pass(kind: str) -> None:
    """With and without what is optional; with fields of a newer minor."""
    assert validate(sample(kind)) == sample(kind)
    assert validate(sample(kind, optional=False))
    assert validate(sample(kind) | {"from-the-future": [1]})


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FIELDS for name in FIELDS[kind]])
def test_wrong_fields_are_refused(kind: str, name: str) -> None:
    """A missing or mistyped field must not reach code that trusts the table."""
    types, required = FIELDS[kind][name]
    message = sample(kind)
    del message[name]
    if required:
        with pytest.raises(RemoteProtocolError, match=name):
            validate(message)
    else:
        validate(message)
    for value in (*SAMPLES.values(), True, 1.5):
        if isinstance(value, types) and not isinstance(value, bool):
            continue
        with pytest.raises(RemoteProtocolError, match=name):
            validate(sample(kind) | {name: value})


@pytest.mark.parametrize(
    "message", [{}, {"t": None}, {"t": "nonsense"}, {"t": ["invoke"]}, [], None, 3, "hello"]
)
def test_unknown_types_are_refused(message: object) -> None:
    """A type that is not in the table is never passed on."""
    with pytest.raises(RemoteProtocolError):
        validate(message)


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by the name in their first cell."""
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = cells
    return found


def test_document_names_every_frame_and_field() -> None:
    """docs/protocol.md is what somebody else would write a client from."""
    documented = rows("Frames by type")
    assert documented.keys() == FIELDS.keys()
    for kind, fields in FIELDS.items():
        cell = documented[kind][3]
        marked = re.findall(r"`(\w+)`(\??)", cell)
        assert {name for name, _ in marked} == fields.keys(), kind
        for name, mark in marked:
            assert (mark == "") == fields[name][1], f"{kind}.{name}"


def test_document_names_the_senders() -> None:
    """Who may send what is the tables' too."""
    for kind, cells in rows("Frames by type").items():
        senders = {sender for (sender, _), allowed in TRANSITIONS.items() for name in allowed if name == kind}
        assert (
            cells[1]
            == {(CLIENT, DAEMON): "both", (CLIENT,): "client", (DAEMON,): "daemon"}[tuple(sorted(senders))]
        )


def test_document_names_every_verb_limit_and_feature() -> None:
    """Nor may a verb, a limit or a feature be a secret."""
    assert rows("Host calls").keys() == HANDS.keys()
    limits = DOCUMENT.split("| limit |")[1].split("\n\n")[0]
    for text in (f"{MAX_ITEMS:,}".replace(",", " "), f"| {MAX_DEPTH} |", f"{GREETING_TIMEOUT:g} s"):
        assert text in limits
    assert f"protocol {PROTOCOL[0]}.{PROTOCOL[1]}" in DOCUMENT.splitlines()[0]
    for feature in FEATURES:
        assert f"`{feature}`" in DOCUMENT
