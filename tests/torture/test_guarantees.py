"""Every promise in docs/guarantees.md names the tests that attack it, and they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "guarantees.md"
PROMISES = [
    line
    for line in DOCUMENT.read_text().partition("## How the simulation is made")[0].splitlines()
    if line.startswith("| ") and not line.startswith(("| promise ", "| --- "))
]
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+::\w+)`", DOCUMENT.read_text())))


def test_there_are_promises() -> None:
    assert len(PROMISES) > 25


@pytest.mark.parametrize("line", PROMISES)
def test_every_promise_is_attacked(line: str) -> None:
    assert re.search(r"`tests/[\w/.]+::\w+` *(,|\|)", line)


@pytest.mark.parametrize("name", NAMED)
def test_the_test_exists(name: str) -> None:
    file, _, function = name.partition("::")
    assert re.search(rf"^(?:(async )?def {function}\(|{function} = )", (ROOT / file).read_text(), re.MULTILINE)


def test_drawings_that_are_shown_exist() -> None:
    for drawing in re.findall(r"\]\(([\w./-]+\.svg)\)", DOCUMENT.read_text()):
        assert (DOCUMENT.parent / drawing).exists()
