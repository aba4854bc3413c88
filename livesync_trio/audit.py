"""The record of who did what: connects, refusals, resets and admin acts, one JSON object a line.

Apart from the log, so that it can be kept longer and read by others. Never holds a payload, a token or a secret.
Recording never waits and never fails: lines that cannot be written are counted and told of, and whether acts are
refused meanwhile is a setting.
"""

import os
import stat
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import OUTPUT_FLUSH_LIMIT_S
from livesync_trio.telemetry import LineOutput, get_logger, standard_output

_log = get_logger("audit")

NOT_RECORDED: Final = Refusal(
    Kind.AUDIT_UNAVAILABLE, "The server cannot record this now, and does nothing that it cannot record. Try again."
)
STANDARD_OUTPUT: Final = "-"
RECENT_ACTS: Final = 2_000
"""Acts kept in memory while somebody shows them; an act takes some hundred bytes, at most a few thousand."""
_MODE: Final = stat.S_IRUSR | stat.S_IWUSR
"""Of a file that is made: it names users and their addresses, like the database."""


class Audit:
    """Where acts are recorded; nowhere unless opened with a path."""

    __slots__ = ("_lost_before", "_output", "_owned", "_required", "recent")

    def __init__(self, path: str | None = None, *, required: bool = False) -> None:
        """Open the record.

        Args:
            path: a file to append to, `-` for standard output, None for no record at all.
            required: whether acts are refused while they cannot be recorded.

        Raises:
            OSError: the file cannot be opened.
        """
        self._output: LineOutput | None = None
        self._owned = False
        self._required = required
        self._lost_before = 0
        self.recent: deque[bytes] | None = None
        """The last acts, a line each; None: nobody wants them (`keep_recent`)."""
        self.prepare(path, required=required)()

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._output is not None or self.recent is not None

    def keep_recent(self) -> None:
        """Keep the last acts in memory from now on, whether or not there is a record."""
        if self.recent is None:
            self.recent = deque(maxlen=RECENT_ACTS)

    @property
    def refusal(self) -> Refusal | None:
        """With what acts are to be refused now, because they must be recorded and cannot be; None: they are not."""
        return NOT_RECORDED if self._required and self._output is not None and self._output.failing else None

    @property
    def lost(self) -> int:
        """Lines lost since the start."""
        return self._lost_before + (0 if self._output is None else self._output.lost)

    def prepare(self, path: str | None, *, required: bool = False) -> Callable[[], None]:
        """Open another record, or the same one by its name after it was moved away.

        Returns:
            What puts it in the place of the present one, and neither waits nor fails; until then that goes on.

        Raises:
            OSError: the file cannot be opened.
        """
        output: LineOutput | None = None
        descriptor, owned = -1, path is not None
        if path == STANDARD_OUTPUT:
            output = standard_output()
            owned = output is None  # a program that embeds the server keeps its standard output as it is
            descriptor = os.dup(1) if owned else -1
        elif path is not None:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        if owned:
            output = LineOutput(descriptor, _notice, troubled=_troubled, name="audit")

        def put_in_place() -> None:
            before, before_owned = self._output, self._owned
            self._lost_before = self.lost
            self._output, self._owned, self._required = output, owned, required
            if before is not None and before_owned:
                before.close(0)  # its thread writes the rest
            if output is not None and not owned:
                self._lost_before -= output.lost

        return put_in_place

    def close(self) -> None:
        """Write what waits, within a limit, and close the file; what follows is not recorded. Never raises."""
        output, self._output = self._output, None
        if output is not None:
            self._lost_before += output.lost
            if self._owned:
                output.close(OUTPUT_FLUSH_LIMIT_S)

    def record(self, act: str, *, store: str, address: str, user: str | None = None, **more: str) -> None:
        """Record an act. Never waits, never raises.

        Args:
            act: `connect`, `refuse`, `close`, `close-many`, `inspect`, `webhook`; of stores `reset`, `delete`,
                `rename`, `freeze`, `thaw`, `rewind`, `erase`; of operators `login`, `login-failed`, `throttled`,
                `logout`, `session`, `operator`, `token`.
            store: the store it is about; empty where it is about none.
            address: from where.
            user: id of the principal, None for strangers and holders of the shared token.
            more: what else belongs to it, such as the kind of a refusal.
        """
        if not self.on:
            return
        line = _line(act, {"store": store, "from": address, "user": user, **more})
        if self._output is not None:
            self._output.put(line)
        if self.recent is not None:
            self.recent.append(line)


def _line(act: str, fields: dict[str, str | None]) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"at": at, "act": act, **_encodable(fields)}) + b"\n"


def _encodable(fields: dict[str, str | None]) -> dict[str, str | None]:
    """Half surrogate pairs, which a client's text may hold, have no UTF-8."""
    return {name: None if text is None else text.encode(errors="replace").decode() for name, text in fields.items()}


def _notice(lost: int, reason: str) -> bytes:
    _log.info("audit log can be written again", lost=lost)
    return _line("lost", {"lines": str(lost), "reason": reason})


def _troubled(reason: str) -> None:
    _log.error("audit log cannot be written", reason=reason)
