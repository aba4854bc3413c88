"""Many appends that continue each other, of one store, as one statement of PostgreSQL: how an import comes in.

Owns that statement. A running store has one append under way at a time; an import has one for each push of another
server, and a round trip for each would take hours.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeGuard

import psycopg

from livesync_trio.errors import StorageUnavailable
from livesync_trio.storage.base import Append, Appended, HeadMoved, Outcome, Write
from livesync_trio.storage.chain import chained_events, state_after
from livesync_trio.storage.postgresql.arrays import Bigints, OptionalTexts, Texts
from livesync_trio.storage.postgresql.connection import Session, is_unclear
from livesync_trio.storage.postgresql.reader import states

_DURABLY: Final = "SELECT livesync_7_durably()"
_APPEND: Final = """
    WITH moved AS (
        UPDATE livesync_7_stores SET head = %s, event_count = %s, text_bytes = text_bytes + %s,
            last_push_at = CAST(%s AS timestamptz)
        WHERE (store_id, log_id, backend_id, head, event_count) = (%s, %s, %s, %s, %s)
        RETURNING log_id
    )
    INSERT INTO livesync_7_events (
        log_id, seq_num, parent_seq_num, ordinal, created_at, event, pushed_by, append_id)
    SELECT moved.log_id, added.seq_num, added.parent_seq_num, added.ordinal, CAST(added.created_at AS timestamptz),
        added.event, added.pushed_by, added.append_id
    FROM moved, unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[])
        AS added (seq_num, parent_seq_num, ordinal, created_at, event, pushed_by, append_id)
"""


def is_chain(writes: Sequence[Write]) -> TypeGuard[Sequence[Append]]:
    """Whether writes are several appends to one store, each expecting what the one before it leaves."""
    return (
        len(writes) > 1
        and all(isinstance(write, Append) for write in writes)
        and all(
            isinstance(before, Append) and isinstance(after, Append)
            and before.store_id == after.store_id and state_after(before) == after.expected
            for before, after in pairwise(writes)
        )
    )  # fmt: skip


def append_chain(session: Session, appends: Sequence[Append]) -> list[Outcome | Exception]:
    """Carry out a chain: all of it or nothing.

    Raises:
        ValueError: an append is no chain in itself, or a text is not Unicode. Nothing was done.
        psycopg.Error: it failed, and has had no effect.
        StorageUnavailable: nobody can tell now whether it happened.
    """
    parameters = _parameters(appends)
    store_id, last = appends[0].store_id, state_after(appends[-1])
    try:
        connection = session.connection()
        with connection.transaction():
            connection.execute(_DURABLY)
            appended = connection.execute(_APPEND, parameters).rowcount > 0
    except psycopg.Error as error:
        session.close()
        if not is_unclear(error):
            raise
        if states(session, [store_id.encode()]).get(store_id) != last:
            raise StorageUnavailable("The database was lost before it answered: look whether it was done.") from error
        appended = True
    if appended:
        return [Appended(state_after(append)) for append in appends]
    found = states(session, [store_id.encode()]).get(store_id)
    if found is None:
        raise StorageUnavailable(f"Store {store_id!r} has vanished: open it again.")
    return [HeadMoved(found) for _ in appends]


def _parameters(appends: Sequence[Append]) -> tuple[object, ...]:
    expected, last = appends[0].expected, state_after(appends[-1])
    events = [(event, append.created_at.encode()) for append in appends for event in chained_events(append)]
    users = [batch.user for append in appends for batch in append.batches for _ in batch.events]
    return (
        last.head,
        last.event_count,
        sum(len(event.json) for event, _ in events),
        appends[-1].created_at,
        appends[0].store_id.encode(),
        expected.log_id,
        expected.backend_id,
        expected.head,
        expected.event_count,
        Bigints(event.seq_num for event, _ in events),
        Bigints(event.parent_seq_num for event, _ in events),
        Bigints(range(expected.event_count + 1, last.event_count + 1)),
        Texts(created_at for _, created_at in events),
        Texts(event.json for event, _ in events),
        OptionalTexts(None if user is None else user.encode() for user in users),
        OptionalTexts(None if event.append_id is None else event.append_id.encode() for event, _ in events),
    )
