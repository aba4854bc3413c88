"""Seeded simulation of the whole server under faults; `scripts/torture simulate` runs as many seeds as wanted."""

import os

import pytest

from tests.simulation.run import simulate

FIRST = int(os.environ.get("LIVESYNC_SIMULATION_FIRST_SEED", "0"))
SEEDS = int(os.environ.get("LIVESYNC_SIMULATION_SEEDS", "100"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_no_promise_is_broken(seed: int) -> None:
    trace = simulate(seed)
    assert trace


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_seed_gives_one_trace(seed: int) -> None:
    assert simulate(seed) == simulate(seed)
