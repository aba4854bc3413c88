"""Where backups lie: a folder, or a bucket of an S3-compatible storage. What they are called, and which of them go.

Owns the way to a bucket, which is obstore's: its library is loaded when a bucket is used, and only by commands, so that
a server that makes backups carries none of it. No message repeats a key; what a storage answers is told by its code.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import attrs

from livesync_trio.archive.files import cannot_write
from livesync_trio.config import Config
from livesync_trio.config.capabilities import BUCKET
from livesync_trio.errors import CommandError, Kind, LivesyncError

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"livesync-(\d{8}T\d{6}Z)\.jsonl\.gz")


@attrs.frozen(order=True)
class Kept:
    """One backup of a place.

    Attributes:
        begun_s: when it was begun, in Unix time.
        name: of its file.
        size_bytes: of its file.
    """

    begun_s: float
    name: str
    size_bytes: int


class Place(Protocol):
    """Where backups lie. Each method raises CommandError when the place cannot be used."""

    def kept(self) -> list[Kept]:
        """Its scheduled backups, the oldest first; other files are nobody's business here."""

    def remove(self, name: str) -> None:
        """Remove one; that it is gone already is fine."""


def name_of(begun_s: float) -> str:
    """The name of a backup that is begun at a Unix time."""
    return f"livesync-{datetime.fromtimestamp(begun_s, UTC).strftime(_STAMP)}.jsonl.gz"


def backups_among(files: Iterable[tuple[str, int]]) -> list[Kept]:
    """The scheduled backups among files (name, size), the oldest first."""
    found = ((_NAME.fullmatch(name), name, size_bytes) for name, size_bytes in files)
    return sorted(Kept(_begun_s(named[1]), name, size_bytes) for named, name, size_bytes in found if named is not None)


def keep_newest(place: Place, keep: int) -> None:
    """Remove all scheduled backups but the newest. Raises CommandError."""
    for one in place.kept()[:-keep]:
        place.remove(one.name)


@attrs.frozen
class Folder:
    """A folder of this machine (`Place`)."""

    path: Path

    def kept(self) -> list[Kept]:
        """See `Place`. None where there is no such folder yet."""
        try:
            if not self.path.is_dir():
                return []
            return backups_among([(one.name, one.stat().st_size) for one in self.path.iterdir()])
        except OSError as error:
            raise self._unusable(error) from error

    def remove(self, name: str) -> None:
        """See `Place`."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> CommandError:
        return CommandError(Kind.BAD_CONFIG, f"{self.path} cannot be used: {error.strerror or error}.")


def _begun_s(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0  # somebody's own name, which is no time: the oldest


# --- a bucket ---------------------------------------------------------------------------------------------------------


if TYPE_CHECKING:
    from obstore.store import S3Store

CONNECT_LIMIT_S: Final = 10
"""From the beginning of a connection to the storage until it is given up."""

ANSWER_LIMIT_S: Final = 120
"""How long one request may take: one part of an upload, or one read."""

RETRY_LIMIT_S: Final = 60
"""For how long a request that failed in passing is tried again."""

PART_BYTES: Final = 8 * 1024 * 1024
"""Size of the pieces in which a file is sent and read."""

_CODE: Final = re.compile(r"<Code>\s*(\w{1,80})\s*</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3}[\w ]{0,40})")
_WORDS: Final = {
    "InvalidAccessKeyId": "the storage does not know the access key: check LIVESYNC_BACKUP_S3_ACCESS_KEY",
    "SignatureDoesNotMatch": "the secret key is wrong: check LIVESYNC_BACKUP_S3_SECRET_KEY",
    "AccessDenied": "the key may not do that: it needs to list, read, write and delete objects of the bucket",
    "NoSuchBucket": "there is no such bucket: make it first",
    "PermanentRedirect": "the bucket is in another region: set LIVESYNC_BACKUP_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set LIVESYNC_BACKUP_S3_REGION",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}


def is_bucket(place: str) -> bool:
    """Whether a text names a bucket, or a file in one, rather than a path."""
    return place.startswith(BUCKET)


def check_installed() -> None:
    """See that buckets can be used at all.

    Raises:
        CommandError: the package for it is missing.
    """
    if find_spec("obstore") is None:
        raise CommandError(
            Kind.BAD_CONFIG,
            "a bucket needs the extra `s3`, which is not installed: in a clone `.venv/bin/pip install --require-hashes "
            "--no-deps --requirement requirements-s3.txt`. The executable has it.",
        )


@attrs.frozen
class Bucket:
    """A folder of a bucket (`Place`).

    Attributes:
        url: as messages name it, `s3://bucket/folder`.
        folder: what the names of its objects begin with, with a `/` at the end; empty for none.
        store: obstore's.
    """

    url: str
    folder: str
    store: "S3Store" = attrs.field(repr=False)

    @classmethod
    def of(cls, config: Config, url: str) -> Self:
        """The folder that a URL names, with the keys of a configuration. Nothing is asked yet.

        Raises:
            CommandError: the package for it is missing.
        """
        check_installed()
        from obstore.store import S3Store  # noqa: PLC0415 - see above

        bucket, _, path = url.removeprefix(BUCKET).partition("/")
        folder = path.strip("/")
        given: dict[str, Any] = {"region": config.backup_s3_region}
        if config.backup_s3_endpoint is not None:
            given |= {"endpoint": config.backup_s3_endpoint, "virtual_hosted_style_request": False}
        if config.backup_s3_access_key is not None and config.backup_s3_secret_key is not None:
            given["access_key_id"] = config.backup_s3_access_key
            given["secret_access_key"] = config.backup_s3_secret_key.reveal()
        store = S3Store(
            bucket,
            client_options={
                "allow_http": True,  # where the operator says http://, for a storage on this machine
                "connect_timeout": f"{CONNECT_LIMIT_S}s",
                "timeout": f"{ANSWER_LIMIT_S}s",
            },
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_LIMIT_S)},
            **given,
        )
        return cls(url.rstrip("/"), f"{folder}/" if folder else "", store)

    @classmethod
    def with_file(cls, config: Config, url: str) -> tuple[Self, str]:
        """The folder and the name of the object that a URL names.

        Raises:
            CommandError: it names no object, or the package is missing.
        """
        folder, _, name = url.rpartition("/")
        if not name or len(folder) <= len(BUCKET):
            raise CommandError(Kind.BAD_CONFIG, f"{url} names no file in a bucket: say s3://bucket/file.")
        return cls.of(config, folder), name

    def put(self, name: str, file: Path, *, overwrite: bool) -> None:
        """Write a file into the bucket, and read it back: it stays only if it is the same byte for byte.

        Raises:
            CommandError: there is one of that name, or it cannot be written, or something else came back.
        """
        import obstore  # noqa: PLC0415

        with self._told(f"{self.url}/{name} cannot be written"):
            if not overwrite and self._exists(name):
                raise CommandError(
                    Kind.ALREADY_THERE, f"{self.url}/{name} exists: name another file, or say --overwrite."
                )
            with file.open("rb") as source:
                obstore.put(self.store, self.folder + name, source, chunk_size=PART_BYTES)
        with file.open("rb") as source:
            sent = hashlib.file_digest(source, "sha256").digest()
        came = hashlib.sha256()
        for piece in self._pieces(name):
            came.update(piece)
        if came.digest() != sent:
            self.remove(name)
            raise CommandError(
                Kind.BAD_ARCHIVE, f"{self.url}/{name} did not come back as it was written, and was removed."
            )

    def fetch(self, name: str, into: Path) -> None:
        """Copy an object into a file.

        Raises:
            CommandError: there is none, it cannot be read, or there is no room.
        """
        with into.open("wb") as target:
            for piece in self._pieces(name):
                try:
                    target.write(piece)
                except OSError as error:
                    raise cannot_write(into, error) from error

    def kept(self) -> list[Kept]:
        """See `Place`."""
        import obstore  # noqa: PLC0415

        with self._told(f"{self.url} cannot be read"):
            pages = obstore.list(self.store, prefix=self.folder or None)
            found = [(str(one["path"]), int(one["size"])) for page in pages for one in page]
        named = [(path.removeprefix(self.folder), size_bytes) for path, size_bytes in found]
        return backups_among(named)

    def remove(self, name: str) -> None:
        """See `Place`."""
        import obstore  # noqa: PLC0415

        with self._told(f"{self.url}/{name} cannot be removed"):
            obstore.delete(self.store, self.folder + name)

    def _exists(self, name: str) -> bool:
        import obstore  # noqa: PLC0415

        try:
            obstore.head(self.store, self.folder + name)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
            return False
        return True

    def _pieces(self, name: str) -> Iterator[bytes]:
        import obstore  # noqa: PLC0415

        with self._told(f"{self.url}/{name} cannot be read"):
            for piece in obstore.get(self.store, self.folder + name).stream(min_chunk_size=PART_BYTES):
                yield bytes(piece)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever fails is told in words; the library's own text has what was asked, and pages of inner state."""
        from obstore.exceptions import BaseError  # noqa: PLC0415

        try:
            yield
        except LivesyncError:
            raise
        except (BaseError, OSError) as error:
            raise CommandError(Kind.BAD_CONFIG, f"{what}: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """What an error of the library means."""
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if code is not None:
        return _WORDS.get(code[1], f"the storage answers {code[1]}")
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if status is not None:
        return f"the storage answers {status[1].strip()}"
    if "HTTP error" in text:
        return "the storage cannot be reached: check LIVESYNC_BACKUP_S3_ENDPOINT and the network"
    if "InstanceMetadata" in text or "credential" in text.lower():
        return "there are no keys: set LIVESYNC_BACKUP_S3_ACCESS_KEY and LIVESYNC_BACKUP_S3_SECRET_KEY"
    return f"{type(error).__name__} of the storage's library"
