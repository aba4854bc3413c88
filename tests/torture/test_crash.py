"""A real server killed with -9 while 50 writers and 20 live readers are at work; the auditor compares (`crash.py`)."""

import random
from pathlib import Path

import trio

from tests.torture.crash import Crashes


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path, dice: random.Random) -> None:
    crashes = Crashes()
    trio.run(crashes.run, tmp_path, 10, dice, print)
    assert crashes.acknowledged > 50
