"""Attacks on where a real server writes what it has to say: full disks, readers that go or sleep, the audit log.

In each of them clients work on, `/health` is answered, SIGHUP is heard, and the server ends in order.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from tests.simulation.leader import Violation
from tests.simulation.waiting import until
from tests.torture.audit import Auditor
from tests.torture.disk import Work
from tests.torture.shim import Call, Shim

LIMIT_S = 60.0
NOISE = {"LOG_LEVEL": "debug"}
"""Each message has a line: much to say."""


async def logs(directory: Path, dice: random.Random, say: Callable[[str], None]) -> None:
    """All of them, one server after another. Raises Violation."""
    for name, attack in (
        ("log and database on one full disk", _one_full_disk),
        ("the log's disk full", _full_log),
        ("the log's reader killed", _reader_killed),
        ("the log's reader asleep", _reader_asleep),
        ("the audit log's disk full", _full_audit),
    ):
        place = directory / name.replace(" ", "-").replace("'", "")
        place.mkdir()
        shim = Shim(place, place / "live.db")
        work = Work.on(place, shim, dice, trio.current_time)
        work.server.environment |= NOISE
        try:
            await attack(work, shim)
            Auditor().audit(work.server.database, work.clients, live=False)
        finally:
            await work.server.end(signal.SIGKILL)
            shim.close()
        say(f"{name}: {work.acknowledged} pushes acknowledged")


async def _lives_through(work: Work, trouble: Callable[[], None], cure: Callable[[], None], *, refused: bool) -> None:
    """Push, begin the trouble, reload, push again, end it, stop. `refused`: whether nothing is stored meanwhile."""
    await work.server.start()
    async with trio.open_nursery() as nursery:
        for leader in work.everybody:
            nursery.start_soon(leader.run)
            leader.commit()
        await work.settled()
        trouble()
        os.kill(work.server.pid, signal.SIGHUP)
        begun_s = trio.current_time()
        for leader in work.everybody:
            leader.commit()
        if refused:
            await _expect(lambda: _health(work)["status"] != "ok", "health says that nothing can be stored")
            if work.acknowledged_since(begun_s):
                raise Violation("acknowledged on a full disk")
        else:
            await work.settled()
            _health(work)
        os.kill(work.server.pid, signal.SIGHUP)
        cure()
        await work.settled()
        await _expect(lambda: _health(work)["status"] == "ok", "health is well again")
        nursery.cancel_scope.cancel()
    await work.server.stop()


async def _one_full_disk(work: Work, shim: Shim) -> None:
    with _opened("/dev/full") as work.server.stderr:
        full = lambda: shim.arm(Call.WRITE, errno.ENOSPC, times=-1)  # noqa: E731
        await _lives_through(work, full, shim.disarm, refused=True)


async def _full_log(work: Work, _: Shim) -> None:
    with _opened("/dev/full") as work.server.stderr:
        await _lives_through(work, _nothing, _nothing, refused=False)


async def _reader_killed(work: Work, _: Shim) -> None:
    reading, work.server.stderr = os.pipe()
    writing = work.server.stderr

    def kill() -> None:
        os.close(reading)
        os.close(writing)

    await _lives_through(work, kill, _nothing, refused=False)


async def _reader_asleep(work: Work, _: Shim) -> None:
    reading, work.server.stderr = os.pipe()
    os.set_blocking(work.server.stderr, False)
    filler = work.server.stderr

    def fill() -> None:
        try:
            while os.write(filler, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(filler, True)

    try:
        await _lives_through(work, fill, _nothing, refused=False)
    finally:
        os.close(reading)
        os.close(filler)


async def _full_audit(work: Work, _: Shim) -> None:
    work.server.environment["LIVESYNC_AUDIT_LOG"] = "/dev/full"
    await _lives_through(work, _nothing, _nothing, refused=False)
    if "audit log cannot be written" not in work.server.log_tail(10_000):
        raise Violation("the log does not tell of the audit log")


class _opened:  # noqa: N801 - used like a function
    """A descriptor for writing."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _nothing() -> None:
    pass


def _health(work: Work) -> dict[str, Any]:
    """What /health says; it must answer within seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", work.server.port, timeout=5)
    try:
        connection.request("GET", "/health")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


async def _expect(condition: Callable[[], bool], what: str) -> None:
    if not await until(condition, LIMIT_S, every_s=0.1):
        raise Violation(f"not within {LIMIT_S:g} s: {what}")
