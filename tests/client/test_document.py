"""The programs that the page about Python shows do what it says, one after the other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, blocks

PAGE = "docs/python.md"
EXPECTED = {
    "note.py": "stored as 1\n",
    "answer.py": 'answered {"text":"Who is there?"}\n',
    "count.py": "1 events\n",
}
"""What each prints."""
LIMIT_S = 60


@pytest.fixture(scope="module")
def printed(livesync: str) -> dict[str, str]:
    """What each program printed, run as shown against a server."""
    found = {}
    for block in blocks(PAGE):
        name = block.text.removeprefix("# ").split(":")[0].split("\n")[0]
        if name not in EXPECTED:
            continue
        done = subprocess.run(
            [sys.executable, "-c", block.text.replace("http://127.0.0.1:8000", livesync)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        found[name] = done.stdout + done.stderr
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_a_program_that_is_shown_works(printed: dict[str, str], name: str) -> None:
    assert printed[name] == EXPECTED[name]
