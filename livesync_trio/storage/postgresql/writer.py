"""Writes logs into PostgreSQL: many appends of many stores as one statement, one transaction, one round trip.

Owns one connection that changes the database. What a write does stands in functions of the schema (`tables`);
here writes become parameters and rows become outcomes. The heads are compared inside the transaction, so any number
of servers may write any store.

When the connection is lost before the answer, the outcome is unclear. It is looked up on a new connection: a
transaction is durable as a whole or not at all, so one event of it that is found proves all of it. Where none is found,
nothing is said, because the lost session may still commit it.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final

import attrs
import psycopg

from livesync_trio.errors import LivesyncError, StorageUnavailable, StoreDamaged
from livesync_trio.model import Event, LogState, StoreId
from livesync_trio.storage.base import (
    Adopt,
    Append,
    Appended,
    Delete,
    Freeze,
    HeadMoved,
    OpenStore,
    Outcome,
    PutRecord,
    Reset,
    StoreOutcome,
    StoreWrite,
    Write,
    subject,
)
from livesync_trio.storage.chain import Ends, chained_events, check_whole, new_backend_id, state_after
from livesync_trio.storage.postgresql.adopt import adopt, delete, freeze
from livesync_trio.storage.postgresql.arrays import Bigints, Byteas, OptionalTexts, Texts
from livesync_trio.storage.postgresql.chain import append_chain, is_chain
from livesync_trio.storage.postgresql.connection import Session, is_unclear, translated
from livesync_trio.storage.postgresql.reader import log_state, states, translating
from livesync_trio.storage.postgresql.records import put_records

_OPEN: Final = """
    SELECT stores.store_id, stores.log_id, stores.backend_id, stores.head, stores.event_count, stores.frozen,
        first.parent_seq_num, first.ordinal, last.seq_num, last.ordinal
    FROM livesync_7_stores AS stores
        LEFT JOIN LATERAL (
            SELECT parent_seq_num, ordinal FROM livesync_7_events AS events
            WHERE events.log_id = stores.log_id ORDER BY seq_num LIMIT 1
        ) AS first ON true
        LEFT JOIN LATERAL (
            SELECT seq_num, ordinal FROM livesync_7_events AS events
            WHERE events.log_id = stores.log_id ORDER BY seq_num DESC LIMIT 1
        ) AS last ON true
    WHERE stores.store_id = ANY (%s)
"""
_CREATE: Final = "SELECT livesync_7_create(%s, %s)"
_APPEND: Final = "SELECT * FROM livesync_7_append(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_RESET: Final = "SELECT log_id, backend_id, head, event_count, frozen FROM livesync_7_reset(%s, %s)"
_FOUND: Final = """
    SELECT written.position
    FROM unnest(%s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[])
            WITH ORDINALITY AS written (store_id, log_id, seq_num, ordinal, event, append_id, position)
        JOIN livesync_7_stores AS stores ON (stores.store_id, stores.log_id) = (written.store_id, written.log_id)
        JOIN livesync_7_events AS events ON (events.log_id, events.seq_num, events.ordinal, events.event)
            = (written.log_id, written.seq_num, written.ordinal, written.event)
            AND events.append_id IS NOT DISTINCT FROM written.append_id
"""
_LOOK_FOR_WORK: Final = """
    SELECT current_setting('transaction_read_only')::boolean, EXISTS (SELECT FROM livesync_7_replaced)
"""
_PROVE: Final = """
DO $$ BEGIN
    LOCK TABLE livesync_7_stores, livesync_7_events IN ROW EXCLUSIVE MODE NOWAIT;
    PERFORM pg_logical_emit_message(true, 'livesync', '');
END $$"""
"""A durable write that changes nothing, with the locks that an append takes: who holds those holds up every push."""
_CLEAR: Final = "SELECT livesync_7_clear(%s)"


@attrs.frozen
class _Prepared:
    """An append whose events were found to be a chain, with who pushed each of them, and the log after it."""

    append: Append
    events: tuple[Event, ...]
    users: tuple[bytes | None, ...]
    after: LogState


class PostgresWriter:
    """Changes logs (`base.Writer`)."""

    def __init__(self, session: Session) -> None:
        """Nothing is opened before the first write."""
        self._session = session

    # --- the contract -----------------------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Carry out writes of any stores; see the contract.

        Those of one store are carried out in order, one transaction after the other, unless all of them are one chain
        of appends. Appends to different stores share one transaction, and so do records.
        """
        if is_chain(writes):
            try:
                with translating():
                    return append_chain(self._session, writes)
            except ValueError:
                pass  # one of them; below each is judged by itself
        outcomes: dict[int, Outcome | Exception] = {}
        with translating():
            for positions in _rounds(writes):
                puts: dict[int, PutRecord] = {}
                of_stores: dict[int, StoreWrite] = {}
                for position in positions:
                    write = writes[position]
                    if isinstance(write, PutRecord):
                        puts[position] = write
                    else:
                        of_stores[position] = write
                outcomes |= self._round(of_stores)
                if puts:
                    outcomes |= put_records(self._session, puts)
        return [outcomes[position] for position in range(len(writes))]

    def prove_writable(self) -> None:
        """Write a record into the write-ahead log that nobody reads; see the contract."""
        with translating():
            self._session.do(_PROVE)

    def clear_replaced(self, limit_events: int) -> int:
        """Delete rows of replaced logs; see the contract. Also finds out that the database takes no writes."""
        with translating():
            [(read_only, work)] = self._session.ask(_LOOK_FOR_WORK)
            if read_only:
                self._session.close()  # the next connection may find another server that takes writes
                raise StorageUnavailable("The database is read-only now.")
            if not work:
                return 0  # the usual case, asked every second, writes nothing
            [(cleared,)] = self._session.ask(_CLEAR, (limit_events,))
        return int(cleared)

    def close(self) -> None:
        """Release the handle."""
        self._session.close()

    # --- writes of different stores ---------------------------------------------------------------------------------

    def _round(self, writes: dict[int, StoreWrite]) -> dict[int, StoreOutcome | Exception]:
        """Carry out writes of which no two are of one store."""
        outcomes: dict[int, StoreOutcome | Exception] = {}
        opened: dict[int, bytes] = {}
        appended: dict[int, _Prepared] = {}
        for position, write in writes.items():
            try:
                store_id = write.store_id.encode()
                match write:
                    case OpenStore():
                        opened[position] = store_id
                    case Append():
                        appended[position] = _Prepared(
                            write, tuple(chained_events(write)), _users(write), state_after(write)
                        )
                    case Reset():
                        [row] = self._session.ask(_RESET, (store_id, new_backend_id()))
                        outcomes[position] = log_state(row)
                    case Delete():
                        outcomes[position] = delete(self._session, write)
                    case Freeze():
                        outcomes[position] = freeze(self._session, write)
                    case Adopt():
                        outcomes[position] = adopt(self._session, write)
            except ValueError as error:
                outcomes[position] = error
        if opened:
            found = self._open(list(opened.values()))
            outcomes |= {position: found[store_id] for position, store_id in opened.items()}
        if appended:
            results = self._append(list(appended.values()))
            outcomes |= dict(zip(appended, results, strict=True))
        return outcomes

    def _open(self, store_ids: Sequence[bytes]) -> dict[bytes, LogState | StoreDamaged]:
        """States of stores, each checked to be whole; those that do not exist are created."""
        found = self._checked(store_ids)
        missing = [store_id for store_id in store_ids if store_id not in found]
        if missing:
            self._session.ask(_CREATE, (Byteas(missing), Texts(new_backend_id().encode() for _ in missing)))
            found |= self._checked(missing)
        return found

    def _checked(self, store_ids: Sequence[bytes]) -> dict[bytes, LogState | StoreDamaged]:
        checked: dict[bytes, LogState | StoreDamaged] = {}
        for store_id, *row in self._session.ask(_OPEN, (Byteas(store_ids),)):
            state, ends = log_state(row[:5]), row[5:]
            try:
                check_whole(StoreId(store_id.decode()), state, None if ends[0] is None else Ends(*ends))
            except StoreDamaged as error:
                checked[store_id] = error
            else:
                checked[store_id] = state
        return checked

    # --- appends ----------------------------------------------------------------------------------------------------

    def _append(self, group: Sequence[_Prepared]) -> list[StoreOutcome | Exception]:
        """Carry out appends in one transaction; when one of them fails on its own account, each in one of its own."""
        try:
            rows = self._session.ask(_APPEND, _parameters(group))
        except psycopg.Error as error:
            if is_unclear(error):
                rows = self._look_up(group, error)
            else:
                failure = translated(error)
                if failure is None or isinstance(failure, StorageUnavailable):
                    raise
                return self._apart(group, failure)
        return self._outcomes(group, {position for (position,) in rows})

    def _apart(self, group: Sequence[_Prepared], failure: LivesyncError | ValueError) -> list[StoreOutcome | Exception]:
        if len(group) == 1:
            return [failure]
        return [self._append([prepared])[0] for prepared in group]

    def _look_up(self, group: Sequence[_Prepared], error: psycopg.Error) -> list[tuple[Any, ...]]:
        """Which appends of a transaction with an unclear outcome are in the database; see the head of this file.

        Raises:
            psycopg.Error: `error`, when none is.
            StorageUnavailable: nobody can tell now.
        """
        self._session.close()
        last = [prepared.events[-1] for prepared in group]
        rows = self._session.ask(
            _FOUND,
            (
                Byteas(prepared.append.store_id.encode() for prepared in group),
                Bigints(prepared.after.log_id for prepared in group),
                Bigints(event.seq_num for event in last),
                Bigints(prepared.after.event_count for prepared in group),
                Texts(event.json for event in last),
                OptionalTexts(_append_id(event) for event in last),
            ),
        )
        if not rows:
            raise error
        return rows

    def _outcomes(self, group: Sequence[_Prepared], appended: set[int]) -> list[StoreOutcome | Exception]:
        """The outcome of each append: those at the positions `appended` are durable, the others were refused."""
        moved = [one.append.store_id for position, one in enumerate(group, 1) if position not in appended]
        found = self._open_again(moved) if moved else {}
        return [
            Appended(one.after) if position in appended else HeadMoved(found[one.append.store_id])
            for position, one in enumerate(group, 1)
        ]

    def _open_again(self, store_ids: Sequence[StoreId]) -> dict[StoreId, LogState]:
        """States of stores whose appends were refused, created where there are none."""
        encoded = [store_id.encode() for store_id in store_ids]
        found = states(self._session, encoded)
        missing = [store_id.encode() for store_id in store_ids if store_id not in found]
        if missing:
            self._session.ask(_CREATE, (Byteas(missing), Texts(new_backend_id().encode() for _ in missing)))
            found |= states(self._session, missing)
        return found


def _rounds(writes: Sequence[Write]) -> Iterator[list[int]]:
    """Positions of writes in rounds: those of one subject in order, one a round; others do not wait."""
    seen: Counter[Hashable] = Counter()
    rounds: list[list[int]] = []
    for position, write in enumerate(writes):
        changed = subject(write)
        if seen[changed] == len(rounds):
            rounds.append([])
        rounds[seen[changed]].append(position)
        seen[changed] += 1
    yield from rounds


def _parameters(group: Iterable[_Prepared]) -> tuple[object, ...]:
    """What `livesync_7_append` takes: columns of appends, then columns of their events."""
    appends = [(prepared.append.store_id.encode(), prepared.append.expected, prepared.after) for prepared in group]
    users = [user for prepared in group for user in prepared.users]
    if not any(user is not None for user in users):
        users = []  # `unnest` takes what is not there for NULL
    append_ids = [_append_id(event) for prepared in group for event in prepared.events]
    if not any(append_id is not None for append_id in append_ids):
        append_ids = []
    events = [
        (position, event, ordinal)
        for position, prepared in enumerate(group, 1)
        for ordinal, event in enumerate(prepared.events, prepared.append.expected.event_count + 1)
    ]
    return (
        Byteas(store_id for store_id, _, _ in appends),
        Bigints(expected.log_id for _, expected, _ in appends),
        Texts(expected.backend_id.encode() for _, expected, _ in appends),
        Bigints(expected.head for _, expected, _ in appends),
        Bigints(expected.event_count for _, expected, _ in appends),
        Bigints(after.head for _, _, after in appends),
        Bigints(after.event_count for _, _, after in appends),
        Texts(prepared.append.created_at.encode() for prepared in group),
        Bigints(sum(len(event.json) for event in prepared.events) for prepared in group),
        Bigints(position for position, _, _ in events),
        Bigints(event.seq_num for _, event, _ in events),
        Bigints(event.parent_seq_num for _, event, _ in events),
        Bigints(ordinal for _, _, ordinal in events),
        Texts(event.json for _, event, _ in events),
        OptionalTexts(users),
        OptionalTexts(append_ids),
    )


def _append_id(event: Event) -> bytes | None:
    """As PostgreSQL takes it. Raises ValueError for what is not Unicode."""
    return None if event.append_id is None else event.append_id.encode()


def _users(append: Append) -> tuple[bytes | None, ...]:
    """Who pushed each event. Raises ValueError for what is not Unicode."""
    return tuple(None if batch.user is None else batch.user.encode() for batch in append.batches for _ in batch.events)
