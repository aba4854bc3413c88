"""Tables of sync-cf that are not as they should be: what is told, and that nothing of them comes in by halves."""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.archive.entries import Entry
from livesync_trio.archive.sources.cloudflare import table_name
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put

Row = tuple[Any, ...]


def rows(numbers: Iterable[tuple[int, int]]) -> list[Row]:
    """Rows of a table: number and parent of each event."""
    return [
        (number, parent, "todoAdded", f'{{"n": {number}}}', "2026-11-20T12:00:00.000Z", "c", "s")
        for number, parent in numbers
    ]


CHAIN = [(1, 0), (2, 1), (3, 2)]


def make(path: Path, tables: dict[str, list[Row]], contexts: Iterable[tuple[str, int, str]] = ()) -> Path:
    """An SQLite file such as D1 or a Durable Object has."""
    connection = sqlite3.connect(path)
    for table, content in tables.items():
        connection.execute(
            f'CREATE TABLE "{table}" (seqNum INTEGER PRIMARY KEY, parentSeqNum INTEGER, name TEXT, args TEXT, '
            "createdAt TEXT, clientId TEXT, sessionId TEXT) STRICT"
        )
        connection.executemany(f'INSERT INTO "{table}" VALUES (?, ?, ?, ?, ?, ?, ?)', content)
    connection.execute("CREATE TABLE context_7 (storeId TEXT PRIMARY KEY, currentHead INTEGER, backendId TEXT) STRICT")
    connection.executemany("INSERT INTO context_7 VALUES (?, ?, ?)", contexts)
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/live.db"


def came(run: Run, source: Path, database: str, *flags: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Import; the exit code and what came of each store."""
    code, out, _ = run("import", str(source), "--json", "--database-url", database, *flags)
    return code, {one["storeId"]: one for one in map(json.loads, out.splitlines())}


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ([(1, 0), (3, 2)], "e3 continues e2, but stands behind e1: events are missing before it"),
        ([(2, 1), (3, 2)], "e2 continues e1, but stands behind e0"),
        ([(1, 0), (2, 0)], "e2 continues e0, but stands behind e1: it is not part of the chain"),
        ([(-1, 0)], "e-1 stands behind e0: numbers must ascend"),
    ],
)
def test_what_is_no_chain_stays_out_and_the_others_come_in(
    run: Run, tmp_path: Path, database: str, numbers: list[tuple[int, int]], what: str
) -> None:
    source = make(tmp_path / "d1.sqlite", {"eventlog_7_good": rows(CHAIN), "eventlog_7_bad": rows(numbers)})
    code, moved = came(run, source, database)
    assert code == 7
    assert moved["good"]["outcome"] == "imported"
    assert moved["bad"]["outcome"] == "refused"
    assert what in moved["bad"]["problems"][0]
    assert run("stores", "--database-url", database)[1].count("bad") == 0


@pytest.mark.parametrize(
    ("column", "value"), [(3, "{"), (3, "{} {}"), (4, "yesterday"), (0, 2**53), (2, None)]
)  # fmt: skip
def test_what_is_no_event_stays_out(run: Run, tmp_path: Path, database: str, column: int, value: object) -> None:
    (row,) = rows([(1, 0)])
    bad = (*row[:column], value, *row[column + 1 :])
    code, moved = came(run, make(tmp_path / "d1.sqlite", {"eventlog_7_bad": [bad]}), database)
    assert (code, moved["bad"]["outcome"]) == (7, "refused")


def test_args_come_in_as_they_stand_in_the_table(run: Run, tmp_path: Path, database: str) -> None:
    odd = ['{"b": 1,"a":-0}', "1e400", '"\\ud83d"', "12345678901234567890123", None, " [\n1 ] "]
    content = [(*row[:3], args, *row[4:]) for row, args in zip(rows((n, n - 1) for n in range(1, 7)), odd, strict=True)]
    assert came(run, make(tmp_path / "d1.sqlite", {"eventlog_7_s": content}), database)[0] == 0
    code, _, _ = run("export", str(tmp_path / "out.jsonl"), "--database-url", database)
    assert code == 0
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()[1:-2]
    for line, args in zip(lines, odd, strict=True):
        text = json.loads(line).get("eventText", "").encode() or line
        assert b'"args":%b,"seqNum"' % (args or "null").strip().encode() in text


def test_stores_that_share_a_table_are_told_apart_by_nobody(run: Run, tmp_path: Path, database: str) -> None:
    make(tmp_path / "d1.sqlite", {"eventlog_7_a_b": rows(CHAIN)})
    make(tmp_path / "one.sqlite", {}, [("a-b", 3, "one")])
    make(tmp_path / "two.sqlite", {}, [("a_b", 0, "two")])
    code, moved = came(run, tmp_path, database)
    assert code == 7
    (problem,) = moved["a-b"]["problems"]
    assert "'a-b', 'a_b' share this table" in problem


@pytest.mark.parametrize(
    "row", [(None, 3, "i"), (b"notes", 3, "i"), ("notes", 1.5, "i"), ("notes", "3", "i"), ("notes", 3, None)]
)
def test_a_context_of_other_types_is_told(run: Run, tmp_path: Path, database: str, row: tuple[Any, ...]) -> None:
    """The tables of sync-cf are not STRICT: any value may stand in any column."""
    source = make(tmp_path / "do.sqlite", {"eventlog_7_notes": rows(CHAIN), "eventlog_7_todos": rows(CHAIN)})
    connection = sqlite3.connect(source)
    connection.executescript(
        "DROP TABLE context_7; CREATE TABLE context_7 (storeId PRIMARY KEY, currentHead, backendId)"
    )
    connection.execute("INSERT INTO context_7 VALUES (?, ?, ?)", row)
    connection.commit()
    connection.close()
    code, moved = came(run, source, database)
    assert (code, moved["todos"]["outcome"]) == (7, "imported")
    (refused,) = (one for one in moved.values() if one["outcome"] == "refused")
    assert "context_7 gives it" in refused["problems"][0]


def test_tables_without_a_context_say_what_their_name_may_hide(run: Run, tmp_path: Path, database: str) -> None:
    dump = tmp_path / "dump.sql"
    connection = sqlite3.connect(make(tmp_path / "d1.sqlite", {"eventlog_7_Notes": rows(CHAIN)}))
    connection.execute("DROP TABLE context_7")
    dump.write_text("\n".join(connection.iterdump()))
    connection.close()
    code, moved = came(run, dump, database)
    assert (code, moved["Notes"]["outcome"]) == (0, "imported")
    assert "differ by capital letters only share one table" in moved["Notes"]["notes"][0]


def test_a_context_without_its_events_is_told(run: Run, tmp_path: Path, database: str) -> None:
    make(tmp_path / "one.sqlite", {}, [("notes", 12, "identity"), ("empty", 0, "other")])
    code, moved = came(run, tmp_path, database)
    assert code == 7
    assert "up to e12 are in no file" in moved["notes"]["problems"][0]
    assert moved["empty"]["outcome"] == "imported"


def test_a_format_that_nobody_reads_any_more_is_told(run: Run, tmp_path: Path, database: str) -> None:
    source = make(tmp_path / "d1.sqlite", {"eventlog_6_notes": rows(CHAIN), "eventlog_7_todos": rows(CHAIN)})
    code, moved = came(run, source, database)
    assert code == 7
    assert "it has format 6" in moved["notes"]["problems"][0]
    assert moved["todos"]["outcome"] == "imported"


def test_a_server_that_lost_what_it_acknowledged_loses_its_identity(run: Run, tmp_path: Path, database: str) -> None:
    source = make(tmp_path / "do.sqlite", {"eventlog_7_notes": rows(CHAIN)}, [("notes", 7, "identity")])
    code, moved = came(run, source, database)
    assert code == 0
    assert moved["notes"]["backendId"] not in {None, "identity"}
    assert "acknowledged events up to e7" in moved["notes"]["notes"][0]


def test_two_stores_of_one_name_need_other_names(run: Run, tmp_path: Path, database: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "do.sqlite", {"eventlog_7_notes": rows(CHAIN)}, [("notes", 3, name)])
    code, _ = came(run, tmp_path, database)
    assert code == 7


def test_nothing_that_is_there_is_overwritten(run: Run, tmp_path: Path, database: str) -> None:
    with Opened(tmp_path / "live.db") as target:
        before = put(target, "notes", plain_log(5))
    source = make(tmp_path / "do.sqlite", {"eventlog_7_notes": rows(CHAIN)}, [("notes", 3, "identity")])
    for dry in (("--dry-run",), ()):
        code, moved = came(run, source, database, *dry)
        assert code == 8
        assert moved["notes"]["outcome"] == "in the way"
    code, moved = came(run, source, database, "--rename", "notes=old notes")
    assert (code, moved["old notes"]["outcome"]) == (0, "imported")
    with Opened(tmp_path / "live.db") as target:
        assert target.reader.state("notes") == before  # type: ignore[arg-type]


def test_no_two_stores_have_one_identity(run: Run, tmp_path: Path, database: str) -> None:
    source = make(tmp_path / "do.sqlite", {"eventlog_7_notes": rows(CHAIN)}, [("notes", 3, "identity")])
    assert came(run, source, database)[1]["notes"]["backendId"] == "identity"
    for name in ("copy", "another"):
        code, moved = came(run, source, database, "--rename", f"notes={name}")
        assert (code, moved[name]["outcome"]) == (0, "imported")
        assert moved[name]["backendId"] not in {None, "identity"}
        assert "'notes' has its identity here already" in moved[name]["notes"][-1]
    (tmp_path / "more").mkdir()
    both = make(tmp_path / "more" / "d1.sqlite", {"eventlog_7_a": rows(CHAIN), "eventlog_7_b": rows(CHAIN)})
    assert run("import", str(both), "--backend-id", "new", "--database-url", database)[0] == 2
    assert run("import", str(both), "--backend-id", "new", "--store", "a", "--database-url", database)[0] == 0


def test_a_dry_run_makes_nothing(run: Run, tmp_path: Path, database: str) -> None:
    source = make(tmp_path / "do.sqlite", {"eventlog_7_notes": rows(CHAIN)}, [("notes", 3, "identity")])
    code, moved = came(run, source, database, "--dry-run")
    assert (code, moved["notes"]["outcome"], moved["notes"]["events"]) == (0, "ready", 3)
    assert not (tmp_path / "live.db").exists()


def test_a_store_that_is_not_there_is_told(run: Run, tmp_path: Path, database: str) -> None:
    source = make(tmp_path / "do.sqlite", {"eventlog_7_notes": rows(CHAIN)})
    assert run("import", str(source), "--store", "nope", "--database-url", database)[0] == 6
    assert run("import", str(source), "--rename", "nope=yes", "--database-url", database)[0] == 6


@pytest.mark.parametrize(
    "text",
    [
        "not SQL at all",
        "ATTACH DATABASE '{directory}/made.db' AS other;",
        "CREATE TABLE t (a); INSERT INTO t VALUES (writefile('{directory}/made.db', 'x'));",
        "CREATE TABLE t (a);\nVACUUM INTO '{directory}/made.db';\n",
        "CREATE TABLE t (a);\nINSERT INTO t VALUES ('no end",
    ],
)
def test_a_dump_may_make_tables_and_nothing_else(run: Run, tmp_path: Path, database: str, text: str) -> None:
    dump = tmp_path / "dump.sql"
    dump.write_text(text.format(directory=tmp_path))
    code, _, error = run("import", str(dump), "--database-url", database)
    assert code == 7
    assert "dump.sql" in error
    assert not (tmp_path / "made.db").exists()


def test_the_table_shape_goes_out_and_comes_in(run: Run, tmp_path: Path, database: str) -> None:
    log: list[Entry] = plain_log(2_500)
    with Opened(tmp_path / "live.db") as target:
        put(target, "a-b", log, "one")
        put(target, "ö", [], "two")
    tables = tmp_path / "tables.sqlite"
    assert run("export", str(tables), "--format", "sqlite", "--database-url", database)[0] == 0
    connection = sqlite3.connect(tables)
    assert connection.execute(f"SELECT count(*), max(seqNum) FROM {table_name('a-b')}").fetchone() == (2_500, 2_500)
    assert sorted(connection.execute("SELECT * FROM context_7")) == [("a-b", 2_500, "one"), ("ö", 0, "two")]
    connection.close()
    other = f"sqlite:///{tmp_path}/other.db"
    assert run("import", str(tables), "--database-url", other)[0] == 0
    for url, name in ((database, "one"), (other, "two")):
        assert run("export", str(tmp_path / name), "--database-url", url)[0] == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_table_shape_refuses_what_it_would_mix(run: Run, tmp_path: Path, database: str) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "a-b", plain_log(1))
        put(target, "a_b", plain_log(1))
    code, _, error = run("export", str(tmp_path / "t.sqlite"), "--format", "sqlite", "--database-url", database)
    assert code == 2
    assert "share the table" in error
    assert not (tmp_path / "t.sqlite").exists()
