"""What a program may declare, what is refused, and what makes the tables anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from livesync_trio.livestore import BadEvent, BadSchema, Context, EventFailed, Schema, StoreError
from livesync_trio.livestore.datafile import DataFile
from livesync_trio.livestore.replica import Replica
from livesync_trio.livestore.tables import Tables, no_progress


class Thing(msgspec.Struct):
    id: str
    size: int = 0


def opened(schema: Schema) -> Replica:
    file = DataFile(":memory:", "s", "me", "process")
    replica = Replica(file, schema, Tables(file, schema, "fail"))
    replica.open_tables(no_progress, rebuild=False)
    return replica


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ("CREATE TABLE t (a)", "t needs a PRIMARY KEY"),
        ("CREATE TABLE t (a TEXT PRIMARY KEY)", r"t\.a belongs to the primary key: declare it NOT NULL"),
        ("CREATE TABLE t (a INTEGER, b INTEGER NOT NULL, PRIMARY KEY (a, b))", r"t\.a belongs to the primary key"),
        ("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT)", "leave out AUTOINCREMENT"),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "t is a virtual table"),
        ("CREATE TABLE livesync_mine (a INTEGER PRIMARY KEY)", "livesync_mine: names that begin with livesync_"),
        ("CREATE TABEL t (a)", "cannot be made: .*syntax error"),
    ],
)
def test_tables_whose_changes_cannot_be_taken_back_are_refused(tables: str, why: str) -> None:
    with pytest.raises(BadSchema, match=why):
        opened(Schema(tables))


def test_a_name_and_a_class_are_declared_once() -> None:
    schema = Schema()
    schema.event("v1.Thing")(Thing)
    with pytest.raises(BadSchema, match="declared twice"):
        schema.event("v1.Thing")(type("Other", (msgspec.Struct,), {}))
    with pytest.raises(BadSchema, match="declared twice"):
        schema.event("v2.Thing")(Thing)
    with pytest.raises(BadSchema, match="is no event"):
        schema.materializer(str)(lambda event: None)
    with pytest.raises(BadEvent, match="str is no event"):
        schema.encode("v1.Thing")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("DROP TABLE t", ()), "DROP_TABLE is not for a materializer"),
        ("PRAGMA foreign_keys = OFF", "PRAGMA is not for a materializer"),
        ("ROLLBACK", "TRANSACTION is not for a materializer"),
        ("SAVEPOINT a", "SAVEPOINT is not for a materializer"),
        ("DELETE FROM livesync_log", "livesync_log is the store's own"),
        ("INSERT INTO t SELECT max(seq_num) FROM livesync_log", "livesync_log is the store's own"),
        ("DELETE FROM t; DELETE FROM t", "a second statement is not for a materializer"),
        (["DELETE FROM t", 7], "gave 7, which is no statement"),
        (("DELETE FROM t", "SELECT 1", "SELECT 2"), "which is no statement"),
        ("DELETE FROM nowhere", "no such table: nowhere"),
    ],
)
def test_a_materializer_only_reads_and_writes_rows(given: Any, why: str) -> None:
    schema = Schema("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    schema.event("v1.Thing")(Thing)
    schema.materializer(Thing)(lambda event: given)
    replica = opened(schema)
    for _ in range(2):
        with pytest.raises(EventFailed, match=why):
            replica.commit([Thing("a")])
        assert (replica.head, replica.pending) == (0, 0)


def test_a_materializer_reads_what_it_has_written_and_no_log() -> None:
    schema, seen = Schema("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL)"), list[Any]()
    schema.event("v1.Thing")(Thing)

    @schema.materializer(Thing)
    def insert(event: Thing, context: Context) -> Any:
        yield "INSERT INTO t VALUES (?)", (event.id,)
        seen.append((context.client_id, context.query("SELECT * FROM t")))
        with pytest.raises(StoreError, match="not for a materializer"):
            context.query("SELECT * FROM livesync_log")

    opened(schema).commit([Thing("a")])
    assert seen == [("me", [{"id": "a"}])]


def test_dataclasses_are_events_too() -> None:
    @dataclass
    class Measured:
        value: float

    schema = Schema()
    schema.event("v1.Measured")(Measured)
    assert schema.encode(Measured(1.5)) == ("v1.Measured", '{"value":1.5}')
    assert schema.decode("v1.Measured", '{"value":2,"unit":"m"}') == Measured(2.0)
    assert schema.decode("v1.Other", "{}") is None
    with pytest.raises(BadEvent, match="Expected `float`"):
        schema.encode(Measured("much"))  # type: ignore[arg-type]


def declared(
    tables: str = "CREATE TABLE t (a INTEGER PRIMARY KEY)",
    name: str = "v1.Thing",
    version: str = "",
    materializer: Callable[[Thing], Any] = lambda event: ("INSERT INTO t VALUES (?)", (event.size,)),
) -> str:
    schema = Schema(tables, version=version)
    schema.event(name)(Thing)
    schema.materializer(Thing)(materializer)
    return schema.hash


def inserting(table: str) -> Callable[[Thing], Any]:
    return lambda event: f"INSERT INTO {table} VALUES ({event.size})"


def test_the_hash_tells_whether_the_tables_must_be_made_anew() -> None:
    assert declared() == declared()
    others = [
        declared(tables="CREATE TABLE t (a INTEGER PRIMARY KEY, b)"),
        declared(name="v2.Thing"),
        declared(version="2"),
        declared(materializer=lambda event: ("INSERT INTO t VALUES (?)", (event.size + 1,))),
        declared(materializer=lambda event: ("REPLACE INTO t VALUES (?)", (event.size,))),
        declared(materializer=inserting("t")),
        declared(materializer=inserting("u")),
    ]
    assert len({declared(), *others}) == 1 + len(others)
    assert declared(materializer=inserting("t")) == declared(materializer=inserting("t"))
