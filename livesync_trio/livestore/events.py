"""The nouns of a store: events as the log has them, statements as materializers give them, where syncing stands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from livesync_trio.wire.reading import plain

Bindings = Sequence[Any] | Mapping[str, Any]
"""Values for the `?` or `:name` of a statement."""

Statement = str | tuple[str, Bindings]
"""SQL, with its bindings if there are any."""

Statements = Statement | Iterable[Statement] | None
"""What a materializer gives. A tuple is one statement with its bindings; several come as a list or by `yield`."""


class LogEvent(NamedTuple):
    """One event as log and server have it.

    Attributes:
        seq_num: its number; while it is pending a rebase gives it another one.
        parent_seq_num: number of the event before it, 0 at the root.
        name: as it is declared.
        args: its arguments, as the JSON text that was committed, wherever that was.
        client_id: the client that committed it.
        session_id: that client's session.
    """

    seq_num: int
    parent_seq_num: int
    name: str
    args: str
    client_id: str
    session_id: str

    def is_same(self, other: "LogEvent") -> bool:
        """Whether the server gave back what was pushed: equal but for the spelling of the JSON."""
        return self._replace(args="") == other._replace(args="") and (
            self.args == other.args or plain(self.args.encode()) == plain(other.args.encode())
        )


@attrs.frozen
class Confirmed:
    """An event that the server has.

    Attributes:
        seq_num: its number.
        name: its name.
        event: it, as an object of the class declared for the name; None when there is none.
        args: its arguments, as JSON text.
        client_id: the client that committed it.
    """

    seq_num: int
    name: str
    event: object | None
    args: str
    client_id: str


@attrs.frozen
class Unknown:
    """An event for which nothing is declared, as the function gets it that was given as `on_unknown`.

    Attributes:
        seq_num: its number.
        name: its name.
        args: its arguments, as JSON text.
    """

    seq_num: int
    name: str
    args: str


@attrs.frozen
class SyncStatus:
    """Where a store stands.

    Attributes:
        head: number of the last event in the local log.
        upstream_head: number of the last event that the server is known to have.
        pending: events that the server has not acknowledged.
        connected: whether there is a connection to the server.
        caught_up: whether everything that the server had when the store connected has been applied.
        last_error: what went wrong last, in words; None when nothing has since syncing last worked.
    """

    head: int
    upstream_head: int
    pending: int
    connected: bool
    caught_up: bool
    last_error: str | None
