"""Scheduled backups: which there are, making one at once, fetching one."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Final

import trio
from msgspec import Meta

from livesync_trio.admin.declaring import Answer, Caller, Nothing, Request, Stream, Time
from livesync_trio.admin.server_view import ServerView, wire_time_of
from livesync_trio.archive.places import is_bucket
from livesync_trio.errors import CommandError, Kind, Refusal

CHUNK_BYTES: Final = 256 * 1024
GZIP: Final = "application/gzip"
_NONE: Final = Refusal(Kind.NOT_FOUND, "This server makes no scheduled backups: set LIVESYNC_BACKUP_DIR.")


class Backup(Answer, frozen=True):
    """One backup."""

    name: str
    bytes: int
    began_at: Time


class BackupsState(Answer, frozen=True):
    """The scheduled backups, newest first; `making` is the one under way, with what is written of it so far."""

    directory: str
    in_bucket: bool
    every_seconds: float
    keep: int
    failed: int
    reason: str
    making: Backup | None
    files: list[Backup]


class BackupDoing(Answer, frozen=True):
    """What is done now."""

    doing: str


class FetchBackup(Request, frozen=True):
    """Which backup."""

    name: Annotated[str, Meta(description="Its name, as it is listed.")]


async def list_backups(server: ServerView, _asked: Nothing, _caller: Caller) -> BackupsState | Refusal:
    """The scheduled backups of this server."""
    backups, config = server.backups, server.config()
    if backups is None:
        return _NONE
    try:
        files = await backups.kept()
    except CommandError as error:
        return Refusal(Kind.STORAGE_UNAVAILABLE, f"The backups cannot be listed: {error}")
    making = backups.making
    return BackupsState(
        directory=backups.place,
        in_bucket=is_bucket(backups.place),
        every_seconds=config.backup_every_s,
        keep=config.backup_keep,
        failed=backups.failed,
        reason=backups.reason,
        making=None
        if making is None
        else Backup(name=making.name, bytes=making.written_bytes(), began_at=wire_time_of(making.began_s)),
        files=[Backup(name=one.name, bytes=one.size_bytes, began_at=wire_time_of(one.begun_s)) for one in files[::-1]],
    )


async def make_backup(server: ServerView, _asked: Nothing, caller: Caller) -> BackupDoing | Refusal:
    """Begin a backup now, besides the scheduled ones; the list shows how far it is."""
    if server.backups is None:
        return _NONE
    if not server.backups.make_now():
        return Refusal(Kind.ALREADY_THERE, "A backup is being made. Wait for it, or cancel it.")
    _record(server, caller, "make")
    return BackupDoing(doing="making a backup")


async def cancel_backup(server: ServerView, _asked: Nothing, caller: Caller) -> BackupDoing | Refusal:
    """Give up the backup that is being made; nothing of it is left."""
    if server.backups is None:
        return _NONE
    if not server.backups.cancel():
        return Refusal(Kind.NOT_FOUND, "No backup is being made.")
    _record(server, caller, "cancel")
    return BackupDoing(doing="giving it up")


async def fetch_backup(server: ServerView, asked: FetchBackup, caller: Caller) -> Stream | Refusal:
    """A backup as a file."""
    if server.backups is None:
        return _NONE
    if is_bucket(server.backups.place):
        return Refusal(Kind.NOT_FOUND, "The backups lie in a bucket. Fetch them there.")
    try:
        kept = await server.backups.kept()
    except CommandError as error:
        return Refusal(Kind.STORAGE_UNAVAILABLE, f"The backups cannot be listed: {error}")
    # Of those that are listed: a name from outside is never made part of a path.
    if asked.name not in [one.name for one in kept]:
        return Refusal(Kind.NOT_FOUND, "There is no backup of this name.")
    file = Path(server.backups.place, asked.name)
    _record(server, caller, "fetch", file=file.name)
    caller.answer_headers.append(("content-disposition", f'attachment; filename="{file.name}"'))
    return Stream(_parts(file), GZIP)


async def _parts(file: Path) -> AsyncGenerator[bytes, None]:
    async with await trio.open_file(file, "rb") as opened:
        while part := await opened.read(CHUNK_BYTES):
            yield part


def _record(server: ServerView, caller: Caller, what: str, **more: str) -> None:
    server.audit.record("backup", store="", address=caller.address, user=caller.user, what=what, **more)
