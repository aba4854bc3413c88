"""What was changed by hand, or by a disk that lies: a store that is not whole is refused, never served with a hole."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.errors import StoreDamaged
from livesync_trio.model import Batch, StoreId
from livesync_trio.storage.base import Appended
from livesync_trio.storage.sqlite.checksum import MODULUS, byte_sum
from livesync_trio.storage.sqlite.engine import SqliteEngine
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


INSERT = """
    INSERT INTO livesync_7_events (
        log_id, seq_num, parent_seq_num, ordinal, size_bytes, created_at, event,
        append_events, append_head, append_bytes
    ) VALUES (?, ?, ?, ?, 2, '', '{}', ?, ?, ?)
"""


def test_nothing_enters_a_log_by_hand_but_what_continues_its_head(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    log = state.log_id
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as connection:
        for row in (
            *((log, 5, 4, 5), (log, 4, 3, 5), (log, 4, 2, 4), (log + 1, 1, 0, 1)),
            *((log, 5, 3, 3), (log, 3, 2, 4)),  # beyond the head in one of the two
        ):
            for announced in ((1, None, None), (None, None, None), (2, 6, 4), (0, 9, 0)):
                with pytest.raises(sqlite3.IntegrityError, match="does not continue the head of this log"):
                    connection.execute(INSERT, (*row, *announced))
        with pytest.raises(sqlite3.IntegrityError, match="does not continue the head of this log"):
            connection.execute(INSERT, (log, 4, 3, 4, None, None, None))  # announced by nobody
        connection.execute(INSERT, (log, 4, 3, 4, 1, None, None))
    assert sqlite.open("s").head == 4


def test_what_is_put_by_hand_between_two_events_is_not_served(sqlite: Database, tmp_path: Path) -> None:
    """The trigger lets it in, since it is not beyond the head; reading finds that there is one too many."""
    state = sqlite.filled("s", chain(10, 20, 30))
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as connection:
        connection.execute(INSERT, (state.log_id, 15, 10, 2, None, None, None))
    with pytest.raises(StoreDamaged, match="4 events are stored from ordinal 1 to 3"):
        sqlite.read(state)


# --- flipped bits ----------------------------------------------------------------------------------------------------


def flip(directory: Path, column: str, seq_num: int, at: int, bit: int) -> None:
    """Flip one bit of what is stored of an event."""
    with closing(sqlite3.connect(directory / "live.db", isolation_level=None)) as connection:
        question = f"SELECT CAST({column} AS BLOB) FROM livesync_7_events WHERE seq_num = ?"
        content = bytearray(connection.execute(question, (seq_num,)).fetchone()[0])
        content[at] ^= 1 << bit
        change_to = f"UPDATE livesync_7_events SET {column} = CAST(? AS TEXT) WHERE seq_num = ?"
        connection.execute(change_to, (bytes(content), seq_num))


@pytest.mark.parametrize("column", ["event", "created_at", "pushed_by"])
@pytest.mark.parametrize("bit", range(7))  # the eighth makes it no UTF-8, which is noticed, too
def test_a_flipped_bit_in_a_text_is_refused_with_its_place(
    sqlite: Database, tmp_path: Path, column: str, bit: int
) -> None:
    batch = Batch(run_of(20).events, "ann, the first")
    state = sqlite.filled("bad", batch)
    flip(tmp_path, column, 7, at=5, bit=bit)
    said = rf"Log {state.log_id} is damaged between e1 and e20: e7 is not what was written\. Restore"
    with pytest.raises(StoreDamaged, match=said):
        sqlite.read(state)
    with pytest.raises(StoreDamaged, match="between e3 and e7: e7 is not"):
        sqlite.read(state, after=2, up_to=7, limit_bytes=5 * len(batch.events[0].json))
    assert sqlite.numbers(state, up_to=6) == [1, 2, 3, 4, 5, 6]
    assert sqlite.numbers(state, after=7) == list(range(8, 21))


@given(text=st.binary(max_size=300), data=st.data())
def test_one_changed_byte_changes_the_sum(text: bytes, data: st.DataObject) -> None:
    content = bytearray(text + b"x")
    at = data.draw(st.integers(0, len(content) - 1))
    before = byte_sum(bytes(content))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    assert byte_sum(bytes(content)) != before


@given(st.lists(st.binary(max_size=100), max_size=30))
def test_sums_add_up(texts: list[bytes]) -> None:
    assert byte_sum(b"".join(texts)) == sum(map(byte_sum, texts)) % MODULUS == sum(b"".join(texts)) % MODULUS


@pytest.mark.parametrize("checksum", [0, -1, 2**63 - 1, -(2**63), "'x'", "1e300"])
def test_a_damaged_checksum_is_refused_in_a_sentence(sqlite: Database, tmp_path: Path, checksum: object) -> None:
    state = sqlite.filled("bad", run_of(9))
    change(tmp_path, f"UPDATE livesync_7_events SET checksum = {checksum} WHERE seq_num IN (4, 5)")
    with pytest.raises(StoreDamaged, match="e4 is not what was written"):
        sqlite.read(state)


def test_a_checksum_that_got_lost_is_noticed(sqlite: Database, tmp_path: Path) -> None:
    """Events without one are the oldest; that it is missing behind others is damage, too."""
    state = sqlite.filled("bad", run_of(9))
    change(tmp_path, "UPDATE livesync_7_events SET checksum = NULL WHERE seq_num = 4")
    with pytest.raises(StoreDamaged, match="one of them is not what was written"):
        sqlite.read(state)


def test_an_event_of_another_store_is_not_served(sqlite: Database, tmp_path: Path) -> None:
    """As when a bit of the index is flipped, so that it leads to the same number of another log."""
    mine, _ = (sqlite.filled(store, run_of(9, args=f'"{store}"'.encode())) for store in ("mine", "theirs"))
    columns = "ordinal, size_bytes, created_at, event, checksum"
    theirs = f"SELECT {columns} FROM livesync_7_events WHERE log_id > {mine.log_id} AND seq_num = 4"
    change(
        tmp_path,
        f"UPDATE livesync_7_events SET ({columns}) = ({theirs}) WHERE log_id = {mine.log_id} AND seq_num = 4",
    )
    with pytest.raises(StoreDamaged, match="e4 is not what was written"):
        sqlite.read(mine)


def test_another_event_of_the_same_store_is_not_served(sqlite: Database, tmp_path: Path) -> None:
    """As when a bit of the index is flipped, so that it leads to the first event once more."""
    state = sqlite.filled("bad", run_of(9))
    columns = "parent_seq_num, ordinal, size_bytes, created_at, event, checksum"
    first = f"SELECT {columns} FROM livesync_7_events WHERE seq_num = 1"
    change(tmp_path, f"UPDATE livesync_7_events SET ({columns}) = ({first}) WHERE seq_num = 6")
    with pytest.raises(StoreDamaged, match="e6 is not what was written"):
        sqlite.read(state)


def test_the_row_of_another_store_is_not_taken(sqlite: Database, tmp_path: Path) -> None:
    """As when a bit of the index of names is flipped."""
    state = sqlite.filled("theirs", run_of(3))
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as connection:
        index = "type = 'index' AND tbl_name = 'livesync_7_stores' AND name LIKE 'sqlite_autoindex%'"
        (page,) = connection.execute(f"SELECT rootpage FROM sqlite_schema WHERE {index}").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sqlite.stop()
    content = bytearray((tmp_path / "live.db").read_bytes())
    where = content.index(b"theirs", (page - 1) * size, page * size)
    content[where : where + 6] = b"anyone"
    (tmp_path / "live.db").write_bytes(content)
    engine = SqliteEngine(tmp_path / "live.db")
    engine.open()
    with closing(engine.reader()) as reader:
        assert reader.state(StoreId("anyone")) is None
        assert reader.state(StoreId("theirs")) != state
    engine.close()


def test_a_table_whose_definition_changed_is_damage(sqlite: Database, tmp_path: Path) -> None:
    sqlite.filled("s", run_of(3))
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE livesync_7_stores RENAME COLUMN backend_id TO backend_ie")
    with pytest.raises(StoreDamaged, match="is damaged"):
        sqlite.open("s")


def test_checksums_from_before_they_had_the_log_in_them_are_read(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("old", run_of(3))
    without = f"((checksum & 65535) + 65521 - {state.log_id} * 8191 - seq_num) % 65521"
    change(tmp_path, f"UPDATE livesync_7_events SET checksum = {without}")
    state = sqlite.append("old", state, run_of(3, after=3))
    assert sqlite.numbers(state) == [1, 2, 3, 4, 5, 6]
    change(tmp_path, "UPDATE livesync_7_events SET checksum = checksum + 1 WHERE seq_num = 2")
    with pytest.raises(StoreDamaged, match="e2 is not what was written"):
        sqlite.read(state)


def test_a_user_that_is_no_text_is_refused(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("bad", Batch(run_of(3).events, "ann"))
    change(tmp_path, "UPDATE livesync_7_events SET pushed_by = CAST(x'61ff6e' AS TEXT) WHERE seq_num = 2")
    with pytest.raises(StoreDamaged, match="does not fit them"):
        sqlite.read(state)


@pytest.mark.parametrize("statement", ["text_bytes = 'x'", "created_at = CAST(x'ff' AS TEXT)", "head = 1.5"])
def test_a_damaged_summary_is_refused_in_a_sentence(sqlite: Database, tmp_path: Path, statement: str) -> None:
    sqlite.filled("bad", run_of(3))
    change(tmp_path, f"UPDATE livesync_7_stores SET {statement}")
    with pytest.raises(StoreDamaged, match="list of stores is damaged"):
        sqlite.reader.stores(None, 9)


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
