"""A real server that makes its own backups."""

import time
from pathlib import Path

import trio

from tests.cli.conftest import command, environment
from tests.torture.server import ServerProcess
from tests.torture.sockets import open_stream

PATIENCE_S = 60


async def metrics(port: int) -> str:
    stream = await open_stream(port)
    assert stream is not None
    async with stream:
        await stream.send_all(
            b"GET /metrics HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer a metrics token\r\nConnection: close\r\n\r\n"
        )
        text = b""
        while data := await stream.receive_some(65536):
            text += data
    return text.decode()


async def appears(folder: Path) -> Path:
    with trio.fail_after(PATIENCE_S):
        while not (found := list(folder.glob("*.jsonl.gz"))):  # noqa: ASYNC110, ASYNC240 -- another process makes it
            await trio.sleep(0.05)
    return found[0]


async def test_it_makes_one_that_can_be_restored_and_stops_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    settings = {"LIVESYNC_BACKUP_DIR": str(folder), "LIVESYNC_METRICS_TOKEN": "a metrics token"}
    server = ServerProcess(tmp_path, settings)
    began_s = time.time()
    await server.start()
    try:
        file = await appears(folder)
        assert file.stat().st_mode & 0o077 == 0
        verified = await trio.run_process(
            command("verify", "--file", str(file)), env=environment(), capture_stdout=True, capture_stderr=True
        )
        assert verified.returncode == 0
        with trio.fail_after(PATIENCE_S):
            while "livesync_backup_size_bytes 0.0" in (told := await metrics(server.port)):  # noqa: ASYNC110
                await trio.sleep(0.05)
        (last,) = [line for line in told.splitlines() if line.startswith("livesync_backup_last_success")]
        assert began_s - 1 <= float(last.split()[1]) <= time.time()
        assert "livesync_backup_failures_total 0.0" in told
    finally:
        await server.stop()
    assert [path.name for path in folder.iterdir()] == [file.name]
