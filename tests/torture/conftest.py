"""What the attacks need of the machine; where it is missing they are skipped loudly, and fail under `CI=true`."""

from __future__ import annotations

import os
import random

import pytest

from tests.conformance import node_packages
from tests.torture.shim import missing_programs

SEED_VARIABLE = "LIVESYNC_TORTURE_SEED"
_NOT_RUN = pytest.StashKey[str]()


@pytest.fixture
def dice() -> random.Random:
    """Chance, from a seed that is printed when the test fails; `LIVESYNC_TORTURE_SEED` replays it."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.randrange(10**6))
    print(f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)


def _missing(config: pytest.Config, programs: list[str], what: str) -> None:
    if programs:
        reason = f"TORTURE NOT RUN: {' and '.join(programs)} not found, so {what}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        config.stash[_NOT_RUN] = reason
        pytest.skip(reason)


@pytest.fixture
def needs_gcc(pytestconfig: pytest.Config) -> None:
    """A compiler for the failing disk."""
    _missing(pytestconfig, missing_programs(), "no failing disk was tried")


@pytest.fixture
def needs_node(pytestconfig: pytest.Config) -> None:
    """Node and the real clients."""
    _missing(pytestconfig, node_packages.missing_programs(), "no real client was tortured")
    for package_set in ("v0.3", "v0.4"):
        node_packages.install(package_set)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The one loud line about what was not run."""
    if _NOT_RUN in config.stash:
        terminalreporter.write_line(config.stash[_NOT_RUN], red=True, bold=True)
