"""Backups by the clock: `livesync backup` again and again into one folder, and the oldest go.

Each is made by a process of its own, beside the server as an operator would start it: it takes no time of the event
loop, and whatever becomes of it ends nothing but itself.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import trio

from livesync_trio.config import Config
from livesync_trio.telemetry import get_logger

_log = get_logger("backups")

LOOK_S: Final = 600.0
"""How often the time is looked at while no backup is due."""

RETRY_FIRST_S: Final = 60.0
"""Pause after a backup that failed; it doubles."""

RETRY_MAX_S: Final = 3600.0
"""Longest pause after a backup that failed."""

STOP_S: Final = 2.0
"""From the request to give a backup up until its process is killed; less than a shutdown may take."""

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"livesync-(\d{8}T\d{6}Z)\.jsonl\.gz")
_NOT_FOR_OTHERS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
"""By these a service manager speaks with the server itself."""


@attrs.define(eq=False)
class Making:
    """A backup that is being made.

    Attributes:
        file: what it will be called once it is whole.
        began_s: when it was begun, in Unix time.
        scope: cancels it.
    """

    file: Path
    began_s: float
    scope: trio.CancelScope

    def written_bytes(self) -> int:
        """How much of it is on the disk so far."""
        try:
            return self.file.with_name(f"{self.file.name}.part").stat().st_size
        except OSError:
            return 0


@attrs.define(eq=False)
class Backups:
    """The backups of one server.

    Attributes:
        config: where the database is, where they go, how often, and how many are kept.
        now_s: tells Unix time.
        last_s: when the newest whole one was begun, in Unix time; 0: there is none.
        last_bytes: its size.
        failed: how many could not be made since the start.
        reason: why the latest attempt came to nothing; empty: it did not.
        making: the one that is being made.
    """

    config: Config
    now_s: Callable[[], float] = time.time
    last_s: float = 0.0
    last_bytes: int = 0
    failed: int = 0
    reason: str = ""
    making: Making | None = None
    _asked: trio.Event = attrs.field(factory=trio.Event, init=False)

    def make_now(self) -> bool:
        """Have one made at once, by whoever runs `run`. False: one is being made."""
        if self.making is not None:
            return False
        self._asked.set()
        return True

    def cancel(self) -> bool:
        """Give up the one that is being made; nothing of it is left. False: there is none."""
        if self.making is None:
            return False
        self.making.scope.cancel()
        return True

    @property
    def _directory(self) -> Path:
        assert self.config.backup_dir is not None
        return Path(self.config.backup_dir)

    async def run(self) -> None:
        """Make one whenever it is due until cancelled; one that fails is tried again after a while, ever longer."""
        pause_s = RETRY_FIRST_S
        self._look()
        while True:
            due_in_s = self.last_s + self.config.backup_every_s - self.now_s() if self.last_s else 0.0
            if due_in_s > 0 and not self._asked.is_set():
                await self._wait(min(due_in_s, LOOK_S))  # clocks are set, and machines sleep
                continue
            self._asked = trio.Event()
            if await self._make():
                pause_s = RETRY_FIRST_S
            else:
                await self._wait(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    async def _wait(self, most_s: float) -> None:
        with trio.move_on_after(most_s):
            await self._asked.wait()

    async def _make(self) -> bool:
        """Make one and remove the oldest. False: it failed, or was given up, and the log says why."""
        made = False
        with trio.CancelScope() as scope:
            try:
                made = await self._made(scope)
            finally:
                self.making = None
        if scope.cancelled_caught:
            self.reason = "It was cancelled."
            _log.info("backup cancelled")
        return made

    async def _made(self, scope: trio.CancelScope) -> bool:
        began = datetime.fromtimestamp(self.now_s(), UTC)
        file = self._directory / f"livesync-{began.strftime(_STAMP)}.jsonl.gz"
        self.making = Making(file, began.timestamp(), scope)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            ended = await trio.run_process(
                [*_program(), "backup", str(file)],
                env=_environment(self.config),
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                deliver_cancel=_stop,
            )
            if ended.returncode:
                told = ended.stderr.decode(errors="replace").strip().splitlines()
                return self._failed(file, told[-1] if told else f"it ended with {ended.returncode}")
            self._look()
            self._remove_oldest()
        except OSError as error:
            return self._failed(file, error.strerror or str(error))
        self.reason = ""
        _log.info("backup made", file=str(file), size_bytes=self.last_bytes)
        return True

    def _failed(self, file: Path, reason: str) -> bool:
        self.failed += 1
        self.reason = reason
        _log.error("backup failed", file=str(file), reason=reason)
        return False

    def _found(self) -> list[tuple[float, Path]]:
        """The backups in the folder, the oldest first, and when each was begun."""
        if not self._directory.is_dir():
            return []
        names = ((_NAME.fullmatch(path.name), path) for path in self._directory.iterdir())
        return sorted((_begun_s(found[1]), path) for found, path in names if found is not None)

    def files(self) -> list[tuple[float, str, int]]:
        """The backups in the folder, the oldest first: when each was begun (Unix time), its name, its size."""
        return [(begun_s, path.name, path.stat().st_size) for begun_s, path in self._found()]

    def path(self, name: str) -> Path:
        """Where a backup of `files` is."""
        return self._directory / name

    def _look(self) -> None:
        """See when the newest one was made; the server may have been started anew."""
        found = self._found()
        if found:
            self.last_s, newest = found[-1]
            self.last_bytes = newest.stat().st_size

    def _remove_oldest(self) -> None:
        for _, path in self._found()[: -self.config.backup_keep]:
            path.unlink(missing_ok=True)


def _begun_s(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0  # somebody's own name, which is no time: the oldest


def _program() -> list[str]:
    """How this program is started once more, also where it is a single executable."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "livesync_trio"]


def _environment(config: Config) -> Mapping[str, str]:
    """That of this process, with the database named in it: what other processes see of one another are the flags."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_FOR_OTHERS and not name.endswith("DATABASE_URL_FILE")
    }
    return {**kept, "LIVESYNC_DATABASE_URL": config.database_url}


async def _stop(process: trio.Process) -> None:
    """The server shuts down: a backup under way is given up, and leaves nothing behind."""
    process.terminate()
    with trio.move_on_after(STOP_S):
        await trio.sleep_forever()
    process.kill()
