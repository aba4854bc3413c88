"""Scheduled backups: `livesync backup` again and again into one folder or bucket, and the oldest go.

Each is made by a process of its own, beside the server as an operator would start it: it takes no time of the event
loop, and whatever becomes of it ends nothing but itself.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
import trio

from livesync_trio.archive.places import Folder, Kept, backups_among, is_bucket, name_of
from livesync_trio.config import Config, Secret
from livesync_trio.errors import CommandError, Kind
from livesync_trio.telemetry import get_logger

_log = get_logger("backups")

LOOK_S: Final = 600.0
"""How often the time is looked at while no backup is due."""

BUCKET_LOOK_S: Final = 60.0
"""For how long the list of a bucket holds; each look is a process of its own."""

RETRY_FIRST_S: Final = 60.0
"""Pause after a backup that failed; it doubles."""

RETRY_MAX_S: Final = 3600.0
"""Longest pause after a backup that failed."""

STOP_S: Final = 2.0
"""From the request to give a backup up until its process is killed; less than a shutdown may take."""

_NOT_FOR_OTHERS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
"""By these a service manager speaks with the server itself."""

_OF_THE_BUCKET: Final = (
    *("backup_dir", "backup_s3_endpoint", "backup_s3_region"),
    *("backup_s3_access_key", "backup_s3_secret_key"),
)


@attrs.define(eq=False)
class Making:
    """A backup that is being made.

    Attributes:
        place: the folder or bucket for it.
        name: what it will be called once it is whole.
        began_s: when it was begun, in Unix time.
        scope: cancels it.
    """

    place: str
    name: str
    began_s: float
    scope: trio.CancelScope

    @property
    def _file(self) -> Path:
        return Path(self.place, f"{self.name}.part")

    def written_bytes(self) -> int:
        """How much of it is in the folder so far; of one for a bucket that is not known: 0."""
        if is_bucket(self.place):
            return 0
        try:
            return self._file.stat().st_size
        except OSError:
            return 0

    def remove(self) -> None:
        """Leave nothing of it in the folder; a bucket drops what was never completed."""
        if not is_bucket(self.place):
            with suppress(OSError):
                self._file.unlink()


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
    _listing: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _listed: list[Kept] | None = attrs.field(default=None, init=False)  # of a bucket, as it was seen at
    _listed_s: float = attrs.field(default=0.0, init=False)

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
    def place(self) -> str:
        """The folder or bucket in which they lie."""
        assert self.config.backup_dir is not None
        return self.config.backup_dir

    async def run(self) -> None:
        """Make one whenever it is due until cancelled; one that fails is tried again after a while, ever longer."""
        pause_s = RETRY_FIRST_S
        while not await self._look():
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
        pause_s = RETRY_FIRST_S
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
                begun, self.making = self.making, None
        if scope.cancelled_caught:
            if begun is not None:
                begun.remove()  # its process may have been killed before it could
            self.reason = "It was cancelled."
            _log.info("backup cancelled")
        return made

    async def _made(self, scope: trio.CancelScope) -> bool:
        began_s = self.now_s()
        name = name_of(began_s)
        file = f"{self.place.rstrip('/')}/{name}"
        self.making = Making(self.place, name, began_s, scope)
        try:
            if not is_bucket(self.place):
                self._make_folder()
            told = await self._run("backup", "--json", "--keep", str(self.config.backup_keep), file)
            self.last_bytes = int(json.loads(told)["bytes"])
        except (OSError, _Failed) as error:
            return self._failed(file, getattr(error, "strerror", None) or str(error))
        self.last_s = began_s
        self.reason = ""
        self._listed = None
        _log.info("backup made", file=file, size_bytes=self.last_bytes)
        return True

    def _make_folder(self) -> None:
        Path(self.place).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def _look(self) -> bool:
        """See when the newest one was made; the server may have been started anew. False: it cannot be seen."""
        try:
            found = await self.kept()
        except (CommandError, _Failed) as error:
            return self._failed(self.place, str(error))
        if found:
            self.last_s, self.last_bytes = found[-1].begun_s, found[-1].size_bytes
        return True

    async def kept(self) -> list[Kept]:
        """The backups that there are, the oldest first. A bucket is asked once a minute, however many want to know.

        Raises:
            CommandError: the folder cannot be read, or the bucket cannot be asked.
        """
        if not is_bucket(self.place):
            return Folder(Path(self.place)).kept()  # a few names
        async with self._listing:
            if self._listed is None or self.now_s() - self._listed_s >= BUCKET_LOOK_S:
                try:
                    told = await self._run("backups", "--json")
                except (OSError, _Failed) as error:
                    raise CommandError(Kind.BAD_CONFIG, str(error)) from error
                lines = [json.loads(line) for line in told.splitlines()]
                self._listed = backups_among([(line["name"], line["bytes"]) for line in lines])
                self._listed_s = self.now_s()
            return self._listed

    async def _run(self, *arguments: str) -> bytes:
        """What a command says. Raises _Failed with the last line of its complaint."""
        ended = await trio.run_process(
            [*_program(), *arguments],
            env=_environment(self.config),
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            deliver_cancel=_stop,
        )
        if ended.returncode:
            told = ended.stderr.decode(errors="replace").strip().splitlines()
            raise _Failed(told[-1].removeprefix("livesync: ") if told else f"it ended with {ended.returncode}")
        return ended.stdout

    def _failed(self, file: str, reason: str) -> bool:
        self.failed += 1
        self.reason = reason
        _log.error("backup failed", file=file, reason=reason)
        return False


class _Failed(Exception):
    """A command ended with an error; the text says which."""


def _program() -> list[str]:
    """How this program is started once more, also where it is a single executable."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "livesync_trio"]


def _environment(config: Config) -> Mapping[str, str]:
    """That of this process, with the database and the bucket named in it: flags are what other processes see."""
    given = {"database_url": config.database_url, **{name: getattr(config, name) for name in _OF_THE_BUCKET}}
    texts = {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in given.items()
        if value is not None
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_FOR_OTHERS and not any(name.endswith(f"{one.upper()}_FILE") for one in texts)
    }
    return {**kept, **{f"LIVESYNC_{name.upper()}": text for name, text in texts.items()}}


async def _stop(process: trio.Process) -> None:
    """The server shuts down: a backup under way is given up, and leaves nothing behind."""
    process.terminate()
    with trio.move_on_after(STOP_S):
        await trio.sleep_forever()
    process.kill()
