"""What was changed by hand, or by a disk that lies: a store that is not whole is refused, never served with a hole."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from livesync_trio.errors import StoreDamaged
from livesync_trio.storage.base import Appended
from livesync_trio.storage.sqlite import SqliteEngine
from tests.storage.making import Database, append, chain, open_store, reset, run_of, stored

ENDS = {
    "the last event is missing": "DELETE FROM livesync_7_events WHERE seq_num = 5",
    "the last two are missing": "DELETE FROM livesync_7_events WHERE seq_num >= 4",
    "the first event is missing": "DELETE FROM livesync_7_events WHERE seq_num = 1",
    "all events are missing": "DELETE FROM livesync_7_events",
    "the head is behind": "UPDATE livesync_7_stores SET head = 4 WHERE store_id = 'bad'",
    "the head is ahead": "UPDATE livesync_7_stores SET head = 6 WHERE store_id = 'bad'",
    "the count is wrong": "UPDATE livesync_7_stores SET event_count = 4 WHERE store_id = 'bad'",
    "the log is another": "UPDATE livesync_7_stores SET log_id = 77 WHERE store_id = 'bad'",
    "the identity is empty": "UPDATE livesync_7_stores SET backend_id = '' WHERE store_id = 'bad'",
    "the first event has a parent": "UPDATE livesync_7_events SET parent_seq_num = -1 WHERE seq_num = 1",
}


def change(directory: Path, statement: str) -> None:
    """As an operator with a shell could."""
    with closing(sqlite3.connect(directory / "live.db", isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.parametrize("statement", ENDS.values(), ids=ENDS)
def test_a_log_that_is_not_whole_at_its_ends_is_refused_on_opening(
    sqlite: Database, tmp_path: Path, statement: str
) -> None:
    sqlite.filled("bad", run_of(5))
    change(tmp_path, statement)
    good, bad, new = sqlite.commit(open_store("good"), open_store("bad"), open_store("new"))
    assert isinstance(bad, StoreDamaged)
    assert "'bad' is damaged" in str(bad)
    assert str(bad).endswith("Restore a backup, or reset the store.")
    assert (good, new) == (sqlite.state("good"), sqlite.state("new"))


def test_a_damaged_store_can_be_reset(sqlite: Database, tmp_path: Path) -> None:
    sqlite.filled("bad", run_of(5))
    change(tmp_path, ENDS["the head is ahead"])
    state = sqlite.append("bad", sqlite.reset("bad"), run_of(2))
    assert sqlite.read(state) == stored([run_of(2)])
    assert sqlite.writer.clear_replaced(100) == 5


def test_a_hole_is_not_served(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("bad", run_of(20))
    change(tmp_path, "DELETE FROM livesync_7_events WHERE seq_num = 10")
    for limits in ({}, {"limit_bytes": 2_000}):
        with pytest.raises(StoreDamaged, match="from ordinal 1 to 20"):
            sqlite.read(state, **({"limit_events": 30} | limits | {"limit_bytes": 10**6}))
    assert sqlite.numbers(state, up_to=9) == list(range(1, 10))
    assert sqlite.numbers(state, after=10) == list(range(11, 21))


def test_a_hole_in_a_page_that_is_cut_by_bytes_is_not_served(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("bad", run_of(20, args=b'"%b"' % (b"x" * 1_000)))
    change(tmp_path, "DELETE FROM livesync_7_events WHERE seq_num = 3")
    with pytest.raises(StoreDamaged, match="from ordinal 1 to"):
        sqlite.read(state, limit_bytes=8_000)


def test_events_beyond_the_head_are_not_overwritten(sqlite: Database, tmp_path: Path) -> None:
    """As when a head was set back by hand: the next append would meet events that are there already."""
    state = sqlite.filled("bad", run_of(3))
    sqlite.append("bad", state, chain(4, after=3))
    change(tmp_path, "UPDATE livesync_7_stores SET head = 3, event_count = 3 WHERE store_id = 'bad'")
    good = sqlite.open("good")
    damaged, fine = sqlite.commit(append("bad", state, chain(4, after=3, args=b"1")), append("good", good, run_of(1)))
    assert isinstance(damaged, StoreDamaged)
    assert "beyond its head e3" in str(damaged)
    assert isinstance(fine, Appended)
    assert sqlite.numbers(state) == [1, 2, 3, 4]


def test_a_long_append_that_meets_damage_half_way_has_no_effect(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("bad", run_of(3))
    sqlite.append("bad", state, chain(4_000, after=3))
    change(tmp_path, "UPDATE livesync_7_stores SET head = 3, event_count = 3 WHERE store_id = 'bad'")
    good = sqlite.open("good")
    damaged, fine = sqlite.commit(append("bad", state, run_of(5_000, after=3)), append("good", good, run_of(1)))
    assert isinstance(damaged, StoreDamaged)
    assert isinstance(fine, Appended)
    assert sqlite.state("bad") == state
    assert sqlite.numbers(state) == [1, 2, 3, 4_000]


def test_nothing_enters_a_log_by_hand_but_what_continues_its_head(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as connection:
        insert = "INSERT INTO livesync_7_events VALUES (?, ?, ?, ?, 2, '', '{}')"
        for row in (
            (state.log_id, 5, 4, 5),
            (state.log_id, 4, 3, 5),
            (state.log_id, 4, 2, 4),
            (state.log_id + 1, 1, 0, 1),
        ):
            with pytest.raises(sqlite3.IntegrityError, match="does not continue the head of this log"):
                connection.execute(insert, row)
        connection.execute(insert, (state.log_id, 4, 3, 4))
    assert sqlite.open("s").head == 4


def test_a_page_of_garbage_is_refused_not_served(tmp_path: Path) -> None:
    database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
    good = database.filled("good", run_of(3))
    bad = database.filled("bad", run_of(200, args=b'"%b"' % (b"needle" * 100)))
    database.stop()
    path = tmp_path / "live.db"
    content = bytearray(path.read_bytes())
    leaf = content.index(b"needle" * 20, len(content) // 2) // 4_096 * 4_096
    content[leaf : leaf + 100] = b"\xff" * 100
    path.write_bytes(content)
    database.start()
    with pytest.raises(StoreDamaged, match="restore a backup"):
        database.read(bad)
    assert database.numbers(good) == [1, 2, 3]
    outcomes = database.commit(reset("good"), append("good", good, run_of(1)))
    assert not isinstance(outcomes[0], Exception)
    database.stop()
