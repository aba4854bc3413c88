"""`livesync serve` with its control plane on, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from livesync_trio.config import CONFIG_ENV, SETTINGS
from tests.bad_input.clients import RpcClient, event, sync_url
from tests.bad_input.websockets import WebSocket
from tests.bad_input.wires import Wire

from .stage import PATIENCE_S, SECRET, STORE

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A server that runs by itself."""

    def __init__(self, process: subprocess.Popen[str], banner: str, log: Path) -> None:
        found = re.search(r"listening on http://127.0.0.1:(\d+)[\s\S]*control .*:(\d+)", banner)
        assert found, (banner, log.read_text(encoding="utf-8"))
        self.port, self.control_port = int(found[1]), int(found[2])
        self._process = process
        self._log = log
        self._wires: list[Wire] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def logged(self, line: str, times: int = 1) -> None:
        """Wait until a line has been logged so often."""
        with trio.fail_after(PATIENCE_S):
            while (found := self.log.count(line)) < times:  # noqa: ASYNC110 - no event comes from there
                await trio.sleep(0.02)  # another process decides
        assert found == times

    async def wire(self, port: int, receive_buffer_bytes: int | None = None) -> Wire:
        """A new TCP connection; with a small receive buffer, the server soon feels that nobody reads."""
        connected = trio.socket.socket()
        if receive_buffer_bytes is not None:
            connected.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer_bytes)
        await connected.connect(("127.0.0.1", port))
        self._wires.append(Wire(trio.SocketStream(connected)))
        return self._wires[-1]

    async def hang_up(self) -> None:
        for wire in self._wires:
            await wire.close()

    async def client(self, store: str = STORE) -> RpcClient:
        opened = await WebSocket.shake_hands(await self.wire(self.port), sync_url(store))
        return RpcClient(opened.wire, store)

    async def fill(self, size_bytes: int) -> None:
        """Push events until the store holds so much."""
        client = await self.client()
        for number in range(1, size_bytes // 500_000 + 2):
            assert (await client.push(event(number, number - 1, "x" * 500_000)))["exit"]["_tag"] == "Success"
        await client.wire.close()

    async def health(self) -> dict[str, Any]:
        """What the public port says."""
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            answer = await http.get(f"http://127.0.0.1:{self.port}/health")
            assert answer.status_code == 200
            return dict(answer.json())

    async def info(self) -> dict[str, Any]:
        """What the control plane says, as soon as it says anything again."""
        headers = {"authorization": f"Bearer {SECRET}"}
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    async with httpx.AsyncClient(timeout=PATIENCE_S, headers=headers) as http:
                        answer = await http.get(f"http://127.0.0.1:{self.control_port}/api/v1/info")
                        assert answer.status_code == 200
                        return dict(answer.json())
                except httpx.TransportError:
                    await trio.sleep(0.02)  # another process decides

    async def stop(self) -> float:
        """Ask it to end, and wait for it. Gives how long that took; its exit code must be 0."""
        began_s = trio.current_time()
        self._process.send_signal(signal.SIGTERM)
        await trio.to_thread.run_sync(self._process.wait, PATIENCE_S)
        assert self._process.returncode == 0
        return trio.current_time() - began_s


@asynccontextmanager
async def serving(directory: Path, **environment: str) -> AsyncIterator[Process]:
    """Start `livesync serve` in a directory, without settings of the developer's own; ended by force in the end."""
    ours = {CONFIG_ENV, *(env for setting in SETTINGS for env in (setting.env, setting.file_env))}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    settings = {"PYTHONPATH": str(ROOT), "PORT": "0", "ADMIN_PORT": "0", "ADMIN_SECRET": SECRET, **environment}
    log = directory / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 - as quick as anything here
            [sys.executable, "-m", "livesync_trio", "serve"],
            cwd=directory,
            env=inherited | settings,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                banner = await trio.to_thread.run_sync(_banner, process)
                server = Process(process, banner, log)
                try:
                    yield server
                finally:
                    await server.hang_up()
            finally:
                process.kill()


def _banner(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "in the app" in line:
            break
    return "".join(lines)
