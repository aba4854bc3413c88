"""What operations of the SQLite engine cost, counted in statements, steps of its machine and bytes read, not in time.

The figures behind these shapes are in decision 0003.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.limits import SQLITE_WRITER_STATEMENTS
from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage.base import NO_RECORD, Appended, PutRecord, RecordStored
from livesync_trio.storage.sqlite import insert as sqlite_insert
from livesync_trio.storage.sqlite import known as sqlite_known
from livesync_trio.storage.sqlite import page as sqlite_page
from livesync_trio.storage.sqlite import reader as sqlite_reader
from livesync_trio.storage.sqlite import reader as sqlite_summaries
from livesync_trio.storage.sqlite import replacing as sqlite_adopt
from livesync_trio.storage.sqlite import replacing as sqlite_clearing
from livesync_trio.storage.sqlite import writer as sqlite_writer
from livesync_trio.storage.sqlite.engine import SqliteEngine
from livesync_trio.storage.sqlite.insert import SQLITE_INSERT_MAX_BYTES, SQLITE_INSERT_MAX_ROWS, SQLITE_ROWS_EXACT
from tests.storage.making import Database, append, chain, open_store, run_of
from tests.storage.watched import Watched


def connection_of(handle: Any) -> sqlite3.Connection:
    connection = handle._connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Database]:
    """A database of which every statement is seen."""
    database = Database(lambda: SqliteEngine(tmp_path / "live.db", Watched))
    yield database
    database.stop()


def statements(work: Callable[[], object]) -> list[str]:
    """How the statements begin that are sent meanwhile."""
    Watched.statements.clear()
    work()
    return [" ".join(statement.split()[:3]) for statement in Watched.statements]


def steps(handle: Any, work: Callable[[], object]) -> int:
    """How many instructions SQLite's machine carries out: its own measure of cost, the same on every machine."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    connection_of(handle).set_progress_handler(tick, 1)
    work()
    connection_of(handle).set_progress_handler(None, 1)
    return count


# --- statements --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stores", "events"), [(1, 1), (1, 100), (1, 1_000), (20, 10), (500, 1), (100, 10)])
def test_a_group_of_appends_is_one_statement(watched: Database, stores: int, events: int) -> None:
    names = [f"s{i}" for i in range(stores)]
    states = [watched.open(name) for name in names]
    writes = [append(name, state, run_of(events)) for name, state in zip(names, states, strict=True)]
    assert statements(lambda: watched.commit(*writes)) == ["INSERT INTO livesync_7_events"]


def test_a_page_is_one_statement_and_one_row(watched: Database) -> None:
    state = watched.filled("s", run_of(1_000))
    watched.read(state)
    assert statements(lambda: watched.read(state)) == ["SELECT EXISTS (SELECT"]


def test_a_new_store_among_appends_does_not_take_them_apart(watched: Database) -> None:
    states = [watched.open(f"s{i}") for i in range(20)]
    writes = [append(f"s{i}", state, run_of(5)) for i, state in enumerate(states)]
    sent = statements(lambda: watched.commit(*writes, open_store("new")))
    assert sent.count("INSERT INTO livesync_7_events") == 1


def test_records_do_not_take_appends_apart_and_cost_one_statement_each(watched: Database) -> None:
    states = [watched.open(f"s{i}") for i in range(20)]
    first = watched.one(PutRecord("kind", "a", b"1", NO_RECORD))
    assert isinstance(first, RecordStored)
    writes = [append(f"s{i}", state, run_of(5)) for i, state in enumerate(states)]
    puts = [PutRecord("kind", "a", b"2", first.version), PutRecord("kind", "b", b"1", NO_RECORD)]
    assert statements(lambda: watched.commit(*writes, *puts)) == [
        "BEGIN IMMEDIATE",
        "INSERT OR REPLACE",
        "INSERT OR REPLACE",
        "INSERT INTO livesync_7_events",
        "COMMIT",
    ]


def test_looking_for_replaced_logs_writes_nothing_when_there_are_none(watched: Database) -> None:
    watched.open("s")
    assert statements(lambda: watched.writer.clear_replaced(100)) == ["SELECT log_id, erased"]


def test_a_store_whose_log_is_not_known_is_asked_for_once(watched: Database) -> None:
    state = watched.open("s")
    watched.restart()
    sent = statements(lambda: watched.append("s", state, run_of(1)))
    assert sent[-2:] == ["SELECT store_id FROM", "INSERT INTO livesync_7_events"]
    state = LogState(state.log_id, state.backend_id, 1, 1)
    assert statements(lambda: watched.append("s", state, run_of(1, after=1))) == ["INSERT INTO livesync_7_events"]


def test_what_is_remembered_of_logs_is_bounded(watched: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_known, "SQLITE_KNOWN_LOGS", 3)
    states = {store: watched.open(store) for store in "abcdef"}
    assert len(watched.writer._known) == 3  # type: ignore[attr-defined]
    for _ in range(2):
        for store, state in states.items():
            states[store] = watched.append(store, state, run_of(1, after=state.head))
    assert len(watched.writer._known) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("stores", [1, 2])
def test_few_statements_serve_every_number_of_rows(stores: int) -> None:
    """Filled up, where they are longer than what there is, by a quarter at most."""
    empty = LogState(1, BackendId("b"), 0, 0)
    lengths = set()
    for events in range(1, SQLITE_INSERT_MAX_ROWS // stores + 1):
        [(statement, values)] = sqlite_insert.statements([append("s", empty, run_of(events)) for _ in range(stores)])
        lengths.add(statement)
        rows = statement.count("), (") + 1
        assert stores * events <= rows <= max(stores * events * 5 / 4, SQLITE_ROWS_EXACT)
        assert len(values) <= 32_766  # what SQLite allows by default (sqlite.org/limits.html)
    assert len(lengths) <= 52
    assert SQLITE_WRITER_STATEMENTS > 2 * 52


def test_a_statement_is_filled_with_nothing(sqlite: Database) -> None:
    states = [sqlite.open(store) for store in "ab"]
    sqlite.commit(*(append(store, state, run_of(33)) for store, state in zip("ab", states, strict=True)))
    assert len(sqlite.numbers(states[0])) == len(sqlite.numbers(states[1])) == 33
    assert connection_of(sqlite.writer).execute("SELECT count(*) FROM livesync_7_events").fetchone() == (66,)


def test_statements_are_bounded_in_rows_and_bytes() -> None:
    def lengths(sizes: list[int]) -> list[int]:
        return [end - start for start, end in sqlite_insert.chunks(sizes)]

    most = SQLITE_INSERT_MAX_BYTES
    assert lengths([1] * (2 * SQLITE_INSERT_MAX_ROWS + 1)) == [SQLITE_INSERT_MAX_ROWS, SQLITE_INSERT_MAX_ROWS, 1]
    assert lengths([1, 3 * most, 1, 1]) == [1, 1, 2]
    assert lengths([most // 2, most // 2, 1]) == [2, 1]
    assert lengths([]) == []


# --- growth ------------------------------------------------------------------------------------------------------


def _long_and_short(sqlite: Database) -> tuple[LogState, LogState]:
    short = sqlite.filled("short", run_of(10))
    long = sqlite.filled("long", run_of(20_000))
    return short, long


def test_an_append_costs_the_same_however_long_the_log(sqlite: Database) -> None:
    short, long = _long_and_short(sqlite)
    costs = [
        steps(sqlite.writer, partial(sqlite.append, store, state, run_of(10, after=state.head)))
        for store, state in (("short", short), ("long", long))
    ]
    assert costs[1] == costs[0]


def test_opening_a_store_costs_the_same_however_long_the_log(sqlite: Database) -> None:
    _long_and_short(sqlite)
    costs = [steps(sqlite.writer, partial(sqlite.open, store)) for store in ("short", "long")]
    assert costs[1] == costs[0]


def test_a_reset_costs_the_same_however_long_the_log(sqlite: Database) -> None:
    _long_and_short(sqlite)
    costs = [steps(sqlite.writer, partial(sqlite.reset, store)) for store in ("short", "long")]
    assert abs(costs[1] - costs[0]) < 10


def test_a_page_costs_the_same_however_long_the_log(sqlite: Database) -> None:
    _, long = _long_and_short(sqlite)
    sqlite.read(long)
    costs = [
        steps(sqlite.reader, partial(sqlite.read, long, after=after, limit_events=100)) for after in (0, 10_000, 19_900)
    ]
    assert max(costs) - min(costs) < 10


def test_a_step_of_clearing_costs_the_same_however_much_is_left(sqlite: Database) -> None:
    _long_and_short(sqlite)
    sqlite.reset("long")
    costs = [steps(sqlite.writer, lambda: sqlite.writer.clear_replaced(100)) for _ in range(5)]
    assert max(costs) - min(costs) < 10


def test_appends_to_one_store_cost_the_same_among_many_stores(sqlite: Database) -> None:
    first = sqlite.open("first")
    before = steps(sqlite.writer, lambda: sqlite.append("first", first, run_of(10)))
    sqlite.commit(*(open_store(f"s{i}") for i in range(3_000)))
    last = sqlite.open("last")
    after = steps(sqlite.writer, lambda: sqlite.append("last", last, run_of(10)))
    assert abs(after - before) < 10


def test_listing_stores_costs_the_same_however_many_and_however_long_they_are(sqlite: Database) -> None:
    sqlite.commit(*(open_store(f"s{i:04}") for i in range(20)))

    def cost(after: str | None) -> int:
        return steps(sqlite.reader, lambda: sqlite.reader.stores(None if after is None else StoreId(after), 5))

    sqlite.reader.stores(None, 5)
    before = cost(None)
    sqlite.filled("s0001", run_of(20_000))
    sqlite.commit(*(open_store(f"s{i:04}") for i in range(20, 3_000)))
    assert abs(cost(None) - before) < 20
    assert abs(cost("s2900") - before) < 20


def test_no_question_walks_through_the_events(sqlite: Database) -> None:
    state = sqlite.filled("s", run_of(3))
    sqlite.read(state)
    parameters = {"log_id": 1, "after": 0, "up_to": 9, "limit_events": 9, "limit_bytes": 9}
    questions: list[tuple[str, Any]] = [
        (sqlite_page.WHOLE_PAGE, parameters),
        (sqlite_page.CUT_PAGE, parameters),
        (sqlite_page.CHECKSUMS, {"log_id": 1, "first": 1, "last": 9}),
        (sqlite_reader.STATE_OF_STORE, ("s",)),
        (sqlite_summaries.SUMMARY, {"store_id": "s"}),
        (sqlite_summaries.SUMMARIES, {"first": "", "containing": "", "limit": 9}),
        (sqlite_known.STORE_OF_LOG, (1,)),
        (sqlite_writer._ENDS_OF_LOG, {"log_id": 1}),
        (sqlite_adopt.NOTE_REPLACED, {"store_id": "s", "erased": False}),
        (sqlite_adopt.DELETE_STORE, ("s",)),
        (sqlite_clearing._CLEAR_EVENTS, (1, 9)),
    ]
    for question, values in questions:
        plan = connection_of(sqlite.writer).execute(f"EXPLAIN QUERY PLAN {question}", values).fetchall()
        text = "\n".join(line[-1] for line in plan)
        assert not re.search(r"SCAN (livesync|events|stores|first|last)|TEMP B-TREE FOR ORDER", text), text


# --- bytes -------------------------------------------------------------------------------------------------------


def _bytes_read(work: Callable[[], object]) -> int:
    def counter() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(lines[0].removeprefix("rchar: "))

    before = counter()
    work()
    return counter() - before


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts with Linux's /proc")
def test_a_page_fetches_no_long_texts_beyond_its_limit(sqlite: Database) -> None:
    args = b'"%b"' % (b"x" * 1_000_000)
    state = sqlite.open("s")
    for number in range(1, 31):
        state = sqlite.append("s", state, chain(number, after=number - 1, args=args))
    sqlite.restart()
    assert sqlite.state("s") == state
    assert _bytes_read(lambda: sqlite.numbers(state, limit_bytes=10)) < 1_500_000
    assert _bytes_read(lambda: sqlite.numbers(state, after=10, limit_bytes=2_500_000)) < 3_000_000


def test_an_outcome_is_computed_not_asked_for(sqlite: Database) -> None:
    state = sqlite.open("s")
    outcomes = sqlite.commit(append("s", state, run_of(4)))
    assert outcomes == [Appended(LogState(state.log_id, state.backend_id, 4, 4))]
