"""Scheduled backups: when one is made, what is tried again, what is kept. The command itself is a stand-in here."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from livesync_trio.archive.places import Folder, keep_newest
from livesync_trio.backups import BUCKET_LOOK_S, RETRY_FIRST_S, Backups
from livesync_trio.config import Config

HOUR_S = 3600.0
EPOCH_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()

Ran = list[tuple[float, str]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """When the command was run, in hours, and for which file; it fails while the file `full` lies in the folder."""
    calls: Ran = []

    async def run_process(command: list[str], **how: Any) -> "subprocess.CompletedProcess[bytes]":
        assert command[-5:-1] == ["backup", "--json", "--keep", "3"]
        file = Path(command[-1])
        calls.append((trio.current_time() / HOUR_S, file.name))
        assert how["env"]["LIVESYNC_DATABASE_URL"] == "sqlite:///a.db"
        assert "a.db" not in " ".join(command)
        if (file.parent / "full").exists():
            return subprocess.CompletedProcess(command, 1, b"", b"some line\nno room\n")
        file.write_bytes(b"whatever")  # noqa: ASYNC240 -- a few bytes
        keep_newest(Folder(file.parent), 3)
        return subprocess.CompletedProcess(command, 0, b'{"bytes":8}\n', b"")

    monkeypatch.setattr(trio, "run_process", run_process)
    return calls


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Backups]:
    """The backups of a server, hourly, of which three are kept."""
    folder = str(tmp_path / "backups")
    config = Config(database_url="sqlite:///a.db", backup_dir=folder, backup_every_s=HOUR_S, backup_keep=3)
    return lambda: Backups(config, lambda: EPOCH_S + trio.current_time())


async def test_one_is_made_at_once_and_then_by_the_clock_and_the_oldest_go(
    ran: Ran, make: Callable[[], Backups], autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    (tmp_path / "backups").mkdir()
    kept = tmp_path / "backups" / "livesync-of-somebody-else.jsonl.gz"
    kept.touch()
    made = make()
    with trio.move_on_after(4.5 * HOUR_S):
        await made.run()
    assert [round(at, 3) for at, _ in ran] == [0, 1, 2, 3, 4]
    names = sorted(path.name for path in (tmp_path / "backups").iterdir() if path != kept)
    assert names == [f"livesync-20260301T0{hour}0000Z.jsonl.gz" for hour in (2, 3, 4)]
    assert kept.exists()
    assert made.last_s == EPOCH_S + 4 * HOUR_S
    assert made.last_bytes > 0
    assert made.failed == 0


async def test_a_server_that_is_started_again_waits_for_the_next(
    ran: Ran, make: Callable[[], Backups], autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(0.5 * HOUR_S):
        await make().run()
    again = make()
    with trio.move_on_after(1.0 * HOUR_S):
        await again.run()
    assert [round(at, 3) for at, _ in ran] == [0, 1]
    assert again.last_s == EPOCH_S + HOUR_S


async def test_one_that_fails_is_tried_again_and_takes_no_old_one_away(
    ran: Ran, make: Callable[[], Backups], autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    made = make()
    with trio.move_on_after(0.5 * HOUR_S):
        await made.run()
    full = tmp_path / "backups" / "full"
    full.touch()
    with trio.move_on_after(0.5 * HOUR_S + 4 * RETRY_FIRST_S):
        await made.run()
    assert made.failed == 3  # at once, after one pause, after another twice as long
    assert made.last_s == EPOCH_S
    full.unlink()
    with trio.move_on_after(HOUR_S / 2):
        await made.run()
    assert made.last_s > EPOCH_S
    assert len(list((tmp_path / "backups").iterdir())) == 2


async def test_a_folder_that_cannot_be_made_is_told_and_tried_again(
    ran: Ran, make: Callable[[], Backups], autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    (tmp_path / "backups").write_text("a file")
    made = make()
    with trio.move_on_after(1.5 * RETRY_FIRST_S):
        await made.run()
    assert made.failed == 2
    assert not ran


async def test_one_is_made_when_it_is_asked_for(
    ran: Ran, make: Callable[[], Backups], autojump_clock: trio.testing.MockClock
) -> None:
    made = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.sleep(0.25 * HOUR_S)
        assert made.make_now()
        await trio.sleep(0.25 * HOUR_S)
        nursery.cancel_scope.cancel()
    assert [round(at, 3) for at, _ in ran] == [0, 0.25]
    assert made.last_s == EPOCH_S + 0.25 * HOUR_S


async def test_one_that_is_made_can_be_given_up_and_is_tried_again_later(
    make: Callable[[], Backups], autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    async def run_process(command: list[str], **_: Any) -> None:
        begun.append(trio.current_time())
        Path(f"{command[-1]}.part").write_bytes(b"half")  # noqa: ASYNC240 -- a few bytes
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "run_process", run_process)
    made = make()
    assert not made.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.sleep(1)
        assert made.making is not None
        assert made.making.written_bytes() == 4
        assert not made.make_now()
        assert made.cancel()
        await trio.sleep(1)
        assert made.making is None
        assert (made.failed, made.reason) == (0, "It was cancelled.")
        await trio.sleep(RETRY_FIRST_S)
        assert begun == [0, 1 + RETRY_FIRST_S]
        nursery.cancel_scope.cancel()


async def test_a_bucket_is_asked_once_a_minute_however_many_look(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def run_process(command: list[str], **_: Any) -> "subprocess.CompletedProcess[bytes]":
        assert command[-2:] == ["backups", "--json"]
        asked.append(trio.current_time())
        await trio.sleep(1)
        return subprocess.CompletedProcess(
            command, 0, b'{"name":"livesync-20260301T000000Z.jsonl.gz","bytes":9}\n', b""
        )

    monkeypatch.setattr(trio, "run_process", run_process)
    config = Config(database_url="sqlite:///a.db", backup_dir="s3://bucket/folder")
    backups = Backups(config, trio.current_time)

    async def look() -> None:
        assert [one.size_bytes for one in await backups.kept()] == [9]

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(look)
    await trio.sleep(BUCKET_LOOK_S / 2)
    await look()
    assert len(asked) == 1
    await trio.sleep(BUCKET_LOOK_S)
    await look()
    assert len(asked) == 2
