"""A real server killed with -9 while 50 writers and 20 live readers are at work; the auditor compares (`crash.py`)."""

import random
from pathlib import Path

import pytest
import trio

from tests.torture.crash import Crashes


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path, dice: random.Random) -> None:
    crashes = Crashes()
    trio.run(crashes.run, tmp_path, 10, dice, print)
    assert crashes.acknowledged > 50


def test_nothing_acknowledged_is_lost_when_the_wal_is_removed_before_the_kill(
    tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.torture.crash.POINTS", ("wal",))
    crashes = Crashes()
    trio.run(crashes.run, tmp_path, 4, dice, print)
    assert crashes.acknowledged > 50
