"""Where scheduled backups lie: a folder, or a bucket (`bucket`). What they are called, and which of them go."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import attrs

from livesync_trio.errors import CommandError, Kind

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
