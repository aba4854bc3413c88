"""A disk that fails, lies still, loses power or flips bits below a real server: the acknowledged prefix, or a
refusal."""

import functools
import random
from pathlib import Path

import pytest
import trio

from tests.torture import disk

pytestmark = pytest.mark.usefixtures("needs_gcc")


def test_calls_that_fail_cost_time_and_nothing_else(tmp_path: Path, dice: random.Random) -> None:
    trio.run(disk.failing_calls, tmp_path, 12, dice, print)


def test_on_a_full_disk_everything_can_be_read_and_nothing_is_acknowledged(tmp_path: Path, dice: random.Random) -> None:
    trio.run(disk.full_disk, tmp_path, dice)


def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, dice: random.Random) -> None:
    trio.run(functools.partial(disk.cut_power, tmp_path, 120, 80, dice, print))
    fates = disk.flip_bits(tmp_path, tmp_path / "live.db", 60, dice)
    assert sum(fates.values()) > 60
    assert fates["served whole"] > 60, fates
