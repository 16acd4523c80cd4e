"""Recorded encodings: what released versions put on the wire is read, and written, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pkgc_protocol import FrameDecoder, encode
from pkgc_protocol.messages import FIELDS

FILES = sorted(Path(__file__).parent.glob("recorded-*.json"))


def revive(value: Any) -> Any:
    """JSON has no bytes: {"hex": …} stands for them."""
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: revive(one) for key, one in value.items()}
    return [revive(one) for one in value] if isinstance(value, list) else value


CASES = [
    pytest.param(revive(case["message"]), bytes.fromhex(case["frame"]), id=f"{path.stem}-{case['name']}")
    for path in FILES
    for case in json.loads(path.read_text())
]


@pytest.mark.parametrize(("message", "frame"), CASES)
def test_recorded_frame_both_ways(message: dict[str, Any], frame: bytes) -> None:
    """A change here means that an old client and a new daemon misunderstand each other."""
    assert FrameDecoder().feed(frame) == [message]
    assert encode(message) == frame


def test_every_type_is_recorded() -> None:
    """A type without a recording can change unseen."""
    assert {case.values[0]["t"] for case in CASES} == FIELDS.keys()  # type: ignore[index]
