"""Whatever a source holds, it is read or refused in words: no value in it is a fault of the program."""

import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync_trio.archive.entries import Broken, Columns, entry_of_columns
from livesync_trio.archive.export import export
from livesync_trio.archive.moving import Wishes, move_in
from livesync_trio.archive.sources.opening import open_source
from livesync_trio.archive.staging import Target
from livesync_trio.cli.probe import read_payload
from livesync_trio.errors import CommandError
from livesync_trio.model import StoreId
from livesync_trio.storage.memory import MemoryEngine
from tests.archive.logs import Opened, plain_log, put
from tests.archive.test_cloudflare_tables import CHAIN, make, rows

few = settings(max_examples=60, deadline=None)

numbers = st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63), 1.5, float("inf"), float("nan")])
texts = st.one_of(
    st.sampled_from(
        ["", "{", "[" * 9_000, "null", "1e999", "\0", "\x1b]0;x\x07", "2026-11-20T12:00:00.000Z", "9" * 5_000]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
)
values: st.SearchStrategy[Any] = st.one_of(st.none(), numbers, texts, st.binary(max_size=5))


def moved_in(source: Path) -> None:
    """Bring in what is there; refusals are told, never raised as anything else."""
    with Opened(MemoryEngine()) as target:
        _move(target, source)


def _move(target: Target, source: Path) -> None:
    try:
        opened = open_source(str(source))
    except CommandError:
        return
    try:
        for one in move_in(target, opened, Wishes()):
            assert one.outcome in {"imported", "refused", "in the way", "already there"}
    except CommandError:
        pass
    finally:
        opened.close()


def in_a_file(content: bytes, name: str, use: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(content)
        use(path)


def _damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The same, with a few bytes of it replaced, left out or put in."""
    place = st.integers(0, len(content))
    change = st.tuples(place, st.integers(0, 12), st.one_of(st.binary(max_size=6), texts.map(str.encode)))

    def changed(changes: list[tuple[int, int, bytes]]) -> bytes:
        new = content
        for start, length, put_in in changes:
            new = new[:start] + put_in + new[start + length :]
        return new

    return st.lists(change, min_size=1, max_size=3).map(changed)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file as D1 has it."""
    return make(tmp_path_factory.mktemp("d1") / "d1.sqlite", {"eventlog_7_a_b": rows(CHAIN)}, [("a-b", 3, "one")])


@few
@given(data=st.data())
def test_any_dump(tables: Path, data: st.DataObject) -> None:
    connection = sqlite3.connect(tables)
    dump = "\n".join(connection.iterdump()).encode()
    connection.close()
    in_a_file(data.draw(_damaged(dump)), "dump.sql", moved_in)


@few
@given(data=st.data())
def test_any_sqlite_file(tables: Path, data: st.DataObject) -> None:
    content = tables.read_bytes()
    assert b"eventlog_7" in content
    in_a_file(data.draw(_damaged(content)), "d1.sqlite", moved_in)


@few
@given(
    name=st.sampled_from(["eventlog_7_a", "eventlog_7_", "eventlog_6_a", f"eventlog_{'9' * 5_000}_a", "eventlog_7_A"]),
    row=st.tuples(*[values] * 7),
    context=st.tuples(values, values, values),
    columns=st.sampled_from(
        ["seqNum, parentSeqNum, name, args, createdAt, clientId, sessionId", "a, b, c, d, e, f, g"]
    ),
)
def test_any_value_in_any_column(name: str, row: tuple[Any, ...], context: tuple[Any, ...], columns: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "d1.sqlite"
        connection = sqlite3.connect(path)
        connection.execute(f'CREATE TABLE "{name}" ({columns})')
        connection.execute(f'INSERT INTO "{name}" VALUES (?, ?, ?, ?, ?, ?, ?)', row)
        connection.execute("CREATE TABLE context_7 (storeId, currentHead, backendId)")
        connection.execute("INSERT INTO context_7 VALUES (?, ?, ?)", context)
        connection.commit()
        connection.close()
        moved_in(path)


@few
@given(row=st.tuples(*[st.one_of(values, st.datetimes(), st.booleans(), st.just("\ud800"))] * 7))
def test_any_row_of_another_server(row: tuple[Any, ...]) -> None:
    """Whatever a driver makes of a column, of PostgreSQL too."""
    with suppress(Broken):
        entry_of_columns(Columns(*row))


@few
@given(data=st.data())
def test_any_export(data: st.DataObject) -> None:
    in_a_file(data.draw(_damaged(_export())), "a.jsonl", moved_in)


def _export() -> bytes:
    with Opened(MemoryEngine()) as target, tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "f"
        export(target.reader, [(StoreId("a"), put(target, "a", plain_log(3)))], str(path))
        return path.read_bytes()


@few
@given(st.one_of(st.binary(max_size=30), texts.map(str.encode), values.map(lambda value: repr(value).encode())))
def test_any_payload_file(content: bytes) -> None:
    def read(path: Path) -> None:
        with suppress(CommandError):
            json.dumps(read_payload(path))

    in_a_file(content, "payload.json", read)
