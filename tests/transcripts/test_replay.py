"""Every recorded session against the server (table.py says what each is expected to show)."""

from __future__ import annotations

import itertools
import os
import secrets

import pytest
import trio

from .cases import TABLE, script_of
from .peers import Target
from .replay import Replay

DEADLINE_S = float(os.environ.get("LIVESYNC_REPLAY_DEADLINE_S", "60"))
RUN = secrets.token_hex(3)
_numbers = itertools.count()


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"{row.verdict}:{name}") for name, row in sorted(TABLE.items())]
)
def test_the_server_answers_as_the_table_says(name: str, target: Target) -> None:
    recorded, script, _ = script_of(name, f"~{RUN}{next(_numbers)}")
    trio.run(Replay(name, recorded, script, target, DEADLINE_S).run)
