"""The tables of the FastAPI server, as it makes them, move in; and PostgreSQL as a place to move to."""

import json
from pathlib import Path

import psycopg
import pytest

from tests.archive.conftest import Run
from tests.postgres.server import fresh_schema

TABLE = """
    CREATE TABLE IF NOT EXISTS eventlog_7_{store} (
        seq_num BIGINT PRIMARY KEY, parent_seq_num BIGINT NOT NULL, name TEXT NOT NULL, args JSONB,
        created_at TIMESTAMPTZ NOT NULL, client_id TEXT NOT NULL, session_id TEXT NOT NULL
    )
"""


@pytest.fixture
def theirs(tmp_path: Path) -> str:
    """A database of theirs with two stores, one of them with a hole."""
    url = fresh_schema(f"{tmp_path}-theirs")
    with psycopg.connect(url, autocommit=True) as connection:
        for store, numbers in (("todo_app", range(1, 2_501)), ("torn", (1, 3))):
            connection.execute(TABLE.format(store=store))
            with connection.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO eventlog_7_{store} VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    [
                        (n, n - 1, "todoAdded", f'{{"b":{n}, "a":1.50}}', "2026-11-20T13:00:00.1239+01:00", "c", "s")
                        for n in numbers
                    ],
                )
    return url


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_their_tables_move_in(run: Run, theirs: str, tmp_path: Path, engine: str) -> None:
    database = f"sqlite:///{tmp_path}/live.db" if engine == "sqlite" else fresh_schema(f"{tmp_path}-ours")
    code, out, error = run("import", theirs, "--rename", "todo_app=todo-app", "--json", "--database-url", database)
    assert code == 7, error
    moved = {one["storeId"]: one for one in map(json.loads, out.splitlines())}
    assert (moved["todo-app"]["outcome"], moved["todo-app"]["events"]) == ("imported", 2_500)
    assert "events are missing before it" in moved["torn"]["problems"][0]
    code, out, _ = run("events", "todo-app", "--limit", "1", "--json", "--database-url", database)
    assert out == (
        '{"name":"todoAdded","args":{"a": 1.50, "b": 1},"seqNum":1,"parentSeqNum":0,"clientId":"c","sessionId":"s",'
        '"createdAt":"2026-11-20T12:00:00.123Z"}\n'
    )
    assert run("verify", "--database-url", database)[0] == 0
    code, out, _ = run("import", theirs, "--store", "todo_app", "--rename", "todo_app=todo-app", "--json",
                       "--database-url", database)  # fmt: skip
    assert json.loads(out)["outcome"] == "already there"


def test_no_password_is_repeated(run: Run, tmp_path: Path) -> None:
    code, out, error = run(
        "import", "postgresql://someone:hunter2@127.0.0.1:1/nothing", "--database-url", f"sqlite:///{tmp_path}/live.db"
    )
    assert code == 7
    assert "hunter2" not in out + error


def test_backup_and_restore_between_engines(run: Run, theirs: str, tmp_path: Path) -> None:
    ours, file = f"sqlite:///{tmp_path}/live.db", str(tmp_path / "backup.jsonl.gz")
    run("import", theirs, "--store", "todo_app", "--database-url", ours)
    assert run("backup", file, "--database-url", ours)[0] == 0
    elsewhere = fresh_schema(f"{tmp_path}-elsewhere")
    code, out, error = run("restore", file, "--complete", "--json", "--database-url", elsewhere)
    assert code == 0, error
    assert json.loads(out)["keptIdentity"] is True
    for url, name in ((ours, "one"), (elsewhere, "two")):
        assert run("export", str(tmp_path / name), "--database-url", url)[0] == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_password_that_is_not_escaped_is_not_shown(run: Run, tmp_path: Path) -> None:
    """libpq takes what stands behind the first @ for the host, and would name it."""
    code, out, error = run(
        "import", "postgresql://someone:hun@ter2@127.0.0.1:1/nothing", "--database-url", f"sqlite:///{tmp_path}/live.db"
    )
    assert code == 2
    assert "ter2" not in out + error
    assert "%40" in error
