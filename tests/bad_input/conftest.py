"""The server that most tests here are against."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from livesync_trio.connection import rpc_peer

from .servers import TestedServer, running_server


@pytest.fixture(autouse=True)
def patient_with_clients_that_only_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients here ping without ever pulling, on a slow machine for longer than a real one is let (SPEC 3.6)."""
    monkeypatch.setattr(rpc_peer, "ORPHAN_QUIET_S", 3600.0)


@pytest.fixture
async def server() -> AsyncIterator[TestedServer]:
    """A server without hooks, with the smallest frame limit, for pages of every origin."""
    async with running_server(cors_origins=("*",)) as running:
        yield running
