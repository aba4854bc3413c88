"""A short soak: that its load, its samples and its drawing work. How flat a process stays, only long ones show."""

import random
from pathlib import Path

import trio

from tests.torture.soak import Soak


def test_a_mixed_load_converges_and_is_audited(tmp_path: Path, dice: random.Random) -> None:
    soak = Soak(stores=5, idle=10)
    trio.run(soak.run, tmp_path, 0.1, dice, print)
    assert len(soak.samples) >= 2  # one a second, on a machine that has time for it
    assert soak.auditor.acknowledgements > 0
    assert soak.drawing("short").startswith("<svg")
