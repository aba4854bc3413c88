"""The example receivers, each as a process of its own: they believe what is signed, and skip what they have."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from livesync_trio.config.declaring import Secret
from livesync_trio.delivery import messages
from livesync_trio.delivery.messages import Answer, Failed, Taken
from livesync_trio.delivery.network import GuardedNetwork, SystemResolver
from livesync_trio.delivery.sender import Sender
from livesync_trio.model import BackendId, LogState, StoredEvent, StoreId
from tests.delivery.receiver import SECRET, webhook

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE_S = 120.0
ANOTHER = "whsec_" + "YW5vdGhlciBzZWNyZXQgb2YgdGhlIHRlc3RzISEh"
RECEIVERS = {
    "webhook_receiver.py": [sys.executable],
    "webhook_receiver.mjs": ["node"],
    "webhook_receiver.go": ["go"],
}


class Example:
    """A receiver that runs."""

    def __init__(self, url: str, process: trio.Process) -> None:
        self._url = url
        self._process = process
        self._said = b""

    async def send(
        self, message: messages.Message, secret: str = SECRET, clock: Callable[[], float] = time.time
    ) -> Answer:
        network = GuardedNetwork(SystemResolver())
        sender = Sender(webhook(url=self._url, secret=Secret(secret)), network, ssl.create_default_context(), clock)
        answer = await sender.send(message)
        await sender.close()
        return answer

    async def says(self, line: str) -> None:
        """Wait for a line; it must be the next one."""
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            part = await self._process.stdout.receive_some(4096)
            assert part, "it has ended"
            self._said += part
        said, _, self._said = self._said.partition(b"\n")
        assert said.decode() == line


@asynccontextmanager
async def running(name: str, directory: Path) -> AsyncIterator[Example]:
    command = [*RECEIVERS[name], str(EXAMPLES / name), "0"]
    if name.endswith("go"):
        program = str(directory / "receiver")
        await trio.run_process(["go", "build", "-o", program, str(EXAMPLES / name)])
        command = [program, "0"]
    environment = {**os.environ, "WEBHOOK_SECRET": f"{ANOTHER} {SECRET}"}
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE_S):
            said = b""
            while b"\n" not in said:
                part = await process.stdout.receive_some(4096)
                assert part, "it did not start"
                said += part
            port = urlsplit(said.decode().split()[-1]).port
            yield Example(f"http://127.0.0.1:{port}/", process)
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


def events(*numbers: int, identity: str = "first") -> messages.Message:
    state = LogState(1, BackendId(identity), numbers[-1], numbers[-1])
    texts = [
        StoredEvent(number, number, b'{"name":"todoAdded","args":{"n":%d},"seqNum":%d}' % (number, number), "now")
        for number in numbers
    ]
    return messages.of_events("hook", StoreId("a b"), state, (numbers[0] - 1, numbers[-1]), texts)


@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_receiver_believes_what_is_signed_and_skips_what_it_has(name: str, tmp_path: Path) -> None:
    if shutil.which(RECEIVERS[name][0]) is None:
        pytest.skip(f"there is no {RECEIVERS[name][0]} here")
    quoted = '{"n": %d}' if name.endswith("py") else '{"n":%d}'
    async with running(name, tmp_path) as example:
        for forged in (
            await example.send(events(1), secret="whsec_" + "Zm9yZ2VkIHNlY3JldCBvZiBzb21lYm9keSEh"),
            await example.send(events(1), clock=lambda: time.time() - 3600),
            await example.send(events(1), clock=lambda: time.time() + 3600),
        ):
            assert forged == Failed("it answered 401")
        assert await example.send(events(1, 2)) == Taken(204)
        for number in (1, 2):
            await example.says(f"a b e{number} todoAdded {quoted % number}")
        assert await example.send(events(1, 2), secret=ANOTHER) == Taken(204)
        assert await example.send(events(2, 3)) == Taken(204)
        await example.says(f"a b e3 todoAdded {quoted % 3}")
        state = LogState(2, BackendId("second"), 0, 0)
        reset = messages.of_reset("hook", StoreId("a b"), state, "first", "2026-11-27T12:00:00.000Z")
        assert await example.send(reset) == Taken(204)
        await example.says("a b begins anew")
        assert await example.send(events(1, identity="second")) == Taken(204)
        await example.says(f"a b e1 todoAdded {quoted % 1}")
        assert await example.send(messages.of_test("hook", "2026-11-27T12:00:00.000Z")) == Taken(204)
