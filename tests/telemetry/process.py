"""A real server process whose log is read as it grows."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.bad_input.clients import sync_url
from tests.bad_input.servers import TestedServer
from tests.bad_input.websockets import upgrade
from tests.conformance.servers import ServerProcess

PATIENCE_S = 90.0


class Watched(TestedServer):
    """A server process; its settings stand in a configuration file."""

    __test__ = False

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        settings = {"LIVESYNC_CONFIG": str(directory / "livesync.toml"), "LOG_FORMAT": "json", **environment}
        self.process = ServerProcess(directory, f"sqlite:///{directory}/livesync.db", settings)
        super().__init__(self.process.port, [], ...)

    def configure(self, **settings: Any) -> None:
        """Write the configuration file."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self.directory / "livesync.toml").write_text("\n".join(lines) + "\n")

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines so far with this event."""
        text = (self.directory / "server.log").read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    async def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait until the log has that many such lines; gives the last."""
        with trio.fail_after(PATIENCE_S):
            while len(found := self.lines(event)) < count:  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.02)
        return found[-1]

    async def reload(self, ended_by: str) -> dict[str, Any]:
        """Send SIGHUP, and wait for the line that says what came of it."""
        before = len(self.lines(ended_by))
        assert self.process._process is not None
        self.process._process.send_signal(signal.SIGHUP)
        return await self.wait_for(ended_by, before + 1)

    async def status(self, store: str, payload: object, *headers: str) -> int:
        """What a client of 0.4 meets at the door: 101 when it may come in."""
        return (await self.ask(upgrade(sync_url(store, payload=payload), *headers))).status


RELOADED = "reloaded"
FAILED = "reload failed, everything stays as it was"


@asynccontextmanager
async def watched(
    directory: Path, environment: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[Watched]:
    """Run a server process with a configuration file; it must end in order, here or before."""
    server = Watched(directory, environment or {})
    server.configure(**settings)
    server.process.start()
    try:
        yield server
    finally:
        await server.hang_up()
        if server.process._process is not None:
            assert await trio.to_thread.run_sync(server.process.stop) == 0
