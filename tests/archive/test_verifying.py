"""`livesync verify` finds whatever is not as it was stored."""

import sqlite3
from pathlib import Path

import pytest

from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with Opened(tmp_path / "live.db") as target:
        put(target, "good", plain_log(5))
        put(target, "bad", plain_log(2_500))
    return tmp_path / "live.db"


def change(database: Path, *statements: str) -> None:
    """As a careless hand or a bad disk would; `bad` has the greater number."""
    connection = sqlite3.connect(database)
    for statement in statements:
        connection.execute(statement.format(log="(SELECT log_id FROM livesync_7_stores WHERE store_id = 'bad')"))
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "change_of",
    [
        "DELETE FROM livesync_7_events WHERE log_id = {log} AND seq_num = 1",
        "DELETE FROM livesync_7_events WHERE log_id = {log} AND seq_num = 1300",
        "DELETE FROM livesync_7_events WHERE log_id = {log} AND seq_num = 2500",
        "UPDATE livesync_7_events SET event = replace(event, '2000', '2001') WHERE log_id = {log} AND seq_num = 2000",
        "UPDATE livesync_7_events SET event = replace(event, 'Added', 'Zdded') WHERE log_id = {log} AND seq_num = 2000",
        "UPDATE livesync_7_events SET event = event || ' ', size_bytes = size_bytes + 1 "
        "WHERE log_id = {log} AND seq_num = 9",
        "UPDATE livesync_7_events SET ordinal = ordinal + 1 WHERE log_id = {log} AND seq_num >= 1500",
        "UPDATE livesync_7_events SET created_at = '2026-11-20T12:00:00.000Z' WHERE log_id = {log} AND seq_num = 2000",
        "UPDATE livesync_7_events SET pushed_by = 'eve' WHERE log_id = {log} AND seq_num = 2000",
        "UPDATE livesync_7_stores SET head = 2499 WHERE store_id = 'bad'",
        "UPDATE livesync_7_stores SET event_count = 2501 WHERE store_id = 'bad'",
        "UPDATE livesync_7_stores SET text_bytes = 1 WHERE store_id = 'bad'",
        "UPDATE livesync_7_stores SET last_push_at = '2026-11-20T12:00:00.000Z' WHERE store_id = 'bad'",
        "UPDATE livesync_7_stores SET backend_id = '' WHERE store_id = 'bad'",
    ],
)
def test_what_was_changed_is_found(run: Run, database: Path, change_of: str) -> None:
    change(database, change_of)
    code, out, error = run("verify", "--json", "--database-url", f"sqlite:///{database}")
    assert code == 10
    bad, good = out.splitlines()
    assert '"storeId": "bad"' in bad
    assert '"problem": "' in bad
    assert '"problem": null' in good
    assert "1 of 2 stores" in error
    assert run("verify", "good", "--database-url", f"sqlite:///{database}")[0] == 0


def test_an_event_under_another_text_is_found_where_checksums_are_none(run: Run, database: Path) -> None:
    """Logs of before there were checksums, and engines that leave them to the database."""
    swap = "UPDATE livesync_7_events SET checksum = NULL"
    change(
        database,
        swap,
        "UPDATE livesync_7_events SET event = replace(event, '\"seqNum\":2000', '\"seqNum\":2009') "
        "WHERE log_id = {log} AND seq_num = 2000",
    )
    code, out, _ = run("verify", "bad", "--database-url", f"sqlite:///{database}")
    assert code == 10
    assert "e2000: its text is not that of this event" in out


def test_a_parent_that_is_another_is_found_where_checksums_are_none(run: Run, database: Path) -> None:
    change(
        database,
        "UPDATE livesync_7_events SET checksum = NULL",
        "UPDATE livesync_7_events SET event = replace(event, '\"parentSeqNum\":1999', '\"parentSeqNum\":1998') "
        "WHERE log_id = {log} AND seq_num = 2000",
    )
    code, out, _ = run("verify", "bad", "--database-url", f"sqlite:///{database}")
    assert code == 10
    assert "e2000 continues e1998, but stands behind e1999" in out


def test_all_is_well(run: Run, database: Path) -> None:
    code, out, _ = run("verify", "--database-url", f"sqlite:///{database}")
    assert (code, out) == (0, "2 stores, 2,505 events: all is well\n")
    assert run("verify", "nope", "--database-url", f"sqlite:///{database}")[0] == 6
