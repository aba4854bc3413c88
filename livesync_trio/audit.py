"""The record of who did what: connects, refusals, resets and admin acts, one JSON object a line.

Apart from the log, so that it can be kept longer and read by others. Never holds a payload, a token or a secret.
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

STANDARD_OUTPUT = "-"


def _nowhere(_: str) -> None:
    """Not recorded."""


class Audit:
    """Where acts are recorded; nowhere unless opened with a path."""

    __slots__ = ("_file", "_write")

    def __init__(self, path: str | None = None) -> None:
        """Open the record.

        Args:
            path: a file to append to, `-` for standard output, None for no record at all.

        Raises:
            OSError: the file cannot be opened.
        """
        self._file: TextIO | None = None
        self._write: Callable[[str], object] = _nowhere
        self.prepare(path)()

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._write is not _nowhere

    def prepare(self, path: str | None) -> Callable[[], None]:
        """Open another record, or the same one by its name after it was moved away.

        Returns:
            What puts it in the place of the present one; until then that goes on.

        Raises:
            OSError: the file cannot be opened.
        """
        opened: TextIO | None = None
        write: Callable[[str], object] = _nowhere
        if path == STANDARD_OUTPUT:
            write = sys.stdout.write
        elif path is not None:
            opened = open(path, "a", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115 - kept open
            write = opened.write

        def put_in_place() -> None:
            self.close()
            self._file, self._write = opened, write

        return put_in_place

    def close(self) -> None:
        """Close the file; what follows is not recorded."""
        file, self._file, self._write = self._file, None, _nowhere
        if file is not None:
            file.close()

    def record(self, act: str, *, store: str, address: str, user: str | None = None, **more: str) -> None:
        """Record an act.

        Args:
            act: `connect`, `refuse`, `reset`, `close`, `inspect`.
            store: the store it is about.
            address: from where.
            user: id of the principal, None for strangers and holders of the shared token.
            more: what else belongs to it, such as the kind of a refusal.
        """
        if self._write is _nowhere:
            return
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "act": act}
        fields = {**line, "store": store, "from": address, "user": user, **more}
        self._write(msgspec.json.encode(_encodable(fields)).decode() + "\n")


def _encodable(fields: dict[str, str | None]) -> dict[str, str | None]:
    """Half surrogate pairs, which a client's text may hold, have no UTF-8."""
    return {name: None if text is None else text.encode(errors="replace").decode() for name, text in fields.items()}
