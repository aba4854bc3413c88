"""The process ends, whatever hangs; and it takes the address of nobody when descriptors run out."""

from __future__ import annotations

import os
import resource
import signal
import socket
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from livesync_trio import supervision
from livesync_trio.ending import END_AT_ONCE_S, FORCED_EXIT_CODE
from livesync_trio.supervision import open_tasks
from tests.torture.server import ServerProcess

HOOKS = """
import time

async def validate_payload(payload, context):
    print("hangs", flush=True)
    time.sleep(1000)
"""


async def test_a_second_signal_ends_a_server_whose_event_loop_hangs(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HOOKS)
    server = ServerProcess(tmp_path, {"LIVESYNC_HOOKS": str(tmp_path / "hanging.py")})
    try:
        with trio.fail_after(60):
            await server.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_knock, server)
                assert server.process is not None
                assert server.process.stdout is not None
                said = b""
                while b"hangs" not in said:
                    said += await server.process.stdout.receive_some(4096)
                began_s = trio.current_time()
                server.process.send_signal(signal.SIGTERM)
                await trio.sleep(0.1)  # two signals at one moment are one
                assert await server.end(signal.SIGTERM) == FORCED_EXIT_CODE
                assert trio.current_time() - began_s < END_AT_ONCE_S + 10
                nursery.cancel_scope.cancel()
        assert "something hangs" in server.log_tail()
    finally:
        await server.end(signal.SIGKILL)


async def _knock(server: ServerProcess) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(
            b"GET /?storeId=s&transport=ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
            b"connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await trio.sleep_forever()


async def test_without_descriptors_clients_are_told_and_the_log_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "ACCEPT_RETRY_S", 0.01)
    served: list[trio.SocketStream] = []

    async def serve(stream: trio.SocketStream) -> None:
        served.append(stream)
        await stream.receive_some(1)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    callers = [socket.socket() for _ in range(4)]
    with structlog.testing.capture_logs() as logs, trio.fail_after(20):
        async with open_tasks("test") as tasks:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            address = listeners[0].socket.getsockname()
            tasks.start(tasks.accept, serve, listeners)
            await trio.testing.wait_all_tasks_blocked()
            spare = os.dup(0)
            os.close(spare)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))  # not one more
            try:
                for caller in callers[:3]:
                    caller.settimeout(10)
                    caller.connect(address)
                    assert await trio.to_thread.run_sync(caller.recv, 1) == b""
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            callers[3].connect(address)
            while not served:
                await trio.testing.wait_all_tasks_blocked(0.01)
            tasks.cancel()
        assert tasks.crash is None
    for caller in callers:
        caller.close()
    assert [line["event"] for line in logs] == [
        "connections are refused: no descriptors left",
        "connections are accepted again",
    ]
    assert logs[-1]["refused"] == 3
