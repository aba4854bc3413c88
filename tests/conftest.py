"""What holds for every test: how examples are drawn, and which files come first."""

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# No deadlines: how long an example takes says how busy the machine is. Where a change is judged, the same examples are
# drawn each time, so that it is judged by what it changes; whoever runs the tests by hand looks for new ones.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("unhurried")

LONGEST_FIRST: Final = (
    "torture/test_mutants.py",
    "conformance/test_restarts.py",
    "conformance/test_livestore_runtime.py",
    "archive/test_memory.py",
    "archive/test_moving_from_cloudflare.py",
    "deploy/test_container.py",
    "postgres/test_several_servers.py",
    "deploy/test_platform.py",
    "simulation/test_simulation.py",
    "archive/test_interrupted.py",
    "postgres/test_histories.py",
    "torture/test_network.py",
    "torture/test_crash.py",
    "archive/test_jsonl.py",
    "security/test_hostile_sockets.py",
    "postgres/test_faults.py",
    "torture/test_statements.py",
    "admin/test_hostile.py",
    "torture/test_clients.py",
    "conformance/test_caddy.py",
    "conformance/test_restored_beside.py",
    "deploy/test_rollout.py",
    "torture/test_disk.py",
)
"""Files are run side by side, each by one process: one that is long and comes last is waited for by all the others.

From `pytest --durations=0`; a file that is not here takes less than a minute on a busy machine, and comes after these.
"""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file, and among the others, the order stays."""
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
