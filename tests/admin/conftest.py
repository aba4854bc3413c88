"""The server that most tests here are against."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .stage import Stage, running


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A server without hooks, with events in memory."""
    async with running() as running_stage:
        yield running_stage
