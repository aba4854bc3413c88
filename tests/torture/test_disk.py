"""A disk that fails, lies still, loses power or flips bits below a real server: the acknowledged prefix, or a
refusal."""

import functools
import random
from pathlib import Path

import pytest
import trio

from tests.torture import disk
from tests.torture.bits import flip_bits

pytestmark = pytest.mark.usefixtures("needs_gcc")


def test_calls_that_fail_cost_time_and_nothing_else(tmp_path: Path, dice: random.Random) -> None:
    trio.run(disk.failing_calls, tmp_path, 12, dice, print)


def test_on_a_full_disk_everything_can_be_read_and_nothing_is_acknowledged(tmp_path: Path, dice: random.Random) -> None:
    trio.run(disk.full_disk, tmp_path, dice)


def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, dice: random.Random) -> None:
    trio.run(functools.partial(disk.cut_power, tmp_path, 120, 80, dice, print))
    fates = flip_bits(tmp_path / "live.db", 60, dice)
    assert sum(fates.values()) > 60
    assert fates["served whole"] > 60, fates
    assert fates["refused as damaged"] > 5, fates
    assert "lost the end of the WAL" not in fates
    fates = flip_bits(tmp_path / "cut.db", 40, dice)
    print(dict(fates))
