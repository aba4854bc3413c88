"""Networks that fall silent, readers that stop, and everybody coming back at once (`network.py`, `storm.py`)."""

import functools
import random
from pathlib import Path

import trio

from tests.torture import network, storm

CLIENTS_IN_CI = 500


def test_half_open_connections_are_noticed(tmp_path: Path, dice: random.Random) -> None:
    trio.run(functools.partial(network.half_open, tmp_path, dice, print, orphaning=False))


def test_readers_that_stop_cost_bounded_memory_and_nobody_elses_time(tmp_path: Path, dice: random.Random) -> None:
    trio.run(network.stopped_readers, tmp_path, 10, 8, dice, print)


def test_a_storm_of_reconnecting_clients_is_served(tmp_path: Path, dice: random.Random) -> None:
    trio.run(storm.storm, tmp_path, CLIENTS_IN_CI, dice, print)
