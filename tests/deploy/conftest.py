"""Fixtures: the real clients, and servers that end with the test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.conftest import drivers, generation, make_client, node_packages_ready, store_id
from tests.deploy.processes import Served

__all__ = ["drivers", "generation", "make_client", "node_packages_ready", "serve", "store_id"]

Serve = Callable[..., Served]

BINARY_VARIABLE = "LIVESYNC_BINARY"
"""Path of the executable under test, from the root of the checkout."""

_NOT_RUN = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the executable where none was built for them."""
    if BINARY_VARIABLE not in os.environ:
        left_out = [item for item in items if item.path.name == "test_binary.py"]
        config.stash[_NOT_RUN] = len(left_out)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say so."""
    if config.stash.get(_NOT_RUN, 0):
        terminalreporter.write_line("the single executable was not tested: scripts/build-binary --check", yellow=True)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers (see `Served`)."""
    with contextlib.ExitStack() as at_the_end:

        def start(*arguments: Any, **how: Any) -> Served:
            server = Served(*arguments, **how)
            at_the_end.callback(server.kill)
            return server

        yield start
