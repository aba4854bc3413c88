"""Settings of what is off until it is asked for: scheduled backups, the HTTP API, schemas of events."""

import re
from typing import Final, Literal

import attrs

from livesync_trio.config.checks import at_least, duration, not_empty
from livesync_trio.config.declaring import SECONDS, Secret, declare, one_of
from livesync_trio.config.groups import Group

BUCKET: Final = "s3://"
"""What the name of a bucket begins with, in place of the path of a folder."""

_BUCKET_NAME: Final = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]{1,254}(/[^\x00-\x1f?#]*)?")
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9._-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?")


def _place(value: str | None) -> None:
    not_empty(value)
    if value is not None and value.startswith(BUCKET) and not _BUCKET_NAME.fullmatch(value):
        raise ValueError("it is not s3:// with the name of a bucket, and perhaps a / and a folder in it")


def _endpoint(value: str | None) -> None:
    if value is not None and not _ENDPOINT.fullmatch(value):
        raise ValueError("it is no https:// or http:// URL of a host, without a path, a user or a password")


@attrs.frozen(kw_only=True, slots=False)
class BackupSettings(Group):
    """Scheduled backups. See `docs/backup.md`; without `backup_dir` there are none."""

    backup_dir: str | None = declare(
        None,
        "the path of a folder, or `s3://bucket/folder`",
        "Folder, or bucket of an S3-compatible storage, in which the server makes scheduled backups; without it there "
        "are none.",
        check=_place,
    )
    backup_every_s: float = declare(86400.0, SECONDS, "Time from one backup to the next.", check=duration)
    backup_keep: int = declare(
        14, "a whole number from 1", "Number of backups to keep; older ones are removed.", check=at_least(1)
    )
    backup_s3_endpoint: str | None = declare(
        None,
        "a URL such as `https://s3.example.org`; empty for Amazon's",
        "Where the S3-compatible storage is that has the bucket.",
        check=_endpoint,
    )
    backup_s3_region: str = declare("us-east-1", "any text", "Region of the bucket.", check=not_empty)
    backup_s3_access_key: str | None = declare(
        None,
        "any text",
        "Access key for the bucket; without it `AWS_ACCESS_KEY_ID` counts, or the role of the machine.",
        check=not_empty,
    )
    backup_s3_secret_key: Secret | None = declare(
        None, "any text", "Secret key that belongs to the access key.", check=not_empty
    )

    def misfits(self) -> list[tuple[str, str]]:
        """See `Group`."""
        if (self.backup_s3_access_key is None) != (self.backup_s3_secret_key is None):
            return [("LIVESYNC_BACKUP_S3_ACCESS_KEY", "it and LIVESYNC_BACKUP_S3_SECRET_KEY belong together")]
        return []


SchemasForPushes = Literal["off", "log", "refuse"]
"""What happens to a LiveStore client's push with an event that does not fit its schema."""

UnknownEvents = Literal["allow", "refuse"]
"""What happens to an event for whose name there is no schema."""


@attrs.frozen(kw_only=True, slots=False)
class ApiSettings(Group):
    """Programs that are no LiveStore clients, and what events may look like. See `docs/http-api.md`."""

    api: bool = declare(
        False,
        "true or false",
        "Serve the HTTP API under `/v1`, and the plain WebSocket dialect: any program appends and reads events.",
    )
    event_schemas: str | None = declare(
        None,
        "the path of a JSON file",
        "JSON Schema documents by event name, which the args of events must fit.",
        check=not_empty,
    )
    event_schemas_pushes: SchemasForPushes = declare(
        "off",
        one_of(SchemasForPushes),
        "Whether pushes of LiveStore clients are checked, too: not at all, logged and counted, or refused.",
    )
    event_schemas_unknown: UnknownEvents = declare(
        "allow", one_of(UnknownEvents), "What happens to appended events for whose name there is no schema."
    )
