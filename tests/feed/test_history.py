"""The contract of the history, on both kinds of databases."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed.history.databases import Database, PostgresDatabase, SqliteDatabase
from livesync_trio.feed.history.reading import Reader, Stored, TooOld
from livesync_trio.feed.history.state import Source, TableState
from livesync_trio.feed.history.writing import Image, Superseded, Writer, Written
from livesync_trio.feed.pgoutput import SeenColumn
from livesync_trio.feed.position import START, Position
from livesync_trio.feed.tables import Change, Column, Commit, Relation, text_of
from tests.postgres.server import fresh_schema

SOURCE = Source("1", 1, "s")
TABLES = {"public.t": TableState(16384, ("id",), (SeenColumn("id", 23, -1), SeenColumn("v", 25, -1)))}
COLUMNS = (Column("id", 23), Column("v", 25))
_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    made: Database
    if request.param == "sqlite":
        made = SqliteDatabase(tmp_path / "x.feed.db")
    else:
        made = PostgresDatabase(fresh_schema(f"history of the feed {next(_numbers)}"))
    made.open()
    made.open()  # again, as by the next server
    return made


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    writer = Writer(database)
    writer.take_over()
    writer.begin()
    epoch = writer.begin_epoch()
    writer.settle(SOURCE, TABLES, 100, 101, epoch)
    yield writer
    writer.close()


@pytest.fixture
def reader(database: Database) -> Iterator[Reader]:
    reader = Reader(database)
    yield reader
    reader.close()


def relation(writer: Writer, columns: tuple[Column, ...] = COLUMNS) -> Relation:
    return writer.relation("public.t", columns, (0,))


def store(writer: Writer, lsn: int, rows: dict[str, str | None], *, us: int = 0) -> None:
    """One commit that sets rows, or deletes them."""
    writer.begin()
    table = relation(writer)
    keys = {key: table.key_of((key, None)) for key in rows}
    before = writer.images("public.t", list(keys.values()))
    changes: list[Written] = []
    for seq, (name, value) in enumerate(rows.items()):
        was = before.get(keys[name])
        text = None if value is None else text_of((name, value))
        operation = "d" if text is None else "i" if was is None else "u"
        old, old_relation = (None, None) if was is None else (was.text, was.relation)
        changes.append((lsn, seq, table.version, operation, keys[name], text, old, old_relation))
    writer.add(changes)
    writer.set_images(
        "public.t",
        {key: None if text is None else Image(table.version, text) for _, _, _, _, key, text, _, _ in changes},
        lsn,
    )
    writer.end_commit(Commit(lsn, us, len(changes)))
    writer.commit(lsn, lsn + 1)


def seen(page: list[Stored]) -> dict[str, str]:
    return {str(stored.row[0]): str(stored.row[1]) for stored in page}


def epoch_of(writer: Writer) -> str:
    return writer.state.epoch


def test_changes_and_position_are_there_together_or_not_at_all(writer: Writer, reader: Reader) -> None:
    store(writer, 200, {"1": "a", "2": "b"})
    writer.begin()
    writer.add([(300, 0, 1, "d", '["1"]', None, '["1","a"]', 1)])
    writer.rollback()
    assert reader.state() == writer.state
    assert reader.state().head == Position(200)
    changes = reader.changes(epoch_of(writer), START._replace(commit_lsn=100), 10**9, 10).changes
    assert [change.row for change in changes] == [("1", "a"), ("2", "b")]
    assert reader.commit(200) == Commit(200, 0, 2)
    assert reader.commit(201) is None


def test_pages_of_changes_go_on_inside_of_a_commit(writer: Writer, reader: Reader) -> None:
    store(writer, 200, {str(each): "x" for each in range(7)})
    store(writer, 300, {"0": "y"})
    found: list[Change] = []
    after = Position(100)
    while page := reader.changes(epoch_of(writer), after, 300, 3).changes:
        found += page
        after = page[-1].position
    assert [change.position for change in found] == [*(Position(200, seq) for seq in range(7)), Position(300, 0)]
    assert reader.changes(epoch_of(writer), Position(100), 200, 100).changes[-1].position == Position(200, 6)
    assert set(reader.commits(200, 300)) == {200, 300}


def test_who_has_been_superseded_writes_nothing(database: Database, writer: Writer, reader: Reader) -> None:
    other = Writer(database)
    other.take_over()
    with pytest.raises(Superseded):
        writer.begin()
    store(other, 200, {"1": "a"})
    other.close()
    assert reader.state().head_lsn == 200


def test_a_commit_cannot_be_stored_twice(writer: Writer) -> None:
    store(writer, 200, {"1": "a"})
    with pytest.raises(Exception, match=r"(?i)unique|duplicate|damaged"):
        store(writer, 200, {"1": "b"})
    writer.rollback()
    store(writer, 300, {"1": "b"})


def check_states(reader: Reader, epoch: str, expected: dict[int, dict[str, str]]) -> None:
    """Page by page, the state at each position is what it was."""
    for lsn, rows in expected.items():
        found: list[Stored] = []
        while page := reader.page(epoch, "public.t", lsn, found[-1].key if found else "", 2):
            found += page
        assert seen(found) == rows, lsn
        assert [stored.key for stored in found] == sorted({stored.key for stored in found})


def test_the_state_at_a_position_whatever_came_behind_it(writer: Writer, reader: Reader) -> None:
    epoch = epoch_of(writer)
    expected: dict[int, dict[str, str]] = {100: {}}
    changes: list[dict[str, str | None]] = [
        {"1": "a", "2": "b", "3": "c"},
        {"1": "changed", "2": None, "4": "new"},
        {"1": None, "2": "again", "4": "newer"},
    ]
    for lsn, each in enumerate(changes, 2):
        store(writer, lsn * 100, each)
        rows = {**expected[lsn * 100 - 100], **each}
        expected[lsn * 100] = {name: value for name, value in rows.items() if value is not None}
        check_states(reader, epoch, expected)
    writer.begin()
    assert writer.empty("public.t", 500, 0) == 3
    writer.end_commit(Commit(500, 0, 3))
    writer.commit(500, 501)
    expected[500] = {}
    check_states(reader, epoch, expected)
    operations = [change.operation for change in reader.changes(epoch, Position(400), 500, 10).changes]
    assert operations == ["d", "d", "d"]
    assert not reader.page(epoch, "public.other", 300, "", 10)


def test_versions_of_a_table_are_told_apart(writer: Writer, reader: Reader) -> None:
    writer.begin()
    first = relation(writer)
    second = relation(writer, (*COLUMNS, Column("w", 25)))
    assert relation(writer) == first
    assert second.version != first.version
    assert second.from_other(first, ("1", "a")) == ("1", "a", None)
    assert first.from_other(second, ("1", "a", "b")) == ("1", "a")
    writer.commit(200, 201)
    assert reader.relation(second.version) == second


def test_what_is_kept_no_more_is_said_to_be_too_old(writer: Writer, reader: Reader) -> None:
    for number in range(1, 6):
        store(writer, number * 100 + 100, {"1": str(number), "2": "x" * 100}, us=number)
    epoch = epoch_of(writer)
    while writer.forget(before_us=3, max_bytes=10**9):
        pass
    assert reader.state().floor_lsn == 300
    assert len(reader.changes(epoch, Position(300), 600, 100).changes) == 6
    for old in (Position(299), Position(300, 0), START):
        with pytest.raises(TooOld):
            reader.changes(epoch, old, 600, 100)
    with pytest.raises(TooOld):
        reader.page(epoch, "public.t", 200, "", 10)
    assert seen(reader.page(epoch, "public.t", 300, "", 10))["1"] == "2"
    with pytest.raises(TooOld):
        reader.changes("another", Position(600), 600, 100)
    while writer.forget(before_us=0, max_bytes=300):
        pass
    assert reader.state().floor_lsn == 500  # the newest commit has about 220 bytes
    while writer.forget(before_us=10, max_bytes=0):
        pass
    assert reader.state().floor_lsn == 600
    assert reader.changes(epoch, Position(600), 600, 100).changes == []
    assert seen(reader.page(epoch, "public.t", 600, "", 10)).keys() == {"1", "2"}


def test_forgetting_goes_in_steps(writer: Writer, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.feed.history.writing.FEED_FORGET_STEP", 4)
    store(writer, 200, {str(each): "x" for each in range(10)}, us=1)
    store(writer, 300, {"0": "y"}, us=5)
    steps = 1
    while writer.forget(before_us=3, max_bytes=10**9):
        steps += 1
    assert steps == 3
    assert [change.position for change in reader.changes(epoch_of(writer), Position(200), 300, 10).changes] == [
        Position(300, 0)
    ]


def compacted(writer: Writer, before_us: int) -> int:
    steps = 0
    while writer.compact(before_us):
        steps += 1
    return steps


def told(reader: Reader, after: Position, state: dict[str, str], limit: int = 3) -> tuple[dict[str, str], list[bool]]:
    """What a client that has `state` at a position has behind all changes, and what was said of their wholeness."""
    head = reader.state()
    state, whole = dict(state), []
    while (page := reader.changes(head.epoch, after, head.head_lsn, limit)).changes:
        for change in page.changes:
            assert change.position > after
            after = change.position
            if change.row is None:
                state.pop(change.key, None)
            else:
                state[change.key] = str(change.row[1])
        whole.append(page.whole)
    return state, whole


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_compaction_leads_to_the_same_state_from_everywhere(
    writer: Writer, reader: Reader, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr("livesync_trio.feed.history.compacting.FEED_COMPACT_STEP", step)
    dice, state = random.Random(step), dict[str, str]()
    states = {100: dict(state)}
    for number in range(1, 31):
        rows: dict[str, str | None] = {
            key: dice.choice([None, "v" * dice.randrange(9)]) for key in dice.sample("abcdefgh", dice.randint(1, 5))
        }
        rows = {key: value for key, value in rows.items() if value is not None or f'["{key}"]' in state}
        if not rows:
            continue
        store(writer, 100 + number * 8, rows, us=number)
        for key, value in rows.items():
            name = f'["{key}"]'
            if value is None:
                del state[name]
            else:
                state[name] = value
        states[100 + number * 8] = dict(state)
        if number in (10, 20):
            assert compacted(writer, number - 2)
    assert compacted(writer, 25) >= (1 if step > 1 else 5)
    assert not writer.compact(25)
    horizon = reader.state().compacted_lsn
    assert horizon == writer.state.compacted_lsn == max(lsn for lsn in states if lsn < 100 + 25 * 8)
    page = reader.changes(epoch_of(writer), Position(100), horizon, 10**6)
    keys = [change.key for change in page.changes]
    assert len(keys) == len(set(keys)) <= 8  # the last of each row
    assert page.whole
    for lsn, before in states.items():
        assert told(reader, Position(lsn), before)[0] == state, lsn
        if lsn >= horizon:
            assert {each.key: each.row[1] for each in reader.page(epoch_of(writer), "public.t", lsn, "", 99)} == before
        else:
            with pytest.raises(TooOld):
                reader.page(epoch_of(writer), "public.t", lsn, "", 99)
    kept = reader._session.ask("SELECT commit_lsn, size_bytes FROM livesync_feed_commits ORDER BY commit_lsn")
    sizes: dict[int, int] = dict(
        reader._session.ask(
            "SELECT commit_lsn, sum(length(key) + coalesce(length(row), 0) + coalesce(length(old), 0)) "
            "FROM livesync_feed_changes GROUP BY commit_lsn"
        )
    )
    assert kept == [(lsn, sizes.get(lsn, 0)) for lsn in states if lsn > 100]


def test_no_commit_before_the_horizon_is_whole(writer: Writer, reader: Reader) -> None:
    for number in range(1, 6):
        store(writer, 100 * number + 100, {str(number): "a", "x": str(number)}, us=number)
    assert compacted(writer, 4) == 1
    first = reader.changes(epoch_of(writer), Position(100), 600, 1)
    assert (first.compacted_lsn, first.whole, len(first.changes)) == (400, False, 1)
    assert told(reader, Position(100), {}, limit=1)[1] == [False, False, False, True, False, True, False, True]
    later = reader.changes(epoch_of(writer), Position(400), 600, 9)
    assert (later.compacted_lsn, later.whole, len(later.changes)) == (0, True, 4)
    while writer.forget(before_us=5, max_bytes=10**9):
        pass
    assert not writer.compact(4)
    store(writer, 700, {"1": None}, us=7)
    assert compacted(writer, 8) == 1
    assert told(reader, Position(500), {})[0] == {'["5"]': "a", '["x"]': "5"}


def test_rows_that_a_comparison_did_not_see_are_gone(writer: Writer, reader: Reader) -> None:
    store(writer, 200, {"1": "a", "2": "b"})
    writer.begin()
    writer.saw("public.t", ['["2"]'])
    assert writer.empty("public.t", 300, 0, unseen_only=True) == 1
    writer.end_commit(Commit(300, 0, 1))
    writer.settle(SOURCE, TABLES, 300, 301)
    assert seen(reader.page(epoch_of(writer), "public.t", 300, "", 10)) == {"2": "b"}
    assert seen(reader.page(epoch_of(writer), "public.t", 200, "", 10)) == {"1": "a", "2": "b"}


def test_another_epoch_begins_with_nothing(writer: Writer, reader: Reader) -> None:
    store(writer, 200, {"1": "a"})
    before = epoch_of(writer)
    writer.begin()
    writer.settle(SOURCE, TABLES, 50, 51, writer.begin_epoch())
    with pytest.raises(TooOld):
        reader.changes(before, Position(200), 200, 10)
    assert reader.page(epoch_of(writer), "public.t", 50, "", 10) == []
    assert reader.state().floor_lsn == reader.state().head_lsn == 50


def test_another_format_is_refused(database: Database, writer: Writer, reader: Reader) -> None:
    session = database.session()
    session.ask("UPDATE livesync_feed_state SET format = 99")
    session.close()
    with pytest.raises(StorageUnavailable, match="99"):
        reader.state()


def test_a_page_ends_where_its_rows_become_too_large(writer: Writer, reader: Reader) -> None:
    store(writer, 200, {str(each): "x" * 1000 for each in range(6)})
    epoch = epoch_of(writer)
    page = reader.changes(epoch, Position(100), 200, 100, 2500)
    assert len(page.changes) == 3
    assert not page.whole
    rest = reader.changes(epoch, page.changes[-1].position, 200, 100, 10_000)
    assert len(rest.changes) == 3
    assert rest.whole
    assert len(reader.changes(epoch, Position(100), 200, 100, 1).changes) == 1  # the first is always given
    assert len(reader.page(epoch, "public.t", 200, "", 100, 2500)) == 3
    assert len(reader.page(epoch, "public.t", 200, "", 100, 1)) == 1
    assert reader.changes(epoch, Position(200), 200, 100).whole
    assert reader.commit_before(200) == 100
    assert reader.commit_before(201) == 200
