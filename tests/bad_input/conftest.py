"""The server that most tests here are against."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .servers import TestedServer, running_server


@pytest.fixture
async def server() -> AsyncIterator[TestedServer]:
    """A server without hooks, with the smallest frame limit, for pages of every origin."""
    async with running_server(cors_origins=("*",)) as running:
        yield running
